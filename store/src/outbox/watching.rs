//! What watching has come to.

use trough_protocol::DeviceId;

use crate::event::Event;
use crate::names::RuleName;

/// What a rule knows of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchState {
    /// Whose.
    pub device: DeviceId,
    /// By which rule.
    pub rule: RuleName,
    /// And which version of it.
    pub version: u64,
    /// What it knows, as whoever watches writes it; empty: nothing, forget it.
    pub state: Vec<u8>,
}

/// What watching has come to.
#[derive(Debug, Clone, Default)]
pub struct WatchStep {
    /// Up to where in the journals was looked, as whoever watches writes it.
    pub place: Vec<u8>,
    /// States that have changed; each device and rule once.
    pub states: Vec<WatchState>,
    /// What happened, in order.
    pub events: Vec<Event>,
}
