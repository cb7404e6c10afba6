//! What a webhook's request carries.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use trough_protocol::Micros;
use trough_store::event::FrameNumber;
use trough_store::outbox::Delivery;
use trough_store::{EventId, EventKind, SubscriptionId};

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: EventKind,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    event: EventId,
    subscription: SubscriptionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<FrameNumber>,
    at: Micros,
    events: u32,
    data: &'a RawValue,
}

/// The body, which is the same at every try.
pub(super) fn body(delivery: &Delivery) -> String {
    let event = &delivery.event;
    let data = Data {
        event: event.id,
        subscription: delivery.subscription,
        device: event.device.as_ref().map(|device| device.as_str()),
        group: event.group.as_ref().map(|group| group.as_str()),
        rule: event.rule.as_ref().map(|rule| rule.as_str()),
        frame: event.frame,
        at: event.at,
        events: delivery.events,
        data: &event.data,
    };
    let body = Body { kind: event.kind, timestamp: rfc3339(event.at), data };
    #[expect(clippy::expect_used, reason = "there is nothing in it that could fail")]
    serde_json::to_string(&body).expect("names, numbers and JSON")
}

fn rfc3339(at: Micros) -> String {
    // Times of devices end in 2255, so none is out of range.
    let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_microsecond(at).ok());
    format!("{:.6}", at.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::delivery;

    #[test]
    fn it_is_what_the_documents_say() {
        let mut delivery = delivery("bus-1");
        delivery.events = 3;
        let (event, subscription) = (delivery.event.id, delivery.subscription);
        let expected = format!(
            r#"{{"type":"rule.matched","timestamp":"2026-07-01T12:00:00.000001Z","data":{{"event":"{event}","subscription":"{subscription}","device":"bus-1","rule":"fast","frame":{{"epoch":1,"seq":7}},"at":1782907200000001,"events":3,"data":{{"value":31.5}}}}}}"#
        );
        assert_eq!(body(&delivery), expected);
    }
}
