//! Where an eater keeps frames: in its data directory, or in an object store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use trough_eater::compaction::CompactionConfig;
use trough_eater::journal::JournalConfig;
use trough_eater::objects::ObjectsConfig;
use trough_eater::{HistoryStorage, Storage};
use trough_runtime::random::random_bytes;
use trough_store::mongo::{Mongo, MongoObjectCatalog, MongoSegmentCatalog, MongoUrl};
use trough_store::object_catalog::Incarnation;
use trough_store::objects::{self, Credentials, Limits, ObjectMetrics, Opening};
use trough_store::sqlite::{SqliteObjectCatalog, SqliteSegmentCatalog};
use trough_store::{ObjectCatalog, SegmentCatalog};

use crate::faults::Faults;
use crate::service::Chassis;
use crate::{opt, registry};

/// The catalog of journal objects, in a data directory.
pub(crate) const OBJECT_CATALOG: &str = "objects.sqlite";
/// The catalog of segments, there too.
pub(crate) const SEGMENT_CATALOG: &str = "segments.sqlite";
/// Journal objects are compacted out of memory, which an eater whose store is away needs for what it has promised credit.
pub(crate) const OBJECTS_INPUT_BYTES: u64 = 32 * 1024 * 1024;
/// On one machine nobody else can want the claim: the journal has one eater. So whoever starts after a kill need not wait.
const LOCAL_CLAIM_TTL: Duration = Duration::from_secs(10);
/// How often compaction looks for work, at the most.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// Options of an eater's storage.
#[derive(Debug, Clone, Args)]
pub struct StorageArgs {
    /// Keep frames in an object store, which several eaters may share, instead of the data directory:
    /// s3://BUCKET/PREFIX?endpoint=URL&region=NAME or file:///DIR. The credentials are AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY in the environment [default: the data directory]
    #[arg(long, env = opt::STORE.env, hide_env_values = true, value_name = "URL")]
    store: Option<String>,
    /// With --store, how long frames gather before they are stored together, in milliseconds: what an
    /// acknowledgement waits for besides the store
    #[arg(long, env = opt::FLUSH_AFTER.env, hide_env_values = true, value_name = "MILLISECONDS",
          default_value = "100")]
    flush_after: String,
    #[command(flatten)]
    history: HistoryArgs,
}

/// How history is kept.
#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// How long frames stay in the journal before they are compacted into history, in seconds; large journals do not
    /// wait [default: 600 in a data directory, 30 with --store]
    #[arg(long, env = opt::COMPACT_AFTER.env, hide_env_values = true, value_name = "SECONDS")]
    compact_after: Option<String>,
    /// How long what history has replaced is kept for those who still read it, in seconds
    #[arg(long, env = opt::COMPACT_GRACE.env, hide_env_values = true, value_name = "SECONDS",
          default_value = "600")]
    compact_grace: String,
}

/// The same, checked.
#[derive(Debug, Clone, Copy)]
pub struct HistoryChoice {
    after: Option<Duration>,
    grace: Duration,
}

impl HistoryArgs {
    /// Checks them.
    pub fn check(&self, faults: &mut Faults) -> Option<HistoryChoice> {
        let after = self.compact_after.as_ref();
        let after = after.map(|after| faults.seconds(opt::COMPACT_AFTER, after, 0..=86_400));
        // A read begins anew after a minute: what it began with must be there for longer.
        let grace = faults.seconds(opt::COMPACT_GRACE, &self.compact_grace, 120..=604_800);
        Some(HistoryChoice { after: after.map_or(Some(None), |valid| valid.map(Some))?, grace: grace? })
    }
}

impl HistoryChoice {
    fn compaction(self) -> CompactionConfig {
        let mut config = CompactionConfig { grace: self.grace, ..CompactionConfig::default() };
        if let Some(after) = self.after {
            config.gather = after;
            config.settle = config.settle.min(after);
            config.every = config.every.min(after.max(EVERY_MIN));
        }
        config
    }

    /// The storage of a deployment of one machine, in its data directory.
    ///
    /// # Errors
    /// A catalog or a directory cannot be opened.
    pub fn open_local(self, data_dir: &Path, chassis: &mut Chassis) -> Result<Storage> {
        let mut config = JournalConfig::new(registry::journal_dir(data_dir));
        if let Some(after) = self.after {
            config.roll_after = after;
        }
        let path = data_dir.join(SEGMENT_CATALOG);
        let history = HistoryStorage {
            store: registry::open_store(data_dir, chassis)?,
            segments: Arc::new(SqliteSegmentCatalog::open(&path, chassis.clock.clone())?),
            compaction: CompactionConfig { claim_ttl: LOCAL_CLAIM_TTL, ..self.compaction() },
        };
        Ok(Storage::Local { catalog: Arc::new(registry::open_catalog(data_dir)?), config, history })
    }
}

impl Default for HistoryChoice {
    fn default() -> Self {
        Self { after: None, grace: CompactionConfig::default().grace }
    }
}

/// What was chosen.
#[derive(Debug)]
pub struct StorageChoice {
    store: Option<String>,
    flush_after: Duration,
    history: HistoryChoice,
}

impl StorageArgs {
    /// Checks them.
    pub fn check(&self, faults: &mut Faults) -> Option<StorageChoice> {
        let flush_after = faults.number(opt::FLUSH_AFTER, &self.flush_after, "milliseconds", 1..=10_000);
        let history = self.history.check(faults);
        is_store(faults, self.store.as_deref()).then_some(())?;
        let flush_after = Duration::from_millis(flush_after?);
        Some(StorageChoice { store: self.store.clone(), flush_after, history: history? })
    }
}

impl StorageChoice {
    /// The URL of the object store, if there is one.
    pub fn url(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// How long frames gather before they are stored in it.
    pub fn flush_after(&self) -> Duration {
        self.flush_after
    }

    /// Whether frames are kept where other eaters find them.
    pub fn is_shared(&self) -> bool {
        self.store.is_some()
    }

    /// Opens the storage. An object store is not asked before it is used.
    ///
    /// # Errors
    /// The catalog or the store's directory cannot be opened, or credentials are missing.
    pub fn open(self, data_dir: &Path, database: Option<MongoUrl>, chassis: &mut Chassis) -> Result<Storage> {
        let Some(url) = self.store else {
            return self.history.open_local(data_dir, chassis);
        };
        let opening = Opening {
            credentials: credentials(),
            limits: Limits::default(),
            metrics: ObjectMetrics::register(&mut chassis.metrics),
            health: chassis.health.clone(),
            clock: chassis.clock.clone(),
        };
        let store = objects::open(&url, opening)?;
        let (catalog, segments): (Arc<dyn ObjectCatalog>, Arc<dyn SegmentCatalog>) = match database {
            // Connections of its own: a registry that is busy does not delay acknowledgements.
            Some(url) => {
                let mongo = Mongo::new(url, chassis.health.clone());
                (Arc::new(MongoObjectCatalog::new(mongo.clone())), Arc::new(MongoSegmentCatalog::new(mongo)))
            }
            None => {
                let clock = &chassis.clock;
                let objects = SqliteObjectCatalog::open(&data_dir.join(OBJECT_CATALOG), clock.clone())?;
                let segments = SqliteSegmentCatalog::open(&data_dir.join(SEGMENT_CATALOG), clock.clone())?;
                (Arc::new(objects), Arc::new(segments))
            }
        };
        let config = ObjectsConfig { flush_after: self.flush_after, ..ObjectsConfig::default() };
        let compaction = CompactionConfig { input_bytes: OBJECTS_INPUT_BYTES, ..self.history.compaction() };
        let history = HistoryStorage { store: store.clone(), segments, compaction };
        Ok(Storage::Objects { store, catalog, incarnation: Incarnation(random_bytes()), config, history })
    }
}

/// Checks the URL of a store. Whether it can be one, or there is none.
pub(crate) fn is_store(faults: &mut Faults, url: Option<&str>) -> bool {
    let known = url.is_none_or(|url| ["s3://", "file:///"].iter().any(|scheme| url.starts_with(scheme)));
    if !known {
        // It is not repeated: a secret may have been put there.
        let remedy = "use s3://BUCKET/PREFIX?endpoint=URL&region=NAME or file:///DIR";
        faults.add(opt::STORE, "***", "it is neither s3:// nor file:///", remedy);
    }
    known
}

/// As every tool that speaks S3 has them.
pub(crate) fn credentials() -> Option<Credentials> {
    let from = |name| std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty());
    let (access_key, secret_key) = (from("AWS_ACCESS_KEY_ID")?, from("AWS_SECRET_ACCESS_KEY")?);
    Some(Credentials { access_key: access_key.into(), secret_key: secret_key.into() })
}
