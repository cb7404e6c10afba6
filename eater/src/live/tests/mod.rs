//! Following, without HTTP: see `api/tests/live.rs` for the local journal, and `objects/tests/simulation.rs`, which uses
//! this, for many eaters that fail. [`objects`] is about what many eaters have committed, in whatever order it is found.

mod local;
mod objects;
pub(crate) mod watcher;
