//! What services and commands stand on besides frames: the registry, and what lies beside it in the same place.

use std::sync::Arc;

use anyhow::Result;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::mongo::{Mongo, MongoCommands, MongoOutbox, MongoPresence, MongoRegistry, MongoUrl};
use trough_store::sqlite::{SqliteOutbox, SqlitePresence};
use trough_store::{Commands, Outbox, Presence, Registry, Subscriptions};

use crate::registry::{self, Missing, Place};

/// The outbox's name in a data directory.
const OUTBOX: &str = "outbox.sqlite";
/// Presence's.
const PRESENCE: &str = "presence.sqlite";

/// All of one place. Clones are the same.
#[derive(Clone)]
pub struct Stores {
    /// Who may do what.
    pub registry: Arc<dyn Registry>,
    /// What devices are asked to do.
    pub commands: Arc<dyn Commands>,
    /// What rules there are, and who wants to be told.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// What happened, and what became of telling.
    pub outbox: Arc<dyn Outbox>,
    /// Which devices are connected.
    pub presence: Arc<dyn Presence>,
}

impl Stores {
    /// Opens them for a command. Those in a database are not connected to before they are used.
    ///
    /// # Errors
    /// They cannot be opened, or there are none and none are to be made.
    pub fn open(place: Place, missing: Missing) -> Result<Self> {
        if let Place::DataDir(dir) = &place {
            registry::tell_of_new(dir, missing);
        }
        Self::open_with(place, missing, Health::new())
    }

    /// Opens them for a service; health says whether their database can be reached.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn open_for_service(place: Place, health: Health) -> Result<Self> {
        Self::open_with(place, Missing::Create, health)
    }

    /// For what a service does unasked: with connections of its own to a database, so that it delays nobody who connects.
    /// As it begins with the start, when nobody has needed the database yet, it says nothing to `/readyz`.
    #[must_use]
    pub fn in_background(&self, place: &Place) -> Self {
        match place {
            Place::DataDir(_) => self.clone(),
            Place::Database(url) => Self::in_database(url.clone(), Health::new()),
        }
    }

    fn open_with(place: Place, missing: Missing, health: Health) -> Result<Self> {
        let dir = match place {
            Place::Database(url) => return Ok(Self::in_database(url, health)),
            Place::DataDir(dir) => dir,
        };
        let registry = Arc::new(registry::open_file(&dir, missing)?);
        Ok(Self {
            registry: registry.clone(),
            commands: registry.clone(),
            subscriptions: registry,
            outbox: Arc::new(SqliteOutbox::open(&dir.join(OUTBOX), Clock::system())?),
            presence: Arc::new(SqlitePresence::open(&dir.join(PRESENCE), Clock::system())?),
        })
    }

    fn in_database(url: MongoUrl, health: Health) -> Self {
        let mongo = Mongo::new(url, health);
        let registry = Arc::new(MongoRegistry::new(mongo.clone(), Clock::system()).with_database_time());
        Self {
            registry: registry.clone(),
            commands: Arc::new(MongoCommands::new(mongo.clone(), Clock::system())),
            subscriptions: registry,
            outbox: Arc::new(MongoOutbox::new(mongo.clone())),
            presence: Arc::new(MongoPresence::new(mongo)),
        }
    }
}
