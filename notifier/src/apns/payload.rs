//! What a push carries.

use serde::Serialize;
use serde_json::Value;
use trough_protocol::Micros;
use trough_store::outbox::Delivery;
use trough_store::{Event, EventId, EventKind};

/// Largest payload that Apple takes, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 4096;
/// Ends a text that was cut.
const MARKER: &str = "…";

/// How a push reaches the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Shown at once.
    Alert,
    /// Given to the app, when the phone finds it convenient.
    Background,
}

impl Way {
    /// What an event is worth: that something is over, or housekeeping, wakes nobody up.
    pub fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::RuleMatched
            | EventKind::GeofenceEntered
            | EventKind::GeofenceLeft
            | EventKind::ChannelSilent
            | EventKind::DeviceOffline
            | EventKind::DeviceOnline
            | EventKind::DeviceFirstFrame
            | EventKind::Test => Self::Alert,
            EventKind::RuleCleared
            | EventKind::ChannelResumed
            | EventKind::GapOpened
            | EventKind::GapClosed
            | EventKind::RetentionRun => Self::Background,
        }
    }

    /// The header `apns-push-type`.
    pub fn push_type(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Background => "background",
        }
    }

    /// The header `apns-priority`.
    pub fn priority(self) -> &'static str {
        match self {
            Self::Alert => "10",
            Self::Background => "5",
        }
    }
}

#[derive(Serialize)]
struct Payload<'a> {
    aps: Aps<'a>,
    trough: About<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Aps<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<Alert<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_available: Option<u8>,
}

#[derive(Serialize)]
struct Alert<'a> {
    title: &'a str,
    body: &'a str,
}

/// For the app: enough to ask the API for the rest.
#[derive(Serialize)]
struct About<'a> {
    event: EventId,
    #[serde(rename = "type")]
    kind: EventKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    at: Micros,
    events: u32,
}

/// The payload: at most [`PAYLOAD_BYTES_MAX`] bytes of JSON.
pub fn payload(delivery: &Delivery) -> String {
    let title = title(&delivery.event);
    let body = text(delivery);
    let whole = with_body(delivery, &title, &body);
    if whole.len() <= PAYLOAD_BYTES_MAX {
        return whole;
    }
    let room = PAYLOAD_BYTES_MAX - with_body(delivery, &title, "").len();
    with_body(delivery, &title, &trimmed(&body, room))
}

fn with_body(delivery: &Delivery, title: &str, body: &str) -> String {
    let event = &delivery.event;
    let device = event.device.as_ref().map(|device| device.as_str());
    let alert = Way::of(event.kind) == Way::Alert;
    let payload = Payload {
        aps: Aps {
            alert: alert.then_some(Alert { title, body }),
            sound: alert.then_some("default"),
            thread_id: device.filter(|_| alert),
            content_available: (!alert).then_some(1),
        },
        trough: About {
            event: event.id,
            kind: event.kind,
            device,
            rule: event.rule.as_ref().map(|rule| rule.as_str()),
            at: event.at,
            events: delivery.events,
        },
    };
    #[expect(clippy::expect_used, reason = "there is nothing in it that could fail")]
    serde_json::to_string(&payload).expect("names and numbers")
}

/// As much of a text as fits into so many bytes of a JSON string, with a marker. It ends between characters, and so
/// never inside an escape.
fn trimmed(text: &str, room: usize) -> String {
    let mut left = room.saturating_sub(MARKER.len());
    let fits = |c: &char| {
        let bytes = escaped_len(*c);
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    kept.push_str(MARKER);
    kept
}

/// How many bytes a character takes in a JSON string, as serde writes it.
fn escaped_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

fn title(event: &Event) -> String {
    let what = match event.kind {
        EventKind::RuleMatched => "matched",
        EventKind::RuleCleared => "cleared",
        EventKind::GeofenceEntered => "entered",
        EventKind::GeofenceLeft => "left",
        EventKind::ChannelSilent => "silent",
        EventKind::ChannelResumed => "resumed",
        EventKind::DeviceOffline => "offline",
        EventKind::DeviceOnline => "online",
        EventKind::DeviceFirstFrame => "first frame",
        EventKind::GapOpened => "gap opened",
        EventKind::GapClosed => "gap closed",
        EventKind::RetentionRun => "retention run",
        EventKind::Test => "Test",
    };
    match (&event.device, &event.rule) {
        (Some(device), Some(rule)) => format!("{device}: {rule} {what}"),
        (Some(device), None) => format!("{device}: {what}"),
        (None, Some(rule)) => format!("{rule} {what}"),
        (None, None) => what.to_owned(),
    }
}

/// What else there is to say: `value 31.5, unit "m/s"`.
fn text(delivery: &Delivery) -> String {
    let data: Value = serde_json::from_str(delivery.event.data.get()).unwrap_or_default();
    let said = data.as_object().into_iter().flatten().map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    let mut parts: Vec<_> = said.collect();
    if delivery.events > 1 {
        parts.insert(0, format!("{} times", delivery.events));
    }
    if parts.is_empty() { delivery.event.kind.to_string() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{delivery, raw};

    #[test]
    fn an_alert_says_who_and_what() {
        let mut delivery = delivery("bus-1");
        let event = delivery.event.id;
        assert_eq!(
            payload(&delivery),
            format!(
                r#"{{"aps":{{"alert":{{"title":"bus-1: fast matched","body":"value 31.5"}},"sound":"default","thread-id":"bus-1"}},"trough":{{"event":"{event}","type":"rule.matched","device":"bus-1","rule":"fast","at":1782907200000001,"events":1}}}}"#
            )
        );
        delivery.events = 3;
        assert!(payload(&delivery).contains("\"3 times, value 31.5\""));
    }

    #[test]
    fn what_is_over_wakes_nobody_up() {
        let mut delivery = delivery("bus-1");
        delivery.event.kind = EventKind::RuleCleared;
        let payload = payload(&delivery);
        assert!(payload.starts_with(r#"{"aps":{"content-available":1},"#), "{payload}");
    }

    #[test]
    fn a_long_text_is_trimmed_between_characters() {
        let mut delivery = delivery("bus-1");
        for unit in ["x", "ü", "漢", "🚌", "\"", "\\", "\u{1}", "a\"ü🚌\u{1}\n", "\u{7f}\u{2028}"] {
            for pad in 0..8 {
                let long = format!("{}{}", "p".repeat(pad), unit.repeat(4096));
                delivery.event.data = raw(&serde_json::json!({ "note": long }).to_string());
                let payload = payload(&delivery);
                assert!(payload.len() <= PAYLOAD_BYTES_MAX, "{unit:?}: {}", payload.len());
                // No more is cut than one character at its longest needs.
                assert!(payload.len() > PAYLOAD_BYTES_MAX - 8, "{unit:?}: {}", payload.len());
                let read: Value = serde_json::from_str(&payload).unwrap();
                let body = read["aps"]["alert"]["body"].as_str().unwrap();
                let kept = body.strip_suffix(MARKER).unwrap();
                assert!(format!("note {long}").starts_with(kept), "{unit:?}");
            }
        }
    }
}
