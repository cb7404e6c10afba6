//! What `up`, `feeder` and `eater` have in common: options, the chassis, and how they end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_runtime::admin::serve_admin;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::metrics::{self, Metrics};
use trough_runtime::shutdown::Shutdown;
use trough_store::Registry;

use crate::cli::DataDirArgs;
use crate::faults::Faults;
use crate::registry::Place;
use crate::stores::Stores;
use crate::{opt, sockets};

/// Descriptors a feeder needs besides those of its connections.
const OTHER_FILES: u64 = 256;

/// Options of every service.
#[derive(Debug, Clone, Args)]
pub struct ServiceArgs {
    #[command(flatten)]
    pub data: DataDirArgs,
    /// How long a stop may take, in seconds; what is not finished by then is cut off
    #[arg(long, env = opt::GRACE.env, hide_env_values = true, value_name = "SECONDS", default_value = "25")]
    pub grace: String,
}

impl ServiceArgs {
    /// Checks them.
    pub fn check(&self, faults: &mut Faults) -> Option<Duration> {
        faults.seconds(opt::GRACE, &self.grace, 1..=3600)
    }
}

/// Options of whatever has devices.
#[derive(Debug, Clone, Args)]
pub struct SessionArgs {
    /// Most devices connected at a time; further ones get 503
    #[arg(long, env = opt::SESSIONS_MAX.env, hide_env_values = true, value_name = "SESSIONS",
          default_value = "16384")]
    pub sessions_max: String,
    /// Largest payload of one frame, in bytes
    #[arg(long, env = opt::FRAME_BYTES_MAX.env, hide_env_values = true, value_name = "BYTES",
          default_value = "65536")]
    pub frame_bytes_max: String,
    /// Over how long sessions are closed, one after another, at a stop or by `trough drain`, in seconds: so that their
    /// devices do not all come back at once
    #[arg(long, env = opt::DRAIN_SPREAD.env, hide_env_values = true, value_name = "SECONDS",
          default_value = "5")]
    pub drain_spread: String,
}

impl SessionArgs {
    /// Checks them.
    pub fn check(&self, faults: &mut Faults) -> Option<trough_feeder::Config> {
        let sessions = faults.number(opt::SESSIONS_MAX, &self.sessions_max, "sessions", 1..=1_000_000);
        let bytes =
            faults.number(opt::FRAME_BYTES_MAX, &self.frame_bytes_max, "bytes", 1..=FRAME_BYTES_MAX as u64);
        let spread = faults.seconds(opt::DRAIN_SPREAD, &self.drain_spread, 0..=3600);
        let config = sessions.zip(bytes).map(|(s, b)| feeder_config(s as usize, b as usize));
        config.zip(spread).map(|(config, drain_spread)| trough_feeder::Config { drain_spread, ..config })
    }
}

/// The other limits follow from these two.
fn feeder_config(sessions_max: usize, frame_bytes_max: usize) -> trough_feeder::Config {
    let defaults = trough_feeder::Config::default();
    // A message needs room for one largest frame and what stands around it; a window, for one message.
    let message_bytes_max = defaults.message_bytes_max.max(frame_bytes_max + 1024);
    trough_feeder::Config {
        sessions_max,
        // Requests that are not sessions yet, tickets and probes.
        connections_max: sessions_max + (sessions_max / 8).max(64),
        frame_bytes_max,
        message_bytes_max,
        window_bytes: defaults.window_bytes.max(message_bytes_max),
        ..defaults
    }
}

/// What every service stands on.
pub struct Chassis {
    /// The machine's time.
    pub clock: Clock,
    /// What `/readyz` says.
    pub health: Health,
    /// Who may do what.
    pub registry: Arc<dyn Registry>,
    /// The same, and what lies beside it.
    pub stores: Stores,
    /// Filled by the services before [`Chassis::serve_admin`].
    pub metrics: metrics::Registry,
    /// When to stop.
    pub shutdown: Shutdown,
}

impl Chassis {
    /// Opens the registry; in a data directory it is made, with the directory, if it is missing.
    ///
    /// # Errors
    /// The directory or the registry cannot be used.
    pub fn new(place: Place, shutdown: Shutdown) -> Result<Self> {
        let (clock, health) = (Clock::system(), Health::new());
        let stores = Stores::open_for_service(place, health.clone())?;
        let metrics = metrics::new_registry(env!("CARGO_PKG_VERSION"), &clock);
        Ok(Self { clock, health, registry: stores.registry.clone(), stores, metrics, shutdown })
    }

    /// Serves what was registered. It goes on while the service drains.
    pub fn serve_admin(&mut self, listener: TcpListener) {
        let metrics = Metrics::new(std::mem::take(&mut self.metrics));
        tokio::spawn(serve_admin(listener, metrics, self.health.clone(), self.shutdown.clone()));
    }
}

/// A shutdown that signals begin.
///
/// # Errors
/// The signals cannot be watched.
pub fn shutdown_on_signals(grace: Duration) -> Result<Shutdown> {
    let shutdown = Shutdown::new(grace);
    shutdown.watch_signals().context("cannot watch for signals")?;
    Ok(shutdown)
}

/// Makes room for the connections a feeder may have, and warns if there is not enough.
pub fn prepare_open_files(config: &trough_feeder::Config) {
    let wanted = config.connections_max as u64 + OTHER_FILES;
    if let Some(limit) = sockets::raise_open_files()
        && limit < wanted
    {
        tracing::warn!(
            limit,
            wanted,
            "the limit of open files is below what sessions-max needs: raise it (ulimit -n, LimitNOFILE) or lower \
             --sessions-max"
        );
    }
}

/// Warns if a stop is cut off before the sessions are closed.
pub fn check_spread(config: &trough_feeder::Config, shutdown: &Shutdown) {
    let needed = config.drain_spread.max(config.drain_linger);
    if shutdown.grace <= needed {
        tracing::warn!(
            grace_s = shutdown.grace.as_secs(),
            drain_spread_s = config.drain_spread.as_secs(),
            linger_s = config.drain_linger.as_secs(),
            "a stop is cut off before all sessions are closed: raise --grace, or lower --drain-spread and --linger"
        );
    }
}

/// A part of the process that was started, and its name.
pub type Part = (&'static str, JoinHandle<Result<()>>);

/// Waits until the stop begins or a part ends before it, drains, and gives the first failure.
///
/// # Errors
/// A part failed, or the drain was cut short.
pub async fn run_to_end(parts: Vec<Part>, shutdown: Shutdown) -> Result<()> {
    let mut ended = Vec::new();
    for (name, handle) in parts {
        let shutdown = shutdown.clone();
        ended.push(tokio::spawn(async move {
            let result =
                handle.await.unwrap_or_else(|_| Err(anyhow!("the {name} has panicked; the log says where")));
            let early = !shutdown.is_draining();
            // Whoever ends takes the others along: half a service would look alive.
            shutdown.begin();
            match result {
                Ok(()) if early => Err(anyhow!("the {name} ended by itself; the log says why")),
                other => other,
            }
        }));
    }
    shutdown.draining.cancelled().await;
    let outcome = shutdown.finish().await;
    let mut first = Ok(());
    for task in ended {
        // What was cut off has nothing to say.
        if let Ok(Ok(result)) = tokio::time::timeout(Duration::from_millis(100), task).await
            && first.is_ok()
        {
            first = result;
        }
    }
    first?;
    if outcome.is_clean() {
        tracing::info!(took_s = outcome.took.as_secs_f64(), "stopped");
        return Ok(());
    }
    let why = format!(
        "the stop was cut short after {:.1} s; unacknowledged frames will be sent again by their devices",
        outcome.took.as_secs_f64()
    );
    Err(anyhow!(why))
}
