//! Registry, catalogs of journal objects and segments, and outbox in MongoDB, for a deployment of many machines.
//!
//! Nothing connects before it is used. Every write waits for the journals of most servers, every read comes from the
//! primary and sees what was written before.

mod changes;
mod claim_sessions;
mod client;
mod command_rows;
mod command_sweep;
mod commands;
mod compaction_rows;
mod deliveries;
mod delivering;
mod devices;
mod epochs;
mod events;
mod failure;
mod heads;
mod json;
mod meta;
mod object_catalog;
mod object_removal;
mod object_rows;
mod object_spans;
mod outbox;
mod position_schemas;
mod presence;
mod push_tokens;
mod queues;
mod readers;
mod registry;
mod retention;
mod routing;
mod rules;
mod segment_catalog;
mod segment_rows;
mod shards;
mod states;
mod subscription_rows;
mod subscriptions;
mod tokens;
mod transaction;
mod url;

use mongodb::bson::{Document, doc};
use trough_protocol::Micros;
use trough_protocol::limits::INT_MAX;

pub use client::Mongo;
pub use commands::MongoCommands;
pub use object_catalog::MongoObjectCatalog;
pub use outbox::MongoOutbox;
pub use presence::MongoPresence;
pub use registry::MongoRegistry;
pub use segment_catalog::MongoSegmentCatalog;
pub use url::{MongoUrl, MongoUrlError};

/// A number as the database has it. None of ours is above [`INT_MAX`].
fn integer(value: u64) -> i64 {
    i64::try_from(value.min(INT_MAX)).unwrap_or(i64::MAX)
}

/// Bytes as hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Those that stand behind one in a list that is newest first: the last of a page.
fn before(field: &str, at: Micros, id: &str) -> Document {
    let same = doc! { field: integer(at), "_id": { "$lt": id } };
    doc! { "$or": [doc! { field: { "$lt": integer(at) } }, same] }
}
