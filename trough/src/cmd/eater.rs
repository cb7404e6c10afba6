//! `trough eater`: makes frames durable and serves them.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use trough_eater::{CommandDesk, LinkListener, LinkSecurity, NoticeDesk, WatchStores};
use trough_protocol::limits::BATCH_BYTES_MAX;
use trough_runtime::shutdown::Shutdown;
use trough_runtime::tls::{Purpose, ServerTls};
use trough_store::mongo::MongoUrl;
use trough_store::webhook::Reach;

use crate::bus::{self, BusArgs, BusSettings};
use crate::cli::DatabaseArgs;
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::{Faults, HostPort};
use crate::notify::ReachArgs;
use crate::registry::{self, Place};
use crate::seal::{SealArgs, SealChoice};
use crate::service::{self, Chassis, ServiceArgs};
use crate::storage::{StorageArgs, StorageChoice};
use crate::tls::{LinkArgs, TlsArgs, Watcher};
use crate::traces::{TraceArgs, TraceSettings};
use crate::{opt, sockets};

/// From one largest batch, which is one link, to more than any machine needs; in bytes.
const CREDIT: RangeInclusive<u64> = BATCH_BYTES_MAX as u64..=1 << 40;

/// Where to serve.
#[derive(Debug, Args)]
pub struct EaterArgs {
    /// Where feeders connect; for the inside of a network only
    #[arg(long, env = opt::LINKS.env, hide_env_values = true, value_name = "HOST:PORT",
          default_value = "0.0.0.0:8082")]
    links: String,
    /// Where readers fetch; probes are answered there too
    #[arg(long, env = opt::API.env, hide_env_values = true, value_name = "HOST:PORT",
          default_value = "0.0.0.0:8081")]
    api: String,
    /// Where metrics and probes are served, without authentication
    #[arg(long, env = opt::ADMIN.env, hide_env_values = true, value_name = "HOST:PORT",
          default_value = "0.0.0.0:9081")]
    admin: String,
    /// How long readers' connections are still accepted after SIGTERM, in seconds: as long as a load balancer in
    /// front may need to notice
    #[arg(long, env = opt::LINGER.env, hide_env_values = true, value_name = "SECONDS", default_value = "5")]
    linger: String,
    /// What all feeders together may have on their way to the storage, in bytes: it is in memory meanwhile, and each
    /// link needs 4 MiB of it [default: 268435456; 100663296 with --store]
    #[arg(long, env = opt::CREDIT_BYTES_MAX.env, hide_env_values = true, value_name = "BYTES")]
    credit_bytes_max: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    link: LinkArgs,
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    reach: ReachArgs,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    traces: TraceArgs,
}

struct Settings {
    links: HostPort,
    api: HostPort,
    admin: HostPort,
    linger: Duration,
    budget_bytes: Option<u64>,
    database: Option<MongoUrl>,
    storage: StorageChoice,
    bus: BusSettings,
    tls: Option<ServerTls>,
    link: LinkSecurity,
    traces: TraceSettings,
    seal: SealChoice,
    reach: Reach,
}

/// Checks the options.
pub fn prepare(args: EaterArgs, mut faults: Faults) -> Result<Work, Faults> {
    let links = faults.host_port(opt::LINKS, &args.links);
    let api = faults.host_port(opt::API, &args.api);
    let admin = faults.host_port(opt::ADMIN, &args.admin);
    let linger = faults.seconds(opt::LINGER, &args.linger, 0..=600);
    let budget_bytes = args.credit_bytes_max.as_ref();
    let budget_bytes = budget_bytes.map(|bytes| faults.number(opt::CREDIT_BYTES_MAX, bytes, "bytes", CREDIT));
    let database = args.database.check(&mut faults);
    let storage = args.storage.check(&mut faults);
    let bus = args.bus.check(&mut faults);
    let tls = args.tls.check(&mut faults);
    let link = args.link.check_eater(&mut faults);
    let grace = args.service.check(&mut faults);
    let traces = args.traces.check(&mut faults);
    let place = database.clone().map(|database| Place::of(&args.service.data.data_dir, database));
    let seal = place.as_ref().and_then(|place| args.seal.check(place, &mut faults));
    let reach = args.reach.reach();
    let settings = (|| {
        let (database, storage, bus, seal) = (database?, storage?, bus?, seal?);
        let (links, api, admin, linger, traces) = (links?, api?, admin?, linger?, traces?);
        // Given and wrong is not the same as not given.
        let budget_bytes = match budget_bytes {
            None => None,
            Some(bytes) => Some(bytes?),
        };
        let settings = Settings {
            links,
            api,
            admin,
            linger,
            budget_bytes,
            database,
            storage,
            bus,
            tls,
            link,
            traces,
            seal,
            reach,
        };
        Some((settings, grace?))
    })();
    let (settings, grace) = faults.into_result(settings)?;
    let data_dir = args.service.data.data_dir;
    Ok(Box::pin(async move { run(settings, &data_dir, service::shutdown_on_signals(grace)?).await }))
}

async fn run(settings: Settings, data_dir: &Path, shutdown: Shutdown) -> Result<(), CliError> {
    let Settings { links, api, admin, linger, budget_bytes, database, storage, bus, .. } = settings;
    let Settings { tls, link, traces, seal, reach, .. } = settings;
    let bound = sockets::bind([(opt::LINKS, &links), (opt::API, &api), (opt::ADMIN, &admin)]).await?;
    let [links, api, admin] = bound;
    sockets::raise_open_files();
    if database.is_none() || !storage.is_shared() {
        registry::create_data_dir(data_dir)?;
    }
    let registry = Place::of(data_dir, database.clone());
    let mut chassis = Chassis::new(registry.clone(), shutdown.clone())?;
    let seal = seal.open()?;
    let storage = storage.open(data_dir, database, &mut chassis)?;
    let bus = bus.open(&mut chassis);
    let deployment = bus.as_ref().map(|bus| bus.deployment.clone());
    let metrics = trough_eater::Metrics::register(&mut chassis.metrics);
    let watcher = Watcher::new(&mut chassis);
    let tracer = traces.start(&mut chassis)?;
    tracing::info!(
        links = %links.local_addr()?,
        api = %api.local_addr()?,
        admin = %admin.local_addr()?,
        data_dir = %data_dir.display(),
        %registry,
        "eater starts"
    );
    chassis.serve_admin(admin);
    watcher.watch(tls.as_ref(), Purpose::Http, &chassis);
    watcher.watch(link.tls.as_ref(), Purpose::Link, &chassis);
    let background = chassis.stores.in_background(&registry);
    let parts = trough_eater::Parts {
        registry: bus::in_front_of(bus, chassis.registry, &chassis.clock),
        bus: deployment.clone(),
        watch: Some(WatchStores { subscriptions: background.subscriptions, outbox: background.outbox }),
        commands: CommandDesk { store: chassis.stores.commands.clone(), bus: deployment.clone() },
        notices: NoticeDesk {
            subscriptions: chassis.stores.subscriptions.clone(),
            outbox: chassis.stores.outbox.clone(),
            seal,
            reach,
            bus: deployment,
        },
        storage,
        clock: chassis.clock.clone(),
        health: chassis.health,
        metrics,
        shutdown: shutdown.clone(),
    };
    let mut config = trough_eater::Config { budget_bytes, tracer, ..trough_eater::Config::default() };
    config.api.linger = linger;
    (config.tls, config.links) = (tls, link);
    let eater = trough_eater::run(LinkListener::Tcp(links.into_std()?), api, parts, config);
    let eater = shutdown.tasks.spawn(async move { eater.await.context("the eater failed") });
    Ok(service::run_to_end(vec![("eater", eater)], shutdown).await?)
}
