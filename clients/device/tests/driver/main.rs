//! The device against feeders that do what a test says.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod chaos;
mod commands;
mod feeder;
mod network;
mod refusals;
mod sessions;
