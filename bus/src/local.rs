//! The bus inside of one process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::BoxFuture;
use crate::bus::{Bus, check_keys, check_message, check_value};
use crate::error::BusError;
use crate::key::{Key, Topic};
use crate::lease::{self, Items, Lease, Owner};
use crate::subscription::{Cause, Event, Source, Subscription};

/// Messages that a topic keeps for subscribers that are slow; those that are slower are told to rescan.
const RING_MESSAGES_MAX: usize = 1024;
/// And their bytes.
const RING_BYTES_MAX: usize = 1 << 20;
/// What all values may take, in bytes. The next one is refused then, as memcached does without eviction.
const VALUES_BYTES_MAX: usize = 64 << 20;
/// What a value takes besides its own bytes.
const VALUE_OVERHEAD_BYTES: usize = 128;

/// The in-process bus. Clones are the same one.
#[derive(Clone, Default)]
pub struct Local(Arc<Mutex<State>>);

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    topics: HashMap<Topic, Ring>,
    values: HashMap<Key, Value>,
    values_bytes: usize,
    leases: HashMap<Key, Held>,
    leases_written: u64,
    /// The number of a topic's first message: above those of topics of the same name that nobody heard any more.
    numbers_from: u64,
}

/// The last messages of a topic.
struct Ring {
    messages: VecDeque<Bytes>,
    bytes: usize,
    /// How often it was wiped, and the number of the next message.
    next: watch::Sender<(u64, u64)>,
}

struct Value {
    content: Bytes,
    expires_at: Instant,
}

struct Held {
    owner: Owner,
    number: u64,
    expires_at: Instant,
}

impl Local {
    /// A bus with nothing on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything, as memcached does when it is restarted: what runs on one process must bear what a
    /// deployment of many has to.
    #[cfg(any(test, feature = "conformance"))]
    pub fn wipe(&self) {
        let mut state = self.state();
        let topics = std::mem::take(&mut state.topics);
        let (leases_written, numbers_from) = (state.leases_written, state.numbers_from);
        *state = State { leases_written, numbers_from, ..State::default() };
        state.topics = topics;
        for ring in state.topics.values_mut() {
            ring.messages.clear();
            ring.bytes = 0;
            ring.next.send_modify(|(wiped, next)| (*wiped, *next) = (*wiped + 1, *next + 1));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ring(&mut self, topic: &Topic) -> &mut Ring {
        let first = self.numbers_from;
        self.topics.entry(topic.clone()).or_insert_with(|| Ring {
            messages: VecDeque::new(),
            bytes: 0,
            next: watch::Sender::new((0, first)),
        })
    }

    fn remove_value(&mut self, key: &Key) {
        if let Some(value) = self.values.remove(key) {
            self.values_bytes -= size(&value.content);
        }
    }

    fn keep(&mut self, key: &Key, value: Bytes, ttl: Duration) -> Result<(), BusError> {
        let now = Instant::now();
        self.remove_value(key);
        if self.values_bytes + size(&value) > VALUES_BYTES_MAX {
            self.remove_expired(now);
        }
        if self.values_bytes + size(&value) > VALUES_BYTES_MAX {
            return Err(BusError::Full { reason: format!("{VALUES_BYTES_MAX} bytes in this process") });
        }
        self.values_bytes += size(&value);
        self.values.insert(key.clone(), Value { content: value, expires_at: now + ttl });
        Ok(())
    }

    fn remove_expired(&mut self, now: Instant) {
        self.values.retain(|_, value| value.expires_at > now);
        self.values_bytes = self.values.values().map(|value| size(&value.content)).sum();
    }

    fn value(&self, key: &Key, now: Instant) -> Option<Bytes> {
        self.values.get(key).filter(|value| value.expires_at > now).map(|value| value.content.clone())
    }
}

fn size(content: &Bytes) -> usize {
    content.len() + VALUE_OVERHEAD_BYTES
}

impl Bus for Local {
    fn publish<'a>(&'a self, topic: &'a Topic, message: Bytes) -> BoxFuture<'a, Result<u64, BusError>> {
        Box::pin(async move {
            check_message(topic, &message)?;
            let mut state = self.state();
            let ring = state.ring(topic);
            let (_, number) = *ring.next.borrow();
            if ring.next.receiver_count() == 0 {
                // Nobody can ever ask for it.
                state.topics.remove(topic);
                state.numbers_from = state.numbers_from.max(number + 1);
                return Ok(number);
            }
            ring.bytes += message.len();
            ring.messages.push_back(message);
            while ring.messages.len() > RING_MESSAGES_MAX || ring.bytes > RING_BYTES_MAX {
                ring.bytes -= ring.messages.pop_front().map_or(0, |oldest| oldest.len());
            }
            ring.next.send_modify(|(_, next)| *next += 1);
            Ok(number)
        })
    }

    fn subscribe(&self, topic: &Topic) -> Subscription {
        let mut next = self.state().ring(topic).next.subscribe();
        let (wiped, position) = *next.borrow_and_update();
        let bus = self.clone();
        let source = LocalSource { bus, topic: topic.clone(), next, wiped, position, began: false };
        Subscription::new(Box::new(source))
    }

    fn acquire<'a>(&'a self, name: &'a Key, ttl: Duration) -> BoxFuture<'a, Result<Option<Lease>, BusError>> {
        Box::pin(lease::acquire(Arc::new(self.clone()), name, ttl))
    }

    fn is_leased<'a>(&'a self, name: &'a Key) -> BoxFuture<'a, Result<bool, BusError>> {
        Box::pin(async move { Ok(self.read(name).await?.is_some()) })
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>, BusError>> {
        Box::pin(async move { Ok(self.state().value(key, Instant::now())) })
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, BusError>> {
        Box::pin(async move {
            check_keys(keys.len())?;
            let (state, now) = (self.state(), Instant::now());
            Ok(keys.iter().map(|key| state.value(key, now)).collect())
        })
    }

    fn set<'a>(&'a self, key: &'a Key, value: Bytes, ttl: Duration) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            let ttl = Duration::from_secs(check_value(key, &value, ttl)?.into());
            self.state().keep(key, value, ttl)
        })
    }

    fn set_many<'a>(
        &'a self,
        values: &'a [(Key, Bytes)],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            check_keys(values.len())?;
            for (key, value) in values {
                let ttl = Duration::from_secs(check_value(key, value, ttl)?.into());
                self.state().keep(key, value.clone(), ttl)?;
            }
            Ok(())
        })
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            check_keys(keys.len())?;
            let mut state = self.state();
            keys.iter().for_each(|key| state.remove_value(key));
            Ok(())
        })
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            self.state().remove_value(key);
            Ok(())
        })
    }
}

struct LocalSource {
    bus: Local,
    topic: Topic,
    next: watch::Receiver<(u64, u64)>,
    wiped: u64,
    /// The number of the message to come.
    position: u64,
    began: bool,
}

impl LocalSource {
    /// The event that is there already.
    fn take(&mut self) -> Option<(u64, Event)> {
        if !self.began {
            self.began = true;
            return Some((self.position.saturating_sub(1), Event::Rescan(Cause::Began)));
        }
        let state = self.bus.state();
        let (wiped, next) = *self.next.borrow_and_update();
        if wiped != self.wiped {
            (self.wiped, self.position) = (wiped, next);
            return Some((next.saturating_sub(1), Event::Rescan(Cause::Reset)));
        }
        let behind = next - self.position;
        if behind == 0 {
            return None;
        }
        let messages = &state.topics.get(&self.topic)?.messages;
        let at = (messages.len() as u64).checked_sub(behind).and_then(|at| messages.get(at as usize));
        let Some(message) = at else {
            self.position = next;
            return Some((next.saturating_sub(1), Event::Rescan(Cause::Hole)));
        };
        let number = self.position;
        self.position += 1;
        Some((number, Event::Message(message.clone())))
    }
}

impl Source for LocalSource {
    fn next(&mut self) -> BoxFuture<'_, (u64, Event)> {
        Box::pin(async move {
            loop {
                if let Some(event) = self.take() {
                    return event;
                }
                // The sender lives as long as anybody listens: a ring is removed only when nobody does.
                if self.next.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
    }
}

impl Items for Local {
    fn add<'a>(
        &'a self,
        key: &'a Key,
        owner: Owner,
        ttl_s: u32,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>> {
        Box::pin(async move {
            let (mut state, now) = (self.state(), Instant::now());
            state.leases.retain(|_, held| held.expires_at > now);
            if state.leases.contains_key(key) { Ok(None) } else { Ok(Some(state.hold(key, owner, ttl_s))) }
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a Key,
        owner: Owner,
        number: u64,
        ttl_s: u32,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>> {
        Box::pin(async move {
            let (mut state, now) = (self.state(), Instant::now());
            let held = state.leases.get(key).is_some_and(|h| h.number == number && h.expires_at > now);
            Ok(held.then(|| state.hold(key, owner, ttl_s)))
        })
    }

    fn read<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<(Owner, u64)>, BusError>> {
        Box::pin(async move {
            let (state, now) = (self.state(), Instant::now());
            let held = state.leases.get(key).filter(|held| held.expires_at > now);
            Ok(held.map(|held| (held.owner, held.number)))
        })
    }

    fn remove<'a>(&'a self, key: &'a Key, number: u64) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            self.state().leases.retain(|held_key, held| held_key != key || held.number != number);
            Ok(())
        })
    }
}

impl State {
    fn hold(&mut self, key: &Key, owner: Owner, ttl_s: u32) -> u64 {
        self.leases_written += 1;
        let number = self.leases_written;
        let expires_at = Instant::now() + Duration::from_secs(ttl_s.into());
        self.leases.insert(key.clone(), Held { owner, number, expires_at });
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus_suite;
    use crate::conformance::Fixture;

    fn fixture() -> Fixture {
        let bus = Local::new();
        let (open, wipe) = (bus.clone(), bus);
        Fixture {
            open: Box::new(move || Arc::new(open.clone())),
            wipe: Box::new(move || wipe.wipe()),
            keep: Box::new(()),
        }
    }

    bus_suite!(fixture());
}
