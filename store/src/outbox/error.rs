//! What an outbox answers when it did not do what it was asked.

use std::time::Duration;

use super::Shard;

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
