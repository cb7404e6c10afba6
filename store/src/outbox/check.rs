//! What every outbox refuses before it asks its storage.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use trough_protocol::Micros;
use trough_protocol::limits::INT_MAX;
use trough_runtime::clock::micros;

use super::{
    Attempt, CLAIM_MAX, Claim, DELIVERIES_MAX, DEVICES_LISTED_MAX, DeliveryId, Duty, EventFilter,
    KEY_BYTES_MAX, NewDelivery, OutboxError, PHONE_PENDING_PART, PLACE_BYTES_MAX, RESUMED_FOR, SHARDS,
    STATE_BYTES_MAX, STEP_MAX, SUBSCRIPTIONS_LISTED_MAX, Shard, WatchStep,
};
use crate::event::{EVENT_DATA_BYTES_MAX, Event};
use crate::rule::AFTER_MAX;
use crate::subscription::SubscriptionId;

fn refuse<T>(why: String) -> Result<T, OutboxError> {
    Err(OutboxError::Invalid(why))
}

fn at_most(what: &str, count: usize, max: usize) -> Result<(), OutboxError> {
    if count <= max {
        return Ok(());
    }
    refuse(format!("{count} {what} are too many at once: {max} at the most, divide them"))
}

/// A part that there is not, or a life that is too short or too long.
pub(crate) fn claim(shard: Shard, ttl: Duration) -> Result<(), OutboxError> {
    part(shard)?;
    if (Duration::from_millis(1)..=CLAIM_MAX).contains(&ttl) {
        return Ok(());
    }
    refuse(format!("{shard} cannot be claimed for {ttl:?}: ask for 1 ms to {CLAIM_MAX:?}"))
}

/// A part that there is not.
pub(crate) fn part(shard: Shard) -> Result<(), OutboxError> {
    if shard.number < SHARDS {
        return Ok(());
    }
    refuse(format!("there is no {shard}: parts have the numbers 0 to {}", SHARDS - 1))
}

/// A claim on another duty.
pub(crate) fn duty(claim: Claim, duties: &[Duty]) -> Result<(), OutboxError> {
    if duties.contains(&claim.shard.duty) {
        return part(claim.shard);
    }
    let names: Vec<_> = duties.iter().map(|duty| duty.as_str()).collect();
    refuse(format!(
        "a claim on {} gives no right to this: claim a part of {}",
        claim.shard,
        names.join(" or ")
    ))
}

/// What is not of the part that was claimed.
pub(crate) fn belongs(claim: Claim, of: Shard, what: impl fmt::Display) -> Result<(), OutboxError> {
    if of == claim.shard {
        return Ok(());
    }
    refuse(format!("{what} belongs to {of}: a claim on {} gives no right to it", claim.shard))
}

/// Too many or too large events.
pub(crate) fn events(events: &[Event]) -> Result<(), OutboxError> {
    at_most("events", events.len(), STEP_MAX)?;
    events.iter().try_for_each(event)
}

fn event(event: &Event) -> Result<(), OutboxError> {
    let (data, id) = (event.data.get(), event.id);
    if data.len() > EVENT_DATA_BYTES_MAX {
        return refuse(format!(
            "event {id} has {} bytes of data: {EVENT_DATA_BYTES_MAX} at most",
            data.len()
        ));
    }
    if !data.starts_with('{') {
        return refuse(format!("the data of event {id} is no JSON object: {}", said(data)));
    }
    Ok(())
}

/// Too much watched in one step, or one thing twice.
pub(crate) fn step(step: &WatchStep) -> Result<(), OutboxError> {
    if step.place.len() > PLACE_BYTES_MAX {
        return refuse(format!("the place has {} bytes: {PLACE_BYTES_MAX} at most", step.place.len()));
    }
    at_most("states", step.states.len(), STEP_MAX)?;
    let mut seen = HashSet::new();
    for state in &step.states {
        let (device, rule) = (&state.device, &state.rule);
        if state.state.len() > STATE_BYTES_MAX {
            let bytes = state.state.len();
            return refuse(format!(
                "what rule {rule} knows of {device} has {bytes} bytes: {STATE_BYTES_MAX} at most"
            ));
        }
        if !seen.insert((device, rule)) {
            return refuse(format!("what rule {rule} knows of {device} is there twice: give it once"));
        }
    }
    events(&step.events)
}

/// Too much to be routed at once.
pub(crate) fn route(events: usize, deliveries: &[NewDelivery]) -> Result<(), OutboxError> {
    at_most("events", events, STEP_MAX)?;
    at_most("deliveries", deliveries.len(), DELIVERIES_MAX)?;
    deliveries.iter().try_for_each(delivery)
}

/// A delivery that cannot be stored.
pub(crate) fn delivery(delivery: &NewDelivery) -> Result<(), OutboxError> {
    event(&delivery.event)?;
    let id = delivery.id();
    if delivery.not_before > INT_MAX {
        return refuse(format!("delivery {id} not before {}: {INT_MAX} at most", delivery.not_before));
    }
    if delivery.every > AFTER_MAX {
        return refuse(format!("delivery {id} at most every {:?}: {AFTER_MAX:?} at most", delivery.every));
    }
    let bytes = delivery.key.as_ref().map_or(0, String::len);
    if bytes > KEY_BYTES_MAX {
        return refuse(format!("the key of delivery {id} has {bytes} bytes: {KEY_BYTES_MAX} at most"));
    }
    Ok(())
}

/// Too many tries at once.
pub(crate) fn attempts(attempts: &[Attempt]) -> Result<(), OutboxError> {
    at_most("tries", attempts.len(), STEP_MAX)
}

/// Too many subscriptions to be listed.
pub(crate) fn listed(subscriptions: Option<&[SubscriptionId]>) -> Result<(), OutboxError> {
    at_most("subscriptions", subscriptions.map_or(0, <[_]>::len), SUBSCRIPTIONS_LISTED_MAX)
}

/// Too many devices whose events are to be listed.
pub(crate) fn devices_listed(filter: &EventFilter) -> Result<(), OutboxError> {
    at_most("devices", filter.devices.as_ref().map_or(0, Vec::len), DEVICES_LISTED_MAX)
}

/// Whether a claim of somebody else that ends then is to be respected. One that ends much later than any claim does is of a
/// clock that was set back. A little later it may be: who looks at the clock first, and then at the claim, sees one that
/// somebody has made in between.
pub(crate) fn is_claimed(now: Micros, until: Micros) -> bool {
    until > now && until - now <= micros(2 * CLAIM_MAX)
}

/// This long ago.
pub(crate) fn before(now: Micros, older_than: Duration) -> Micros {
    now.saturating_sub(micros(older_than))
}

/// There is no such delivery.
pub(crate) fn no_delivery(id: DeliveryId) -> OutboxError {
    OutboxError::NotFound { what: "delivery", id: id.to_string() }
}

/// As many wait as may.
pub(crate) fn full(subscription: SubscriptionId, pending: u64, max: u64) -> OutboxError {
    OutboxError::Invalid(format!(
        "{pending} deliveries of subscription {subscription} wait, and {max} may: see why none of them is taken"
    ))
}

/// Whether a queue was resumed (0: never) so short ago that it may have more waiting than others.
pub(crate) fn is_resumed(resumed_at: Micros, now: Micros) -> bool {
    resumed_at > 0 && now.abs_diff(resumed_at) < micros(RESUMED_FOR)
}

/// Why nothing more is made for a subscription that was resumed.
pub(crate) fn queue_full(pending_max: u64) -> String {
    format!("not sent: more than {pending_max} deliveries of this subscription wait already")
}

/// As many wait for a phone as may, of so many for all of them.
pub(crate) fn phone_is_full(waiting: u64, pending_max: u64) -> bool {
    waiting >= pending_max / PHONE_PENDING_PART
}

/// Why nothing more is made for a phone.
pub(crate) fn phone_full(pending_max: u64) -> String {
    format!("not sent: {} deliveries wait for this phone already", pending_max / PHONE_PENDING_PART)
}

/// What is kept of what somebody said.
pub(crate) fn said(text: &str) -> &str {
    crate::checks::cut(text, super::SAID_BYTES_MAX)
}
