//! The device against feeders that do what a test says.

mod feeder;
mod network;
mod refusals;
mod sessions;
