//! The outbox in an SQLite file.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;
use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::Clock;

use super::database::{Database, OpenError, Schema};
use super::pool::Pool;
use super::writer::Writer;
use super::{deliveries, delivery_rows, events, shards, states};
use crate::BoxFuture;
use crate::event::{Event, EventId};
use crate::names::RuleName;
use crate::outbox::{
    Attempt, Claim, Delivery, DeliveryFilter, DeliveryId, Duty, EnteredEvent, EventFilter, NewDelivery,
    Outbox, OutboxError, PAGE_MAX, Queue, Shard, WatchState, WatchStep, check,
};
use crate::subscription::{PushTokenId, SubscriptionId};

static SCHEMA: Schema = Schema {
    name: "outbox",
    application_id: 0x5472_4f62, // "TrOb"
    synchronous: "FULL",
    migrations: &[include_str!("outbox-1.sql"), include_str!("outbox-2.sql"), include_str!("outbox-3.sql")],
};

/// Connections that read.
const READERS: usize = 4;

/// An outbox in one file. Dropping it finishes what was begun; that blocks for one commit at most.
#[derive(Debug)]
pub struct SqliteOutbox {
    pool: Pool,
    writer: Writer,
    clock: Clock,
    news: watch::Sender<u64>,
}

impl SqliteOutbox {
    /// Opens the file, or makes it (mode 0600) in a directory that exists. Blocking, for a few milliseconds.
    ///
    /// # Errors
    /// [`OpenError`]: no access, a newer schema, another kind of file.
    pub fn open(path: &Path, clock: Clock) -> Result<Self, OpenError> {
        let database = Database::open(path, &SCHEMA)?;
        let no_thread = |source| OpenError::Io { name: SCHEMA.name, path: path.to_owned(), source };
        Ok(Self {
            pool: Pool::open(&database, READERS)?,
            writer: Writer::start(database.connect()?, SCHEMA.name).map_err(no_thread)?,
            clock,
            news: watch::channel(0).0,
        })
    }

    /// Changes something, at the time at which its turn has come.
    async fn write<F, T>(&self, work: F) -> Result<T, OutboxError>
    where
        F: FnOnce(&Connection, Micros) -> Result<T, OutboxError> + Send + 'static,
        T: Send + 'static,
    {
        let clock = self.clock.clone();
        self.writer.run(move |connection| work(connection, clock.now())).await
    }

    /// The same, and tells those who wait for news; also if nobody knows whether it was done.
    async fn write_news<F, T>(&self, work: F) -> Result<T, OutboxError>
    where
        F: FnOnce(&Connection, Micros) -> Result<T, OutboxError> + Send + 'static,
        T: Send + 'static,
    {
        let done = self.write(work).await;
        self.news.send_modify(|news| *news += 1);
        done
    }
}

impl Outbox for SqliteOutbox {
    fn now(&self) -> BoxFuture<'_, Result<Micros, OutboxError>> {
        Box::pin(async { Ok(self.clock.now()) })
    }

    fn claim(
        &self,
        shard: Shard,
        owner: [u8; 16],
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<Claim>, OutboxError>> {
        Box::pin(async move {
            check::claim(shard, ttl)?;
            self.write(move |connection, now| shards::claim(connection, shard, owner, ttl, now)).await
        })
    }

    fn release(&self, claim: Claim) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(self.write(move |connection, _| shards::release(connection, claim)))
    }

    fn place(&self, shard: Shard) -> BoxFuture<'_, Result<Option<Vec<u8>>, OutboxError>> {
        Box::pin(self.pool.run(move |connection| shards::place(connection, shard)))
    }

    fn states(
        &self,
        shard: Shard,
        after: Option<(DeviceId, RuleName)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<WatchState>, OutboxError>> {
        let limit = limit.min(PAGE_MAX);
        Box::pin(self.pool.run(move |connection| states::list(connection, shard, after.as_ref(), limit)))
    }

    fn watched(&self, claim: Claim, step: WatchStep) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(async move {
            check::duty(claim, &[Duty::Watch, Duty::Presence])?;
            check::step(&step)?;
            let news = !step.events.is_empty();
            let work = move |connection: &Connection, now| {
                shards::require(connection, claim)?;
                shards::set_place(connection, claim.shard, &step.place)?;
                states::set(connection, claim.shard, &step.states)?;
                events::enter(connection, &step.events, now)
            };
            if news { self.write_news(work).await } else { self.write(work).await }
        })
    }

    fn enter(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(async move {
            check::events(&events)?;
            self.write_news(move |connection, now| events::enter(connection, &events, now)).await
        })
    }

    fn unrouted(&self, shard: Shard, limit: usize) -> BoxFuture<'_, Result<Vec<EnteredEvent>, OutboxError>> {
        let limit = limit.min(PAGE_MAX);
        Box::pin(self.pool.run(move |connection| events::unrouted(connection, shard.number, limit)))
    }

    fn route(
        &self,
        claim: Claim,
        events: Vec<EventId>,
        deliveries: Vec<NewDelivery>,
    ) -> BoxFuture<'_, Result<Vec<SubscriptionId>, OutboxError>> {
        Box::pin(async move {
            check::duty(claim, &[Duty::Route])?;
            check::route(events.len(), &deliveries)?;
            self.write_news(move |connection, now| {
                shards::require(connection, claim)?;
                events::set_routed(connection, claim, &events)?;
                deliveries::make(connection, deliveries, now)
            })
            .await
        })
    }

    fn deliver_test(&self, delivery: NewDelivery) -> BoxFuture<'_, Result<DeliveryId, OutboxError>> {
        Box::pin(async move {
            check::delivery(&delivery)?;
            self.write_news(move |connection, now| deliveries::make_test(connection, &delivery, now)).await
        })
    }

    fn queues(&self, shard: Shard) -> BoxFuture<'_, Result<Vec<Queue>, OutboxError>> {
        Box::pin(self.pool.run(move |connection| deliveries::queues(connection, shard.number)))
    }

    fn pending(
        &self,
        subscription: SubscriptionId,
        without: Vec<PushTokenId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Delivery>, OutboxError>> {
        let (limit, now) = (limit.min(PAGE_MAX), self.clock.now());
        let pending = move |connection: &Connection| {
            delivery_rows::pending(connection, subscription, &without, limit, now)
        };
        Box::pin(self.pool.run(pending))
    }

    fn attempted(&self, claim: Claim, attempts: Vec<Attempt>) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(async move {
            check::duty(claim, &[Duty::Deliver])?;
            check::attempts(&attempts)?;
            self.write(move |connection, now| {
                shards::require(connection, claim)?;
                deliveries::note(connection, claim, &attempts, now)
            })
            .await
        })
    }

    fn resume(&self, subscription: SubscriptionId) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(self.write_news(move |connection, now| deliveries::resume(connection, subscription, now)))
    }

    fn list_deliveries(&self, filter: DeliveryFilter) -> BoxFuture<'_, Result<Vec<Delivery>, OutboxError>> {
        Box::pin(async move {
            check::listed(filter.subscriptions.as_deref())?;
            self.pool.run(move |connection| delivery_rows::list(connection, &filter)).await
        })
    }

    fn get_delivery(&self, id: DeliveryId) -> BoxFuture<'_, Result<Delivery, OutboxError>> {
        Box::pin(self.pool.run(move |connection| {
            delivery_rows::find(connection, id)?.ok_or_else(|| check::no_delivery(id))
        }))
    }

    fn replay(&self, id: DeliveryId) -> BoxFuture<'_, Result<Delivery, OutboxError>> {
        Box::pin(self.write_news(move |connection, now| deliveries::replay(connection, id, now)))
    }

    fn list_events(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<EnteredEvent>, OutboxError>> {
        Box::pin(async move {
            check::devices_listed(&filter)?;
            self.pool.run(move |connection| events::list(connection, &filter)).await
        })
    }

    fn forget(&self, older_than: Duration, limit: usize) -> BoxFuture<'_, Result<usize, OutboxError>> {
        let limit = limit.min(PAGE_MAX);
        Box::pin(self.write(move |connection, now| {
            let before = check::before(now, older_than);
            Ok(deliveries::forget(connection, before, limit)? + events::forget(connection, before, limit)?)
        }))
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}
