//! `trough up`: everything in one process.

use std::net::SocketAddr;
use std::path::Path;

use clap::Args;

use crate::cmd::Work;
use crate::embedded::{self, Sockets, Telling};
use crate::error::CliError;
use crate::faults::{Faults, HostPort};
use crate::notify::{NotifyArgs, NotifySettings};
use crate::registry::Place;
use crate::seal::{SealArgs, SealChoice};
use crate::service::{self, ServiceArgs, SessionArgs};
use crate::sockets::{self, reachable};
use crate::storage::{HistoryArgs, HistoryChoice};
use crate::tls::TlsArgs;
use crate::traces::{TraceArgs, TraceSettings};
use crate::{cli, opt, output};

/// Where to serve, and what is allowed.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where devices connect
    #[arg(long, env = opt::LISTEN.env, hide_env_values = true, value_name = "HOST:PORT",
          default_value = "127.0.0.1:8080")]
    listen: String,
    /// Where readers fetch
    #[arg(long, env = opt::API.env, hide_env_values = true, value_name = "HOST:PORT",
          default_value = "127.0.0.1:8081")]
    api: String,
    /// Where metrics and probes are served, without authentication
    #[arg(long, env = opt::ADMIN.env, hide_env_values = true, value_name = "HOST:PORT",
          default_value = "127.0.0.1:9090")]
    admin: String,
    /// How long new connections are still accepted after SIGTERM, in seconds: as long as a load balancer in
    /// front may need to notice
    #[arg(long, env = opt::LINGER.env, hide_env_values = true, value_name = "SECONDS", default_value = "0")]
    linger: String,
    #[command(flatten)]
    history: HistoryArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    sessions: SessionArgs,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    traces: TraceArgs,
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    notify: NotifyArgs,
}

struct Settings {
    listen: HostPort,
    api: HostPort,
    admin: HostPort,
    config: trough_feeder::Config,
    history: HistoryChoice,
    seal: SealChoice,
    notify: NotifySettings,
    traces: TraceSettings,
}

/// Checks the options.
pub fn prepare(args: UpArgs, mut faults: Faults) -> Result<Work, Faults> {
    let listen = faults.host_port(opt::LISTEN, &args.listen);
    let api = faults.host_port(opt::API, &args.api);
    let admin = faults.host_port(opt::ADMIN, &args.admin);
    let linger = faults.seconds(opt::LINGER, &args.linger, 0..=600);
    let history = args.history.check(&mut faults);
    let tls = args.tls.check(&mut faults);
    let config = args.sessions.check(&mut faults);
    let grace = args.service.check(&mut faults);
    let traces = args.traces.check(&mut faults);
    let notify = args.notify.check(&mut faults);
    let seal = args.seal.check(&Place::of(&args.service.data.data_dir, None), &mut faults);
    let settings = (|| {
        let config = trough_feeder::Config { drain_linger: linger?, tls, ..config? };
        let (listen, api, admin, history) = (listen?, api?, admin?, history?);
        let (seal, notify, traces) = (seal?, notify?, traces?);
        Some((Settings { listen, api, admin, config, history, seal, notify, traces }, grace?))
    })();
    let (settings, grace) = faults.into_result(settings)?;
    let data_dir = args.service.data.data_dir;
    Ok(Box::pin(async move { run(settings, &data_dir, service::shutdown_on_signals(grace)?).await }))
}

async fn run(
    settings: Settings,
    data_dir: &Path,
    shutdown: trough_runtime::shutdown::Shutdown,
) -> Result<(), CliError> {
    let Settings { listen, api, admin, config, history, seal, notify, traces } = settings;
    service::prepare_open_files(&config);
    service::check_spread(&config, &shutdown);
    let [devices, api, admin] =
        sockets::bind([(opt::LISTEN, &listen), (opt::API, &api), (opt::ADMIN, &admin)]).await?;
    let addresses = [devices.local_addr()?, api.local_addr()?, admin.local_addr()?];
    let secure = if config.tls.is_some() { "s" } else { "" };
    let sockets = Sockets { devices, api, admin };
    let telling = Telling { notify, seal, traces };
    let deployment = embedded::start(data_dir, sockets, config, history, telling, shutdown.clone()).await?;
    if !shutdown.is_draining() {
        welcome(addresses.map(reachable), secure, data_dir)?;
    }
    Ok(service::run_to_end(deployment.parts, shutdown).await?)
}

/// Says what runs where, and what to do next. `secure` is what makes `wss` of `ws`.
fn welcome([devices, api, admin]: [SocketAddr; 3], secure: &str, data_dir: &Path) -> Result<(), CliError> {
    let program = output::program();
    // Options that differ from the defaults of the commands shown, so that they can be copied.
    let data = match data_dir == Path::new(cli::DATA_DIR_DEFAULT) {
        true => String::new(),
        false => format!(" --data-dir {}", output::quoted(&data_dir.display().to_string())),
    };
    let url = match devices.port() {
        8080 if secure.is_empty() => String::new(),
        _ => format!(" --url ws{secure}://{devices}"),
    };
    let base = match api.port() {
        8081 if secure.is_empty() => String::new(),
        _ => format!(" --api http{secure}://{api}"),
    };
    let mut commands = String::new();
    let described = [
        (format!("T=$({program} devices add bus-1{data})"), "a device; its token is shown once"),
        (format!("R=$({program} readers add me{data})"), "a reader; likewise"),
        (format!("seq 1 1000 | {program} send --token $T{url}"), "a thousand frames, durable when it ends"),
    ];
    let width = described.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    for (command, what) in described {
        commands.push_str(&format!("  {command:width$}  # {what}\n"));
    }
    output::line(format_args!(
        "\
Trough {version} is up. Its data is in {data_dir}, and Ctrl-C stops it.

  devices stream to     ws{secure}://{devices}/v1/stream
  readers fetch from    http{secure}://{api}/v1/devices
  metrics and probes    http://{admin}/metrics   /healthz   /readyz

Try, in another terminal:

{commands}  {program} tail bus-1 --from start --token $R{base}
  curl -H \"Authorization: Bearer $R\" 'http{secure}://{api}/v1/devices/bus-1/frames?limit=3'
",
        version = env!("CARGO_PKG_VERSION"),
        data_dir = data_dir.display(),
    ))
}
