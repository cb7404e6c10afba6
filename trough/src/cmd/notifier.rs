//! `trough notifier`: tells subscribers what happened.

use anyhow::Context;
use clap::Args;
use trough_notifier::{Config, Metrics, Parts};
use trough_runtime::shutdown::Shutdown;

use crate::bus::{BusArgs, BusSettings};
use crate::cli::DatabaseArgs;
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::{Faults, HostPort};
use crate::notify::{NotifyArgs, NotifySettings};
use crate::registry::Place;
use crate::seal::{SealArgs, SealChoice};
use crate::service::{self, Chassis, ServiceArgs};
use crate::traces::{TraceArgs, TraceSettings};
use crate::{opt, sockets};

/// Where the outbox is, and what may be sent where.
#[derive(Debug, Args)]
pub struct NotifierArgs {
    /// Where metrics and probes are served, without authentication
    #[arg(long, env = opt::ADMIN.env, hide_env_values = true, value_name = "HOST:PORT",
          default_value = "0.0.0.0:9082")]
    admin: String,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    traces: TraceArgs,
    #[command(flatten)]
    notify: NotifyArgs,
}

struct Settings {
    admin: HostPort,
    place: Place,
    bus: BusSettings,
    seal: SealChoice,
    notify: NotifySettings,
    traces: TraceSettings,
}

/// Checks the options.
pub fn prepare(args: NotifierArgs, mut faults: Faults) -> Result<Work, Faults> {
    let admin = faults.host_port(opt::ADMIN, &args.admin);
    let database = args.database.check(&mut faults);
    let bus = args.bus.check(&mut faults);
    let grace = args.service.check(&mut faults);
    let traces = args.traces.check(&mut faults);
    let notify = args.notify.check(&mut faults);
    let place = database.map(|database| Place::of(args.service.data.data_dir, database));
    let seal = place.as_ref().and_then(|place| args.seal.check(place, &mut faults));
    let settings = (|| {
        let (place, bus, seal, notify, traces) = (place?, bus?, seal?, notify?, traces?);
        Some((Settings { admin: admin?, place, bus, seal, notify, traces }, grace?))
    })();
    let (settings, grace) = faults.into_result(settings)?;
    Ok(Box::pin(async move { run(settings, service::shutdown_on_signals(grace)?).await }))
}

async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), CliError> {
    let Settings { admin, place, bus, seal, notify, traces } = settings;
    let [admin] = sockets::bind([(opt::ADMIN, &admin)]).await?;
    let mut chassis = Chassis::new(place.clone(), shutdown.clone())?;
    let bus = bus.open(&mut chassis);
    let metrics = Metrics::register(&mut chassis.metrics);
    let config = Config { tracer: traces.start(&mut chassis)?, ..Config::default() };
    tracing::info!(admin = %admin.local_addr()?, %place, "notifier starts");
    chassis.serve_admin(admin);
    let parts = Parts {
        registry: chassis.registry,
        subscriptions: chassis.stores.subscriptions,
        outbox: chassis.stores.outbox,
        presence: chassis.stores.presence,
        seal: seal.needed()?,
        bus: bus.map(|bus| bus.deployment),
        clock: chassis.clock,
        health: chassis.health.clone(),
        metrics,
        shutdown: shutdown.clone(),
    };
    let notifier = trough_notifier::run(parts, notify.into_config(config));
    // Whoever it stands on is waited for: that it cannot be reached is said by health, and is no reason not to start.
    chassis.health.set_ready();
    let health = chassis.health;
    let draining = shutdown.draining.clone();
    tokio::spawn(async move {
        draining.cancelled().await;
        health.set_draining();
    });
    let notifier = shutdown.tasks.spawn(async move { notifier.await.context("the notifier failed") });
    Ok(service::run_to_end(vec![("notifier", notifier)], shutdown).await?)
}
