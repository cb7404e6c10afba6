//! Rules and events of a deployment, looked at from outside.

use std::path::Path;
use std::sync::Arc;

use trough_protocol::Channel;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::mongo::{Mongo, MongoOutbox, MongoRegistry};
use trough_store::outbox::{CLAIM_MAX, Claim, Duty, EventFilter, OutboxError, PAGE_MAX, Shard};
use trough_store::rule::Rule;
use trough_store::sqlite::{SqliteOutbox, SqliteRegistry};
use trough_store::{Event, Outbox, PositionSchema, Registry, Subscriptions};

use crate::poll::{LATER, until};

/// The outbox and the rules of a deployment.
pub struct Events {
    registry: Arc<dyn Registry>,
    rules: Arc<dyn Subscriptions>,
    outbox: Arc<dyn Outbox>,
}

impl Events {
    /// Opens those of a data directory, of which servers may run.
    pub fn open(data_dir: &Path) -> Self {
        let registry = SqliteRegistry::open(&data_dir.join("registry.sqlite"), Clock::system()).unwrap();
        let outbox = SqliteOutbox::open(&data_dir.join("outbox.sqlite"), Clock::system()).unwrap();
        let (registry, outbox) = (Arc::new(registry), Arc::new(outbox));
        Self { registry: registry.clone(), rules: registry, outbox }
    }

    /// Opens those of a database.
    pub fn in_database(url: &str) -> Self {
        let mongo = Mongo::new(url.parse().unwrap(), Health::new());
        let registry = Arc::new(MongoRegistry::new(mongo.clone(), Clock::system()).with_database_time());
        Self { registry: registry.clone(), rules: registry, outbox: Arc::new(MongoOutbox::new(mongo)) }
    }

    /// Sets a rule.
    pub async fn set_rule(&self, json: &str) -> Rule {
        self.rules.set_rule(serde_json::from_str(json).unwrap()).await.unwrap()
    }

    /// Sets a rule in a data directory, as if it had been set two minutes ago.
    pub async fn set_old_rule(data_dir: &Path, json: &str) -> Rule {
        let clock = Clock::manual(Clock::system().now() - 120_000_000);
        let registry = SqliteRegistry::open(&data_dir.join("registry.sqlite"), clock).unwrap();
        registry.set_rule(serde_json::from_str(json).unwrap()).await.unwrap()
    }

    /// Says that a channel carries positions, at `/lat` and `/lon`.
    pub async fn has_positions(&self, channel: &str) {
        let schema = PositionSchema::new(Channel::new(channel).unwrap(), "/lat", "/lon").unwrap();
        self.registry.set_position_schema(schema).await.unwrap();
    }

    /// All events in the order in which they were entered; of those that were entered together, in the order of their frames.
    pub async fn all(&self) -> Vec<Event> {
        let mut filter = EventFilter { limit: PAGE_MAX, ..EventFilter::default() };
        let mut events = Vec::new();
        loop {
            let page = until("the outbox answers", LATER, async || {
                match self.outbox.list_events(filter.clone()).await {
                    // On a busy machine a database may not.
                    Err(OutboxError::Unavailable { .. }) => None,
                    page => Some(page.unwrap()),
                }
            })
            .await;
            let Some(last) = page.last() else { break };
            filter.before = Some((last.entered_at, last.event.id));
            events.extend(page);
        }
        events.sort_by_key(|entered| (entered.entered_at, entered.event.frame));
        events.into_iter().map(|entered| entered.event).collect()
    }

    /// Waits until there are so many events, and gives them.
    pub async fn has(&self, count: usize) -> Vec<Event> {
        let mut seen = None;
        until(&format!("there are {count} events"), LATER, async || {
            let events = self.all().await;
            if seen.replace(events.len()) != Some(events.len()) {
                println!("{} of {count} events", events.len());
            }
            (events.len() >= count).then_some(events)
        })
        .await
    }

    /// Keeps others from watching, until the claims are released, or a minute has passed.
    pub async fn hold(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for shard in Shard::all(Duty::Watch) {
            let claim = until("a dead server's claim has run out", LATER, async || {
                self.outbox.claim(shard, [7; 16], CLAIM_MAX).await.unwrap()
            });
            claims.push(claim.await);
        }
        claims
    }

    /// Lets others watch again.
    pub async fn release(&self, claims: Vec<Claim>) {
        for claim in claims {
            self.outbox.release(claim).await.unwrap();
        }
    }
}
