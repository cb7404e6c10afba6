//! The stores of a data directory.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use trough_eater::Storage;
use trough_eater::journal::JournalConfig;
use trough_runtime::clock::Clock;
use trough_store::registry::LIST_DEVICES_MAX;
use trough_store::sqlite::{SqliteCatalog, SqliteRegistry};
use trough_store::{DeviceFilter, DeviceRecord, Registry};

use crate::output;

/// The registry's name in a data directory.
const REGISTRY: &str = "registry.sqlite";
/// The catalog's.
const CATALOG: &str = "catalog.sqlite";
/// The journal's.
const JOURNAL: &str = "journal";

/// What to do about a data directory without a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Make both, and say so: the first device may be added before the first start.
    Create,
    /// Refuse: there is nothing to work on, and a mistyped name should not leave a directory behind.
    Refuse,
}

/// Opens the registry of a data directory.
///
/// # Errors
/// There is none and none is to be made, or it cannot be opened.
pub fn open(data_dir: &Path, missing: Missing) -> Result<SqliteRegistry> {
    let path = data_dir.join(REGISTRY);
    if missing == Missing::Create && !path.exists() {
        output::note(format!("beginning a new registry: {}", path.display()));
    }
    open_quietly(data_dir, missing)
}

/// As [`open`], without a word about a new one.
///
/// # Errors
/// As [`open`].
pub fn open_quietly(data_dir: &Path, missing: Missing) -> Result<SqliteRegistry> {
    let path = data_dir.join(REGISTRY);
    if !path.exists() {
        if missing == Missing::Refuse {
            bail!(
                "there is no registry in {}: name the right directory with --data-dir, or begin one with \
                 `trough up` or `trough devices add`",
                data_dir.display()
            );
        }
        create_data_dir(data_dir)?;
    }
    Ok(SqliteRegistry::open(&path, Clock::system())?)
}

/// Opens the catalog of a data directory, which must exist.
///
/// # Errors
/// It cannot be opened.
pub fn open_catalog(data_dir: &Path) -> Result<SqliteCatalog> {
    Ok(SqliteCatalog::open(&data_dir.join(CATALOG))?)
}

/// A journal in a data directory, which must exist, and its catalog.
///
/// # Errors
/// The catalog cannot be opened.
pub fn local_storage(data_dir: &Path) -> Result<Storage> {
    let catalog = Arc::new(open_catalog(data_dir)?);
    Ok(Storage::Local { catalog, config: JournalConfig::new(journal_dir(data_dir)) })
}

/// Where the journal lies.
pub fn journal_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join(JOURNAL)
}

/// Makes the directory, for its owner only: it holds what devices send. One that exists stays as it is.
///
/// # Errors
/// It cannot be made.
pub fn create_data_dir(data_dir: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).with_context(|| {
        format!("cannot make the data directory {}: check the rights on its parent", data_dir.display())
    })
}

/// Every device that the filter lets through, page by page.
///
/// # Errors
/// The registry's.
pub async fn all_devices(registry: &dyn Registry, mut filter: DeviceFilter) -> Result<Vec<DeviceRecord>> {
    filter.limit = LIST_DEVICES_MAX;
    let mut devices = Vec::new();
    loop {
        let page = registry.list_devices(filter.clone()).await?;
        let full = page.len() == LIST_DEVICES_MAX;
        filter.after = page.last().map(|device| device.id.clone());
        devices.extend(page);
        if !full {
            return Ok(devices);
        }
    }
}
