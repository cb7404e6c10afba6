//! Parts of duties, and the right to do one.

use std::fmt;

use trough_protocol::DeviceId;

use super::SHARDS;
use crate::event::Event;
use crate::names::Group;
use crate::subscription::SubscriptionId;

/// What is done by one process at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Duty {
    /// Looking at frames; cut by device.
    Watch,
    /// Deciding which devices are offline; cut by device.
    Presence,
    /// Making deliveries of events; cut by what the event is about.
    Route,
    /// Delivering; cut by subscription.
    Deliver,
}

impl Duty {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Presence => "presence",
            Self::Route => "route",
            Self::Deliver => "deliver",
        }
    }
}

/// A part of a duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// Of which duty.
    pub duty: Duty,
    /// Which part, below [`SHARDS`].
    pub number: u16,
}

impl Shard {
    /// The part of a duty that something with this name belongs to.
    pub fn of(duty: Duty, name: &str) -> Self {
        // The 32-bit FNV-1a hash: its values are stored by implication, so it is written down here.
        let hash = name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self { duty, number: (hash % u32::from(SHARDS)) as u16 }
    }

    /// The part of [`Duty::Route`] that an event belongs to.
    pub fn of_event(event: &Event) -> Self {
        let device = event.device.as_ref().map(DeviceId::as_str);
        let about = device.or_else(|| event.group.as_ref().map(Group::as_str));
        Self::of(Duty::Route, about.unwrap_or_else(|| event.kind.as_str()))
    }

    /// The part of [`Duty::Deliver`] that a subscription belongs to.
    pub fn of_subscription(subscription: SubscriptionId) -> Self {
        Self::of(Duty::Deliver, &subscription.to_string())
    }

    /// All parts of a duty.
    pub fn all(duty: Duty) -> impl Iterator<Item = Self> {
        (0..SHARDS).map(move |number| Self { duty, number })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.duty.as_str(), self.number)
    }
}

/// The right to do a part of a duty, until it ends or somebody else takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Which part.
    pub shard: Shard,
    /// Rises whenever the claim changes hands.
    pub token: u64,
}
