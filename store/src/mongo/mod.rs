//! Registry and catalogs of journal objects and segments in MongoDB, for a deployment of many machines.
//!
//! Nothing connects before it is used. Every write waits for the journals of most servers, every read comes from the
//! primary and sees what was written before.

mod changes;
mod client;
mod commands;
mod devices;
mod epochs;
mod failure;
mod heads;
mod meta;
mod object_catalog;
mod object_removal;
mod object_rows;
mod object_spans;
mod position_schemas;
mod readers;
mod registry;
mod retention;
mod segment_catalog;
mod segment_rows;
mod tokens;
mod transaction;
mod url;

use trough_protocol::limits::INT_MAX;

pub use client::Mongo;
pub use commands::MongoCommands;
pub use object_catalog::MongoObjectCatalog;
pub use registry::MongoRegistry;
pub use segment_catalog::MongoSegmentCatalog;
pub use url::{MongoUrl, MongoUrlError};

/// A number as the database has it. None of ours is above [`INT_MAX`].
fn integer(value: u64) -> i64 {
    i64::try_from(value.min(INT_MAX)).unwrap_or(i64::MAX)
}
