//! The outbox in MongoDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::{Collection, Database, IndexModel};
use tokio::sync::watch;
use trough_protocol::{DeviceId, Micros};

use super::claim_sessions::ClaimSessions;
use super::client::{Mongo, OPERATION_MAX, Section};
use super::failure::Failure;
use super::transaction::{Work, refuse, transact, transact_in};
use super::{deliveries, delivering, events, integer, queues, routing, shards, states};
use crate::BoxFuture;
use crate::event::{Event, EventId};
use crate::names::RuleName;
use crate::outbox::{
    Attempt, Claim, Delivery, DeliveryFilter, DeliveryId, Duty, EnteredEvent, EventFilter, NewDelivery,
    Outbox, OutboxError, PAGE_MAX, PENDING_MAX, Queue, Shard, WatchState, WatchStep, check,
};
use crate::subscription::{PushTokenId, SubscriptionId};

/// How long a page may take, or forgetting.
const PAGE_TIME_MAX: Duration = Duration::from_secs(15);
/// How long a change of many documents may take: the shipped files have the server give a transaction as long.
const CHANGE_MAX: Duration = Duration::from_secs(10);
/// How often a change is begun again because a document that was free has been made meanwhile: then it is seen.
const COLLISIONS_MAX: usize = 5;

/// An outbox in a database. It connects when it is first used.
#[derive(Debug)]
pub struct MongoOutbox {
    section: Section,
    pending_max: u64,
    sessions: Arc<ClaimSessions>,
    /// The last number that was given to events which nobody entered under a claim.
    last: Arc<AtomicU64>,
    news: watch::Sender<u64>,
}

impl MongoOutbox {
    /// One in the collections `outbox_shards`, `outbox_states`, `outbox_events`, `outbox_queues`, `outbox_deliveries`,
    /// `outbox_merged` and `outbox_keys` of the database. Nothing is done yet.
    pub fn new(mongo: Mongo) -> Self {
        Self {
            section: Section::new(mongo, prepare),
            pending_max: PENDING_MAX,
            sessions: Arc::default(),
            last: Arc::default(),
            news: watch::channel(0).0,
        }
    }

    /// The same, where fewer deliveries of a subscription may wait than [`PENDING_MAX`]: for tests.
    #[must_use]
    pub fn with_pending_max(self, pending_max: u64) -> Self {
        Self { pending_max, ..self }
    }

    async fn run<T, W, F>(&self, at_most: Duration, work: W) -> Result<T, OutboxError>
    where
        W: FnOnce(Database) -> F + Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
        T: Send + 'static,
    {
        Ok(self.section.run(at_most, work).await?)
    }

    /// Does something again as long as a document was made meanwhile that was not there.
    async fn again<T, W, F>(&self, work: W) -> Result<T, Failure>
    where
        W: Fn(Database) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
        T: Send + 'static,
    {
        let work = Arc::new(work);
        let mut done = Err(Failure::Unavailable("it was not begun".into()));
        for _ in 0..COLLISIONS_MAX {
            let work = work.clone();
            done = self.section.run(CHANGE_MAX, async move |database| work(database).await).await;
            if !matches!(done, Err(Failure::Duplicate(_))) {
                break;
            }
        }
        done
    }

    /// Changes something that needs no claim, whole or not at all, and tells those who wait for news; also if nobody knows
    /// whether it was done.
    async fn change_news<T: Send + 'static>(&self, work: impl Work<T>) -> Result<T, OutboxError> {
        let work = Arc::new(work);
        let whole = move |database: Database| {
            let work = work.clone();
            transact::<T, OutboxError>(database, move |database, session| work(database, session))
        };
        let done = self.again(whole).await;
        self.tell();
        done?
    }

    /// Changes something under a claim, whole or not at all: in the claim's session, which whoever takes it over ends.
    async fn change<T: Send + 'static>(&self, claim: Claim, work: impl Work<T>) -> Result<T, OutboxError> {
        let (work, sessions) = (Arc::new(work), self.sessions.clone());
        let whole = move |database: Database| {
            let (work, sessions) = (work.clone(), sessions.clone());
            async move {
                let session = sessions.of(&database, claim.shard).await?.session.lock_owned().await;
                transact_in::<T, OutboxError>(database, session, move |database, session| {
                    work(database, session)
                })
                .await
            }
        };
        self.again(whole).await?
    }

    fn tell(&self) {
        self.news.send_modify(|news| *news += 1);
    }

    async fn time(&self) -> Result<Micros, OutboxError> {
        self.run(OPERATION_MAX, async |database| shards::now(&database).await).await
    }
}

/// The first of so many numbers: the time, or more where that does not rise.
fn numbers(last: &AtomicU64, count: usize, now: Micros) -> u64 {
    let first = |last: u64| now.max(last + 1);
    let took = last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(first(last) + count as u64));
    first(took.unwrap_or_else(|last| last))
}

pub(super) fn keys<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("outbox_keys")
}

fn prepare(database: Database) -> BoxFuture<'static, Result<(), Failure>> {
    Box::pin(async move {
        shards::prepare(&database).await?;
        let models = states::indexes().into_iter();
        let models = models.map(|keys| IndexModel::builder().keys(keys).build());
        states::states::<Document>(&database).create_indexes(models).await?;
        for (name, models) in [
            ("outbox_events", events::indexes()),
            ("outbox_deliveries", deliveries::indexes()),
            ("outbox_queues", queues::indexes()),
            ("outbox_keys", routing::key_indexes()),
            ("outbox_merged", routing::merged_indexes()),
        ] {
            database.collection::<Document>(name).create_indexes(models).await?;
        }
        Ok(())
    })
}

impl Outbox for MongoOutbox {
    fn now(&self) -> BoxFuture<'_, Result<Micros, OutboxError>> {
        Box::pin(self.time())
    }

    fn claim(
        &self,
        shard: Shard,
        owner: [u8; 16],
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<Claim>, OutboxError>> {
        Box::pin(async move {
            check::claim(shard, ttl)?;
            let sessions = self.sessions.clone();
            let claim = async move |database| shards::claim(&database, &sessions, shard, owner, ttl).await;
            self.run(OPERATION_MAX, claim).await
        })
    }

    fn release(&self, claim: Claim) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(self.run(OPERATION_MAX, async move |database| shards::release(&database, claim).await))
    }

    fn place(&self, shard: Shard) -> BoxFuture<'_, Result<Option<Vec<u8>>, OutboxError>> {
        Box::pin(self.run(OPERATION_MAX, async move |database| shards::place(&database, shard).await))
    }

    fn states(
        &self,
        shard: Shard,
        after: Option<(DeviceId, RuleName)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<WatchState>, OutboxError>> {
        let limit = limit.min(PAGE_MAX);
        let list = async move |database| states::list(&database, shard, after, limit).await;
        Box::pin(self.run(PAGE_TIME_MAX, list))
    }

    fn watched(&self, claim: Claim, step: WatchStep) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(async move {
            check::duty(claim, &[Duty::Watch, Duty::Presence])?;
            check::step(&step)?;
            let (now, news, step) = (self.time().await?, !step.events.is_empty(), Arc::new(step));
            let done = self.change(claim, move |database, session| {
                let step = step.clone();
                Box::pin(async move {
                    shards::move_on(database, &mut *session, claim, &step.place).await?;
                    states::set(database, &mut *session, claim.shard, &step.states).await?;
                    events::enter(database, session, &step.events, claim, now).await
                })
            });
            let done = done.await;
            if news {
                self.tell();
            }
            done
        })
    }

    fn enter(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(async move {
            check::events(&events)?;
            let (now, events, last) = (self.time().await?, Arc::new(events), self.last.clone());
            let enter = move |database: Database| {
                let (events, last) = (events.clone(), last.clone());
                async move {
                    let first = numbers(&last, events.len(), now);
                    events::enter_free(&database, &events, first, now).await
                }
            };
            let done = self.again(enter).await;
            self.tell();
            Ok(done?)
        })
    }

    fn unrouted(&self, shard: Shard, limit: usize) -> BoxFuture<'_, Result<Vec<EnteredEvent>, OutboxError>> {
        let list = async move |database| events::unrouted(&database, shard, limit).await;
        Box::pin(self.run(PAGE_TIME_MAX, list))
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
            let (pending_max, all) = (self.pending_max, Arc::new((events, deliveries)));
            let done = self.change(claim, move |database, session| {
                let all = all.clone();
                Box::pin(async move {
                    shards::require(database, &mut *session, claim).await?;
                    events::set_routed(database, &mut *session, claim, &all.0).await?;
                    // At each try anew: what was held when the first one began may be on its way by now.
                    let now = shards::now(database).await;
                    let now = now.map_err(|failure| refuse(OutboxError::from(failure)))?;
                    routing::make(database, session, &all.1, now, pending_max).await
                })
            });
            let done = done.await;
            self.tell();
            done
        })
    }

    fn deliver_test(&self, delivery: NewDelivery) -> BoxFuture<'_, Result<DeliveryId, OutboxError>> {
        Box::pin(async move {
            check::delivery(&delivery)?;
            let (now, pending_max) = (self.time().await?, self.pending_max);
            self.change_news(move |database, session| {
                let delivery = delivery.clone();
                Box::pin(
                    async move { routing::make_test(database, session, &delivery, now, pending_max).await },
                )
            })
            .await
        })
    }

    fn queues(&self, shard: Shard) -> BoxFuture<'_, Result<Vec<Queue>, OutboxError>> {
        Box::pin(self.run(PAGE_TIME_MAX, async move |database| queues::list(&database, shard).await))
    }

    fn pending(
        &self,
        subscription: SubscriptionId,
        without: Vec<PushTokenId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Delivery>, OutboxError>> {
        Box::pin(self.run(PAGE_TIME_MAX, async move |database| {
            let now = shards::now(&database).await?;
            deliveries::pending(&database, subscription, &without, limit, now).await
        }))
    }

    fn attempted(&self, claim: Claim, attempts: Vec<Attempt>) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(async move {
            check::duty(claim, &[Duty::Deliver])?;
            check::attempts(&attempts)?;
            let (now, attempts) = (self.time().await?, Arc::new(attempts));
            self.change(claim, move |database, session| {
                let attempts = attempts.clone();
                Box::pin(async move {
                    shards::require(database, &mut *session, claim).await?;
                    delivering::note(database, session, claim, &attempts, now).await
                })
            })
            .await
        })
    }

    fn resume(&self, subscription: SubscriptionId) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(async move {
            let now = self.time().await?;
            self.change_news(move |database, session| {
                Box::pin(async move { delivering::resume(database, session, subscription, now).await })
            })
            .await
        })
    }

    fn list_deliveries(&self, filter: DeliveryFilter) -> BoxFuture<'_, Result<Vec<Delivery>, OutboxError>> {
        Box::pin(async move {
            check::listed(filter.subscriptions.as_deref())?;
            let list = async move |database| deliveries::list(&database, &filter).await;
            self.run(PAGE_TIME_MAX, list).await
        })
    }

    fn get_delivery(&self, id: DeliveryId) -> BoxFuture<'_, Result<Delivery, OutboxError>> {
        Box::pin(async move {
            let find = async move |database| deliveries::find(&database, id).await;
            self.run(OPERATION_MAX, find).await?.ok_or_else(|| check::no_delivery(id))
        })
    }

    fn replay(&self, id: DeliveryId) -> BoxFuture<'_, Result<Delivery, OutboxError>> {
        Box::pin(async move {
            let (now, pending_max) = (self.time().await?, self.pending_max);
            self.change_news(move |database, session| {
                Box::pin(async move { delivering::replay(database, session, id, now, pending_max).await })
            })
            .await
        })
    }

    fn list_events(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<EnteredEvent>, OutboxError>> {
        Box::pin(async move {
            check::devices_listed(&filter)?;
            self.run(PAGE_TIME_MAX, async move |database| events::list(&database, &filter).await).await
        })
    }

    fn forget(&self, older_than: Duration, limit: usize) -> BoxFuture<'_, Result<usize, OutboxError>> {
        Box::pin(self.run(PAGE_TIME_MAX, async move |database| {
            // To the server no limit is 0.
            let limit = i64::try_from(limit.min(PAGE_MAX)).ok().filter(|limit| *limit > 0);
            let Some(limit) = limit else { return Ok(0) };
            let before = check::before(shards::now(&database).await?, older_than);
            let free = doc! { "free_at": { "$lt": integer(before) } };
            keys::<Document>(&database).delete_many(free).await?;
            let deliveries = deliveries::forget(&database, before, limit).await?;
            Ok(deliveries + events::forget(&database, before, limit).await?)
        }))
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}
