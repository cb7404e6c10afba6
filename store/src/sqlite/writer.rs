//! The one thread that writes to a file: whatever waits shares a transaction, and with it an fsync.
//!
//! Ten thousand devices that connect at once want ten thousand epochs, each durable before it is used. One
//! fsync each would take minutes.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::failure::Failure;

/// Most jobs that wait. Further callers wait for room, each holding its own job as it would anyway.
const QUEUE_JOBS_MAX: usize = 1024;
/// Most jobs in one transaction.
const GROUP_JOBS_MAX: usize = 1024;
/// No further job joins a transaction that has run this long; the first ones wait for their answer.
const GROUP_TIME_MAX: Duration = Duration::from_millis(50);

/// Hands jobs to the thread. Dropping it waits for the jobs it has taken, then closes the file.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

/// One caller's part of a transaction.
trait Job: Send {
    /// Does the work; whether to keep its changes.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Answers the caller, once it is known whether the transaction is durable.
    fn answer(self: Box<Self>, committed: Result<(), Failure>);
}

struct Task<F, T, E> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Job for Task<F, T, E>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: From<Failure> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.result = self.work.take().map(|work| work(connection));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, committed: Result<(), Failure>) {
        let answer = match (self.result, committed) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(failure)) => Err(failure.into()),
            (Some(done), Ok(())) => done,
            (None, Ok(())) => Err(Failure::Unavailable("the write was not begun".into()).into()),
        };
        // A caller that has gone needs no answer.
        let _ = self.caller.send(answer);
    }
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(connection: Connection, name: &str) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        let thread = std::thread::Builder::new()
            .name(format!("{name}-writer"))
            .spawn(move || write_until_closed(&connection, queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does `work` in a transaction and returns when it is durable. If `work` fails, what it changed is undone,
    /// and nothing of what others did in the same transaction.
    ///
    /// Cancel safety: dropped before the job is queued, nothing happens; later, the work is done and nobody
    /// hears of it.
    pub async fn run<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Failure> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = Box::new(Task { work: Some(work), result: None, caller });
        let jobs = self.jobs.as_ref().expect("the queue is only closed when the writer is dropped");
        let gone = || E::from(Failure::Unavailable("its writer thread has died".into()));
        jobs.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has already been reported where it happened.
            let _ = thread.join();
        }
    }
}

fn write_until_closed(connection: &Connection, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = Vec::new();
        let committed = write_group(connection, first, &mut queue, &mut group);
        if let Err(failure) = &committed {
            tracing::warn!(%failure, jobs = group.len(), "a write failed");
        }
        for job in group {
            job.answer(committed.clone());
        }
    }
}

/// Runs the first job and those that wait behind it, and commits. All that it has taken are in `group` at the
/// end, whether or not it succeeds.
fn write_group(
    connection: &Connection,
    first: Box<dyn Job>,
    queue: &mut mpsc::Receiver<Box<dyn Job>>,
    group: &mut Vec<Box<dyn Job>>,
) -> Result<(), Failure> {
    let mut next = Some(first);
    let result = begin(connection).and_then(|()| {
        let until = Instant::now() + GROUP_TIME_MAX;
        while let Some(job) = next.take() {
            group.push(job);
            let job = group.last_mut().expect("it was just put there");
            run_job(connection, job.as_mut())?;
            let room = group.len() < GROUP_JOBS_MAX && Instant::now() < until;
            next = if room { queue.try_recv().ok() } else { None };
        }
        Ok(connection.execute_batch("COMMIT")?)
    });
    group.extend(next);
    if result.is_err() && !connection.is_autocommit() {
        // If this fails too, the next BEGIN says so.
        let _ = connection.execute_batch("ROLLBACK");
    }
    result
}

fn begin(connection: &Connection) -> Result<(), Failure> {
    Ok(connection.execute_batch("BEGIN IMMEDIATE")?)
}

/// A savepoint around each job keeps one caller's refusal from undoing its neighbours' work. When SQLite has
/// rolled the whole transaction back (a full disk does that), the group is lost, and this is an error.
fn run_job(connection: &Connection, job: &mut dyn Job) -> Result<(), Failure> {
    connection.prepare_cached("SAVEPOINT job")?.execute([])?;
    let keep = job.run(connection);
    if connection.is_autocommit() {
        return Err(Failure::Unavailable("the transaction was rolled back: is its disk full?".into()));
    }
    if !keep {
        connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
    }
    connection.prepare_cached("RELEASE job")?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn numbers() -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("numbers")).unwrap();
        connection.execute_batch("CREATE TABLE numbers (n INTEGER PRIMARY KEY)").unwrap();
        (directory, connection)
    }

    fn insert(connection: &Connection, n: i64) -> Result<(), Failure> {
        Ok(connection.execute("INSERT INTO numbers VALUES (?1)", [n]).map(|_| ())?)
    }

    #[tokio::test]
    async fn a_refused_job_undoes_itself_and_no_other() {
        let (directory, connection) = numbers();
        let writer = Arc::new(Writer::start(connection, "test").unwrap());
        let mut jobs = tokio::task::JoinSet::new();
        for n in 0..50 {
            let writer = writer.clone();
            let work = move |c: &Connection| {
                insert(c, n)?;
                if n % 2 == 0 { Ok(()) } else { Err(Failure::Invalid(n.to_string())) }
            };
            jobs.spawn(async move { writer.run(work).await });
        }
        let results = jobs.join_all().await;
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 25);
        drop(writer);
        let connection = Connection::open(directory.path().join("numbers")).unwrap();
        let odd = "SELECT count(*), sum(n % 2) FROM numbers";
        let found = connection.query_row(odd, [], |r| Ok((r.get(0)?, r.get(1)?)));
        assert_eq!(found, Ok((25, 0)));
    }

    #[tokio::test]
    async fn a_transaction_that_sqlite_rolls_back_is_an_error_for_all_and_the_next_works() {
        let (_directory, connection) = numbers();
        let writer = Writer::start(connection, "test").unwrap();
        let lost = writer.run(|c| {
            insert(c, 1)?;
            c.execute("INSERT OR ROLLBACK INTO numbers VALUES (1)", []).map(|_| ()).or(Ok::<_, Failure>(()))
        });
        assert!(matches!(lost.await, Err(Failure::Unavailable(_))));
        writer.run(|c| insert(c, 1)).await.unwrap();
    }
}
