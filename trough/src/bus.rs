//! The bus of a deployment of several processes, as options say.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use trough_bus::memcached::{Addresses, BusMetrics, Memcached, Report};
use trough_bus::seal::Sealer;
use trough_bus::{Bus, Deployment, Environment};
use trough_runtime::clock::Clock;
use trough_store::Registry;

use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::service::Chassis;
use crate::token_cache::CachedRegistry;

/// How often every server is asked whether it is there, so that `/readyz` knows of one that nobody needs just now.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// Where the bus is.
#[derive(Debug, Clone, Args)]
pub struct BusArgs {
    /// memcached, for what processes tell each other: memcached://HOST:PORT, more of them joined by commas
    /// [default: none; what changes is noticed a little later]
    #[arg(long, env = opt::BUS.env, hide_env_values = true, value_name = "URL")]
    bus: Option<String>,
    /// Another memcached for what may be evicted, the tokens' cache, so that --bus can have one that evicts nothing
    /// [default: that of --bus]
    #[arg(long, env = opt::CACHE_BUS.env, hide_env_values = true, value_name = "URL")]
    cache_bus: Option<String>,
    /// A file of 32 to 1024 random bytes, the same for every process: seals the tokens' cache on the bus
    /// [default: none; nothing is cached there]
    #[arg(long, env = opt::BUS_KEY_FILE.env, hide_env_values = true, value_name = "FILE")]
    bus_key_file: Option<PathBuf>,
    /// Which data this is, such as production or sandbox: deployments of different ones may share a bus
    #[arg(long, env = opt::ENVIRONMENT.env, hide_env_values = true, value_name = "NAME",
          default_value = "production")]
    environment: String,
}

/// The options, checked.
#[derive(Debug, Clone)]
pub struct BusSettings {
    addresses: Option<Addresses>,
    cache: Option<Addresses>,
    environment: Environment,
    sealer: Option<Sealer>,
}

/// The bus of a process, open. Nothing is connected before it is needed.
pub struct OpenBus {
    /// For what processes tell each other.
    pub deployment: Deployment,
    /// For what may be evicted.
    cache: Arc<dyn Bus>,
    sealer: Option<Sealer>,
}

impl BusArgs {
    /// Checks them, and reads the key.
    pub fn check(&self, faults: &mut Faults) -> Option<BusSettings> {
        let environment: Option<Environment> =
            faults.parsed(opt::ENVIRONMENT, &self.environment, "use a name such as production or sandbox");
        let addresses = addresses(opt::BUS, self.bus.as_deref(), faults);
        let cache = addresses_of_cache(self, faults);
        let sealer = match &environment {
            Some(environment) => self.sealer(environment, faults),
            None => Some(None),
        };
        Some(BusSettings { addresses: addresses?, cache: cache?, environment: environment?, sealer: sealer? })
    }

    fn sealer(&self, environment: &Environment, faults: &mut Faults) -> Option<Option<Sealer>> {
        let Some(path) = &self.bus_key_file else { return Some(None) };
        let shown = path.display().to_string();
        let remedy = "name a file of random bytes: head -c 32 /dev/urandom > FILE";
        let key = fs::read(path).map_err(|error| {
            faults.add(opt::BUS_KEY_FILE, &shown, format!("it cannot be read ({error})"), remedy)
        });
        let sealer = Sealer::new(key.ok()?, environment.clone());
        sealer
            .map_err(|error| faults.add(opt::BUS_KEY_FILE, &shown, error.to_string(), remedy))
            .ok()
            .map(Some)
    }
}

/// The servers that an option names; none if it is not given.
fn addresses(option: Opt, url: Option<&str>, faults: &mut Faults) -> Option<Option<Addresses>> {
    let Some(url) = url else { return Some(None) };
    faults.parsed(option, url, "use memcached://HOST:PORT, such as memcached://127.0.0.1:11211").map(Some)
}

fn addresses_of_cache(args: &BusArgs, faults: &mut Faults) -> Option<Option<Addresses>> {
    let cache = addresses(opt::CACHE_BUS, args.cache_bus.as_deref(), faults)?;
    if let (Some(cache), None) = (&cache, &args.bus) {
        let remedy = "name the memcached for doorbells with --bus, too";
        faults.add(opt::CACHE_BUS, cache.to_string(), "it stands beside --bus, which is not given", remedy);
        return None;
    }
    Some(cache)
}

impl BusSettings {
    /// Opens the bus of a service, which says in health and metrics how it stands; `None` if there is none.
    pub fn open(self, chassis: &mut Chassis) -> Option<OpenBus> {
        // Registered once, whether there is one bus or two.
        let metrics = self.addresses.as_ref().map(|_| BusMetrics::register(&mut chassis.metrics))?;
        let (health, clock, shutdown) =
            (chassis.health.clone(), chassis.clock.clone(), chassis.shutdown.clone());
        self.open_with(|part, addresses| {
            let report = Report { part, health: health.clone(), metrics: metrics.clone() };
            let bus = Arc::new(Memcached::reporting(addresses, clock.clone(), report));
            let (probed, killed) = (bus.clone(), shutdown.killed.clone());
            tokio::spawn(async move { killed.run_until_cancelled(probe(&probed)).await });
            bus
        })
    }

    /// The registry with the bus in front, for a command; as it is, if there is none.
    pub fn in_front_of(self, registry: Arc<dyn Registry>, clock: Clock) -> Arc<dyn Registry> {
        let bus = self.open_with(|_, addresses| Arc::new(Memcached::new(addresses, clock.clone())));
        in_front_of(bus, registry, &clock)
    }

    /// What processes tell each other by, for a command; `None` if there is no bus.
    pub fn deployment(self, clock: &Clock) -> Option<Deployment> {
        let bus = self.open_with(|_, addresses| Arc::new(Memcached::new(addresses, clock.clone())));
        bus.map(|bus| bus.deployment)
    }

    /// `make` makes a bus of a name and its servers.
    fn open_with(self, make: impl Fn(&'static str, Addresses) -> Arc<Memcached>) -> Option<OpenBus> {
        let bus: Arc<dyn Bus> = make("bus", self.addresses?);
        let cache =
            self.cache.map_or_else(|| bus.clone(), |addresses| make("cache_bus", addresses) as Arc<dyn Bus>);
        let deployment = Deployment::new(bus, self.environment);
        Some(OpenBus { deployment, cache, sealer: self.sealer })
    }
}

/// The registry with the bus in front; as it is, if there is none.
pub fn in_front_of(bus: Option<OpenBus>, registry: Arc<dyn Registry>, clock: &Clock) -> Arc<dyn Registry> {
    let Some(OpenBus { deployment, cache, sealer }) = bus else { return registry };
    Arc::new(CachedRegistry::new(registry, deployment, cache, sealer, clock.clone()))
}

async fn probe(bus: &Memcached) {
    loop {
        bus.probe().await;
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bus: Option<&str>, cache_bus: Option<&str>) -> Result<Option<BusSettings>, String> {
        let args = BusArgs {
            bus: bus.map(str::to_owned),
            cache_bus: cache_bus.map(str::to_owned),
            bus_key_file: None,
            environment: "production".into(),
        };
        let mut faults = Faults::default();
        let settings = args.check(&mut faults);
        faults.into_result(Some(settings)).map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_cache_stands_beside_a_bus() {
        let (one, other) = (Some("memcached://a:1"), Some("memcached://b:1"));
        for (bus, cache) in [(None, None), (one, None), (one, other)] {
            let settings = check(bus, cache).unwrap().unwrap();
            assert_eq!(
                (settings.addresses.is_some(), settings.cache.is_some()),
                (bus.is_some(), cache.is_some())
            );
        }
        let told = check(None, other).unwrap_err();
        assert!(told.contains("--cache-bus") && told.contains("--bus, too"), "{told}");
        let told = check(one, Some("redis://b:1")).unwrap_err();
        assert!(told.contains("--cache-bus") && told.contains("memcached://"), "{told}");
    }
}
