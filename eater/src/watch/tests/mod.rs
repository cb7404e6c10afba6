//! Rules without a journal: tables for each kind of condition, and that it does not matter where looking is broken off.
//! The whole of it, over real processes, is in `tests/system/watch.rs`.

mod cuts;
mod script;
mod tables;
