//! The parts of `trough demo`: replaying the buses, reading them back, and what is told about it.

pub mod figures;
pub mod live;
pub mod read_back;
pub mod replay;
