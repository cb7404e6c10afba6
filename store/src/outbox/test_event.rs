//! The event of a test, and its deliveries.

use std::time::Duration;

use serde_json::value::RawValue;
use trough_protocol::Micros;
use trough_runtime::random::random_bytes;

use super::NewDelivery;
use crate::event::{Event, EventId, EventKind};
use crate::subscription::{PushToken, Subscription, Target};

/// A test of a subscription, which somebody has asked for at this time: an event that nobody else is told of, to its
/// webhook, or to each of these phones.
pub fn tests_of(subscription: &Subscription, phones: &[PushToken], at: Micros) -> Vec<NewDelivery> {
    let event = Event {
        id: EventId(random_bytes()),
        kind: EventKind::Test,
        at,
        rule: None,
        device: None,
        group: None,
        frame: None,
        trace: None,
        data: RawValue::from_string("{}".to_owned()).expect("an object without members is JSON"),
    };
    let delivery = |phone| NewDelivery {
        subscription: subscription.wanted.id,
        phone,
        event: event.clone(),
        not_before: 0,
        key: None,
        every: Duration::ZERO,
        dropped: None,
    };
    match subscription.wanted.target {
        Target::Webhook { .. } => vec![delivery(None)],
        Target::Push => phones.iter().map(|phone| delivery(Some(phone.id))).collect(),
    }
}
