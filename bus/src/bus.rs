//! What every bus does.

use std::time::Duration;

use bytes::Bytes;

use crate::BoxFuture;
use crate::error::BusError;
use crate::key::{Key, Topic};
use crate::lease::Lease;
use crate::subscription::Subscription;

/// Largest message of a topic, in bytes: a subscriber holds up to 256 of them.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Largest value, in bytes: memcached takes items of 1 MiB with what stands around them.
pub const VALUE_BYTES_MAX: usize = 1_000_000;
/// Longest life of a value: memcached takes anything above for a date.
pub const VALUE_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Most keys one [`Bus::get_many`] takes.
pub const KEYS_MAX: usize = 256;

/// The bus. Every call has a deadline of its own (500 ms), and fails at once while a server is known to be away.
///
/// Nothing here is durable, and nothing here is proof: whoever needs safety takes it from the catalog's unique
/// keys and fencing tokens.
///
/// Cancel safety: dropping a future that changes something leaves it open whether the change happens.
pub trait Bus: Send + Sync + 'static {
    /// Tells all who subscribe to a topic. Write down first what the message is about: a subscriber that missed
    /// it looks there.
    ///
    /// Gives the message's number, which no other of the topic has: whatever is published later has a higher one, by
    /// whomever, until the bus is wiped ([`crate::Cause::Reset`]).
    ///
    /// # Errors
    /// [`BusError::Invalid`] above [`MESSAGE_BYTES_MAX`]; the others leave it open whether it was heard.
    fn publish<'a>(&'a self, topic: &'a Topic, message: Bytes) -> BoxFuture<'a, Result<u64, BusError>>;

    /// What is published from now on; see [`Subscription::next`].
    fn subscribe(&self, topic: &Topic) -> Subscription;

    /// Takes a lease unless somebody has it; `None` if so. `ttl` is how long others wait after its holder has
    /// died, in whole seconds from 3 to 60.
    ///
    /// # Errors
    /// Those of the bus. The lease may then be nobody's for `ttl`.
    fn acquire<'a>(&'a self, name: &'a Key, ttl: Duration) -> BoxFuture<'a, Result<Option<Lease>, BusError>>;

    /// Whether somebody has a lease. The answer is old when it comes, as every answer of the bus.
    fn is_leased<'a>(&'a self, name: &'a Key) -> BoxFuture<'a, Result<bool, BusError>>;

    /// A value, if it is there and has not expired.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>, BusError>>;

    /// Values in the order of their keys, at most [`KEYS_MAX`].
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, BusError>>;

    /// Keeps a value for `ttl` at the most, counted in whole seconds and rounded up, to [`VALUE_TTL_MAX`].
    ///
    /// # Errors
    /// [`BusError::Invalid`] above [`VALUE_BYTES_MAX`] or for a `ttl` of nothing.
    fn set<'a>(&'a self, key: &'a Key, value: Bytes, ttl: Duration) -> BoxFuture<'a, Result<(), BusError>>;

    /// Keeps small values in one round trip, at most [`KEYS_MAX`], as [`Bus::set`] does each.
    ///
    /// # Errors
    /// That of the first that was not kept; the others may be.
    fn set_many<'a>(
        &'a self,
        values: &'a [(Key, Bytes)],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), BusError>>;

    /// Removes a value. One that is not there is removed already.
    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<(), BusError>>;

    /// Removes values in one round trip, at most [`KEYS_MAX`].
    fn delete_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<(), BusError>>;
}

/// Checks a message's size before anything is sent.
pub(crate) fn check_message(topic: &Topic, message: &[u8]) -> Result<(), BusError> {
    if message.len() <= MESSAGE_BYTES_MAX {
        return Ok(());
    }
    Err(BusError::Invalid(format!(
        "a message of {} bytes to topic {topic}: {MESSAGE_BYTES_MAX} bytes at the most, publish a pointer to the rest",
        message.len()
    )))
}

/// Checks a value and its life, and gives the life in seconds.
pub(crate) fn check_value(key: &Key, value: &[u8], ttl: Duration) -> Result<u32, BusError> {
    if value.len() > VALUE_BYTES_MAX {
        let bytes = value.len();
        return Err(BusError::Invalid(format!(
            "a value of {bytes} bytes under {key}: {VALUE_BYTES_MAX} bytes at the most"
        )));
    }
    if ttl.is_zero() {
        return Err(BusError::Invalid(format!("a value under {key} for no time: give it a second or more")));
    }
    let ttl = ttl.min(VALUE_TTL_MAX);
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    Ok(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// Checks how many keys a call has.
pub(crate) fn check_keys(count: usize) -> Result<(), BusError> {
    if count <= KEYS_MAX {
        return Ok(());
    }
    Err(BusError::Invalid(format!("{count} keys at once: {KEYS_MAX} at the most")))
}
