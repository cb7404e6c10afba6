//! The stores of a data directory, and the registry in a database.

use std::fmt;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::mongo::{Mongo, MongoRegistry, MongoUrl};
use trough_store::objects::files::FileStore;
use trough_store::objects::steady::Steady;
use trough_store::objects::{Limits, ObjectMetrics};
use trough_store::registry::LIST_DEVICES_MAX;
use trough_store::sqlite::{SqliteCatalog, SqliteRegistry};
use trough_store::{DeviceFilter, DeviceRecord, ObjectStore, Registry};

use crate::output;
use crate::service::Chassis;

/// The registry's name in a data directory.
const REGISTRY: &str = "registry.sqlite";
/// The catalog's.
pub(crate) const CATALOG: &str = "catalog.sqlite";
/// The journal's.
pub(crate) const JOURNAL: &str = "journal";

/// What to do about a data directory without a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Make both, and say so: the first device may be added before the first start.
    Create,
    /// Refuse: there is nothing to work on, and a mistyped name should not leave a directory behind.
    Refuse,
}

/// Where a registry is.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a file of this directory.
    DataDir(PathBuf),
    /// In a database, where it is made with its first use.
    Database(MongoUrl),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(dir) => write!(f, "{}", dir.join(REGISTRY).display()),
            Self::Database(url) => write!(f, "{url}"),
        }
    }
}

impl Place {
    /// In the database, if there is one.
    pub fn of(data_dir: impl Into<PathBuf>, database: Option<MongoUrl>) -> Self {
        database.map_or_else(|| Self::DataDir(data_dir.into()), Self::Database)
    }
}

/// Opens a registry for a command. One in a database is not connected to before it is used.
///
/// # Errors
/// There is none and none is to be made, or it cannot be opened.
pub fn open(place: Place, missing: Missing) -> Result<Arc<dyn Registry>> {
    let data_dir = match place {
        Place::Database(url) => {
            return Ok(Arc::new(
                MongoRegistry::new(Mongo::new(url, Health::new()), Clock::system()).with_database_time(),
            ));
        }
        Place::DataDir(dir) => dir,
    };
    tell_of_new(&data_dir, missing);
    Ok(Arc::new(open_file(&data_dir, missing)?))
}

/// Says that a command is about to make a registry.
pub(crate) fn tell_of_new(data_dir: &Path, missing: Missing) {
    let path = data_dir.join(REGISTRY);
    if missing == Missing::Create && !path.exists() {
        output::note(format!("beginning a new registry: {}", path.display()));
    }
}

/// Opens the registry of a data directory.
///
/// # Errors
/// There is none and none is to be made, or it cannot be opened.
pub(crate) fn open_file(data_dir: &Path, missing: Missing) -> Result<SqliteRegistry> {
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

/// Where history lies in a data directory.
pub(crate) const STORE: &str = "store";

/// The store of a deployment of one machine.
///
/// # Errors
/// The directory cannot be made.
pub fn open_store(data_dir: &Path, chassis: &mut Chassis) -> Result<Arc<dyn ObjectStore>> {
    let files = FileStore::open(&data_dir.join(STORE), &chassis.clock)?;
    let metrics = ObjectMetrics::register(&mut chassis.metrics);
    Ok(Arc::new(Steady::new(files, Limits::default(), metrics, chassis.health.clone())))
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
