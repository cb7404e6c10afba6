//! The notifier: turns what happened into webhooks and pushes.
//!
//! Events lie in the outbox. [`run`] claims shards of two duties there: the [`router`] makes deliveries of events, for each
//! subscription that wants them and may have them ([`book`]); the [`deliverer`] sends them, as [`webhook`]s or by way of
//! Apple ([`apns`]). A third duty is to decide which devices are offline ([`presence`]). Claims ([`claims`]) save double work, their tokens keep it harmless; the [`bell`] says when to look.

pub mod apns;
mod bell;
mod book;
mod claims;
mod client;
pub mod config;
mod context;
mod deliverer;
pub mod metrics;
mod outbox_clock;
mod presence;
mod retry_after;
mod router;
pub mod schedule;
mod shares;
#[cfg(test)]
mod testing;
pub mod tried;
pub mod webhook;

use std::sync::Arc;

use tokio::sync::mpsc;
use trough_bus::Deployment;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::shutdown::Shutdown;
use trough_store::outbox::Duty;
use trough_store::{Outbox, Presence, Registry, SealKey, Subscriptions};

pub use bell::TOPIC;
pub use config::Config;
pub use metrics::Metrics;

use apns::Apns;
use bell::Bell;
use book::Books;
use context::Context;
use deliverer::endpoint::Endpoints;
use outbox_clock::OutboxClock;
use shares::Shares;
use webhook::Webhooks;

/// What a notifier stands on; made by its caller.
pub struct Parts {
    /// Who may see what.
    pub registry: Arc<dyn Registry>,
    /// Who wants to be told.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// What happened, and what became of telling.
    pub outbox: Arc<dyn Outbox>,
    /// Which devices are connected.
    pub presence: Arc<dyn Presence>,
    /// Opens signing keys and push tokens.
    pub seal: SealKey,
    /// Where processes tell each other of news; without it they look by themselves.
    pub bus: Option<Deployment>,
    /// The time.
    pub clock: Clock,
    /// Where the parts `outbox` and `apns` are degraded while they do not work.
    pub health: Health,
    /// Counters, registered already.
    pub metrics: Metrics,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// A notifier cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificates that it is to trust cannot be used.
    #[error("an HTTP client cannot be made: {0}; look at the system's certificates and at --apns-ca")]
    Client(#[from] reqwest::Error),
}

/// Routes and delivers until `parts.shutdown` begins; then nothing new is begun, and what is on its way ends and is noted.
/// Returns when that is done, or the grace is over. Readiness is the caller's to say.
///
/// # Errors
/// [`StartError`], before anything is done. Stores that do not answer are waited for.
pub async fn run(parts: Parts, config: Config) -> Result<(), StartError> {
    let Parts { registry, subscriptions, outbox, presence, seal, bus, clock, health, metrics, shutdown } =
        parts;
    let webhooks = Webhooks::new(config.reach, config.webhook_timeout, clock.clone())?;
    let apns = config.apns.clone().map(|apns| Apns::new(apns, clock, health.clone())).transpose()?;
    let (panics, mut panicked) = mpsc::channel(1);
    let context = Arc::new(Context {
        owner: config.owner,
        in_flight: Shares::new(config.in_flight_max, config.in_flight_of_owner_max),
        config,
        outbox,
        books: Books::new(registry.clone(), subscriptions.clone()),
        seal,
        webhooks,
        apns,
        clock: OutboxClock::default(),
        endpoints: Endpoints::default(),
        health,
        metrics,
        shutdown,
        panics,
    });
    let bell = Bell::hang(&context, bus);
    tokio::spawn(keep_time(context.clone()));
    let routing =
        claims::keep(context.clone(), Duty::Route, |held| router::run(context.clone(), held, bell.clone()));
    let delivering = claims::keep(context.clone(), Duty::Deliver, |held| {
        deliverer::run(context.clone(), held, bell.clone())
    });
    let decider = Arc::<presence::Decider>::default();
    let deciding = claims::keep(context.clone(), Duty::Presence, |held| {
        let decider = decider.clone();
        async move { decider.hold(held).await }
    });
    let (stopped, outbox) = (context.shutdown.draining.clone(), context.outbox.clone());
    let books = Books::new(registry, subscriptions);
    // In this task: should it panic, the notifier ends, rather than hold claims on what nobody decides.
    let offline = presence::run(stopped, decider.clone(), presence, outbox, books);
    let work = async { tokio::join!(routing, delivering, deciding, offline) };
    tokio::select! {
        _ = work => Ok(()),
        // Likewise.
        Some(panic) = panicked.recv() => std::panic::resume_unwind(panic),
    }
}

/// Asks the outbox what time it is, now and then.
async fn keep_time(context: Arc<Context>) {
    let every = context.config.look_every;
    let keep = async {
        loop {
            // Whoever uses the outbox hears that it does not answer.
            let _ = context.clock.ask(&*context.outbox).await;
            tokio::time::sleep(every).await;
        }
    };
    context.shutdown.killed.run_until_cancelled(keep).await;
}
