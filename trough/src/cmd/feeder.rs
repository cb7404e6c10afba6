//! `trough feeder`: takes frames from devices and forwards them to an eater.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use trough_feeder::EaterAddress;
use trough_runtime::shutdown::Shutdown;
use trough_runtime::tls::Purpose;

use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::{Faults, HostPort};
use crate::service::{self, Chassis, ServiceArgs, SessionArgs};
use crate::tls::{LinkArgs, TlsArgs, Watcher};
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
    /// Where the eater takes links
    #[arg(long, env = opt::EATER.env, hide_env_values = true, value_name = "HOST:PORT",
          default_value = "127.0.0.1:8082")]
    eater: String,
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
    service: ServiceArgs,
}

struct Settings {
    listen: HostPort,
    admin: HostPort,
    eater: HostPort,
    config: trough_feeder::Config,
}

/// Checks the options.
pub fn prepare(args: FeederArgs, mut faults: Faults) -> Result<Work, Faults> {
    let listen = faults.host_port(opt::LISTEN, &args.listen);
    let admin = faults.host_port(opt::ADMIN, &args.admin);
    let eater = faults.host_port(opt::EATER, &args.eater);
    let linger = faults.seconds(opt::LINGER, &args.linger, 0..=600);
    let tls = args.tls.check(&mut faults);
    let links = args.link.check_feeder(&mut faults);
    let config = args.sessions.check(&mut faults);
    let grace = args.service.check(&mut faults);
    let settings = (|| {
        let config = trough_feeder::Config { drain_linger: linger?, tls, links, ..config? };
        Some((Settings { listen: listen?, admin: admin?, eater: eater?, config }, grace?))
    })();
    let (settings, grace) = faults.into_result(settings)?;
    let data_dir = args.service.data.data_dir;
    Ok(Box::pin(async move { run(settings, &data_dir, service::shutdown_on_signals(grace)?).await }))
}

async fn run(settings: Settings, data_dir: &Path, shutdown: Shutdown) -> Result<(), CliError> {
    let Settings { listen, admin, eater, config } = settings;
    service::prepare_open_files(&config);
    let [devices, admin] = sockets::bind([(opt::LISTEN, &listen), (opt::ADMIN, &admin)]).await?;
    let mut chassis = Chassis::new(data_dir, shutdown.clone())?;
    let metrics = trough_feeder::Metrics::register(&mut chassis.metrics);
    let watcher = Watcher::new(&mut chassis);
    tracing::info!(
        devices = %devices.local_addr()?,
        admin = %admin.local_addr()?,
        eater = %eater,
        data_dir = %data_dir.display(),
        "feeder starts"
    );
    chassis.serve_admin(admin);
    watcher.watch(config.tls.as_ref(), Purpose::Http, &chassis);
    watcher.watch(config.links.tls.as_ref(), Purpose::Link, &chassis);
    let parts = trough_feeder::Parts {
        registry: chassis.registry,
        clock: chassis.clock,
        health: chassis.health,
        metrics,
        shutdown: shutdown.clone(),
    };
    let eater = EaterAddress::Tcp(eater.to_string());
    let feeder = trough_feeder::run(devices, eater, parts, config);
    let feeder = shutdown.tasks.spawn(async move { feeder.await.context("the feeder failed") });
    Ok(service::run_to_end(vec![("feeder", feeder)], shutdown).await?)
}
