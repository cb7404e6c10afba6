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

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trough_protocol::{DeviceId, Micros};

use crate::BoxFuture;
use crate::event::{Event, EventId, EventKind};
use crate::hashed_id::hashed_id;
use crate::names::{Group, RuleName};
use crate::subscription::{PushTokenId, SubscriptionId};

pub(crate) mod check;
pub(crate) mod slot;
mod test_event;

pub use test_event::tests_of;

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

hashed_id!(
    /// A delivery's id: it follows from the event, the subscription and the phone.
    DeliveryId,
    "dlv_"
);

/// What is done by one process at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Duty {
    /// Looking at frames; cut by device.
    Watch,
    /// Deciding which devices are offline; cut by device.
    Presence,
    /// Making deliveries of events; cut by what the event is about.
    Route,
    /// Delivering; cut by subscription.
    Deliver,
}

impl Duty {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Presence => "presence",
            Self::Route => "route",
            Self::Deliver => "deliver",
        }
    }
}

/// A part of a duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// Of which duty.
    pub duty: Duty,
    /// Which part, below [`SHARDS`].
    pub number: u16,
}

impl Shard {
    /// The part of a duty that something with this name belongs to.
    pub fn of(duty: Duty, name: &str) -> Self {
        // The 32-bit FNV-1a hash: its values are stored by implication, so it is written down here.
        let hash = name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self { duty, number: (hash % u32::from(SHARDS)) as u16 }
    }

    /// The part of [`Duty::Route`] that an event belongs to.
    pub fn of_event(event: &Event) -> Self {
        let device = event.device.as_ref().map(DeviceId::as_str);
        let about = device.or_else(|| event.group.as_ref().map(Group::as_str));
        Self::of(Duty::Route, about.unwrap_or_else(|| event.kind.as_str()))
    }

    /// The part of [`Duty::Deliver`] that a subscription belongs to.
    pub fn of_subscription(subscription: SubscriptionId) -> Self {
        Self::of(Duty::Deliver, &subscription.to_string())
    }

    /// All parts of a duty.
    pub fn all(duty: Duty) -> impl Iterator<Item = Self> {
        (0..SHARDS).map(move |number| Self { duty, number })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.duty.as_str(), self.number)
    }
}

/// The right to do a part of a duty, until it ends or somebody else takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Which part.
    pub shard: Shard,
    /// Rises whenever the claim changes hands.
    pub token: u64,
}

/// What a rule knows of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchState {
    /// Whose.
    pub device: DeviceId,
    /// By which rule.
    pub rule: RuleName,
    /// And which version of it.
    pub version: u64,
    /// What it knows, as whoever watches writes it; empty: nothing, forget it.
    pub state: Vec<u8>,
}

/// What watching has come to.
#[derive(Debug, Clone, Default)]
pub struct WatchStep {
    /// Up to where in the journals was looked, as whoever watches writes it.
    pub place: Vec<u8>,
    /// States that have changed; each device and rule once.
    pub states: Vec<WatchState>,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// An event that was entered.
#[derive(Debug, Clone)]
pub struct EnteredEvent {
    /// The event.
    pub event: Event,
    /// When it was entered.
    pub entered_at: Micros,
}

/// A delivery to be made.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// To whom.
    pub subscription: SubscriptionId,
    /// To which phone, if it is a push.
    pub phone: Option<PushTokenId>,
    /// Of what.
    pub event: Event,
    /// Not before this time; 0: at once.
    pub not_before: Micros,
    /// Told of together: if a delivery of this subscription, phone and key is held already, it takes this event in the place
    /// of its own, and counts. If none is and one went, or is to go, less than [`NewDelivery::every`] ago, this one is
    /// held until that time is over. What was tried or is about to be takes no further events: whoever gets it twice
    /// takes the second for a copy.
    pub key: Option<String>,
    /// See `key`.
    pub every: Duration,
    /// Not to be sent at all, with the reason: entered as [`DeliveryState::Dropped`].
    pub dropped: Option<String>,
}

impl NewDelivery {
    /// Its id.
    pub fn id(&self) -> DeliveryId {
        let phone = self.phone.map(|phone| phone.0).unwrap_or_default();
        DeliveryId::of(&[&self.event.id.0, &self.subscription.0, &phone])
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It waits, or is tried again.
    Pending,
    /// It was taken.
    Delivered,
    /// It will not be tried again unless somebody asks: a dead letter.
    Dead,
    /// It was not to be sent.
    Dropped,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Dead, Self::Dropped];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Dropped => "dropped",
        }
    }
}

/// A delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// To whom.
    pub subscription: SubscriptionId,
    /// To which phone, if it is a push.
    pub phone: Option<PushTokenId>,
    /// Its place in the subscription's queue: from 1, rising in the order in which deliveries were made or replayed.
    pub position: u64,
    /// Of what: the last event, if several are told of together.
    pub event: Event,
    /// How many events are told of together.
    pub events: u32,
    /// What became of it.
    pub state: DeliveryState,
    /// How often it was tried. It never falls: by it a late note of an earlier try is known.
    pub attempts: u32,
    /// How many of these were before it was last replayed.
    pub attempts_before_replay: u32,
    /// Not tried before this time.
    pub next_at: Micros,
    /// What the last try said, at most 512 bytes.
    pub last: Option<String>,
    /// When it was made.
    pub created_at: Micros,
    /// When it was delivered or given up.
    pub finished_at: Option<Micros>,
}

/// What a try came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Delivered,
    /// Try again at this time.
    Retry(Micros),
    /// It was not tried, and is not to be before this time. This counts as no try.
    Held(Micros),
    /// Never again.
    Dead,
    /// It is not to be sent any more (its phone or its subscription is gone). This counts as no try.
    Dropped,
}

/// A try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Of which delivery.
    pub delivery: DeliveryId,
    /// How often it had been tried before.
    pub before: u32,
    /// How it came out.
    pub outcome: Outcome,
    /// What the other side said, cut to 512 bytes.
    pub said: String,
}

/// A subscription that has deliveries waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Whose.
    pub subscription: SubscriptionId,
    /// How many wait.
    pub pending: u64,
    /// When it was last [resumed](Outbox::resume), if ever: all that was known of its queue before is out of date.
    pub resumed_at: Micros,
}

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Of these subscriptions; of all, if `None`.
    pub subscriptions: Option<Vec<SubscriptionId>>,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Only those made before this one: the last of the page before. Newest first.
    pub before: Option<(Micros, DeliveryId)>,
    /// At most so many, up to [`PAGE_MAX`].
    pub limit: usize,
}

/// Which events to list.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of these devices; of all and of none, if `None`.
    pub devices: Option<Vec<DeviceId>>,
    /// Of this kind.
    pub kind: Option<EventKind>,
    /// Only those entered before this one: the last of the page before. Newest first.
    pub before: Option<(Micros, EventId)>,
    /// At most so many, up to [`PAGE_MAX`].
    pub limit: usize,
}

/// The outbox did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// Somebody else does this now: drop what was prepared, and begin anew if the claim is had again.
    #[error("the claim on {0} was taken over: what was prepared under it is dropped")]
    Fenced(Shard),
    /// There is no such thing.
    #[error("there is no {what} {id}: list what there is; what is finished is forgotten after a while")]
    NotFound {
        /// An event or a delivery.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The request itself is wrong: change it.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be reached, is too busy, or its disk is full: nothing is known to have changed; try again.
    #[error("the outbox does not answer ({reason}): try again in {} s", retry_after.as_secs_f64())]
    Unavailable {
        /// What it said, for the log.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// Its content makes no sense: a person must look.
    #[error("the outbox is damaged ({0}): restore it from a backup")]
    Corrupt(String),
}

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
