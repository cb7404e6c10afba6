//! Deciding which devices are offline: at the time they were heard last and the time that a rule gives them, once; and
//! online when they are heard again.
//!
//! Feeders say how their sessions stand (`trough_store::presence`). One task of each process looks at that, and decides for
//! the shards that the process holds. Before it says that a device is offline it asks again. The decision, its number and
//! the event are entered together, under the claim's token, so that whoever decides next goes on from there. All times are
//! the database's. What nobody can know delays an alarm, and never makes one: as long as no feeder reports, nothing is
//! decided, and when one does again every device has the whole time to come back.

mod decider;
mod roster;
mod state;
#[cfg(test)]
mod tests;

pub use decider::{Decider, run};
