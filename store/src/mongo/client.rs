//! A client that connects when it is first used, shared by everything that lies in the database.
//!
//! A service starts and turns ready without the database. Its first device, reader or due work makes the client look
//! up names and connect; from then on the driver watches the servers and connects again by itself.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mongodb::bson::doc;
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Database};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use trough_runtime::health::Health;

use super::failure::Failure;
use super::url::MongoUrl;
use crate::BoxFuture;

/// The part of health that says whether the database can be reached.
const PART: &str = "database";
/// How long an operation waits for a server that can take it.
const SELECTION_MAX: Duration = Duration::from_secs(2);
/// How long one connection attempt may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long an ordinary operation may take, all attempts together.
pub(super) const OPERATION_MAX: Duration = Duration::from_secs(4);
/// Operations under way at a time, and connections to one server. Further ones wait for a place, each holding what it
/// would hold anyway, for as long as their callers have patience.
const OPERATIONS_MAX: u32 = 16;
/// For so long after a server could not be reached nobody tries again, so that a fleet that reconnects is refused at
/// once instead of waiting in a queue.
const REST: Duration = Duration::from_millis(500);
/// How often a server that could not be reached is asked whether it is back.
const PROBE: Duration = Duration::from_secs(1);

/// A database. Clones share the connections. Dropping the last one closes them.
#[derive(Clone)]
pub struct Mongo(Arc<Inner>);

struct Inner {
    url: MongoUrl,
    health: Health,
    /// Connections live on the runtime they were made on: that of the process, not that of a shard's thread.
    runtime: Handle,
    database: OnceCell<Database>,
    places: Arc<Semaphore>,
    /// Until when nobody tries; `None` as long as the server can be reached, for all we know.
    resting: Mutex<Option<Instant>>,
    /// When an operation succeeded last.
    answered: Mutex<Instant>,
}

impl fmt::Debug for Mongo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mongo").field(&self.0.url).finish()
    }
}

impl Mongo {
    /// A client that has not connected. Whenever the database cannot be reached, `health` says so.
    ///
    /// # Panics
    /// Outside of a tokio runtime: all connections live on the one that this is called on.
    pub fn new(url: MongoUrl, health: Health) -> Self {
        Self(Arc::new(Inner {
            url,
            health,
            runtime: Handle::current(),
            database: OnceCell::new(),
            places: Arc::new(Semaphore::new(OPERATIONS_MAX as usize)),
            resting: Mutex::new(None),
            answered: Mutex::new(Instant::now()),
        }))
    }

    /// Does `work` within `at_most`, counted from when it has its place.
    ///
    /// Cancel safety: dropped before it has its place, nothing happens; later, the work goes on without its caller,
    /// to its end or its deadline.
    pub(super) async fn run<T, W, F>(&self, at_most: Duration, work: W) -> Result<T, Failure>
    where
        W: FnOnce(Database) -> F + Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
        T: Send + 'static,
    {
        self.0.try_later()?;
        let place = self.0.places.clone().acquire_owned().await;
        let place = place.map_err(|_| Failure::Unavailable("the process ends".into()))?;
        self.0.try_later()?;
        let inner = self.0.clone();
        let task = self.0.runtime.spawn(async move {
            let _place = place;
            let began = Instant::now();
            let attempt = async { work(inner.database().await?).await };
            let done = timeout(at_most, attempt).await.unwrap_or_else(|_| Err(inner.too_late(began)));
            match &done {
                Err(failure) if failure.is_unreachable() => inner.lost(failure),
                // It is busy, for all we know.
                Err(Failure::Unavailable(_)) => {}
                _ => inner.reached(),
            }
            done
        });
        task.await.unwrap_or_else(|_| Err(Failure::Unavailable("the work was cut off".into())))
    }

    /// Does work of the process's own that ends with whoever holds the handle.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.0.runtime.spawn(work).abort_handle()
    }
}

impl Inner {
    async fn database(&self) -> Result<Database, Failure> {
        let connect = async || {
            let mut options = ClientOptions::parse(self.url.parsed().clone()).await?;
            options.app_name.get_or_insert_with(|| "trough".to_owned());
            options.server_selection_timeout = Some(SELECTION_MAX);
            options.connect_timeout = Some(CONNECT_MAX);
            options.max_pool_size = Some(OPERATIONS_MAX);
            // What is returned is durable: on most servers, and in their journals.
            options.write_concern = Some(majority());
            // Reads see every write that was returned before them, and none that can be undone.
            options.read_concern = Some(ReadConcern::majority());
            options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
            Ok::<_, Failure>(Client::with_options(options)?.database(self.url.name()))
        };
        self.database.get_or_try_init(connect).await.cloned()
    }

    /// Refuses for a moment what would only wait.
    fn try_later(&self) -> Result<(), Failure> {
        match *self.resting() {
            Some(until) if Instant::now() < until => {
                Err(Failure::Unavailable("the database could not be reached a moment ago".into()))
            }
            _ => Ok(()),
        }
    }

    /// An operation that began then has not ended in time: the server is busy if it answers others.
    fn too_late(&self, began: Instant) -> Failure {
        let took_s = began.elapsed().as_secs();
        if *lock(&self.answered) > began {
            return Failure::Unavailable(format!("it is busy: an operation did not end within {took_s} s"));
        }
        Failure::Unreachable(format!("it does not answer within {took_s} s"))
    }

    fn reached(&self) {
        *lock(&self.answered) = Instant::now();
        if self.resting().take().is_some() {
            self.health.restore(PART);
        }
    }

    fn lost(self: &Arc<Self>, failure: &Failure) {
        let known = self.resting().replace(Instant::now() + REST).is_some();
        if known {
            return;
        }
        tracing::warn!(database = %self.url, %failure, "the database cannot be reached, trying again");
        // Anybody may read this: where it is stays in the log.
        self.health.degrade(PART, "it cannot be reached; the log says why");
        self.runtime.spawn(probe(Arc::downgrade(self)));
    }

    fn resting(&self) -> MutexGuard<'_, Option<Instant>> {
        lock(&self.resting)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one, and a time cannot be half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks until the database is back, so that health says so though nobody needs it. Ends with the client.
async fn probe(inner: Weak<Inner>) {
    loop {
        sleep(PROBE).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.resting().is_none() {
            return;
        }
        let ping = async { Ok::<_, Failure>(inner.database().await?.run_command(doc! { "ping": 1 }).await?) };
        if let Ok(Ok(_)) = timeout(OPERATION_MAX, ping).await {
            inner.reached();
            return;
        }
    }
}

/// The write concern of everything that is written.
pub(super) fn majority() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build()
}

/// Makes indexes and whatever else must be there before a store is used. Must be idempotent: several processes may do
/// it at once.
pub(super) type Prepare = fn(Database) -> BoxFuture<'static, Result<(), Failure>>;

/// What one store has in the database: prepared once, with the first use.
#[derive(Clone)]
pub(super) struct Section {
    mongo: Mongo,
    prepare: Prepare,
    prepared: Arc<OnceCell<()>>,
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Section").field(&self.mongo).finish()
    }
}

impl Section {
    /// Nothing is done yet.
    pub fn new(mongo: Mongo, prepare: Prepare) -> Self {
        Self { mongo, prepare, prepared: Arc::new(OnceCell::new()) }
    }

    /// The database that it lies in.
    pub fn mongo(&self) -> &Mongo {
        &self.mongo
    }

    /// As [`Mongo::run`], prepared.
    pub async fn run<T, W, F>(&self, at_most: Duration, work: W) -> Result<T, Failure>
    where
        W: FnOnce(Database) -> F + Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
        T: Send + 'static,
    {
        let (prepare, prepared) = (self.prepare, self.prepared.clone());
        let work = async move |database: Database| {
            prepared.get_or_try_init(|| prepare(database.clone())).await?;
            work(database).await
        };
        self.mongo.run(at_most, work).await
    }
}
