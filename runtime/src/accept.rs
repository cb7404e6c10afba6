//! Taking connections from a listener, without spinning when the machine has none to give.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::shutdown::Shutdown;

/// How long connections are still accepted after SIGTERM: a load balancer needs a while to notice that
/// readiness fails, and a refused connection would reach a client.
pub const LINGER: Duration = Duration::from_secs(5);

/// First pause after a failed accept; doubled at each further one.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Longest pause. A descriptor that is freed in between is used this much later.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Failures are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Accepts until `linger` after the drain began (or until `killed`) and hands each stream, with TCP_NODELAY
/// set, to `on_stream`, which must not block: it spawns. Returns having closed the listener.
///
/// When the process or the machine is out of file descriptors, or connections die in the queue, it pauses for
/// 5 to 500 ms and tries again; waiting connections stay in the kernel's backlog meanwhile.
///
/// Cancel-safe: dropping the future closes the listener, and no accepted stream is lost, as each is handed on
/// without an await in between.
pub async fn accept_loop<F>(listener: TcpListener, shutdown: &Shutdown, linger: Duration, mut on_stream: F)
where
    F: FnMut(TcpStream, SocketAddr),
{
    let over = async {
        shutdown.draining.cancelled().await;
        tokio::time::sleep(linger).await;
    };
    tokio::pin!(over);
    let mut pauses = Pauses::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.killed.cancelled() => return,
            () = &mut over => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pauses = Pauses { logged: pauses.logged, ..Pauses::default() };
                // It fails only on a connection that has died already, and the first read says so too.
                let _ = stream.set_nodelay(true);
                on_stream(stream, peer);
            }
            Err(error) => {
                let pause = pauses.failed(&error, Instant::now());
                tokio::select! {
                    () = shutdown.killed.cancelled() => return,
                    () = &mut over => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

/// How long to wait after failures, and when to say so.
#[derive(Debug, Default)]
struct Pauses {
    failures: u32,
    unlogged: u32,
    logged: Option<Instant>,
}

impl Pauses {
    fn failed(&mut self, error: &io::Error, now: Instant) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.unlogged += 1;
        if self.logged.is_none_or(|at| now.duration_since(at) >= LOG_EVERY) {
            tracing::warn!(%error, failures = self.unlogged, remedy = remedy(error), "cannot accept a connection");
            self.logged = Some(now);
            self.unlogged = 0;
        }
        PAUSE_MIN.saturating_mul(1 << (self.failures - 1).min(10)).min(PAUSE_MAX)
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "raise this process's limit of open files (ulimit -n, LimitNOFILE)",
        Some(Errno::NFILE) => "raise the machine's limit of open files (sysctl fs.file-max)",
        Some(Errno::NOBUFS | Errno::NOMEM) => "give the machine more memory or fewer connections",
        _ => "none needed unless it goes on: the client gave up while it waited",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn pauses_grow_and_stay_below_the_longest() {
        let (mut pauses, now) = (Pauses::default(), Instant::now());
        let error = io::Error::from(Errno::MFILE);
        let waits: Vec<_> = (0..40).map(|_| pauses.failed(&error, now)).collect();
        assert_eq!(waits[0], PAUSE_MIN);
        assert!(waits.is_sorted());
        assert_eq!(waits[39], PAUSE_MAX);
        assert_eq!(pauses.unlogged, 39, "the first was logged, the others wait for their second");
    }

    #[tokio::test]
    async fn accepts_while_it_lingers_and_then_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new(Duration::from_secs(60));
        let (count, stop) = (Arc::new(AtomicUsize::new(0)), shutdown.clone());
        let counted = count.clone();
        let (accepted, mut streams) = tokio::sync::mpsc::channel(4);
        let server = tokio::spawn(async move {
            accept_loop(listener, &stop, Duration::from_secs(3600), move |stream, _| {
                assert!(stream.nodelay().unwrap());
                counted.fetch_add(1, Ordering::SeqCst);
                accepted.try_send(stream).unwrap();
            })
            .await;
        });
        let _first = TcpStream::connect(address).await.unwrap();
        streams.recv().await.unwrap();
        shutdown.begin();
        let _second = TcpStream::connect(address).await.unwrap();
        streams.recv().await.unwrap();
        shutdown.killed.cancel();
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}
