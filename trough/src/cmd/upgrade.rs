//! `trough upgrade`: the format level of the storage. Works on the catalog directly, also while the server runs.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, Subcommand};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::SegmentCatalog;
use trough_store::format_level::{FORMAT_LEVEL, FORMAT_LEVELS, FormatLevel};
use trough_store::mongo::{Mongo, MongoSegmentCatalog, MongoUrl};
use trough_store::sqlite::SqliteSegmentCatalog;

use crate::cli::{DataDirArgs, DatabaseArgs};
use crate::cmd::Work;
use crate::error::CliError;
use crate::faults::Faults;
use crate::output;
use crate::storage::SEGMENT_CATALOG;

/// What to do with the format level.
#[derive(Debug, Subcommand)]
pub enum UpgradeCommand {
    /// Say which format level the storage has, and which ones this release knows
    Status(UpgradeArgs),
    /// Let this release write its own format from now on: releases that do not know it cannot come back
    Finalize(UpgradeArgs),
}

/// Which deployment.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    #[command(flatten)]
    data: DataDirArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Checks the options.
pub fn prepare(command: UpgradeCommand, mut faults: Faults) -> Result<Work, Faults> {
    let (args, finalize) = match command {
        UpgradeCommand::Status(args) => (args, false),
        UpgradeCommand::Finalize(args) => (args, true),
    };
    let database = args.database.check(&mut faults);
    let database = faults.into_result(database)?;
    Ok(Box::pin(run(args.data.data_dir, database, finalize)))
}

async fn run(data_dir: PathBuf, database: Option<MongoUrl>, finalize: bool) -> Result<(), CliError> {
    let catalog = open(data_dir, database)?;
    let found = catalog.format_level().await?;
    let (low, high) = FORMAT_LEVELS.into_inner();
    let release = env!("CARGO_PKG_VERSION");
    if !finalize {
        output::line(format!("format level {}, which came with release {}", found.level, found.release))?;
        output::note(format!("this release, {release}, knows levels {low} to {high}"));
        if found.level < FORMAT_LEVEL {
            output::note("when no older release is to come back: trough upgrade finalize");
        }
        return Ok(());
    }
    let raised = catalog.raise_format_level(FormatLevel::newest()).await?;
    output::line(format!("format level {}", raised.level))?;
    output::note(match raised == found {
        true => format!("it was that before: there is nothing to finalize for release {release}"),
        false => format!("releases that do not know level {} cannot work on it any more", raised.level),
    });
    Ok(())
}

fn open(data_dir: PathBuf, database: Option<MongoUrl>) -> anyhow::Result<Arc<dyn SegmentCatalog>> {
    if let Some(url) = database {
        return Ok(Arc::new(MongoSegmentCatalog::new(Mongo::new(url, Health::new()))));
    }
    let path = data_dir.join(SEGMENT_CATALOG);
    if !path.exists() {
        bail!(
            "there is no catalog of segments in {}: name the right directory with --data-dir, or the database with \
             --database; a deployment that never ran has nothing to finalize",
            data_dir.display()
        );
    }
    Ok(Arc::new(SqliteSegmentCatalog::open(&path, Clock::system())?))
}
