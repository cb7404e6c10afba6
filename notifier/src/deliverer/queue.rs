//! One subscription's queue: its deliveries in the order of their positions, for each phone by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;
use trough_protocol::Micros;
use trough_store::outbox::{Attempt, Delivery, OutboxError, Outcome, PAGE_MAX};
use trough_store::subscription::{PushEnvironment, PushTokenId, Target};
use trough_store::webhook::address::host_and_port;
use trough_store::{RegistryError, Subscription, SubscriptionId};

use super::attempt::{Next, attempt};
use super::endpoint::{Endpoint, Visit};
use super::notes::{Lost, Notes};
use super::round::{Lane, Round, Turns};
use crate::book::Book;
use crate::claims::Held;
use crate::context::Context;

/// Deliveries of a webhook that are taken at a time: what is held in memory for each of those that are sent. And of a
/// phone, while there are more than fit on a page.
const PAGE: usize = 32;
/// Phones of one subscription that are pushed to at a time.
const PHONES_AT_ONCE: usize = 16;
/// Requests to one of Apple's servers at a time; they share a connection.
const PUSHES_AT_ONCE: usize = 64;
/// When a store did not answer.
pub const LATER: Duration = Duration::from_secs(1);
/// A disabled subscription rests so long, unless it is seen before that it was enabled.
const ENABLED: Duration = Duration::from_secs(5);

/// How a queue was left.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rest {
    /// How many deliveries were finished.
    pub finished: u64,
    /// When there is something to do; `None`: when more comes.
    pub until: Option<Instant>,
    /// More that comes changes nothing before that time.
    pub blocked: bool,
    /// Its subscription is disabled.
    pub disabled: bool,
    /// Since when the oldest one waits, by the outbox's clock.
    pub oldest: Option<Micros>,
}

impl Rest {
    fn after(wait: Duration) -> Self {
        Self { finished: 0, until: Some(Instant::now() + wait), blocked: true, disabled: false, oldest: None }
    }
}

/// A page as it was seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    /// By the outbox's clock, a little before.
    now: Micros,
}

/// What is needed to work on a queue.
pub struct Queue {
    pub context: Arc<Context>,
    pub held: Held,
    pub notes: Notes,
    pub subscription: SubscriptionId,
}

impl Queue {
    /// Delivers what is due, until nothing is or the claim ends.
    pub async fn run(self) -> Rest {
        let (mut finished, mut turns) = (0, Turns::default());
        loop {
            let round = tokio::select! {
                round = self.round(&turns) => round,
                // Dropped in the middle: somebody else makes the same tries.
                () = self.held.lost.cancelled() => return Rest::after(LATER),
            };
            let Ok(round) = round else { return Rest::after(LATER) };
            finished += round.finished;
            let again = turns.next(&round) && self.held.may_begin();
            if !again {
                return Rest { finished, until: turns.until, ..round.rest };
            }
        }
    }

    /// A page. Whoever waits for the same endpoint gets a turn between two of them.
    async fn round(&self, turns: &Turns) -> Result<Round, Lost> {
        let context = &self.context;
        let mut book = context.books.current().await;
        if book.as_ref().is_ok_and(|book| book.subscription(self.subscription).is_none()) {
            // It may be newer than the book: that something waits for it was seen before.
            book = context.books.since(Instant::now()).await;
        }
        let book = match book {
            Ok(book) => book,
            Err(error) => return Ok(unknown(&error)),
        };
        let Some(subscription) = book.subscription(self.subscription) else {
            return self.drop_all("the subscription was removed").await;
        };
        if subscription.disabled.is_some() {
            return Ok(Round::over(Rest { disabled: true, ..Rest::after(ENABLED) }));
        }
        // Nothing is fetched before it may be sent: what waits for a slow endpoint waits in the outbox.
        let visit = tokio::select! {
            visit = self.endpoint(&book, subscription).enter() => visit,
            () = self.held.ends() => return Ok(Round::over(Rest::after(LATER))),
        };
        let push = subscription.wanted.target == Target::Push;
        let limit = if push { PAGE_MAX } else { PAGE };
        // The time comes before the deliveries: what was due then takes no more events in.
        let fetched = async {
            let now = context.clock.now(&*context.outbox).await?;
            let page = context.outbox.pending(self.subscription, turns.without(), limit).await?;
            Ok::<_, OutboxError>((now, page))
        };
        let (seen, page) = match fetched.await {
            Ok((now, page)) => (Seen { at: Instant::now(), now }, page),
            Err(error) => {
                context.failed(&error);
                return Ok(Round::over(Rest::after(LATER)));
            }
        };
        let full = page.len() >= limit;
        let oldest = page.iter().map(|delivery| delivery.created_at).min();
        let mut lanes: BTreeMap<Option<PushTokenId>, Vec<Delivery>> = BTreeMap::new();
        for delivery in page {
            let lane = lanes.entry(delivery.phone).or_default();
            // Other phones may stand behind the page: each has its turn.
            if !(full && push && lane.len() >= PAGE) {
                lane.push(delivery);
            }
        }
        let ended = stream::iter(lanes.into_iter().map(|(phone, lane)| {
            let visit = &visit;
            async move { (phone, self.lane(lane, seen, visit).await) }
        }));
        let ended: Vec<_> = ended.buffer_unordered(PHONES_AT_ONCE).collect().await;
        drop(visit);
        self.notes.flush().await?;
        let rest = Rest { oldest, ..Rest::default() };
        let mut round = Round { full, ..Round::over(rest) };
        for (phone, lane) in ended {
            let mut lane = lane?;
            // What one phone waits for keeps nothing from the others.
            lane.blocked &= !push;
            match phone {
                Some(phone) if lane.waits => round.waiting.push(phone),
                Some(phone) => round.had_turn.push(phone),
                None => {}
            }
            round.add(&lane, seen.now);
        }
        if full && !round.rest.blocked {
            // Of those that are held the first to be due may be behind the page.
            let look = Instant::now() + LATER;
            round.rest.until = Some(round.rest.until.map_or(look, |until| until.min(look)));
        }
        Ok(round)
    }

    fn endpoint(&self, book: &Book, subscription: &Subscription) -> Arc<Endpoint> {
        let context = &self.context;
        match &subscription.wanted.target {
            Target::Webhook { url, .. } => {
                let name = url::Url::parse(url).map(|url| host_and_port(&url));
                let name = name.unwrap_or_default();
                context.endpoints.get(&name, context.config.in_flight_of_endpoint_max)
            }
            // That one of Apple's servers does not answer says nothing of the other.
            Target::Push => {
                let knows = |environment| {
                    book.phones(&subscription.wanted.owner).any(|phone| phone.environment == environment)
                };
                let name = match (knows(PushEnvironment::Production), knows(PushEnvironment::Sandbox)) {
                    (true, true) => "both of apns",
                    (false, true) => "apns sandbox",
                    (_, false) => "apns",
                };
                context.endpoints.get(name, PUSHES_AT_ONCE)
            }
        }
    }

    /// The deliveries of one phone, or of a webhook, one after the other.
    async fn lane(&self, lane: Vec<Delivery>, seen: Seen, visit: &Visit) -> Result<Lane, Lost> {
        let mut ended = Lane::default();
        for delivery in lane {
            if delivery.next_at > seen.now {
                ended.due(delivery.next_at);
                if delivery.attempts == 0 {
                    // Held by quiet hours, or to be told of together with others: those behind it do not wait.
                    continue;
                }
                (ended.blocked, ended.waits) = (true, true);
                return Ok(ended);
            }
            if !self.held.may_begin() || (ended.tries > 0 && !visit.may_go_on()) {
                ended.due(seen.now);
                ended.blocked = true;
                return Ok(ended);
            }
            match self.try_once(&delivery, seen.at, visit).await? {
                Some(Next::GoOn) => ended.finished += 1,
                Some(Next::Blocked(at)) => {
                    ended.due(at);
                    (ended.blocked, ended.waits) = (true, true);
                    return Ok(ended);
                }
                Some(Next::Held(at)) => {
                    ended.held += 1;
                    ended.due(at);
                    if delivery.attempts > 0 {
                        (ended.blocked, ended.waits) = (true, true);
                        return Ok(ended);
                    }
                    // As one that was made to be held.
                    continue;
                }
                Some(Next::Disabled) => {
                    ended.finished += 1;
                    ended.disabled = true;
                    return Ok(ended);
                }
                None => {
                    ended.unknown = true;
                    return Ok(ended);
                }
            }
            ended.tries += 1;
        }
        Ok(ended)
    }

    /// `None` if it cannot be told whether it may be delivered.
    async fn try_once(
        &self,
        delivery: &Delivery,
        seen_at: Instant,
        visit: &Visit,
    ) -> Result<Option<Next>, Lost> {
        let context = &self.context;
        let book = match self.book_for(delivery, seen_at).await {
            Ok(book) => book,
            Err(error) => {
                tracing::debug!(%error, "it is not known who may be told");
                return Ok(None);
            }
        };
        let subscription = book.subscription(self.subscription);
        let Some(subscription) = subscription.filter(|subscription| subscription.disabled.is_none()) else {
            return Ok(None);
        };
        let _share = context.in_flight.enter(&subscription.wanted.owner).await;
        match attempt(context, &book, subscription, delivery, visit).await {
            Ok(done) => {
                self.notes.take(done.attempt).await?;
                Ok(Some(done.next))
            }
            Err(error) => {
                tracing::warn!(%error, delivery = %delivery.id, "a delivery waits, as the registry does not answer");
                Ok(None)
            }
        }
    }

    /// The book of the time: the subscription may have been removed or disabled since the page was fetched. If by that one the
    /// delivery is not to be sent, one that is newer than the delivery: to whom it goes may be newer than the other.
    async fn book_for(&self, delivery: &Delivery, seen_at: Instant) -> Result<Arc<Book>, RegistryError> {
        let books = &self.context.books;
        let book = books.current().await?;
        if book.refuses(delivery).await? { books.since(seen_at).await } else { Ok(book) }
    }

    async fn drop_all(&self, why: &str) -> Result<Round, Lost> {
        let page = match self.context.outbox.pending(self.subscription, vec![], PAGE_MAX).await {
            Ok(page) => page,
            Err(error) => {
                self.context.failed(&error);
                return Ok(Round::over(Rest::after(LATER)));
            }
        };
        let finished = page.len() as u64;
        for delivery in page {
            let (before, said) = (delivery.attempts, why.to_owned());
            let attempt = Attempt { delivery: delivery.id, before, outcome: Outcome::Dropped, said };
            self.notes.take(attempt).await?;
        }
        self.notes.flush().await?;
        Ok(Round { finished, full: finished > 0, ..Round::over(Rest::default()) })
    }
}

fn unknown(error: &RegistryError) -> Round {
    tracing::debug!(%error, "it is not known who is subscribed");
    Round::over(Rest::after(LATER))
}
