//! Where frames are kept, for commands that look at them without being an eater.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use tempfile::TempDir;
use trough_eater::fsck::{FsckParts, JournalParts};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::metrics;
use trough_store::mongo::{Mongo, MongoObjectCatalog, MongoSegmentCatalog, MongoUrl};
use trough_store::objects::files::FileStore;
use trough_store::objects::steady::Steady;
use trough_store::objects::{self, Limits, ObjectMetrics, Opening};
use trough_store::sqlite::{SqliteCatalog, SqliteObjectCatalog, SqliteSegmentCatalog};
use trough_store::{ObjectStore, SegmentCatalog};

use crate::cli::{DataDirArgs, DatabaseArgs};
use crate::faults::Faults;
use crate::storage::{OBJECT_CATALOG, SEGMENT_CATALOG, credentials, is_store};
use crate::{opt, registry};

/// Which storage.
#[derive(Debug, Clone, Args)]
pub struct DepositArgs {
    #[command(flatten)]
    data: DataDirArgs,
    /// The object store that the eaters use, s3://BUCKET/PREFIX?endpoint=URL&region=NAME or file:///DIR. The credentials
    /// are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment [default: the data directory]
    #[arg(long, env = opt::STORE.env, hide_env_values = true, value_name = "URL")]
    store: Option<String>,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct Deposit {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The object store, if there is one.
    pub store: Option<String>,
    /// The database, if there is one.
    pub database: Option<MongoUrl>,
}

/// What is to become of catalogs that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// They are read as empty ones, and nothing is made.
    Empty,
    /// They are made.
    Made,
}

/// Storage that can be looked at.
pub struct Opened {
    /// Where segments lie.
    pub store: Arc<dyn ObjectStore>,
    /// Which of them are live.
    pub segments: Arc<dyn SegmentCatalog>,
    /// What is not compacted yet.
    pub journals: JournalParts,
    /// The time.
    pub clock: Clock,
    /// What stands for files that are not there.
    _empty: TempDir,
}

impl Opened {
    /// What a check looks at.
    pub fn fsck(&self, grace: Duration) -> FsckParts {
        let (store, segments) = (self.store.clone(), self.segments.clone());
        FsckParts { store, segments, journals: self.journals.clone(), grace, clock: self.clock.clone() }
    }
}

impl DepositArgs {
    /// Checks them.
    pub fn check(self, faults: &mut Faults) -> Option<Deposit> {
        let database = self.database.check(faults);
        let store = is_store(faults, self.store.as_deref());
        store.then_some(())?;
        Some(Deposit { data_dir: self.data.data_dir, store: self.store, database: database? })
    }
}

impl Deposit {
    /// Opens it. A store or a database is not asked before it is used.
    ///
    /// # Errors
    /// There is nothing, or it cannot be opened.
    pub fn open(&self, absent: Absent) -> Result<Opened> {
        let (clock, health) = (Clock::system(), Health::new());
        let empty = tempfile::tempdir().context("cannot make a temporary directory")?;
        let place = |name: &str| -> PathBuf {
            let path = self.data_dir.join(name);
            if path.exists() || absent == Absent::Made { path } else { empty.path().join(name) }
        };
        let mut registry = metrics::new_registry(env!("CARGO_PKG_VERSION"), &clock);
        let counted = ObjectMetrics::register(&mut registry);
        if (self.store.is_none() || self.database.is_none()) && !self.data_dir.is_dir() {
            bail!("there is no directory {}: name the eater's with --data-dir", self.data_dir.display());
        }
        let Some(url) = &self.store else {
            self.check_data_dir()?;
            let files = FileStore::open(&place(registry::STORE), &clock)?;
            let catalog = SqliteCatalog::open(&place(registry::CATALOG))?;
            let dir = registry::journal_dir(&self.data_dir);
            return Ok(Opened {
                store: Arc::new(Steady::new(files, Limits::default(), counted, health)),
                segments: Arc::new(SqliteSegmentCatalog::open(&place(SEGMENT_CATALOG), clock.clone())?),
                journals: JournalParts::Local { dir, catalog: Arc::new(catalog) },
                clock,
                _empty: empty,
            });
        };
        let opening = Opening {
            credentials: credentials(),
            limits: Limits::default(),
            metrics: counted,
            health: health.clone(),
            clock: clock.clone(),
        };
        let store = objects::open(url, opening)?;
        let (journals, segments): (_, Arc<dyn SegmentCatalog>) = match &self.database {
            Some(url) => {
                let mongo = Mongo::new(url.clone(), health);
                let objects = MongoObjectCatalog::new(mongo.clone());
                (JournalParts::Objects(Arc::new(objects)), Arc::new(MongoSegmentCatalog::new(mongo)))
            }
            None => {
                let objects = SqliteObjectCatalog::open(&place(OBJECT_CATALOG), clock.clone())?;
                let segments = SqliteSegmentCatalog::open(&place(SEGMENT_CATALOG), clock.clone())?;
                (JournalParts::Objects(Arc::new(objects)), Arc::new(segments))
            }
        };
        Ok(Opened { store, segments, journals, clock, _empty: empty })
    }

    fn check_data_dir(&self) -> Result<()> {
        let names = [registry::JOURNAL, registry::STORE, SEGMENT_CATALOG];
        if !names.iter().any(|name| Path::new(&self.data_dir).join(name).exists()) {
            bail!(
                "there are no frames in {}: name the eater's directory with --data-dir, or its object store with --store",
                self.data_dir.display()
            );
        }
        Ok(())
    }
}
