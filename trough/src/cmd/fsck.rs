//! `trough fsck`: whether what is stored is what was stored.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use clap::builder::BoolishValueParser;
use serde::Serialize;
use tokio::runtime::Handle;
use trough_eater::fsck::{self, Finding, LostFrames, RebuildOptions, Rebuilt, Report, Totals};

use crate::cmd::Work;
use crate::deposit::{Absent, Deposit, DepositArgs};
use crate::error::CliError;
use crate::faults::Faults;
use crate::opt;
use crate::output::{self, counted};
use crate::progress::Progress;

/// What to check.
#[derive(Debug, Args)]
pub struct FsckArgs {
    /// Print one JSON object [default: off]
    #[arg(long, env = opt::JSON.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    json: bool,
    /// How long what history has replaced is kept, in seconds, as the server was told: what nobody names is an orphan when
    /// it is six times as old
    #[arg(long, env = opt::COMPACT_GRACE.env, hide_env_values = true, value_name = "SECONDS", default_value = "600")]
    compact_grace: String,
    /// Make catalogs again that were lost, from what is stored; every server must be stopped. What is not lost stays
    /// [default: off]
    #[arg(long, env = opt::REBUILD.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    rebuild: bool,
    /// With --rebuild, make the catalog of segments anew though it has something [default: off]
    #[arg(long, env = opt::REPLACE.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    replace: bool,
    /// With --rebuild, go on without segments that are missing or damaged [default: off]
    #[arg(long, env = opt::WITHOUT_MISSING.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    without_missing: bool,
    #[command(flatten)]
    deposit: DepositArgs,
}

/// Checks the options.
pub fn prepare(args: FsckArgs, mut faults: Faults) -> Result<Work, Faults> {
    let grace = faults.seconds(opt::COMPACT_GRACE, &args.compact_grace, 0..=604_800);
    let deposit = args.deposit.check(&mut faults);
    let (grace, deposit) = faults.into_result(grace.zip(deposit))?;
    let options = RebuildOptions { replace: args.replace, without_missing: args.without_missing };
    Ok(match args.rebuild {
        true => Box::pin(async move { rebuild(deposit, grace, options, args.json).await }),
        false => Box::pin(async move { check(deposit, grace, args.json).await }),
    })
}

async fn rebuild(
    deposit: Deposit,
    grace: Duration,
    options: RebuildOptions,
    json: bool,
) -> Result<(), CliError> {
    let opened = deposit.open(Absent::Made)?;
    let (handle, progress) = (Handle::current(), Progress::new("rebuilding", "bytes", None));
    let rebuilding = tokio::task::spawn_blocking(move || {
        let parts = opened.fsck(grace);
        let done = fsck::rebuild(parts, options, handle, &mut |done, total| progress.set_of(done, total));
        progress.clear();
        done
    });
    let rebuilt = rebuilding.await.context("the rebuild has panicked")?.map_err(anyhow::Error::new)?;
    let Rebuilt { manifest, segments, adopted, frames, incarnations, rows, devices, notes } = &rebuilt;
    if json {
        return output::json(&serde_json::json!({
            "manifest": manifest, "segments": segments, "adopted": adopted, "frames": frames,
            "eaters": incarnations, "rows": rows, "devices": devices, "notes": notes,
        }));
    }
    notes.iter().try_for_each(output::line)?;
    output::line(match manifest {
        Some(number) => format!(
            "made manifest {number}: {} ({} that no manifest named), {}",
            counted(*segments, "segment"),
            output::grouped(*adopted),
            counted(*frames, "frame")
        ),
        None => "the catalog of segments is whole, and stays as it is".to_owned(),
    })?;
    output::line(format_args!(
        "{} of {}, and the heads of {}",
        counted(*rows, "row"),
        counted(*incarnations, "lost eater"),
        counted(*devices, "compacted device")
    ))
}

async fn check(deposit: Deposit, grace: Duration, json: bool) -> Result<(), CliError> {
    let report = look(deposit, grace).await.map_err(CliError::Unclear)?;
    show(&report, json)?;
    match report.findings.len() {
        0 => Ok(()),
        found => Err(anyhow!("{} in what is stored", counted(found as u64, "fault")).into()),
    }
}

async fn look(deposit: Deposit, grace: Duration) -> anyhow::Result<Report> {
    let opened = deposit.open(Absent::Empty)?;
    let (handle, progress) = (Handle::current(), Progress::new("checking", "bytes", None));
    let checking = tokio::task::spawn_blocking(move || {
        let parts = opened.fsck(grace);
        let report = fsck::check(parts, handle, &mut |done, total| progress.set_of(done, total));
        progress.clear();
        report
    });
    checking.await.context("the check has panicked")?.context("it cannot be told whether storage is whole")
}

fn show(report: &Report, json: bool) -> Result<(), CliError> {
    if json {
        return output::json(&ReportJson::of(report));
    }
    for finding in &report.findings {
        output::line(finding)?;
        for lost in &finding.lost {
            output::line(format_args!("  lost: {lost}"))?;
        }
    }
    let Totals { manifest, segments, segment_bytes, segment_frames, copies, journals, journal_bytes } =
        report.totals;
    output::line(format_args!(
        "manifest {manifest}: {}, {}, {} ({} more than once); journal: {}, {}; {}",
        counted(segments, "segment"),
        counted(segment_bytes, "byte"),
        counted(segment_frames, "frame"),
        output::grouped(copies),
        counted(journals, "piece"),
        counted(journal_bytes, "byte"),
        counted(report.findings.len() as u64, "fault"),
    ))
}

/// A report as `--json` shows it.
#[derive(Serialize)]
struct ReportJson<'a> {
    manifest: u64,
    segments: u64,
    segment_bytes: u64,
    segment_frames: u64,
    copies: u64,
    journals: u64,
    journal_bytes: u64,
    findings: Vec<FindingJson<'a>>,
}

#[derive(Serialize)]
struct FindingJson<'a> {
    kind: &'static str,
    object: &'a str,
    offset: Option<u64>,
    expected: &'a str,
    found: &'a str,
    remedy: &'a str,
    lost: Vec<LostJson<'a>>,
}

#[derive(Serialize)]
struct LostJson<'a> {
    device: &'a str,
    epoch: u64,
    first: u64,
    last: u64,
}

impl<'a> ReportJson<'a> {
    fn of(report: &'a Report) -> Self {
        let Totals { manifest, segments, segment_bytes, segment_frames, copies, journals, journal_bytes } =
            report.totals;
        let findings = report.findings.iter().map(FindingJson::of).collect();
        Self { manifest, segments, segment_bytes, segment_frames, copies, journals, journal_bytes, findings }
    }
}

impl<'a> FindingJson<'a> {
    fn of(finding: &'a Finding) -> Self {
        let Finding { kind, object, offset, expected, found, remedy, lost } = finding;
        let lost = lost.iter().map(|LostFrames { device, epoch, first, last }| LostJson {
            device: device.as_str(),
            epoch: epoch.0,
            first: first.0,
            last: last.0,
        });
        Self { kind: kind.as_str(), object, offset: *offset, expected, found, remedy, lost: lost.collect() }
    }
}
