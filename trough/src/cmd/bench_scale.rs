//! `trough bench scale`: what a fleet would need, on paper.

use clap::Args;
use clap::builder::BoolishValueParser;
use trough_bench::scale::{Fleet, Plan, table};

use crate::cmd::Work;
use crate::faults::Faults;
use crate::{opt, output};

/// Which fleets.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct BenchScaleArgs {
    /// Devices; several numbers with commas between them stand beside one another
    #[arg(long, env = opt::BENCH_SCALE_DEVICES.env, hide_env_values = true, value_name = "DEVICES",
          default_value = "10000,1000000,100000000", value_delimiter = ',')]
    devices: Vec<String>,
    /// Between two frames of a device, in seconds
    #[arg(long, env = opt::BENCH_SCALE_EVERY.env, hide_env_values = true, value_name = "SECONDS", default_value = "10")]
    every: String,
    /// Payload of each frame, in bytes
    #[arg(long, env = opt::BENCH_SCALE_PAYLOAD.env, hide_env_values = true, value_name = "BYTES",
          default_value = "256")]
    payload: String,
    /// Print one JSON array with every figure [default: off, a table in Markdown]
    #[arg(long, env = opt::JSON.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    json: bool,
}

const NOTES: &str = "\
Nothing is measured and nothing is started: it is a model of feeders, eaters, the database, the object store and memcached,
by figures that docs/scale.md names with their sources. Some of these are assumed: look at the limits that are used most, and
measure those where it matters.";

/// Checks the options.
pub fn prepare(args: BenchScaleArgs, mut faults: Faults) -> Result<Work, Faults> {
    let devices = args.devices.iter();
    let devices = devices
        .map(|devices| faults.number(opt::BENCH_SCALE_DEVICES, devices, "devices", 1..=10_000_000_000))
        .collect::<Option<Vec<u64>>>();
    let every = faults.number(opt::BENCH_SCALE_EVERY, &args.every, "seconds", 1..=86_400);
    let payload = faults.number(opt::BENCH_SCALE_PAYLOAD, &args.payload, "bytes", 1..=1_048_576);
    let ((devices, every), payload_bytes) = faults.into_result(devices.zip(every).zip(payload))?;
    Ok(Box::pin(async move {
        let fleet = |devices| Fleet { devices, every_s: every as f64, payload_bytes };
        let plans: Vec<Plan> = devices.into_iter().map(|devices| Plan::of(fleet(devices))).collect();
        match args.json {
            true => output::json(&plans),
            false => output::line(table(&plans).trim_end()),
        }
    }))
}
