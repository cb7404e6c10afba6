//! Following what is committed, by this eater and by all others: what live tails are made of.
//!
//! One task of a process walks through all journals ([`hub`]), woken by the doorbell, as long as anybody follows; what it
//! finds is kept for a while in one list that every follower goes through at its own pace. Whoever begins earlier than
//! that list, or falls behind it, walks by itself until it has caught up. So a commit is looked up once, a follower that
//! waits costs nothing, and one that is slow holds nothing but its place.
//!
//! - [`vector`]: a place in all journals. [`commit`]: what became durable together.
//! - [`source`]: what is asked of a journal; [`local`] and [`objects`] answer. [`order`]: what several eaters commit at
//!   once, in an order in which every device's numbers rise; [`walk`] goes through it.

mod commit;
mod hub;
mod local;
mod objects;
mod order;
mod source;
#[cfg(test)]
pub(crate) mod tests;
mod vector;
mod walk;

pub use commit::{Commit, LiveRun};
pub use hub::{Follower, Live, Next};
pub use objects::ObjectsSource;
pub use source::{Done, Found, LiveError, Source, Walk};
pub use vector::{Place, Vector};
