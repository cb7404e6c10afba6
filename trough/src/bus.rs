//! The bus of a deployment of several processes, as options say.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use trough_bus::Environment;
use trough_bus::memcached::{Addresses, Memcached};
use trough_bus::seal::Sealer;
use trough_runtime::clock::Clock;
use trough_store::Registry;

use crate::faults::Faults;
use crate::opt;
use crate::token_cache::CachedRegistry;

/// Where the bus is.
#[derive(Debug, Clone, Args)]
pub struct BusArgs {
    /// memcached, for what processes tell each other: memcached://HOST:PORT, more of them joined by commas
    /// [default: none; what changes is noticed a little later]
    #[arg(long, env = opt::BUS.env, hide_env_values = true, value_name = "URL")]
    bus: Option<String>,
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
    environment: Environment,
    sealer: Option<Sealer>,
}

impl BusArgs {
    /// Checks them, and reads the key.
    pub fn check(&self, faults: &mut Faults) -> Option<BusSettings> {
        let environment: Option<Environment> =
            faults.parsed(opt::ENVIRONMENT, &self.environment, "use a name such as production or sandbox");
        let addresses = self.bus.as_ref().map(|url| {
            faults.parsed(opt::BUS, url, "use memcached://HOST:PORT, such as memcached://127.0.0.1:11211")
        });
        let sealer = match &environment {
            Some(environment) => self.sealer(environment, faults),
            None => Some(None),
        };
        Some(BusSettings {
            addresses: addresses.map_or(Some(None), |valid| valid.map(Some))?,
            environment: environment?,
            sealer: sealer?,
        })
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

impl BusSettings {
    /// The registry with the bus in front; as it is, if there is none.
    pub fn in_front_of(self, registry: Arc<dyn Registry>, clock: Clock) -> Arc<dyn Registry> {
        let Some(addresses) = self.addresses else { return registry };
        let bus = Arc::new(Memcached::new(addresses, clock.clone()));
        Arc::new(CachedRegistry::new(registry, bus, self.environment, self.sealer, clock))
    }
}
