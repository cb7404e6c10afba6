//! Where an eater keeps frames: in its data directory, or in an object store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use trough_eater::Storage;
use trough_eater::objects::ObjectsConfig;
use trough_runtime::random::random_bytes;
use trough_store::ObjectCatalog;
use trough_store::mongo::{Mongo, MongoObjectCatalog, MongoUrl};
use trough_store::object_catalog::Incarnation;
use trough_store::objects::{self, Credentials, Limits, ObjectMetrics, Opening};
use trough_store::sqlite::SqliteObjectCatalog;

use crate::faults::Faults;
use crate::service::Chassis;
use crate::{opt, registry};

/// The catalog of journal objects, in a data directory.
const OBJECT_CATALOG: &str = "objects.sqlite";

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
}

/// What was chosen.
#[derive(Debug)]
pub struct StorageChoice {
    store: Option<String>,
    flush_after: Duration,
}

impl StorageArgs {
    /// Checks them.
    pub fn check(&self, faults: &mut Faults) -> Option<StorageChoice> {
        let flush_after = faults.number(opt::FLUSH_AFTER, &self.flush_after, "milliseconds", 1..=10_000);
        if let Some(url) = &self.store
            && !["s3://", "file:///"].iter().any(|scheme| url.starts_with(scheme))
        {
            // It is not repeated: a secret may have been put there.
            let remedy = "use s3://BUCKET/PREFIX?endpoint=URL&region=NAME or file:///DIR";
            faults.add(opt::STORE, "***", "it is neither s3:// nor file:///", remedy);
            return None;
        }
        let flush_after = Duration::from_millis(flush_after?);
        Some(StorageChoice { store: self.store.clone(), flush_after })
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
        let Some(url) = self.store else { return registry::local_storage(data_dir) };
        let opening = Opening {
            credentials: credentials(),
            limits: Limits::default(),
            metrics: ObjectMetrics::register(&mut chassis.metrics),
            health: chassis.health.clone(),
            clock: chassis.clock.clone(),
        };
        let store = objects::open(&url, opening)?;
        let catalog: Arc<dyn ObjectCatalog> = match database {
            // Connections of its own: a registry that is busy does not delay acknowledgements.
            Some(url) => Arc::new(MongoObjectCatalog::new(Mongo::new(url, chassis.health.clone()))),
            None => {
                let path = data_dir.join(OBJECT_CATALOG);
                Arc::new(SqliteObjectCatalog::open(&path, chassis.clock.clone())?)
            }
        };
        let config = ObjectsConfig { flush_after: self.flush_after, ..ObjectsConfig::default() };
        Ok(Storage::Objects { store, catalog, incarnation: Incarnation(random_bytes()), config })
    }
}

/// As every tool that speaks S3 has them.
fn credentials() -> Option<Credentials> {
    let from = |name| std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty());
    let (access_key, secret_key) = (from("AWS_ACCESS_KEY_ID")?, from("AWS_SECRET_ACCESS_KEY")?);
    Some(Credentials { access_key: access_key.into(), secret_key: secret_key.into() })
}
