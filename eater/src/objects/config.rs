//! How an object journal is set up.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::object_catalog::Incarnation;
use trough_store::{ObjectCatalog, ObjectStore};

use super::metrics::ObjectMetrics;
use crate::doorbell::Doorbell;
use crate::journal::JournalMetrics;

/// Settings; the default suits a store that answers within some tens of milliseconds.
#[derive(Debug, Clone)]
pub struct ObjectsConfig {
    /// How long after its first batch an object is sealed. 100 ms.
    pub flush_after: Duration,
    /// An object takes no further batch that would make it larger, in bytes. 4 MiB.
    pub object_bytes: usize,
    /// Objects that are sealed and not entered yet; further batches gather meanwhile. 8.
    pub in_flight_max: usize,
    /// How long to wait before what failed is tried again. 500 ms.
    pub retry_every: Duration,
    /// How often this eater says that it lives. 5 s.
    pub heartbeat_every: Duration,
    /// An eater that was silent for so long is declared dead, by the catalog's clock. 60 s.
    pub dead_after: Duration,
    /// How often dead eaters and what they left are looked for. 10 s.
    pub sweep_every: Duration,
    /// How often heads are written to the catalog. 1 s.
    pub heads_every: Duration,
    /// Most objects that one request may need to touch. 10,000.
    pub objects_max: usize,
    /// Most bytes of objects kept in memory for readers. 64 MiB.
    pub cache_bytes_max: usize,
}

impl Default for ObjectsConfig {
    fn default() -> Self {
        Self {
            flush_after: Duration::from_millis(100),
            object_bytes: 4 * 1024 * 1024,
            in_flight_max: 8,
            retry_every: Duration::from_millis(500),
            heartbeat_every: Duration::from_secs(5),
            dead_after: Duration::from_secs(60),
            sweep_every: Duration::from_secs(10),
            heads_every: Duration::from_secs(1),
            objects_max: 10_000,
            cache_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// What an object journal stands on.
#[derive(Clone)]
pub struct ObjectsParts {
    /// Where objects lie.
    pub store: Arc<dyn ObjectStore>,
    /// Which of them count.
    pub catalog: Arc<dyn ObjectCatalog>,
    /// Who this eater is in this life: random, never used before.
    pub incarnation: Incarnation,
    /// For `received_at`.
    pub clock: Clock,
    /// Where the part `journal` is degraded while nothing can be stored.
    pub health: Health,
    /// Registered by the caller, with [`JournalMetrics::register`].
    pub journal_metrics: JournalMetrics,
    /// Registered by the caller, with [`ObjectMetrics::register`].
    pub metrics: ObjectMetrics,
    /// Rung when an object is entered.
    pub doorbell: Option<Doorbell>,
    /// Cancelled when a close must not go on waiting for the store.
    pub killed: CancellationToken,
}
