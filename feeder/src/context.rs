//! What all shards of a feeder share.

use std::sync::Arc;

use tokio::sync::Semaphore;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::shutdown::Shutdown;
use trough_store::Registry;

use crate::commands::Desk;
use crate::config::Config;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::reports::Reports;
use crate::tickets::Tickets;

/// Shared by reference; nothing in it is touched per frame.
pub struct Context {
    /// Limits and timings.
    pub config: Config,
    /// Who may connect.
    pub registry: Arc<dyn Registry>,
    /// The time.
    pub clock: Clock,
    /// What `/readyz` says.
    pub health: Health,
    /// Counters.
    pub metrics: Metrics,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Who has a session.
    pub presence: Arc<Presence>,
    /// What is said of them where presence is kept.
    pub reports: Arc<Reports>,
    /// Who sends commands, if anybody does.
    pub commands: Option<Arc<Desk>>,
    /// Unused tickets.
    pub tickets: Tickets,
    /// What the links of all shards come to.
    pub links: Arc<Links>,
    /// A permit for each session that may be open.
    pub sessions: Arc<Semaphore>,
}

impl Context {
    /// Whether sessions are to be elsewhere: the feeder stops, or is emptied by hand.
    pub fn is_leaving(&self) -> bool {
        self.shutdown.is_draining() || self.shutdown.drain.is_on()
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("config", &self.config).finish_non_exhaustive()
    }
}
