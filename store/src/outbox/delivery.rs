//! Deliveries: to be made, made, waiting, and listed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use crate::event::Event;
use crate::hashed_id::hashed_id;
use crate::subscription::{PushTokenId, SubscriptionId};

hashed_id!(
    /// A delivery's id: it follows from the event, the subscription and the phone.
    DeliveryId,
    "dlv_"
);

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

/// A subscription that has deliveries waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Whose.
    pub subscription: SubscriptionId,
    /// How many wait.
    pub pending: u64,
    /// When it was last [resumed](super::Outbox::resume), if ever: all that was known of its queue before is out of date.
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
    /// At most so many, up to [`PAGE_MAX`](super::PAGE_MAX).
    pub limit: usize,
}
