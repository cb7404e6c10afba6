//! What a rule finds, as an event.

use serde::Serialize;
use serde_json::value::RawValue;
use trough_protocol::{DeviceId, Micros};
use trough_runtime::trace::TraceContext;
use trough_store::event::FrameNumber;
use trough_store::{Event, EventId, EventKind, RuleName};

/// What a rule has found in a frame, or in the want of one.
#[derive(Debug)]
pub(super) struct Happening {
    pub kind: EventKind,
    /// When.
    pub at: Micros,
    /// The frame that brought it about.
    pub frame: FrameNumber,
    /// What else there is to say.
    pub data: Box<RawValue>,
}

impl Happening {
    pub fn new(kind: EventKind, at: Micros, frame: FrameNumber, data: &impl Serialize) -> Self {
        let data = serde_json::value::to_raw_value(data);
        // Strings and numbers can be written; a number that is none is `null`.
        let data = data.unwrap_or_else(|_| RawValue::NULL.to_owned());
        Self { kind, at, frame, data }
    }

    /// As an event, with an id that follows from the rule, the device, the frame and the kind.
    pub fn into_event(
        self,
        (rule, version): (&RuleName, u64),
        device: &DeviceId,
        trace: Option<TraceContext>,
    ) -> Event {
        let Self { kind, at, frame, data } = self;
        let id = EventId::of(&[
            rule.as_str().as_bytes(),
            &version.to_be_bytes(),
            device.as_str().as_bytes(),
            &frame.to_bytes(),
            kind.as_str().as_bytes(),
        ]);
        let (rule, device) = (Some(rule.clone()), Some(device.clone()));
        Event { id, kind, at, rule, device, group: None, frame: Some(frame), trace, data }
    }
}
