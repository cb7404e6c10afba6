//! One session of the server for each part of a duty: everything that is done under a claim is a transaction in it.
//!
//! A process that is killed in a transaction leaves its locks until the server ends the transaction, a minute later. So a
//! part's document names the session, and whoever takes the part over ends what was begun in it before anything else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mongodb::bson::{Bson, Document, doc};
use mongodb::{ClientSession, Database};

use super::failure::Failure;
use crate::outbox::Shard;

/// The sessions of a process. They stay until it ends, so that none of them is ever another part's.
#[derive(Debug, Default)]
pub(super) struct ClaimSessions(Mutex<HashMap<Shard, ClaimSession>>);

/// One of them. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct ClaimSession {
    /// By which the server knows it.
    pub id: Document,
    /// Whoever has it is alone: a session has one transaction at a time.
    pub session: Arc<tokio::sync::Mutex<ClientSession>>,
}

impl ClaimSessions {
    /// That of a part, made with the first claim on it.
    pub async fn of(&self, database: &Database, shard: Shard) -> Result<ClaimSession, Failure> {
        if let Some(known) = self.lock().get(&shard) {
            return Ok(known.clone());
        }
        let session = database.client().start_session().await?;
        let new =
            ClaimSession { id: session.id().clone(), session: Arc::new(tokio::sync::Mutex::new(session)) };
        // Another may have been as quick.
        Ok(self.lock().entry(shard).or_insert(new).clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Shard, ClaimSession>> {
        // An entry is whole or not there.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends what was begun in a session of whoever had a part before. If the server does not do it, its locks are waited for.
pub(super) async fn end(database: &Database, shard: Shard, session: &Document) {
    let command = doc! { "killSessions": [Bson::from(session.clone())] };
    if let Err(error) = database.run_command(command).await {
        tracing::debug!(%shard, %error, "what the last holder of a claim has begun cannot be ended");
    }
}
