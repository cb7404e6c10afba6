//! The binary as its users run it: arguments in, output and exit code out, servers that are killed.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod demo;
mod fsck;
mod harness;
mod help;
mod journal;
mod phones;
mod registry;
mod send;
mod up;
