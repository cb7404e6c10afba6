//! `trough journal`: what can be done to a journal while its eater is stopped, and to one in an object store at any time.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::runtime::Handle;
use trough_eater::compaction::{
    self, CompactionConfig, CompactionMetrics, CompactionParts, GivenUp, Journals,
};
use trough_eater::fsck::JournalParts;
use trough_eater::journal::{self, Damage, Inspection, JournalError, Lost};
use trough_eater::segments::{SegmentCache, SegmentCacheLimits, SegmentMetrics};
use trough_runtime::health::Health;
use trough_store::Catalog;

use crate::cli::DataDirArgs;
use crate::cmd::Work;
use crate::deposit::{Absent, Deposit, DepositArgs};
use crate::error::CliError;
use crate::faults::Faults;
use crate::output::{self, counted};
use crate::registry::{Missing, Place};
use crate::storage::OBJECTS_INPUT_BYTES;
use crate::{opt, registry};

/// Journals are compacted without looking at segments.
const NO_CACHE: SegmentCacheLimits = SegmentCacheLimits { opened_bytes_max: 0, blocks_bytes_max: 0 };

/// What to do with a journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Read all of it, and say what is damaged; changes nothing. Exit code 0 if all is whole, 1 if not
    Check(JournalArgs),
    /// Set damaged bytes of files aside, so that the eater can start; nothing is deleted, and lost frames become gaps. With
    /// --store, give up what is lost of journal objects that are damaged or gone, so that compaction goes on; eaters may run
    Repair(RepairArgs),
}

/// Which journal.
#[derive(Debug, Args)]
pub struct JournalArgs {
    /// Print one JSON object [default: off]
    #[arg(long, env = opt::JSON.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    json: bool,
    #[command(flatten)]
    data: DataDirArgs,
}

/// Which journal, or which store has those of all eaters.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Print one JSON object [default: off]
    #[arg(long, env = opt::JSON.env, hide_env_values = true, value_parser = BoolishValueParser::new())]
    json: bool,
    #[command(flatten)]
    deposit: DepositArgs,
}

type Action = fn(&std::path::Path, Arc<dyn Catalog>) -> Result<Inspection, JournalError>;

/// Checks the options.
pub fn prepare(command: JournalCommand, mut faults: Faults) -> Result<Work, Faults> {
    Ok(match command {
        JournalCommand::Check(args) => {
            faults.into_result(Some(()))?;
            Box::pin(check(args))
        }
        JournalCommand::Repair(RepairArgs { json, deposit }) => {
            let deposit = deposit.check(&mut faults);
            let deposit = faults.into_result(deposit)?;
            match deposit.store {
                Some(_) => Box::pin(give_up(deposit, json)),
                None => Box::pin(repair(deposit.data_dir, json)),
            }
        }
    })
}

async fn check(args: JournalArgs) -> Result<(), CliError> {
    let inspection = inspect(&args.data.data_dir, journal::check).await?;
    show(&inspection, args.json)?;
    match inspection.damage.len() {
        0 => Ok(()),
        places => Err(anyhow!(
            "the journal is damaged ({}): restore it from a copy, or set the damage aside with `trough journal \
             repair`",
            counted(places as u64, "place")
        )
        .into()),
    }
}

async fn repair(data_dir: PathBuf, json: bool) -> Result<(), CliError> {
    let inspection = inspect(&data_dir, journal::repair).await?;
    show(&inspection, json)?;
    output::note(match inspection.damage.len() {
        0 => "there was nothing to repair".to_owned(),
        places => format!("{} set aside; the eater can be started", counted(places as u64, "place")),
    });
    Ok(())
}

/// Compacts what journal objects there are, past the damage.
async fn give_up(deposit: Deposit, json: bool) -> Result<(), CliError> {
    let opened = deposit.open(Absent::Empty)?;
    let registry = registry::open(Place::of(deposit.data_dir, deposit.database), Missing::Refuse)?;
    let JournalParts::Objects(catalog) = opened.journals.clone() else {
        return Err(anyhow!("there are no journal objects: name their store with --store").into());
    };
    let parts = CompactionParts {
        journals: Journals::Objects(catalog),
        store: opened.store.clone(),
        segments: opened.segments.clone(),
        registry,
        outbox: None,
        cache: SegmentCache::new(opened.store.clone(), NO_CACHE, SegmentMetrics::default()),
        clock: opened.clock.clone(),
        health: Health::new(),
        metrics: CompactionMetrics::default(),
    };
    let config = CompactionConfig { input_bytes: OBJECTS_INPUT_BYTES, ..CompactionConfig::default() };
    let (handle, mut given_up) = (Handle::current(), Vec::new());
    let repairing = tokio::task::spawn_blocking(move || {
        let repaired = compaction::repair(config, parts, handle, &mut |lost| given_up.push(lost));
        (repaired, given_up)
    });
    let (repaired, given_up) = repairing.await.context("the repair has panicked")?;
    // It is committed, whatever came after it.
    show_given_up(&given_up, json)?;
    repaired.map_err(anyhow::Error::new)?;
    output::note(match given_up.len() {
        0 => "there was nothing to repair".to_owned(),
        objects => format!(
            "{} given up; the eaters go on by themselves, and readers see the gaps when the grace is over",
            counted(objects as u64, "object")
        ),
    });
    Ok(())
}

fn show_given_up(given_up: &[GivenUp], json: bool) -> Result<(), CliError> {
    if json {
        let given_up: Vec<GivenUpJson<'_>> = given_up.iter().map(GivenUpJson::of).collect();
        return output::json(&serde_json::json!({ "given_up": given_up }));
    }
    for GivenUp { object, found, lost, more } in given_up {
        output::line(format_args!("{object}: {found}"))?;
        for lost in lost {
            output::line(format_args!("  lost: {lost}"))?;
        }
        if *more {
            output::line("  lost: frames of more devices, which cannot be told")?;
        }
    }
    Ok(())
}

async fn inspect(data_dir: &std::path::Path, action: Action) -> anyhow::Result<Inspection> {
    let dir = registry::journal_dir(data_dir);
    if !dir.is_dir() {
        bail!("there is no journal in {}: name the eater's directory with --data-dir", data_dir.display());
    }
    let catalog = Arc::new(registry::open_catalog(data_dir)?);
    let inspection = tokio::task::spawn_blocking(move || action(&dir, catalog));
    Ok(inspection.await.context("the inspection has panicked")??)
}

fn show(inspection: &Inspection, json: bool) -> Result<(), CliError> {
    if json {
        return output::json(&InspectionJson::of(inspection));
    }
    output::line(format_args!(
        "{}, {}, {}, {}",
        counted(inspection.files as u64, "file"),
        counted(inspection.bytes, "byte"),
        counted(inspection.frames, "whole frame"),
        counted(inspection.damage.len() as u64, "damaged place")
    ))?;
    for Damage { file, from, to, found, losses } in &inspection.damage {
        output::line(format_args!("\n{}, bytes {from} to {to}: {found}", file.display()))?;
        for Lost { device, epoch, first, last } in losses {
            output::line(format_args!("  lost: frames {first} to {last} of {device}, epoch {epoch}"))?;
        }
    }
    Ok(())
}

/// An inspection as `--json` shows it.
#[derive(Serialize)]
struct InspectionJson<'a> {
    files: usize,
    bytes: u64,
    frames: u64,
    damage: Vec<DamageJson<'a>>,
}

#[derive(Serialize)]
struct DamageJson<'a> {
    file: &'a PathBuf,
    from: u64,
    to: u64,
    found: &'a str,
    losses: Vec<LostJson<'a>>,
}

#[derive(Serialize)]
struct LostJson<'a> {
    device: &'a str,
    epoch: u64,
    first: u64,
    last: u64,
}

impl<'a> InspectionJson<'a> {
    fn of(inspection: &'a Inspection) -> Self {
        let Inspection { files, bytes, frames, damage, .. } = inspection;
        let lost = |lost: &'a Lost| LostJson {
            device: lost.device.as_str(),
            epoch: lost.epoch.0,
            first: lost.first.0,
            last: lost.last.0,
        };
        let damage = damage.iter().map(|damage| DamageJson {
            file: &damage.file,
            from: damage.from,
            to: damage.to,
            found: &damage.found,
            losses: damage.losses.iter().map(lost).collect(),
        });
        Self { files: *files, bytes: *bytes, frames: *frames, damage: damage.collect() }
    }
}

/// What was given up, as `--json` shows it.
#[derive(Serialize)]
struct GivenUpJson<'a> {
    object: String,
    found: &'a str,
    lost: Vec<LostJson<'a>>,
    more: bool,
}

impl<'a> GivenUpJson<'a> {
    fn of(given_up: &'a GivenUp) -> Self {
        let GivenUp { object, found, lost, more } = given_up;
        let lost = lost.iter().map(|lost| LostJson {
            device: lost.device.as_str(),
            epoch: lost.epoch.0,
            first: lost.first.0,
            last: lost.last.0,
        });
        Self { object: object.to_string(), found, lost: lost.collect(), more: *more }
    }
}
