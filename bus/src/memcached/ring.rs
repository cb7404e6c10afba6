//! A topic on memcached: a counter, and an item for each message under its number, for a minute.
//!
//! The counter begins at the time, in µs since 1970, so that one that began anew is far ahead of one that was
//! wiped, and no number is ever used twice. Whoever publishes takes the next number and then stores the message;
//! whoever subscribes polls the counter and fetches what is new.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use memcache::exp::{Arithmetic, Get, Set, Ttl};
use tokio::time::{Instant, sleep_until};
use trough_runtime::clock::Clock;

use super::server::Server;
use super::{Inner, content};
use crate::BoxFuture;
use crate::envelope::{self, Kind};
use crate::error::BusError;
use crate::key::Topic;
use crate::subscription::{Cause, Event, Source};

/// The counter outlives any pause in a topic's messages; each one renews it. In seconds.
const HEAD_TTL: u32 = 30 * 24 * 60 * 60;
/// A message, in seconds.
const MESSAGE_TTL: u32 = 60;
/// Between polls while there is something to hear.
const POLL_BUSY: Duration = Duration::from_millis(5);
/// And after a silence.
const POLL_IDLE: Duration = Duration::from_millis(25);
/// While the server is away.
const POLL_AWAY: Duration = Duration::from_millis(100);
/// How often a subscriber is told so.
const TELL_AWAY: Duration = Duration::from_secs(1);
/// A message whose number is taken must be there by then: its publisher may have died in between.
const HOLE_AFTER: Duration = Duration::from_millis(100);
/// Messages fetched at once.
const FETCH_MAX: u64 = 256;
/// Further behind than this, a subscriber does better to rescan.
const BEHIND_MAX: u64 = 10_000;

fn head_key(topic: &Topic) -> String {
    format!("b:{topic}:h")
}

fn message_key(topic: &Topic, number: u64) -> String {
    format!("b:{topic}:{number}")
}

/// Moves the counter by `delta`, making it if it is missing. Its value then.
async fn count(server: &Server, topic: &Topic, delta: u64, clock: &Clock) -> Result<u64, BusError> {
    let counter =
        Arithmetic::new(head_key(topic)).delta(delta).initial(clock.now(), HEAD_TTL).ttl(Ttl::secs(HEAD_TTL));
    let lost = || BusError::Unavailable { reason: format!("memcached {} gave no number", server.address()) };
    server.run(counter).await?.value.ok_or_else(lost)
}

/// Publishes one message, and gives its number.
pub(super) async fn publish(
    server: &Server,
    topic: &Topic,
    message: &[u8],
    clock: &Clock,
) -> Result<u64, BusError> {
    let number = count(server, topic, 1, clock).await?;
    // If this fails, subscribers find a hole, and look for themselves.
    let item = envelope::wrap(Kind::Message, message);
    server.run(Set::new(message_key(topic, number), item).ttl(Ttl::secs(MESSAGE_TTL))).await?;
    Ok(number)
}

/// One subscriber's place in a topic.
pub(super) struct Ring {
    bus: Arc<Inner>,
    topic: Topic,
    /// The number of the last message heard; `None` until the counter is known.
    position: Option<u64>,
    /// Why the position is not known.
    cause: Cause,
    ready: VecDeque<(u64, Event)>,
    poll_at: Instant,
    pause: Duration,
    /// Messages to fetch at once: fewer after a failure, as the answer may have been too large for its deadline.
    fetch: u64,
    /// Since when the next message has been missing.
    missing_since: Option<Instant>,
    /// When the subscriber is told that the server is away; `None` while it answers.
    tell_away_at: Option<Instant>,
}

impl Ring {
    /// A place that begins where the counter is found.
    pub fn new(bus: Arc<Inner>, topic: Topic) -> Self {
        Self {
            bus,
            topic,
            position: None,
            cause: Cause::Began,
            ready: VecDeque::new(),
            poll_at: Instant::now(),
            pause: POLL_BUSY,
            fetch: FETCH_MAX,
            missing_since: None,
            tell_away_at: None,
        }
    }

    /// Looks once, and says when to look again. Whatever it learns is noted in one step after the last await, so
    /// that dropping it loses nothing.
    async fn look(&mut self) -> Result<Duration, BusError> {
        let bus = self.bus.clone();
        let server = bus.server(self.topic.as_str());
        let Some(position) = self.position else {
            let head = count(server, &self.topic, 0, &bus.clock).await?;
            self.jump(head, self.cause);
            return Ok(POLL_BUSY);
        };
        let got = server.run(Get::new(head_key(&self.topic))).await?;
        let Some(head) =
            got.value.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse::<u64>().ok())
        else {
            (self.position, self.cause) = (None, Cause::Reset);
            return Ok(Duration::ZERO);
        };
        match head.checked_sub(position) {
            None | Some(BEHIND_MAX..) => self.jump(head, Cause::Reset),
            Some(0) => return Ok((self.pause * 2).clamp(POLL_BUSY, POLL_IDLE)),
            Some(behind) => {
                let fetch = self.fetch.min(behind);
                let numbers = position + 1..=position + fetch;
                let gets = numbers.map(|number| Get::new(message_key(&self.topic, number))).collect();
                let items = server.run_many(gets).await;
                self.fetch = if items.is_ok() { (self.fetch * 2).min(FETCH_MAX) } else { (fetch / 2).max(1) };
                let items = items?;
                for item in items {
                    let was_there = item.value.is_some();
                    match content(Kind::Message, item) {
                        Some(message) => self.hear(message),
                        None => {
                            self.miss(head, was_there);
                            break;
                        }
                    }
                }
                // There is more to fetch, or something on its way.
                return Ok(if behind > fetch { Duration::ZERO } else { POLL_BUSY });
            }
        }
        Ok(POLL_BUSY)
    }

    fn hear(&mut self, message: bytes::Bytes) {
        let number = self.position.unwrap_or_default() + 1;
        self.position = Some(number);
        self.missing_since = None;
        self.ready.push_back((number, Event::Message(message)));
    }

    /// The next message is not there, or makes no sense.
    fn miss(&mut self, head: u64, for_good: bool) {
        let since = *self.missing_since.get_or_insert_with(Instant::now);
        if for_good || since.elapsed() > HOLE_AFTER {
            self.jump(head, Cause::Hole);
        }
    }

    fn jump(&mut self, head: u64, cause: Cause) {
        self.position = Some(head);
        self.missing_since = None;
        self.ready.push_back((head, Event::Rescan(cause)));
    }

    /// What a look that failed means to the subscriber.
    fn is_away(&mut self) {
        let now = Instant::now();
        let due = *self.tell_away_at.get_or_insert(now + TELL_AWAY);
        if now >= due {
            self.tell_away_at = Some(now + TELL_AWAY);
            self.ready.push_back((0, Event::Rescan(Cause::Away)));
        }
    }
}

impl Source for Ring {
    fn next(&mut self) -> BoxFuture<'_, (u64, Event)> {
        Box::pin(async move {
            loop {
                if let Some(event) = self.ready.pop_front() {
                    return event;
                }
                sleep_until(self.poll_at).await;
                match self.look().await {
                    Ok(pause) => (self.pause, self.tell_away_at) = (pause, None),
                    Err(_) => {
                        self.pause = POLL_AWAY;
                        self.is_away();
                    }
                }
                self.poll_at = Instant::now() + self.pause;
            }
        })
    }
}
