//! The feeder: takes frames from devices over WebSocket and forwards them to an eater; acknowledges to each
//! device what the eater has made durable.
//!
//! `run` accepts connections and spreads them over shards ([`shard`]), each a thread with its sessions
//! ([`session`]) and links ([`uplink`]) to the eaters that [`discovery`] finds. The journey of a frame: [`session`] checks a message and appends its
//! frames to the session's [`flow`]; the [`scheduler`] fills batches from the flows; the [`uplink`] sends them
//! and brings the acks back to the flow, from where the session tells the device.

mod commands;
pub mod config;
mod context;
pub mod discovery;
mod flow;
mod handshake;
mod http_port;
mod links;
pub mod metrics;
mod neighbours;
mod presence;
mod queue;
mod reports;
mod scheduler;
mod session;
mod shard;
mod supervision;
mod tickets;
mod uplink;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use trough_bus::Deployment;
use trough_runtime::accept::accept_loop;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::random::link_id;
use trough_runtime::shutdown::Shutdown;
use trough_store::Registry;

pub use commands::CommandParts;
pub use config::Config;
use context::Context;
pub use discovery::Eaters;
use discovery::Place;
pub use metrics::Metrics;
use presence::Presence;
pub use reports::Watched;
use shard::{Arrival, BACKLOG, Load, Shard};
pub use uplink::LinkSecurity;

/// What a feeder stands on; made by its caller.
pub struct Parts {
    /// Who may connect.
    pub registry: Arc<dyn Registry>,
    /// Where feeders tell each other of their sessions; without it each knows its own only.
    pub bus: Option<Deployment>,
    /// Where is told which devices are connected, as long as a rule wants to know; without it nobody is told.
    pub watched: Option<Watched>,
    /// Commands to devices; without it nobody is sent any.
    pub commands: Option<CommandParts>,
    /// The time.
    pub clock: Clock,
    /// What `/readyz` says; set ready by `run`.
    pub health: Health,
    /// Counters, registered already.
    pub metrics: Metrics,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// A feeder cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Values that cannot be.
    #[error("the configuration is not usable: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The system refuses a thread.
    #[error("cannot start a shard: {0}")]
    Shard(#[from] io::Error),
}

struct ShardHandle {
    load: Arc<AtomicUsize>,
    arrivals: mpsc::Sender<Arrival>,
    done: oneshot::Receiver<io::Result<()>>,
}

/// Serves devices on `listener`, with links to `eaters`, until `parts.shutdown` begins, then drains: readiness fails, connections are
/// still accepted for `drain_linger` and told to come back, sessions are closed over `drain_spread` with what they sent
/// acknowledged. Returns when the last is gone or the grace is over.
///
/// # Errors
/// [`StartError`], before anything is accepted.
pub async fn run(
    listener: TcpListener,
    eaters: Eaters,
    parts: Parts,
    config: Config,
) -> Result<(), StartError> {
    config.check().map_err(StartError::Config)?;
    let Parts { registry, bus, commands, watched, clock, health, metrics, shutdown } = parts;
    metrics.connections_max.set(config.connections_max as i64);
    metrics.sessions_max.set(config.sessions_max as i64);
    let sessions = Arc::new(Semaphore::new(config.sessions_max));
    let presence = Arc::new(if bus.is_some() { Presence::told() } else { Presence::default() });
    let links = links::Links::new(health.clone(), metrics.clone());
    let commands =
        commands.map(|parts| commands::start(parts, presence.clone(), metrics.clone(), shutdown.clone()));
    let context = Arc::new(Context {
        config,
        registry,
        clock,
        health,
        metrics,
        shutdown: shutdown.clone(),
        presence,
        reports: Arc::default(),
        commands,
        tickets: tickets::Tickets::default(),
        links,
        sessions,
    });
    let places = discovery::start(eaters, &context);
    let feeder = link_id();
    let shards: Vec<ShardHandle> = (0..context.config.shards)
        .map(|index| start_shard(index, &context, feeder, places.clone()))
        .collect::<io::Result<_>>()?;
    if let Some(bus) = bus {
        neighbours::start(bus, feeder, &context);
    }
    if let Some(watched) = watched {
        shutdown.tasks.spawn(reports::report(watched, feeder, context.clone()));
    }
    tokio::spawn(supervision::watch_tokens(context.clone()));
    tokio::spawn(supervision::drain(context.clone()));
    shutdown.drain.holds("sessions", &context.metrics.sessions);
    tokio::spawn(supervision::empty(context.clone()));
    context.health.set_ready();
    let linger = context.config.drain_linger;
    accept_loop(listener, &shutdown, linger, |stream, address| {
        let lightest = shards.iter().min_by_key(|shard| shard.load.load(Ordering::Relaxed));
        let Some(shard) = lightest else { return };
        if context.metrics.connections.get() >= context.config.connections_max as i64 {
            // It is not answered: whoever holds the other connections would be, too.
            tracing::debug!(peer = %address, "connection dropped, connections-max reached");
            return;
        }
        let load = Load::new(&shard.load, &context);
        let stream = stream.into_std();
        if let Ok(stream) = stream
            && shard.arrivals.try_send((stream, address, load)).is_err()
        {
            tracing::debug!(peer = %address, "connection dropped, its shard is behind");
        }
    })
    .await;
    for shard in shards {
        drop(shard.arrivals);
        match shard.done.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => tracing::error!("a shard has panicked"),
        }
    }
    Ok(())
}

fn start_shard(
    index: usize,
    context: &Arc<Context>,
    feeder: trough_protocol::LinkId,
    places: watch::Receiver<Vec<Place>>,
) -> io::Result<ShardHandle> {
    let (arrivals, receiver) = mpsc::channel(BACKLOG);
    let (sender, done) = oneshot::channel();
    let context = context.clone();
    std::thread::Builder::new().name(format!("feeder-{index}")).spawn(move || {
        // The receiver is gone only if the feeder's own future was dropped.
        let _ = sender.send(Shard::run(context, feeder, places, receiver));
    })?;
    Ok(ShardHandle { load: Arc::default(), arrivals, done })
}
