//! Events as answers show them.

use serde::Serialize;
use serde_json::value::RawValue;
use trough_protocol::Micros;
use trough_store::outbox::EnteredEvent;
use trough_store::{Event, EventKind};
use utoipa::ToSchema;

use super::encode::time_text;
use super::openapi::schemas;

/// The frame that brought an event about.
#[derive(Serialize, ToSchema)]
#[schema(as = EventFrame)]
struct FrameJson {
    /// Its numbering.
    epoch: u64,
    /// Its number.
    seq: u64,
}

/// What happened.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct EventJson {
    /// Always the same for the same happening.
    #[schema(pattern = "^evt_[0-9a-f]{32}$")]
    id: String,
    /// What.
    #[schema(value_type = schemas::EventKind)]
    kind: EventKind,
    /// When, in microseconds since 1970: by the device's time if a frame brought it about.
    at: Micros,
    /// The same as text.
    #[schema(format = DateTime)]
    time: String,
    /// Which rule says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rule: Option<String>,
    /// Of which device.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    device: Option<String>,
    /// Of which group, if it is about no device.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    group: Option<String>,
    /// The frame that brought it about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    frame: Option<FrameJson>,
    /// What else there is to say: by kind.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

impl EventJson {
    /// All of it.
    pub(super) fn of(event: &Event) -> Self {
        Self {
            id: event.id.to_string(),
            kind: event.kind,
            at: event.at,
            time: time_text(event.at),
            rule: event.rule.as_ref().map(ToString::to_string),
            device: event.device.as_ref().map(ToString::to_string),
            group: event.group.as_ref().map(ToString::to_string),
            frame: event.frame.map(|frame| FrameJson { epoch: frame.epoch.0, seq: frame.seq.0 }),
            data: event.data.clone(),
        }
    }
}

/// What happened, and since when it is known.
#[derive(Serialize, ToSchema)]
#[schema(as = EnteredEvent)]
pub(super) struct EnteredJson {
    #[serde(flatten)]
    event: EventJson,
    /// When it was entered, by the server's clock: the list's order.
    #[schema(format = DateTime)]
    entered_at: String,
}

impl EnteredJson {
    /// All of it.
    pub(super) fn of(entered: &EnteredEvent) -> Self {
        Self { event: EventJson::of(&entered.event), entered_at: time_text(entered.entered_at) }
    }
}
