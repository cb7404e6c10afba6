//! The data the demo replays, compiled into the binary.

pub mod buses;

pub use buses::{Bus, Position, load_buses};
