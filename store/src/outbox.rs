//! The outbox: events that somebody is to be told of, and what became of telling.
//!
//! An event is found by whoever *watches* (a rule's state and the events it brought about are entered together, with the
//! place in the journals up to which was looked), *routed* to the subscriptions that want it (one delivery each), and
//! *delivered*. Each of these duties is cut into [`SHARDS`], of which each is done by one process at a time, by a claim
//! that lasts for a while; a claim saves work, and its token, checked in each change, carries the safety: whoever slept
//! through its end gets through with nothing. All times are those of the outbox's own clock: the database's, if there is
//! one.
//!
//! What an event causes has ids that follow from the event, so what is done twice is done once.

use std::time::Duration;

use trough_protocol::{DeviceId, Micros};

use crate::BoxFuture;
use crate::event::{Event, EventId};
use crate::names::RuleName;
use crate::subscription::{PushTokenId, SubscriptionId};

mod attempt;
pub(crate) mod check;
mod delivery;
mod entered;
mod error;
mod shard;
pub(crate) mod slot;
mod test_event;
mod watching;

pub use attempt::{Attempt, Outcome};
pub use delivery::{Delivery, DeliveryFilter, DeliveryId, DeliveryState, NewDelivery, Queue};
pub use entered::{EnteredEvent, EventFilter};
pub use error::OutboxError;
pub use shard::{Claim, Duty, Shard};
pub use test_event::tests_of;
pub use watching::{WatchState, WatchStep};

/// Into how many parts each duty is cut. Part of what is stored: it never changes.
pub const SHARDS: u16 = 8;
/// Longest life of a claim.
pub const CLAIM_MAX: Duration = Duration::from_secs(60);
/// Largest [`WatchState::state`], in bytes.
pub const STATE_BYTES_MAX: usize = 1024;
/// Largest [`WatchStep::place`], in bytes.
pub const PLACE_BYTES_MAX: usize = 256 * 1024;
/// Most states, and most events, that one step has.
pub const STEP_MAX: usize = 1_000;
/// Most deliveries that are made at a time.
pub const DELIVERIES_MAX: usize = 10_000;
/// Most of whatever is returned at a time.
pub const PAGE_MAX: usize = 1_000;
/// Most subscriptions that a [`DeliveryFilter`] names.
pub const SUBSCRIPTIONS_LISTED_MAX: usize = 10_000;
/// Most devices that an [`EventFilter`] names.
pub const DEVICES_LISTED_MAX: usize = 1_000;
/// Longest [`NewDelivery::key`], in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// What is kept of what was said of a delivery, in bytes.
pub const SAID_BYTES_MAX: usize = 512;
/// Most deliveries of a subscription that wait. One more, and the subscription is to be disabled.
pub const PENDING_MAX: u64 = 10_000;
/// For so long after it was [resumed](Outbox::resume) a subscription may have more waiting, and is not to be disabled for that:
/// what is made for it is dropped, until there is room. A day is what it takes to try everything once more.
pub const RESUMED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// The part of them that one phone may have waiting. What is made for it above that is dropped, so that one that cannot be
/// reached takes nothing from its owner's others.
pub const PHONE_PENDING_PART: u64 = 10;

/// The outbox. What a method returns is durable, and seen by every later call, in this process or another.
///
/// Cancel safety: as of a [`Registry`](crate::Registry). A change whose future was dropped may have had its effect; doing
/// it again does no harm.
pub trait Outbox: Send + Sync + 'static {
    /// The outbox's clock.
    fn now(&self) -> BoxFuture<'_, Result<Micros, OutboxError>>;

    /// Claims a part of a duty for `ttl` (at most [`CLAIM_MAX`]) from now on, or lengthens the owner's own claim, which keeps its
    /// token. `None` if somebody else has it. `owner` is random for each process.
    fn claim(
        &self,
        shard: Shard,
        owner: [u8; 16],
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<Claim>, OutboxError>>;

    /// Gives a claim back, so that others need not wait. One that was taken over is left alone.
    fn release(&self, claim: Claim) -> BoxFuture<'_, Result<(), OutboxError>>;

    /// Up to where a part of [`Duty::Watch`] or [`Duty::Presence`] has come; `None` before its first step.
    fn place(&self, shard: Shard) -> BoxFuture<'_, Result<Option<Vec<u8>>, OutboxError>>;

    /// States of a part of [`Duty::Watch`] or [`Duty::Presence`], rising by device and rule, behind the one that is given.
    fn states(
        &self,
        shard: Shard,
        after: Option<(DeviceId, RuleName)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<WatchState>, OutboxError>>;

    /// Enters what watching has come to, all or nothing. An event whose id is there already is left out.
    ///
    /// # Errors
    /// [`OutboxError::Fenced`]; [`OutboxError::Invalid`] if there is too much of it.
    fn watched(&self, claim: Claim, step: WatchStep) -> BoxFuture<'_, Result<(), OutboxError>>;

    /// Enters events that no rule found, such as that of a retention run, in order. Those whose ids are there already are left
    /// out.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] if there are more than [`STEP_MAX`].
    fn enter(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), OutboxError>>;

    /// Events of a part of [`Duty::Route`] that are not routed yet, in the order in which they were entered.
    fn unrouted(&self, shard: Shard, limit: usize) -> BoxFuture<'_, Result<Vec<EnteredEvent>, OutboxError>>;

    /// Makes deliveries of events, all or nothing, in the order that is given, and notes that the events are routed. A
    /// delivery that was made already is left out. Returns the subscriptions of which more than [`PENDING_MAX`] wait now;
    /// nothing more is made for these, they are to be disabled. Of those that were [resumed](Outbox::resume) not long ago
    /// it returns none: what is made above the bound is entered as dropped. Of a phone a [part](PHONE_PENDING_PART) of that waits;
    /// what is made above it is entered as dropped. An event that more subscriptions want than one call
    /// takes is routed by several, of which the last one names it.
    ///
    /// # Errors
    /// [`OutboxError::Fenced`]; [`OutboxError::Invalid`] if there are more than [`STEP_MAX`] events or
    /// [`DELIVERIES_MAX`] deliveries.
    fn route(
        &self,
        claim: Claim,
        events: Vec<EventId>,
        deliveries: Vec<NewDelivery>,
    ) -> BoxFuture<'_, Result<Vec<SubscriptionId>, OutboxError>>;

    /// Makes one delivery of an event that nobody else is told of, now: a test. Twice the same is once.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] if more than [`PENDING_MAX`] of the subscription wait.
    fn deliver_test(&self, delivery: NewDelivery) -> BoxFuture<'_, Result<DeliveryId, OutboxError>>;

    /// Which subscriptions of a part of [`Duty::Deliver`] have deliveries waiting.
    fn queues(&self, shard: Shard) -> BoxFuture<'_, Result<Vec<Queue>, OutboxError>>;

    /// The first deliveries that wait, of one subscription, by position; behind them those that are only held, which are not
    /// due and were never tried. Those to some phones are left out. Whoever delivers tries what was due when it was read: what
    /// is held takes in further events until shortly before its time.
    fn pending(
        &self,
        subscription: SubscriptionId,
        without: Vec<PushTokenId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Delivery>, OutboxError>>;

    /// Notes what tries came to, all or nothing. Of a delivery that is finished or forgotten already nothing changes, nor by a
    /// try that was noted already: it had been tried less often before than it was. So noting the same again, as nobody
    /// knows whether the first note was heard, counts nothing twice.
    ///
    /// # Errors
    /// [`OutboxError::Fenced`]; [`OutboxError::Invalid`] if there are more than [`STEP_MAX`], or one of another part.
    fn attempted(&self, claim: Claim, attempts: Vec<Attempt>) -> BoxFuture<'_, Result<(), OutboxError>>;

    /// A subscription is about to be enabled: what is tried again later is due now, and for [`RESUMED_FOR`] it is not one to be
    /// disabled as too many wait. Whoever delivers is told by [`Queue::resumed_at`]. Twice is once.
    fn resume(&self, subscription: SubscriptionId) -> BoxFuture<'_, Result<(), OutboxError>>;

    /// A page of deliveries.
    fn list_deliveries(&self, filter: DeliveryFilter) -> BoxFuture<'_, Result<Vec<Delivery>, OutboxError>>;

    /// One delivery.
    fn get_delivery(&self, id: DeliveryId) -> BoxFuture<'_, Result<Delivery, OutboxError>>;

    /// Has a dead or dropped delivery tried once more, behind all that waits now. One that waits is left alone; one that was
    /// delivered is sent again. Its tries are counted anew, so that it has as many as a new one.
    ///
    /// # Errors
    /// [`OutboxError::NotFound`]; [`OutboxError::Invalid`] if more than [`PENDING_MAX`] of its subscription wait.
    fn replay(&self, id: DeliveryId) -> BoxFuture<'_, Result<Delivery, OutboxError>>;

    /// A page of events.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] if the filter names more than [`DEVICES_LISTED_MAX`] devices.
    fn list_events(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<EnteredEvent>, OutboxError>>;

    /// Forgets deliveries that were finished, and events that were entered, this long ago, some at a time (at most
    /// [`PAGE_MAX`] of each): how many it were; with 0 there are no more. Events that wait to be routed, and what waits to be
    /// delivered, stay.
    fn forget(&self, older_than: Duration, limit: usize) -> BoxFuture<'_, Result<usize, OutboxError>>;

    /// Rises whenever events or deliveries may have come, in this process; other processes are told by the bus, or look.
    fn news(&self) -> tokio::sync::watch::Receiver<u64>;
}
