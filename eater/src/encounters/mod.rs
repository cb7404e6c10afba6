//! Which devices were near one another: [`schema`] says where a frame has its position, [`sweep`] compares them.

pub mod schema;
pub mod sweep;

pub use schema::Positions;
pub use sweep::{Encounter, PAIRS_MAX, Position, Sweep, TooMuch};
