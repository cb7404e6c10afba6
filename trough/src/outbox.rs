//! What the notifier and its commands stand on: subscriptions, and the outbox.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::mongo::{Mongo, MongoOutbox, MongoRegistry};
use trough_store::sqlite::{SqliteOutbox, SqliteRegistry};
use trough_store::{Outbox, Registry, Subscriptions};

use crate::registry::{self, Missing, Place};

/// The outbox's name in a data directory.
const OUTBOX: &str = "outbox.sqlite";

/// Who may see what, who wants to be told, and what is told.
#[derive(Clone)]
pub struct Stores {
    /// Who may see what.
    pub registry: Arc<dyn Registry>,
    /// Who wants to be told.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// What happened, and what became of telling.
    pub outbox: Arc<dyn Outbox>,
}

/// Opens them for a command. Those in a database are not connected to before they are used.
///
/// # Errors
/// They cannot be opened, or there are none and none are to be made.
pub fn open(place: Place, missing: Missing) -> Result<Stores> {
    open_with(place, missing, Health::new())
}

/// Opens them for a service; health says whether their database can be reached.
///
/// # Errors
/// They cannot be opened.
pub fn open_for_service(place: Place, health: Health) -> Result<Stores> {
    open_with(place, Missing::Create, health)
}

fn open_with(place: Place, missing: Missing, health: Health) -> Result<Stores> {
    match place {
        Place::DataDir(dir) => {
            let registry = Arc::new(registry::open_file(&dir, missing)?);
            Ok(Stores { registry: registry.clone(), subscriptions: registry, outbox: open_outbox(&dir)? })
        }
        Place::Database(url) => {
            let mongo = Mongo::new(url, health);
            let registry = Arc::new(MongoRegistry::new(mongo.clone(), Clock::system()));
            let outbox = Arc::new(MongoOutbox::new(mongo));
            Ok(Stores { registry: registry.clone(), subscriptions: registry, outbox })
        }
    }
}

/// Subscriptions of a registry's file, and the outbox beside it.
///
/// # Errors
/// They cannot be opened.
pub fn open_local(dir: &Path) -> Result<(Arc<dyn Subscriptions>, Arc<dyn Outbox>)> {
    let registry: SqliteRegistry = registry::open_file(dir, Missing::Create)?;
    Ok((Arc::new(registry), open_outbox(dir)?))
}

fn open_outbox(dir: &Path) -> Result<Arc<dyn Outbox>> {
    Ok(Arc::new(SqliteOutbox::open(&dir.join(OUTBOX), Clock::system())?))
}
