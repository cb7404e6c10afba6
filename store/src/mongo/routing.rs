//! Making deliveries, in transactions: what there is is read at once, and what comes of it written at once.

use std::collections::{HashMap, HashSet};

use mongodb::bson::{Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Collection, Database, IndexModel};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::deliveries::{DeliveryDocument, Named, deliveries, merged, number, parsed};
use super::failure::Failure;
use super::json::to_json;
use super::queues::{self, QueueDocument};
use super::segment_rows::all;
use super::transaction::refuse;
use super::{integer, outbox};
use crate::outbox::slot::{Slot, is_open};
use crate::outbox::{DeliveryId, DeliveryState, NewDelivery, OutboxError, check};
use crate::subscription::{PushTokenId, SubscriptionId};

/// What is told of together: when the next delivery may go, and the last one that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeyDocument {
    /// Subscription, phone and key.
    #[serde(rename = "_id")]
    id: String,
    free_at: Micros,
    delivery: String,
}

/// What a held delivery that is stored takes up.
#[derive(Debug)]
struct Joined {
    event: String,
    events: u32,
    next_at: Micros,
}

/// What is known, and what comes of it.
struct Routing {
    now: Micros,
    pending_max: u64,
    made: HashSet<String>,
    queues: HashMap<SubscriptionId, QueueDocument>,
    /// How many of a subscription wait for a phone.
    phones: HashMap<(SubscriptionId, PushTokenId), u64>,
    keys: HashMap<String, KeyDocument>,
    /// When deliveries go that are stored and were never tried.
    held: HashMap<String, Micros>,
    new: Vec<DeliveryDocument>,
    /// Where in `new` a delivery that waits is.
    at: HashMap<String, usize>,
    joined: HashMap<String, Joined>,
    merged: Vec<Document>,
    keys_changed: HashSet<String>,
}

fn key_id(new: &NewDelivery, key: &str) -> String {
    let phone = new.phone.map(|phone| phone.to_string()).unwrap_or_default();
    format!("{} {phone} {key}", new.subscription)
}

pub(super) fn key_indexes() -> Vec<IndexModel> {
    vec![IndexModel::builder().keys(doc! { "free_at": 1 }).build()]
}

pub(super) fn merged_indexes() -> Vec<IndexModel> {
    vec![IndexModel::builder().keys(doc! { "delivery": 1 }).build()]
}

fn keys(database: &Database) -> Collection<KeyDocument> {
    outbox::keys(database)
}

/// Makes those that were not made; the subscriptions of which too many wait.
pub(super) async fn make(
    database: &Database,
    session: &mut ClientSession,
    wanted: &[NewDelivery],
    now: Micros,
    pending_max: u64,
) -> Result<Vec<SubscriptionId>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut routing = Routing::read(database, &mut *session, wanted, now, pending_max).await?;
    for new in wanted {
        routing.take(new).map_err(|failure| refuse(OutboxError::from(failure)))?;
    }
    let full = routing.queues.iter().filter(|(_, queue)| queue.is_over(pending_max, now));
    let mut full: Vec<_> = full.map(|(id, _)| *id).collect();
    full.sort_unstable();
    routing.write(database, session).await?;
    Ok(full)
}

/// Makes one without a key, now.
pub(super) async fn make_test(
    database: &Database,
    session: &mut ClientSession,
    new: &NewDelivery,
    now: Micros,
    pending_max: u64,
) -> Result<DeliveryId> {
    let mut routing =
        Routing::read(database, &mut *session, std::slice::from_ref(new), now, pending_max).await?;
    if routing.made.contains(&new.id().to_string()) {
        return Ok(new.id());
    }
    if let Some(queue) = routing.queues.get(&new.subscription).filter(|queue| queue.is_full(pending_max)) {
        return Err(refuse(check::full(new.subscription, queue.pending, pending_max)));
    }
    routing.insert(new, now).map_err(|failure| refuse(OutboxError::from(failure)))?;
    routing.write(database, session).await?;
    Ok(new.id())
}

/// How many of a subscription wait for a phone.
#[derive(Debug, Deserialize)]
struct Waiting {
    #[serde(rename = "_id")]
    of: WaitingOf,
    count: u64,
}

#[derive(Debug, Deserialize)]
struct WaitingOf {
    subscription: String,
    phone: String,
}

/// How many wait for each phone that is among these, in a transaction.
async fn waiting_of_phones(
    database: &Database,
    session: &mut ClientSession,
    wanted: &[NewDelivery],
) -> Result<HashMap<(SubscriptionId, PushTokenId), u64>> {
    let pushes: HashSet<_> = wanted.iter().filter_map(|new| Some((new.subscription, new.phone?))).collect();
    if pushes.is_empty() {
        return Ok(HashMap::new());
    }
    let subscriptions: HashSet<_> = pushes.iter().map(|(subscription, _)| subscription.to_string()).collect();
    let phones: HashSet<_> = pushes.iter().map(|(_, phone)| phone.to_string()).collect();
    let those = doc! {
        "subscription": { "$in": Vec::from_iter(subscriptions) },
        "phone": { "$in": Vec::from_iter(phones) },
        "state": 0,
    };
    let of = doc! { "subscription": "$subscription", "phone": "$phone" };
    let steps = [doc! { "$match": those }, doc! { "$group": { "_id": of, "count": { "$sum": 1_i64 } } }];
    let all = deliveries::<Document>(database);
    let mut found = all.aggregate(steps).session(&mut *session).with_type::<Waiting>().await?;
    let mut waiting = HashMap::new();
    while found.advance(&mut *session).await? {
        let Waiting { of, count } = found.deserialize_current()?;
        let refused = |failure: Failure| refuse(OutboxError::from(failure));
        let (subscription, phone) =
            (parsed(&of.subscription).map_err(refused)?, parsed(&of.phone).map_err(refused)?);
        waiting.insert((subscription, phone), count);
    }
    Ok(waiting)
}

impl Routing {
    async fn read(
        database: &Database,
        session: &mut ClientSession,
        wanted: &[NewDelivery],
        now: Micros,
        pending_max: u64,
    ) -> Result<Self> {
        let queues = queues::of(database, &mut *session, wanted.iter().map(|new| new.subscription)).await?;
        let ids: Vec<_> = wanted.iter().map(|new| new.id().to_string()).collect();
        let those = doc! { "_id": { "$in": ids } };
        let made: Vec<Named> = all(&deliveries(database), those.clone(), &mut *session).await?;
        let taken: Vec<Named> = all(&merged(database), those, &mut *session).await?;
        let made = made.into_iter().chain(taken).map(|named| named.id).collect();
        let phones = waiting_of_phones(database, &mut *session, wanted).await?;
        let ids = wanted.iter().filter_map(|new| new.key.as_deref().map(|key| key_id(new, key)));
        let ids: Vec<_> = ids.collect();
        let (mut known, mut held) = (Vec::new(), Vec::new());
        if !ids.is_empty() {
            known = all(&keys(database), doc! { "_id": { "$in": ids } }, &mut *session).await?;
            let last: Vec<_> = known.iter().map(|key| &key.delivery).collect();
            let untried = doc! { "_id": { "$in": last }, "state": 0, "attempts": 0 };
            held = all::<DeliveryDocument>(&deliveries(database), untried, session).await?;
        }
        Ok(Self {
            now,
            pending_max,
            made,
            queues,
            phones,
            keys: known.into_iter().map(|key| (key.id.clone(), key)).collect(),
            held: held.into_iter().map(|delivery| (delivery.id, delivery.next_at)).collect(),
            new: Vec::new(),
            at: HashMap::new(),
            joined: HashMap::new(),
            merged: Vec::new(),
            keys_changed: HashSet::new(),
        })
    }

    /// One delivery, after those before it.
    fn take(&mut self, new: &NewDelivery) -> std::result::Result<(), Failure> {
        if !self.made.insert(new.id().to_string()) {
            return Ok(());
        }
        match &new.key {
            _ if new.dropped.is_some() => self.insert(new, self.now),
            None => self.insert(new, self.now.max(new.not_before)),
            Some(key) => self.take_keyed(new, key_id(new, key)),
        }
    }

    /// Has a delivery that is held take the event, or makes one that waits until others of its key are long enough ago.
    fn take_keyed(&mut self, new: &NewDelivery, id: String) -> std::result::Result<(), Failure> {
        let known = self.keys.get(&id);
        if let Some(held) = known.map(|key| key.delivery.clone())
            && let Some(next_at) = self.next_at(&held)
            && is_open(self.now, next_at, new.every)
        {
            return self.join(new, held, next_at.max(new.not_before));
        }
        let slot = Slot::of(self.now, known.map(|key| key.free_at), new.not_before, new.every);
        if self.queues.get(&new.subscription).is_some_and(|queue| queue.is_full(self.pending_max)) {
            return self.insert(new, self.now);
        }
        self.insert(new, slot.at)?;
        let delivery = new.id().to_string();
        self.keys.insert(id.clone(), KeyDocument { id: id.clone(), free_at: slot.free_at, delivery });
        self.keys_changed.insert(id);
        Ok(())
    }

    /// When a delivery goes that waits and was never tried.
    fn next_at(&self, id: &str) -> Option<Micros> {
        let new = self.at.get(id).map(|at| self.new[*at].next_at);
        new.or_else(|| self.held.get(id).copied())
    }

    fn join(&mut self, new: &NewDelivery, held: String, next_at: Micros) -> std::result::Result<(), Failure> {
        let event = to_json(&new.event)?;
        self.merged.push(doc! { "_id": new.id().to_string(), "delivery": &held });
        if let Some(at) = self.at.get(&held) {
            let delivery = &mut self.new[*at];
            delivery.event = event;
            delivery.events += 1;
            delivery.next_at = next_at;
            return Ok(());
        }
        self.held.insert(held.clone(), next_at);
        let events = self.joined.get(&held).map_or(0, |joined| joined.events) + 1;
        self.joined.insert(held, Joined { event, events, next_at });
        Ok(())
    }

    /// Enters a delivery at the end of its queue, unless that is full. What is dropped needs no room, and what is made for one
    /// that is not to be disabled for being full is dropped.
    fn insert(&mut self, new: &NewDelivery, next_at: Micros) -> std::result::Result<(), Failure> {
        let no_queue = || Failure::Corrupt(format!("subscription {} has no queue", new.subscription));
        let queue = self.queues.get_mut(&new.subscription).ok_or_else(no_queue)?;
        let mut dropped = new.dropped.clone();
        if dropped.is_none() && queue.is_full(self.pending_max) {
            if queue.is_over(self.pending_max, self.now) {
                return Ok(());
            }
            dropped = Some(check::queue_full(self.pending_max));
        }
        if let (None, Some(phone)) = (&dropped, new.phone) {
            let waiting = self.phones.entry((new.subscription, phone)).or_default();
            match check::phone_is_full(*waiting, self.pending_max) {
                true => dropped = Some(check::phone_full(self.pending_max)),
                false => *waiting += 1,
            }
        }
        let id = new.id().to_string();
        let state = if dropped.is_some() { DeliveryState::Dropped } else { DeliveryState::Pending };
        if state == DeliveryState::Pending {
            queue.pending += 1;
            self.at.insert(id.clone(), self.new.len());
        }
        self.new.push(DeliveryDocument {
            id,
            subscription: new.subscription.to_string(),
            phone: new.phone.map(|phone| phone.to_string()),
            position: queue.next(),
            state: number(state),
            events: 1,
            attempts: 0,
            attempts_before_replay: 0,
            next_at,
            last: dropped.as_deref().map(|why| check::said(why).to_owned()),
            created_at: self.now,
            finished_at: dropped.as_ref().map(|_| self.now),
            event: to_json(&new.event)?,
        });
        Ok(())
    }

    async fn write(mut self, database: &Database, session: &mut ClientSession) -> Result<()> {
        let subscriptions: HashSet<_> = self.new.iter().map(|new| new.subscription.clone()).collect();
        self.queues.retain(|id, _| subscriptions.contains(&id.to_string()));
        queues::save(database, &mut *session, self.queues).await?;
        if !self.new.is_empty() {
            deliveries(database).insert_many(self.new).session(&mut *session).await?;
        }
        for (id, Joined { event, events, next_at }) in self.joined {
            let change = doc! {
                "$set": { "event": event },
                "$inc": { "events": i64::from(events) },
                "$max": { "next_at": integer(next_at) },
            };
            let this = doc! { "_id": id };
            deliveries::<Document>(database).update_one(this, change).session(&mut *session).await?;
        }
        if !self.merged.is_empty() {
            merged(database).insert_many(self.merged).session(&mut *session).await?;
        }
        if !self.keys_changed.is_empty() {
            let changed: Vec<_> = self.keys_changed.iter().collect();
            let those = doc! { "_id": { "$in": changed } };
            keys(database).delete_many(those).session(&mut *session).await?;
            let changed = self.keys_changed.iter().filter_map(|id| self.keys.get(id));
            keys(database).insert_many(changed).session(session).await?;
        }
        Ok(())
    }
}
