//! The cases of an outbox.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use trough_protocol::limits::INT_MAX;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_runtime::clock::micros;

use super::Fixture;
use crate::event::{EVENT_DATA_BYTES_MAX, Event, EventId, EventKind, FrameNumber};
use crate::names::{Group, RuleName};
use crate::outbox::{
    Attempt, CLAIM_MAX, Claim, DELIVERIES_MAX, DEVICES_LISTED_MAX, Delivery, DeliveryFilter, DeliveryId,
    DeliveryState, Duty, EnteredEvent, EventFilter, KEY_BYTES_MAX, NewDelivery, Outbox, OutboxError, Outcome,
    PAGE_MAX, PENDING_MAX, PHONE_PENDING_PART, PLACE_BYTES_MAX, RESUMED_FOR, SAID_BYTES_MAX, SHARDS,
    STATE_BYTES_MAX, STEP_MAX, Shard, WatchState, WatchStep,
};
use crate::rule::AFTER_MAX;
use crate::subscription::{PushTokenId, SubscriptionId};

mod claims;
mod coalescing;
mod delivering;
mod pages;
mod routing;
mod watching;

pub use claims::*;
pub use coalescing::*;
pub use delivering::*;
pub use pages::*;
pub use routing::*;
pub use watching::*;

type On = Fixture<dyn Outbox>;

/// What a fixture keeps whose outboxes let fewer deliveries of a subscription wait than
/// [`PENDING_MAX`]: where that many take minutes.
#[derive(Debug, Clone, Copy)]
pub struct PendingMax(pub u64);

const TTL: Duration = CLAIM_MAX;
const ME: [u8; 16] = [1; 16];
const OTHER: [u8; 16] = [2; 16];

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn rule(name: &str) -> RuleName {
    RuleName::new(name).unwrap()
}

/// An event of a device.
fn event(device_name: &str, number: u64) -> Event {
    Event {
        id: EventId::of(&[device_name.as_bytes(), &number.to_be_bytes()]),
        kind: EventKind::RuleMatched,
        at: 5_000 + number,
        rule: Some(rule("fast")),
        device: Some(device(device_name)),
        group: None,
        frame: Some(FrameNumber { epoch: Epoch(1), seq: Seq(number) }),
        trace: None,
        data: RawValue::from_string(format!("{{\"number\":{number}}}")).unwrap(),
    }
}

fn ids<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<EventId> {
    events.into_iter().map(|event| event.id).collect()
}

fn entered(events: &[EnteredEvent]) -> Vec<EventId> {
    ids(events.iter().map(|entered| &entered.event))
}

fn subscription(number: u8) -> SubscriptionId {
    SubscriptionId::of(&[&[number]])
}

fn delivery(number: u8, event: &Event) -> NewDelivery {
    NewDelivery {
        subscription: subscription(number),
        phone: None,
        event: event.clone(),
        not_before: 0,
        key: None,
        every: Duration::ZERO,
        dropped: None,
    }
}

async fn claimed(outbox: &dyn Outbox, shard: Shard) -> Claim {
    outbox.claim(shard, ME, TTL).await.unwrap().expect("nobody else has claimed it")
}

/// The right to route events of these devices, which must belong to one part.
async fn router(outbox: &dyn Outbox) -> Claim {
    claimed(outbox, Shard::of_event(&event("bus-1", 1))).await
}

async fn deliverer(outbox: &dyn Outbox, number: u8) -> Claim {
    claimed(outbox, Shard::of_subscription(subscription(number))).await
}

/// Enters events of `bus-1` and routes them to a subscription: the deliveries' ids.
async fn routed(outbox: &dyn Outbox, number: u8, events: &[Event]) -> Vec<DeliveryId> {
    outbox.enter(events.to_vec()).await.unwrap();
    let deliveries: Vec<_> = events.iter().map(|event| delivery(number, event)).collect();
    let made = deliveries.iter().map(NewDelivery::id).collect();
    assert_eq!(outbox.route(router(outbox).await, ids(events), deliveries).await, Ok(vec![]));
    made
}

/// The first try of a delivery.
fn attempt(delivery: DeliveryId, outcome: Outcome, said: &str) -> Attempt {
    Attempt { delivery, before: 0, outcome, said: said.into() }
}

/// One after so many.
fn attempt_after(before: u32, delivery: DeliveryId, outcome: Outcome, said: &str) -> Attempt {
    Attempt { before, ..attempt(delivery, outcome, said) }
}

async fn pending(outbox: &dyn Outbox, number: u8) -> Vec<Delivery> {
    outbox.pending(subscription(number), vec![], PAGE_MAX).await.unwrap()
}

async fn pending_ids(outbox: &dyn Outbox, number: u8) -> Vec<DeliveryId> {
    pending(outbox, number).await.iter().map(|delivery| delivery.id).collect()
}

async fn queue(outbox: &dyn Outbox, number: u8) -> Option<u64> {
    let queues = outbox.queues(Shard::of_subscription(subscription(number))).await.unwrap();
    queues.iter().find(|queue| queue.subscription == subscription(number)).map(|queue| queue.pending)
}

/// Has time pass: at once where the clock is ours, else it is waited for.
async fn pass(on: &On, outbox: &dyn Outbox, time: Duration) {
    let until = outbox.now().await.unwrap() + micros(time);
    let deadline = Instant::now() + Duration::from_secs(60);
    on.clock.advance(time);
    while outbox.now().await.unwrap() < until {
        assert!(Instant::now() < deadline, "the outbox's clock stands still");
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, OutboxError>) -> String {
    match result {
        Err(OutboxError::Invalid(why)) => why,
        other => panic!("{other:?} is not refused as invalid"),
    }
}
