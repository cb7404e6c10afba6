//! Ending commands whose time is over, and forgetting old ones.

use mongodb::Database;
use mongodb::bson::{Binary, doc};
use serde::Deserialize;
use trough_protocol::Micros;

use super::command_rows::{CommandDocument, commands, device_of, finished, id_of, this};
use super::failure::Failure;
use super::integer;
use crate::commands::{CommandPlace, CommandState, ExpiredCommand, SWEEP_COMMANDS_MAX, SweptCommands};

/// What is to be known of a command that is due.
#[derive(Debug, Deserialize)]
struct DueDocument {
    #[serde(rename = "_id")]
    id: Binary,
    device: String,
    expires_at: Micros,
    created_at: Micros,
    sends: i64,
    pending: Option<bool>,
}

/// What [`Commands::sweep_commands`](crate::Commands::sweep_commands) does at `now`.
pub(super) async fn sweep(database: &Database, now: Micros) -> Result<SweptCommands, Failure> {
    let all = commands::<CommandDocument>(database);
    let due = doc! { "due_at": { "$lte": integer(now) } };
    let mut found = commands::<DueDocument>(database)
        .find(due)
        .projection(doc! { "device": 1, "expires_at": 1, "created_at": 1, "sends": 1, "pending": 1 })
        .sort(doc! { "due_at": 1 })
        .limit(SWEEP_COMMANDS_MAX as i64)
        .await?;
    let (mut expired, mut old, mut looked_at) = (Vec::new(), Vec::new(), 0);
    while found.advance().await? {
        looked_at += 1;
        let due: DueDocument = found.deserialize_current()?;
        if due.pending.is_none() {
            old.push(due.id);
            continue;
        }
        let place = CommandPlace { device: device_of(&due.device)?, id: id_of(&due.id)? };
        let mut filter = this(&place);
        filter.insert("pending", true);
        let change = finished(CommandState::Expired, due.expires_at, due.expires_at);
        // Of several who look at the same time one ends it.
        if all.update_one(filter, change).await?.modified_count == 1 {
            let sends = u32::try_from(due.sends).unwrap_or(u32::MAX);
            expired.push(ExpiredCommand { place, sends, created_at: due.created_at });
        }
    }
    if !old.is_empty() {
        all.delete_many(doc! { "_id": { "$in": old }, "due_at": { "$lte": integer(now) } }).await?;
    }
    Ok(SweptCommands { expired, more: looked_at == SWEEP_COMMANDS_MAX })
}
