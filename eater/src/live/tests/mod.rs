//! Following, without HTTP: see `api/tests/live.rs` for the local journal, and `objects/tests/simulation.rs`, which uses
//! this, for many eaters that fail.

mod local;
pub(crate) mod watcher;
