//! `trough bench history`: how fast readers are answered when there is a year of frames.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use clap::builder::BoolishValueParser;
use trough_bench::deployment::{Backends, Means};
use trough_bench::history::SizeFigures;
use trough_bench::machine::Machine;
use trough_bench::{News, history};

use crate::cmd::Work;
use crate::cmd::bench::GRACE;
use crate::error::CliError;
use crate::faults::Faults;
use crate::stages::Stages;
use crate::{backlog, http, opt, output, service, sockets};

/// What lies there.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct BenchHistoryArgs {
    /// Frames of the year, of all devices together; several numbers with commas between them are measured one after
    /// another
    #[arg(long, env = opt::BENCH_HISTORY_FRAMES.env, hide_env_values = true, value_name = "FRAMES",
          default_value = "1000000", value_delimiter = ',')]
    frames: Vec<String>,
    /// Devices that they are of
    #[arg(long, env = opt::BENCH_HISTORY_DEVICES.env, hide_env_values = true, value_name = "DEVICES",
          default_value = "200")]
    devices: String,
    /// Where the temporary data is made, about 150 bytes a frame; a disk like the one in production
    /// [default: the system's temporary directory]
    #[arg(long, env = opt::BENCH_DIR.env, hide_env_values = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object with every figure [default: off, text]
    #[arg(long, env = opt::JSON.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    json: bool,
}

const NOTES: &str = "\
Frames at equal distances over the past year are written into a journal, and `trough up` is asked for one device's last
hour, its year, and an hour of all devices: while all frames are in the journal, and when all of them are compacted. Cold
is a server that was just started, with nothing of its files in the system's memory; warm is one that has answered the
same before. Times are medians. What is read is what the server asks from files: what it has in memory itself does not
count, what the system has does. An answer that has not the frames that it must have is exit code 1.";

/// Checks the options.
pub fn prepare(args: BenchHistoryArgs, mut faults: Faults) -> Result<Work, Faults> {
    let devices = faults.number(opt::BENCH_HISTORY_DEVICES, &args.devices, "devices", 1..=10_000);
    let frames = args.frames.iter();
    let frames = frames
        .map(|frames| faults.number(opt::BENCH_HISTORY_FRAMES, frames, "frames", 1..=10_000_000_000))
        .collect::<Option<Vec<u64>>>();
    let (devices, frames) = faults.into_result(devices.zip(frames))?;
    let dir = args.dir.unwrap_or_else(std::env::temp_dir);
    Ok(Box::pin(run(devices as usize, frames, dir, args.json)))
}

async fn run(devices: usize, frames: Vec<u64>, dir: PathBuf, json: bool) -> Result<(), CliError> {
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
    let tell = |news: News<'_, SizeFigures>| match news {
        News::Stage(text) => stages.enter(text),
        News::Done(size) if !json => stages.print(&size.to_string()),
        News::Done(_) => {}
    };
    let report = tokio::select! {
        report = history::run(&means, devices, &frames, machine, &tell) => report,
        // Dropping the work kills the servers and removes their data.
        () = shutdown.draining.cancelled() => Err(anyhow!("the bench was interrupted")),
    };
    stages.end();
    let report = report?;
    if json { output::json(&report) } else { Ok(()) }
}
