//! `trough demo`: a whole deployment with real data, checked to the last position.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use clap::builder::BoolishValueParser;
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;
use trough_runtime::shutdown::Shutdown;
use trough_store::{DeviceFilter, GroupAccess, NewDevice, NewReader, ReaderName, Registry, Scope, Token};

use crate::api::Api;
use crate::cmd::Work;
use crate::data::buses::{Bus, load_buses};
use crate::demo::figures::Figures;
use crate::demo::{live, read_back, replay};
use crate::embedded::{self, Sockets, Telling};
use crate::error::CliError;
use crate::faults::{Faults, HostPort};
use crate::progress::Progress;
use crate::seal::SealChoice;
use crate::service::{self, Part};
use crate::storage::HistoryChoice;
use crate::{http, opt, output, registry, sockets};

/// How long the server may take to stop; nothing that it has is worth waiting for longer.
const GRACE: Duration = Duration::from_secs(5);
const CREDIT: &str = "\
Data: positions of Capital Metro's buses in Austin, Texas, 2017-03-21, from the public feed, archived by Sean
Cascketta (github.com/scascketta/CapMetrics, MIT licence).";

/// What becomes of the demo.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the data in this directory, which must be empty or new [default: a temporary one, removed at the end]
    #[arg(long, env = opt::DEMO_DIR.env, hide_env_values = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print every figure as one JSON object, and end [default: off]
    #[arg(long, env = opt::JSON.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    json: bool,
    /// End after the figures [default: off; the deployment runs until Ctrl-C]
    #[arg(long, env = opt::EXIT.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    exit: bool,
}

/// Checks the options.
pub fn prepare(args: DemoArgs, faults: Faults) -> Result<Work, Faults> {
    faults.into_result(Some(()))?;
    Ok(Box::pin(run(args)))
}

/// A running deployment with nothing in it.
struct Stage {
    dir: PathBuf,
    /// Removes the directory when dropped.
    _temporary: Option<TempDir>,
    feeder: SocketAddr,
    api: SocketAddr,
    admin: SocketAddr,
    registry: Arc<dyn Registry>,
    parts: Vec<Part>,
    shutdown: Shutdown,
}

async fn run(args: DemoArgs) -> Result<(), CliError> {
    let buses = Arc::new(load_buses().context("the demo cannot begin")?);
    let mut stage = Stage::build(args.data_dir.as_deref()).await?;
    let shown = tokio::select! {
        shown = show(&stage, &buses, &args) => shown,
        () = stage.shutdown.draining.cancelled() => Err(anyhow!("the demo was interrupted").into()),
    };
    let shown = match shown {
        Ok(Some(live)) => {
            stage.shutdown.draining.cancelled().await;
            drop(live);
            Ok(())
        }
        other => other.map(drop),
    };
    let parts = std::mem::take(&mut stage.parts);
    stage.shutdown.begin();
    let stopped = service::run_to_end(parts, stage.shutdown.clone()).await;
    shown?;
    Ok(stopped?)
}

/// Replays, checks and tells; what goes on until Ctrl-C, if the demo is to go on.
async fn show(
    stage: &Stage,
    buses: &Arc<Vec<Bus>>,
    args: &DemoArgs,
) -> Result<Option<AbortOnDropHandle<()>>, CliError> {
    if !args.json {
        output::line(format_args!(
            "Starting feeder, eater and {} buses in this process; data in {}",
            buses.len(),
            stage.dir.display()
        ))?;
    }
    let tokens = stage.import(buses).await?;
    let reader = stage.add_reader().await?;
    let figures = stage.replay_and_check(buses, &tokens, &reader).await?;
    if args.json {
        output::json(&figures)?;
        return Ok(None);
    }
    output::line(format_args!("\n{}\n", figures.to_text()))?;
    if args.exit {
        output::line(CREDIT)?;
        return Ok(None);
    }
    let live = live::start(&*stage.registry, buses.clone(), stage.feeder).await?;
    stage.invite(&reader)?;
    Ok(Some(live))
}

impl Stage {
    async fn build(data_dir: Option<&Path>) -> Result<Self, CliError> {
        let temporary = match data_dir {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("trough-demo-")
                    .tempdir()
                    .context("cannot make a temporary directory: name one with --data-dir")?,
            ),
        };
        let dir = match (data_dir, &temporary) {
            (Some(dir), _) => dir.to_owned(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => unreachable!("without a directory there is a temporary one"),
        };
        let shutdown = service::shutdown_on_signals(GRACE)?;
        let any: HostPort = "127.0.0.1:0".parse().map_err(|fault: &str| anyhow!(fault))?;
        let sockets = sockets::bind([(opt::LISTEN, &any), (opt::API, &any), (opt::ADMIN, &any)]);
        let [devices, api, admin] = sockets.await?;
        let addresses = [devices.local_addr()?, api.local_addr()?, admin.local_addr()?];
        let config = trough_feeder::Config {
            drain_linger: Duration::ZERO,
            drain_spread: Duration::from_millis(200),
            ..trough_feeder::Config::default()
        };
        service::prepare_open_files(&config);
        let sockets = Sockets { devices, api, admin };
        let (notify, traces) = Default::default();
        let telling = Telling { notify, seal: SealChoice::DataDir(dir.clone()), traces };
        let deployment =
            embedded::start(&dir, sockets, config, HistoryChoice::default(), telling, shutdown.clone())
                .await?;
        let [feeder, api, admin] = addresses;
        let (registry, parts) = (deployment.registry, deployment.parts);
        Ok(Self { dir, _temporary: temporary, feeder, api, admin, registry, parts, shutdown })
    }

    async fn import(&self, buses: &[Bus]) -> Result<Vec<Token>> {
        let filter = DeviceFilter { limit: 1, ..DeviceFilter::default() };
        if !self.registry.list_devices(filter).await?.is_empty() {
            bail!("{} has devices already: give the demo an empty directory", self.dir.display());
        }
        let devices = buses.iter().map(|bus| NewDevice::new(bus.id.clone())).collect();
        let added = self.registry.import_devices(devices).await?;
        Ok(added.into_iter().map(|(_, token)| token).collect())
    }

    async fn add_reader(&self) -> Result<Token> {
        let reader = NewReader {
            name: ReaderName::new("demo")?,
            scopes: Scope::ALL.into_iter().collect(),
            groups: GroupAccess::All,
        };
        Ok(self.registry.add_reader(reader).await?)
    }

    async fn replay_and_check(
        &self,
        buses: &Arc<Vec<Bus>>,
        tokens: &[Token],
        reader: &Token,
    ) -> Result<Figures> {
        http::install_crypto();
        let total = buses.iter().map(|bus| bus.positions.len() as u64).sum();
        let progress = Arc::new(Progress::new("replaying", "frames durable", Some(total)));
        let replayed = replay::replay(buses, tokens, self.feeder, &progress).await;
        progress.finish();
        let replayed = replayed?;

        let base = format!("http://{}", self.api).parse().context("an address is always a URL")?;
        let api = Api::new(base, reader.expose().to_owned().into(), None)?;
        let progress = Arc::new(Progress::new("reading back", "frames equal", Some(total)));
        let read = read_back::read_back(&api, buses, &progress).await;
        progress.finish();
        let (read, reading) = (read?, progress.elapsed());
        ensure!(read == total, "{read} frames were read back, and {total} were sent");
        let journal = registry::journal_dir(&self.dir);
        Ok(Figures::new(buses.len(), &replayed, read, reading, &journal))
    }

    /// Three commands that work as they stand.
    fn invite(&self, reader: &Token) -> Result<(), CliError> {
        let Self { api, admin, .. } = self;
        let (program, token) = (output::program(), reader.expose());
        output::line(format_args!(
            "\
Try, in another terminal, while this runs:

  the track of one bus, as CSV
    curl -H 'Authorization: Bearer {token}' -H 'Accept: text/csv' 'http://{api}/v1/devices/bus-5022/frames'

  a device that is on its way now, live
    {program} tail {live} --api http://{api} --token {token}

  the metrics
    curl http://{admin}/metrics

{CREDIT}

Ctrl-C ends the demo.",
            live = live::DEVICE,
        ))
    }
}
