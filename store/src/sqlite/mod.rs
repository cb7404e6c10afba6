//! Registry, catalogs and outbox in SQLite files, for a deployment of one machine.
//!
//! Each file has one writer thread, which puts everything that waits into one transaction, and a few
//! connections that read (write-ahead log: readers and the writer do not wait for one another). Several
//! processes may have a file open: a running server and the command line.

mod catalog;
mod changes;
mod commands;
mod database;
mod deliveries;
mod delivery_rows;
mod devices;
mod events;
mod failure;
mod json;
mod object_catalog;
mod object_removal;
mod outbox;
mod pool;
mod position_schemas;
mod presence;
mod push_tokens;
mod queues;
mod readers;
mod registry;
mod retention;
mod rules;
mod segment_catalog;
mod segment_rows;
mod shards;
mod spans;
mod states;
mod subscriptions;
mod tokens;
mod writer;

pub use catalog::SqliteCatalog;
pub use database::OpenError;
pub use object_catalog::SqliteObjectCatalog;
pub use outbox::SqliteOutbox;
pub use presence::SqlitePresence;
pub use registry::SqliteRegistry;
pub use segment_catalog::SqliteSegmentCatalog;

#[cfg(test)]
mod outbox_simulation;
#[cfg(test)]
mod tests;
