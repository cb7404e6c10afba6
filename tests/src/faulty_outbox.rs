//! An outbox of which a part does not work.

use std::sync::Arc;
use std::time::Duration;

use trough_protocol::{DeviceId, Micros};
use trough_store::outbox::{
    Attempt, Claim, Delivery, DeliveryFilter, DeliveryId, EnteredEvent, EventFilter, NewDelivery,
    OutboxError, Queue, Shard, WatchState, WatchStep,
};
use trough_store::subscription::PushTokenId;
use trough_store::{BoxFuture, Event, EventId, Outbox, RuleName, SubscriptionId};

/// What does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Forgetting does not end.
    ForgetHangs,
    /// Whoever notes a try panics.
    NotingPanics,
}

/// Another one, with a fault.
pub struct FaultyOutbox(pub Arc<dyn Outbox>, pub Fault);

type Answer<'a, T> = BoxFuture<'a, Result<T, OutboxError>>;

impl Outbox for FaultyOutbox {
    fn now(&self) -> Answer<'_, Micros> {
        self.0.now()
    }
    fn claim(&self, shard: Shard, owner: [u8; 16], ttl: Duration) -> Answer<'_, Option<Claim>> {
        self.0.claim(shard, owner, ttl)
    }
    fn release(&self, claim: Claim) -> Answer<'_, ()> {
        self.0.release(claim)
    }
    fn place(&self, shard: Shard) -> Answer<'_, Option<Vec<u8>>> {
        self.0.place(shard)
    }
    fn states(
        &self,
        shard: Shard,
        after: Option<(DeviceId, RuleName)>,
        limit: usize,
    ) -> Answer<'_, Vec<WatchState>> {
        self.0.states(shard, after, limit)
    }
    fn watched(&self, claim: Claim, step: WatchStep) -> Answer<'_, ()> {
        self.0.watched(claim, step)
    }
    fn enter(&self, events: Vec<Event>) -> Answer<'_, ()> {
        self.0.enter(events)
    }
    fn unrouted(&self, shard: Shard, limit: usize) -> Answer<'_, Vec<EnteredEvent>> {
        self.0.unrouted(shard, limit)
    }
    fn route(
        &self,
        claim: Claim,
        events: Vec<EventId>,
        deliveries: Vec<NewDelivery>,
    ) -> Answer<'_, Vec<SubscriptionId>> {
        self.0.route(claim, events, deliveries)
    }
    fn deliver_test(&self, delivery: NewDelivery) -> Answer<'_, DeliveryId> {
        self.0.deliver_test(delivery)
    }
    fn queues(&self, shard: Shard) -> Answer<'_, Vec<Queue>> {
        self.0.queues(shard)
    }
    fn pending(
        &self,
        subscription: SubscriptionId,
        without: Vec<PushTokenId>,
        limit: usize,
    ) -> Answer<'_, Vec<Delivery>> {
        self.0.pending(subscription, without, limit)
    }
    fn attempted(&self, claim: Claim, attempts: Vec<Attempt>) -> Answer<'_, ()> {
        assert_ne!(self.1, Fault::NotingPanics, "as it is told to");
        self.0.attempted(claim, attempts)
    }
    fn resume(&self, subscription: SubscriptionId) -> Answer<'_, ()> {
        self.0.resume(subscription)
    }
    fn list_deliveries(&self, filter: DeliveryFilter) -> Answer<'_, Vec<Delivery>> {
        self.0.list_deliveries(filter)
    }
    fn get_delivery(&self, id: DeliveryId) -> Answer<'_, Delivery> {
        self.0.get_delivery(id)
    }
    fn replay(&self, id: DeliveryId) -> Answer<'_, Delivery> {
        self.0.replay(id)
    }
    fn list_events(&self, filter: EventFilter) -> Answer<'_, Vec<EnteredEvent>> {
        self.0.list_events(filter)
    }
    fn forget(&self, older_than: Duration, limit: usize) -> Answer<'_, usize> {
        match self.1 {
            Fault::ForgetHangs => Box::pin(std::future::pending()),
            Fault::NotingPanics => self.0.forget(older_than, limit),
        }
    }
    fn news(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.news()
    }
}
