//! Tests of the object journal, over a store and a catalog in memory that fail, are slow, and do things later.

mod format;
mod reading;
mod simulation;
pub(crate) mod world;
mod writing;
