//! Registry and catalog of journal objects in MongoDB, for a deployment of many machines.
//!
//! Nothing connects before it is used. Every write waits for the journals of most servers, every read comes from the
//! primary and sees what was written before.

mod client;
mod failure;
mod heads;
mod object_catalog;
mod object_rows;
mod object_spans;
mod url;

pub use client::Mongo;
pub use object_catalog::MongoObjectCatalog;
pub use url::{MongoUrl, MongoUrlError};
