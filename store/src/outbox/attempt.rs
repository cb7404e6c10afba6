//! Tries to deliver.

use trough_protocol::Micros;

use super::DeliveryId;

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
