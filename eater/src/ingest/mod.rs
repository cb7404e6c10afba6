//! Ingest: accepts links and takes their batches, on one thread of its own.
//!
//! A link's work is a checksum and a hand-over per batch; one thread does that for gigabytes a second, and a
//! wake-up of a thread that only does this costs less than one of a pool.

mod budget;
mod direct;
mod door;
mod link;
mod questions;
mod sink;
mod traces;

use std::io;
use std::os::fd::AsFd;

use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio_util::task::TaskTracker;
use trough_protocol::LinkId;
use trough_runtime::accept::accept_loop;
use trough_runtime::local;
use trough_runtime::shutdown::Shutdown;
use trough_runtime::trace::Tracer;

use crate::frames::AnyJournal;
use crate::metrics::IngestMetrics;
use budget::Budget;
use door::Admitted;
pub use door::LinkSecurity;
pub use link::LEAVE_SPREAD;
use link::Surroundings;
use questions::LastSubmitted;

/// Where links come from.
#[derive(Debug)]
pub enum LinkListener {
    /// Other processes.
    Tcp(std::net::TcpListener),
    /// The feeder of this process.
    Local(local::Listener),
}

/// What links stand on.
pub struct Parts {
    /// Where batches go.
    pub journal: AnyJournal,
    /// Bytes of batches that all feeders together may have on their way.
    pub budget_bytes: u64,
    /// Counters.
    pub metrics: IngestMetrics,
    /// When to stop.
    pub shutdown: Shutdown,
    /// What a feeder must show.
    pub security: LinkSecurity,
    /// Where traces of runs go.
    pub tracer: Tracer,
}

/// Serves links until `shutdown` begins and the last feeder has gone, or it is killed. Blocks its thread.
///
/// # Errors
/// If the system refuses an event loop or the listener.
pub fn run(listener: LinkListener, eater: LinkId, parts: Parts) -> io::Result<()> {
    let Parts { journal, budget_bytes, metrics, shutdown, security, tracer } = parts;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    shutdown.drain.holds("links", &metrics.links);
    let budget = Budget::new(budget_bytes);
    let last = LastSubmitted::default();
    let security = security.into();
    let around = Surroundings { eater, journal, metrics, shutdown, budget, last, security, tracer };
    LocalSet::new().block_on(&runtime, serve(listener, around))
}

async fn serve(listener: LinkListener, around: Surroundings) -> io::Result<()> {
    let shutdown = around.shutdown.clone();
    let links = TaskTracker::new();
    match listener {
        LinkListener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            // No linger: a feeder that comes now would be told to go away.
            accept_loop(listener, &shutdown, std::time::Duration::ZERO, |stream, peer| {
                let around = around.clone();
                let link = async move {
                    let peer = peer.to_string();
                    match around.security.clone().admit(stream, &peer).await {
                        Some(Admitted::Plain(stream)) => {
                            let plain = stream.as_fd().try_clone_to_owned().ok();
                            link::serve(stream, plain, peer, around).await;
                        }
                        // What goes out is encrypted by the task: nobody else may write to the socket.
                        Some(Admitted::Tls(stream)) => link::serve(stream, None, peer, around).await,
                        None => {}
                    }
                };
                tokio::task::spawn_local(links.track_future(link));
            })
            .await;
        }
        // Nobody but this process's feeder can come in here.
        LinkListener::Local(mut listener) => loop {
            let stream = tokio::select! {
                () = shutdown.draining.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Some(Ok(stream)) => stream,
                    Some(Err(error)) => {
                        tracing::warn!(%error, "cannot accept a link of this process");
                        continue;
                    }
                    None => break,
                },
            };
            let plain = stream.as_fd().try_clone_to_owned().ok();
            let link = link::serve(stream, plain, "this process".to_owned(), around.clone());
            tokio::task::spawn_local(links.track_future(link));
        },
    }
    links.close();
    tokio::select! {
        () = links.wait() => {}
        () = shutdown.killed.cancelled() => {}
    }
    Ok(())
}
