//! `trough bench notify`: how long it takes until somebody is told, and what that costs.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use clap::builder::BoolishValueParser;
use trough_bench::deployment::{Backends, Means};
use trough_bench::machine::Machine;
use trough_bench::notify::{Part, Telling};
use trough_bench::{News, notify};

use crate::cmd::Work;
use crate::cmd::bench::GRACE;
use crate::error::CliError;
use crate::faults::Faults;
use crate::stages::Stages;
use crate::{backlog, http, opt, output, service, sockets};

/// Frames, and who is told of them.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct BenchNotifyArgs {
    /// Devices that are connected
    #[arg(long, env = opt::BENCH_NOTIFY_DEVICES.env, hide_env_values = true, value_name = "DEVICES",
          default_value = "64")]
    devices: String,
    /// Webhooks, each of some of the devices
    #[arg(long, env = opt::BENCH_SUBSCRIPTIONS.env, hide_env_values = true, value_name = "SUBSCRIPTIONS",
          default_value = "16")]
    subscriptions: String,
    /// Frames a second over all devices
    #[arg(long, env = opt::BENCH_NOTIFY_RATE.env, hide_env_values = true, value_name = "FRAMES/S",
          default_value = "2000")]
    rate: String,
    /// Of so many frames of a device one is told of
    #[arg(long, env = opt::BENCH_EVERY.env, hide_env_values = true, value_name = "FRAMES", default_value = "20")]
    every: String,
    /// How long latencies are measured, in seconds, after one second that does not count
    #[arg(long, env = opt::BENCH_DURATION.env, hide_env_values = true, value_name = "SECONDS",
          default_value = "10")]
    duration: String,
    /// Deliveries that wait for the notifier whose work is measured
    #[arg(long, env = opt::BENCH_DELIVERIES.env, hide_env_values = true, value_name = "DELIVERIES",
          default_value = "20000")]
    deliveries: String,
    /// Where the temporary data is made; a disk like the one in production
    /// [default: the system's temporary directory]
    #[arg(long, env = opt::BENCH_DIR.env, hide_env_values = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object with every figure [default: off, text]
    #[arg(long, env = opt::JSON.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    json: bool,
}

const NOTES: &str = "\
First `trough up` has the traffic and tells a receiver in this process: what is measured is from the time in a frame,
taken when its device sends it, to the arrival of the webhook's request. Then a feeder and an eater have found what there is
to tell, and a notifier is started by itself: its rate, and its CPU time, until everything has come. A delivery that does
not come is exit code 1.";

/// Checks the options.
pub fn prepare(args: BenchNotifyArgs, mut faults: Faults) -> Result<Work, Faults> {
    let devices = faults.number(opt::BENCH_NOTIFY_DEVICES, &args.devices, "devices", 1..=10_000);
    let subscriptions =
        faults.number(opt::BENCH_SUBSCRIPTIONS, &args.subscriptions, "subscriptions", 1..=1_000);
    let rate = faults.number(opt::BENCH_NOTIFY_RATE, &args.rate, "frames a second", 1..=100_000);
    let every = faults.number(opt::BENCH_EVERY, &args.every, "frames", 2..=1_000_000);
    let duration = faults.seconds(opt::BENCH_DURATION, &args.duration, 1..=3_600);
    // Of each device every second frame is told of, so that there is one of each at the least.
    let least = devices.unwrap_or(1);
    let deliveries = faults.number(opt::BENCH_DELIVERIES, &args.deliveries, "deliveries", least..=10_000_000);
    let telling = (|| {
        Some(Telling {
            devices: devices? as usize,
            subscriptions: subscriptions? as usize,
            rate: rate? as f64,
            every: every?,
            duration: duration?,
            deliveries: deliveries?,
        })
    })();
    let telling = faults.into_result(telling)?;
    let dir = args.dir.unwrap_or_else(std::env::temp_dir);
    Ok(Box::pin(run(telling, dir, args.json)))
}

async fn run(telling: Telling, dir: PathBuf, json: bool) -> Result<(), CliError> {
    let program = std::env::current_exe().context("cannot find this program to start it as a server")?;
    sockets::raise_open_files();
    let machine = Machine::look(&dir);
    if let Some(caveat) = machine.caveat() {
        output::note(format!("note: {caveat}"));
    }
    if !json {
        output::line(format_args!("{machine}\n"))?;
    }
    let (backends, storage) = (Backends::default(), backlog::STORAGE);
    let means = Means { program, backends, storage, dir, http: http::client(None)?, prepare: None };
    let shutdown = service::shutdown_on_signals(GRACE)?;
    let stages = Stages::begin();
    let tell = |news: News<'_, Part>| match news {
        News::Stage(text) => stages.enter(text),
        News::Done(part) if !json => stages.print(&part.to_string()),
        News::Done(_) => {}
    };
    let report = tokio::select! {
        report = notify::run(&means, telling, machine, &tell) => report,
        // Dropping the work kills the servers and removes their data.
        () = shutdown.draining.cancelled() => Err(anyhow!("the bench was interrupted")),
    };
    stages.end();
    let report = report?;
    if json { output::json(&report) } else { Ok(()) }
}
