//! The parts of `trough send`: reading lines, and remembering which numbers may have been sent.

pub mod lines;
pub mod run;
pub mod state;
