//! `trough journal`: what can be done to a journal while its eater is stopped.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use serde::Serialize;
use trough_eater::journal::{self, Damage, Inspection, JournalError, Lost};
use trough_store::Catalog;

use crate::cli::DataDirArgs;
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::output::{self, counted};
use crate::{opt, registry};

/// What to do with a journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Read all of it, and say what is damaged; changes nothing. Exit code 0 if all is whole, 1 if not
    Check(JournalArgs),
    /// Set damaged bytes aside, so that the eater can start; nothing is deleted, and lost frames become gaps
    Repair(JournalArgs),
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

type Action = fn(&std::path::Path, Arc<dyn Catalog>) -> Result<Inspection, JournalError>;

/// Checks the options.
pub fn prepare(command: JournalCommand, faults: Faults) -> Result<Work, Faults> {
    faults.into_result(Some(()))?;
    Ok(match command {
        JournalCommand::Check(args) => Box::pin(check(args)),
        JournalCommand::Repair(args) => Box::pin(repair(args)),
    })
}

async fn check(args: JournalArgs) -> Result<(), CliError> {
    let inspection = inspect(&args, journal::check).await?;
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

async fn repair(args: JournalArgs) -> Result<(), CliError> {
    let inspection = inspect(&args, journal::repair).await?;
    show(&inspection, args.json)?;
    output::note(match inspection.damage.len() {
        0 => "there was nothing to repair".to_owned(),
        places => format!("{} set aside; the eater can be started", counted(places as u64, "place")),
    });
    Ok(())
}

async fn inspect(args: &JournalArgs, action: Action) -> anyhow::Result<Inspection> {
    let data_dir = &args.data.data_dir;
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
