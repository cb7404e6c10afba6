//! Events that were entered.

use trough_protocol::{DeviceId, Micros};

use crate::event::{Event, EventId, EventKind};

/// An event that was entered.
#[derive(Debug, Clone)]
pub struct EnteredEvent {
    /// The event.
    pub event: Event,
    /// When it was entered.
    pub entered_at: Micros,
}

/// Which events to list.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of these devices; of all and of none, if `None`.
    pub devices: Option<Vec<DeviceId>>,
    /// Of this kind.
    pub kind: Option<EventKind>,
    /// Only those entered before this one: the last of the page before. Newest first.
    pub before: Option<(Micros, EventId)>,
    /// At most so many, up to [`PAGE_MAX`](super::PAGE_MAX).
    pub limit: usize,
}
