//! What unit tests share.

use p256::ecdsa::SigningKey;
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use serde_json::value::RawValue;
use trough_protocol::{Epoch, Seq};
use trough_store::event::FrameNumber;
use trough_store::outbox::{Delivery, DeliveryId, DeliveryState};
use trough_store::{Event, EventId, EventKind, SubscriptionId};

/// A key in the form in which Apple gives them out.
pub fn push_key() -> String {
    let key = SigningKey::from_bytes(&[7; 32].into()).unwrap();
    key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
}

/// JSON as it is.
pub fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

/// A delivery of a rule's event.
pub fn delivery(device: &str) -> Delivery {
    let event = Event {
        id: EventId::of(&[device.as_bytes()]),
        kind: EventKind::RuleMatched,
        at: 1_782_907_200_000_001,
        rule: Some("fast".parse().unwrap()),
        device: Some(device.parse().unwrap()),
        group: None,
        frame: Some(FrameNumber { epoch: Epoch(1), seq: Seq(7) }),
        trace: None,
        data: raw(r#"{"value":31.5}"#),
    };
    Delivery {
        id: DeliveryId::of(&[device.as_bytes()]),
        subscription: SubscriptionId::of(&[b"one"]),
        phone: None,
        position: 1,
        event,
        events: 1,
        state: DeliveryState::Pending,
        attempts: 0,
        attempts_before_replay: 0,
        next_at: 0,
        last: None,
        created_at: 1_782_907_200_500_000,
        finished_at: None,
    }
}
