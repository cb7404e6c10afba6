//! What a bus on memcached counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use trough_runtime::metrics::Registry;

use crate::error::BusError;

/// Which bus of the process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Which {
    bus: &'static str,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    bus: &'static str,
    reason: &'static str,
}

/// Metrics of all buses of a process, named `trough_bus_…`. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct BusMetrics {
    calls: Family<Which, Counter>,
    failures: Family<Failure, Counter>,
    servers: Family<Which, Gauge>,
    servers_away: Family<Which, Gauge>,
}

impl BusMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let all = registry.sub_registry_with_prefix("trough_bus");
        all.register("calls", "Calls of memcached, answered or not", metrics.calls.clone());
        let failures = "Calls that failed: no answer (unavailable), not sent as the server is known to be away \
                        (breaker), no room (full), or refused (invalid)";
        all.register("failures", failures, metrics.failures.clone());
        all.register("servers", "Servers of the bus", metrics.servers.clone());
        let away = "Servers whose circuit breaker is open: they do not answer, and are tried now and then";
        all.register("servers_away", away, metrics.servers_away.clone());
        metrics
    }

    /// Those of one bus, which has so many servers.
    pub(super) fn of(&self, bus: &'static str, servers: usize) -> Counts {
        let which = Which { bus };
        self.servers.get_or_create(&which).set(servers as i64);
        let failures = |reason| self.failures.get_or_create(&Failure { bus, reason }).clone();
        Counts {
            calls: self.calls.get_or_create(&which).clone(),
            unavailable: failures("unavailable"),
            breaker: failures("breaker"),
            full: failures("full"),
            invalid: failures("invalid"),
            servers_away: self.servers_away.get_or_create(&which).clone(),
        }
    }
}

/// The counts of one bus.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub calls: Counter,
    unavailable: Counter,
    pub breaker: Counter,
    full: Counter,
    invalid: Counter,
    pub servers_away: Gauge,
}

impl Counts {
    /// A call that was sent, or could not be.
    pub fn called(&self, failed: Option<&BusError>) {
        self.calls.inc();
        match failed {
            None => {}
            Some(BusError::Unavailable { .. }) => drop(self.unavailable.inc()),
            Some(BusError::Full { .. }) => drop(self.full.inc()),
            Some(BusError::Invalid(_)) => drop(self.invalid.inc()),
        }
    }
}
