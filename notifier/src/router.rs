//! Routing: of each event a delivery for every subscription that wants it and may have it.

use std::sync::Arc;
use std::time::Duration;

use trough_protocol::{DeviceId, Micros};
use trough_store::outbox::{EnteredEvent, NewDelivery, OutboxError, PENDING_MAX};
use trough_store::subscription::{Quiet, Target};
use trough_store::{Event, EventId, Group, RegistryError, Subscription};

use crate::bell::Bell;
use crate::book::{Book, NotAllowed};
use crate::claims::Held;
use crate::context::Context;
use crate::deliverer::attempt::disable;

/// Events that are read at a time.
const PAGE: usize = 200;
/// Deliveries that are made, and events that are routed, in one change...
const CHANGE: usize = 1_000;
/// ...and so many at least, however often that was too much.
const CHANGE_MIN: usize = 10;
/// How often what is old is forgotten, and how much of it at a time.
const FORGET_EVERY: Duration = Duration::from_secs(60);
const FORGOTTEN_AT_ONCE: usize = 1_000;
/// The shard whose holder forgets.
const FORGETS: u16 = 0;
/// Events were not routed. Nothing is lost: it is tried again.
#[derive(Debug, thiserror::Error)]
enum RouteError {
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("it is not known who is subscribed: {0}")]
    Registry(#[from] RegistryError),
}

/// Routes what belongs to a shard, until it is lost or the process stops; and forgets what is old, beside it: nothing waits
/// for that.
pub async fn run(context: Arc<Context>, held: Held, bell: Bell) {
    let forgetting = async {
        if held.claim.shard.number == FORGETS {
            forget(&context, &held).await;
        }
    };
    tokio::join!(route_all(&context, &held, bell), forgetting);
}

/// How much is done in one change: what is too much for the outbox in the time that it has would be so each time.
#[derive(Debug)]
struct Portion(usize);

impl Portion {
    /// It was too much, or the outbox is away.
    fn failed(&mut self) {
        self.0 = (self.0 / 2).max(CHANGE_MIN);
    }

    /// A little more may be well.
    fn went_well(&mut self) {
        self.0 = (self.0 + self.0.div_ceil(8)).min(CHANGE);
    }
}

async fn route_all(context: &Context, held: &Held, mut bell: Bell) {
    let mut portion = Portion(CHANGE);
    while held.may_begin() {
        let more = tokio::select! {
            more = step(context, held, portion.0) => more,
            // What was routed half is routed again by whoever has the claim, and comes to the same.
            () = held.lost.cancelled() => return,
        };
        match &more {
            Ok(_) => portion.went_well(),
            Err(RouteError::Outbox(_)) => portion.failed(),
            Err(RouteError::Registry(_)) => {}
        }
        match more {
            Ok(true) => {}
            Ok(false) => tokio::select! {
                () = bell.rung() => {}
                () = tokio::time::sleep(context.config.look_every) => {}
                () = held.ends() => {}
            },
            Err(error) => {
                match error {
                    RouteError::Outbox(OutboxError::Fenced(_)) => return held.lost.cancel(),
                    RouteError::Outbox(error) => context.failed(&error),
                    RouteError::Registry(error) => tracing::warn!(%error, "events wait to be routed"),
                }
                tokio::select! {
                    () = tokio::time::sleep(context.config.look_every) => {}
                    () = held.ends() => {}
                }
            }
        }
    }
}

/// One page of events, in changes of so many deliveries or events: whether there may be more.
async fn step(context: &Context, held: &Held, portion: usize) -> Result<bool, RouteError> {
    let entered = context.outbox.unrouted(held.claim.shard, PAGE).await?;
    if entered.is_empty() {
        return Ok(false);
    }
    let book = context.books.current().await?;
    let now = context.clock.ask(&*context.outbox).await?;
    let (mut events, mut deliveries) = (Vec::new(), Vec::new());
    for EnteredEvent { event, entered_at } in &entered {
        let mut of_event = of_event(context, &book, event, *entered_at, now).await?;
        while events.len() >= portion || deliveries.len() + of_event.len() > portion {
            // As much as fits goes first. The event counts as routed with the last of its deliveries.
            let rest = of_event.split_off(portion.saturating_sub(deliveries.len()).min(of_event.len()));
            deliveries.append(&mut of_event);
            route(context, held, &book, std::mem::take(&mut events), std::mem::take(&mut deliveries)).await?;
            of_event = rest;
        }
        events.push(event.id);
        deliveries.append(&mut of_event);
    }
    route(context, held, &book, events, deliveries).await?;
    Ok(entered.len() == PAGE)
}

async fn route(
    context: &Context,
    held: &Held,
    book: &Book,
    events: Vec<EventId>,
    deliveries: Vec<NewDelivery>,
) -> Result<(), RouteError> {
    let (routed, made) = (events.len(), deliveries.len());
    let over = context.outbox.route(held.claim, events, deliveries).await?;
    context.metrics.events.inc_by(routed as u64);
    context.metrics.deliveries.inc_by(made as u64);
    for subscription in over.into_iter().filter_map(|id| book.subscription(id)) {
        let why = format!(
            "more than {PENDING_MAX} deliveries wait: look why they are not taken (trough deliveries list), then enable it"
        );
        disable(context, subscription, &why).await?;
    }
    Ok(())
}

async fn of_event(
    context: &Context,
    book: &Book,
    event: &Event,
    entered_at: Micros,
    now: Micros,
) -> Result<Vec<NewDelivery>, RouteError> {
    let mut made = Vec::new();
    let mut groups = None;
    for subscription in book.candidates(event) {
        let wanted = &subscription.wanted;
        // One that is from later than now was made by a clock that was set back since: it is told everything, rather than
        // nothing until then.
        let is_earlier = entered_at < subscription.created_at && subscription.created_at <= now;
        let told = subscription.disabled.is_none() && !is_earlier;
        if !told || !wanted.wants(event.kind, event.rule.as_ref()) {
            continue;
        }
        let groups = match &groups {
            Some(known) => known,
            None => groups.insert(book.groups_of(event).await?),
        };
        if !Book::in_scope(subscription, event, groups) {
            continue;
        }
        match book.check(subscription, event, groups) {
            Ok(()) => {}
            Err(NotAllowed::NotSeen) => continue,
            Err(why @ NotAllowed::OwnerRevoked) => {
                disable(context, subscription, &why.to_string()).await?;
                continue;
            }
        }
        made.extend(of_subscription(book, subscription, event, now));
    }
    Ok(made)
}

/// One for a webhook; one for each phone.
fn of_subscription(book: &Book, subscription: &Subscription, event: &Event, now: Micros) -> Vec<NewDelivery> {
    let wanted = &subscription.wanted;
    let (not_before, dropped) = match wanted.quiet.as_ref().and_then(|quiet| Some((quiet, quiet.ends(now)?)))
    {
        None => (0, None),
        Some((quiet, ends)) if quiet.then == Quiet::Hold => (ends, None),
        Some((quiet, _)) => (0, Some(format!("not sent: quiet hours from {} to {}", quiet.from, quiet.to))),
    };
    let key = (!wanted.coalesce.is_zero()).then(|| key(event));
    let delivery = |phone| NewDelivery {
        subscription: wanted.id,
        phone,
        event: event.clone(),
        not_before,
        key: key.clone(),
        every: wanted.coalesce,
        dropped: dropped.clone(),
    };
    match &wanted.target {
        Target::Webhook { .. } => vec![delivery(None)],
        Target::Push => book.phones(&wanted.owner).map(|phone| delivery(Some(phone.id))).collect(),
    }
}

/// What is told of together: the same, of the same device. No name has a space.
fn key(event: &Event) -> String {
    let rule = event.rule.as_ref().map_or("", |rule| rule.as_str());
    let about = event.device.as_ref().map(DeviceId::as_str);
    let about = about.or(event.group.as_ref().map(Group::as_str)).unwrap_or_default();
    format!("{} {rule} {about}", event.kind)
}

/// Until the claim ends.
async fn forget(context: &Context, held: &Held) {
    while held.may_begin() {
        let forgotten = tokio::select! {
            forgotten = context.outbox.forget(context.config.keep_finished, FORGOTTEN_AT_ONCE) => forgotten,
            // Whoever comes next forgets the rest.
            () = held.ends() => return,
        };
        match forgotten {
            Ok(forgotten) if forgotten >= FORGOTTEN_AT_ONCE => continue,
            Ok(_) => {}
            Err(error) => context.failed(&error),
        }
        tokio::select! {
            () = tokio::time::sleep(FORGET_EVERY) => {}
            () = held.ends() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_too_much_is_tried_in_smaller_portions_and_grows_again() {
        let mut portion = Portion(CHANGE);
        for expected in [500, 250, 125, 62, 31, 15, CHANGE_MIN, CHANGE_MIN] {
            portion.failed();
            assert_eq!(portion.0, expected);
        }
        portion.went_well();
        assert_eq!(portion.0, 12);
        (0..60).for_each(|_| portion.went_well());
        assert_eq!(portion.0, CHANGE);
    }
}
