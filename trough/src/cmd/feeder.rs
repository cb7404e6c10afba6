//! `trough feeder`: takes frames from devices and forwards them to an eater.

use anyhow::Context;
use clap::Args;
use trough_feeder::{CommandParts, Eaters, Watched};
use trough_runtime::shutdown::Shutdown;
use trough_runtime::tls::Purpose;

use crate::bus::{self, BusArgs, BusSettings};
use crate::cli::DatabaseArgs;
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::{Faults, HostPort};
use crate::registry::Place;
use crate::service::{self, Chassis, ServiceArgs, SessionArgs};
use crate::tls::{LinkArgs, TlsArgs, Watcher};
use crate::traces::{TraceArgs, TraceSettings};
use crate::{opt, sockets};

/// Where to serve, and where the eater is.
#[derive(Debug, Args)]
pub struct FeederArgs {
    /// Where devices connect; probes are answered there too
    #[arg(long, env = opt::LISTEN.env, hide_env_values = true, value_name = "HOST:PORT",
          default_value = "0.0.0.0:8080")]
    listen: String,
    /// Where metrics and probes are served, without authentication
    #[arg(long, env = opt::ADMIN.env, hide_env_values = true, value_name = "HOST:PORT",
          default_value = "0.0.0.0:9080")]
    admin: String,
    /// Where eaters take links: names, looked up again every 10 seconds; a headless Service, or a load balancer.
    /// Several with commas, or by repeating the option
    #[arg(long, env = opt::EATER.env, hide_env_values = true, value_name = "HOST:PORT", value_delimiter = ',',
          default_value = "127.0.0.1:8082")]
    eater: Vec<String>,
    /// How long new connections are still accepted after SIGTERM, in seconds: as long as a load balancer in
    /// front may need to notice
    #[arg(long, env = opt::LINGER.env, hide_env_values = true, value_name = "SECONDS", default_value = "5")]
    linger: String,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    link: LinkArgs,
    #[command(flatten)]
    sessions: SessionArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    traces: TraceArgs,
}

struct Settings {
    listen: HostPort,
    admin: HostPort,
    eaters: Vec<HostPort>,
    registry: Place,
    bus: BusSettings,
    config: trough_feeder::Config,
    traces: TraceSettings,
}

/// Checks the options.
pub fn prepare(args: FeederArgs, mut faults: Faults) -> Result<Work, Faults> {
    let listen = faults.host_port(opt::LISTEN, &args.listen);
    let admin = faults.host_port(opt::ADMIN, &args.admin);
    let eaters: Vec<_> = args.eater.iter().map(|eater| faults.host_port(opt::EATER, eater)).collect();
    let eaters: Option<Vec<HostPort>> = eaters.into_iter().collect();
    let linger = faults.seconds(opt::LINGER, &args.linger, 0..=600);
    let tls = args.tls.check(&mut faults);
    let links = args.link.check_feeder(&mut faults);
    let config = args.sessions.check(&mut faults);
    let database = args.database.check(&mut faults);
    let bus = args.bus.check(&mut faults);
    let grace = args.service.check(&mut faults);
    let traces = args.traces.check(&mut faults);
    let settings = (|| {
        let config = trough_feeder::Config { drain_linger: linger?, tls, links, ..config? };
        let registry = Place::of(args.service.data.data_dir, database?);
        let (listen, admin, eaters, bus, traces) = (listen?, admin?, eaters?, bus?, traces?);
        Some((Settings { listen, admin, eaters, registry, bus, config, traces }, grace?))
    })();
    let (settings, grace) = faults.into_result(settings)?;
    Ok(Box::pin(async move { run(settings, service::shutdown_on_signals(grace)?).await }))
}

async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), CliError> {
    let Settings { listen, admin, eaters, registry, bus, mut config, traces } = settings;
    service::prepare_open_files(&config);
    service::check_spread(&config, &shutdown);
    let eaters = Eaters::named(eaters.iter().map(HostPort::to_string).collect());
    let [devices, admin] = sockets::bind([(opt::LISTEN, &listen), (opt::ADMIN, &admin)]).await?;
    let mut chassis = Chassis::new(registry.clone(), shutdown.clone())?;
    let bus = bus.open(&mut chassis);
    let deployment = bus.as_ref().map(|bus| bus.deployment.clone());
    let metrics = trough_feeder::Metrics::register(&mut chassis.metrics);
    let watcher = Watcher::new(&mut chassis);
    config.tracer = traces.start(&mut chassis)?;
    tracing::info!(
        devices = %devices.local_addr()?,
        admin = %admin.local_addr()?,
        eaters = %eaters,
        %registry,
        "feeder starts"
    );
    chassis.serve_admin(admin);
    watcher.watch(config.tls.as_ref(), Purpose::Http, &chassis);
    watcher.watch(config.links.tls.as_ref(), Purpose::Link, &chassis);
    let commands = CommandParts { store: chassis.stores.commands.clone(), bus: deployment.clone() };
    let background = chassis.stores.in_background(&registry);
    let parts = trough_feeder::Parts {
        registry: bus::in_front_of(bus, chassis.registry, &chassis.clock),
        bus: deployment,
        watched: Some(Watched { presence: background.presence, subscriptions: background.subscriptions }),
        commands: Some(commands),
        clock: chassis.clock,
        health: chassis.health,
        metrics,
        shutdown: shutdown.clone(),
    };
    let feeder = trough_feeder::run(devices, eaters, parts, config);
    let feeder = shutdown.tasks.spawn(async move { feeder.await.context("the feeder failed") });
    Ok(service::run_to_end(vec![("feeder", feeder)], shutdown).await?)
}
