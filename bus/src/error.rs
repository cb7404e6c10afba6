//! What can go wrong, by what the caller can do about it.

/// The bus did not do what it was asked. Go on without it: nothing but latency may depend on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// It cannot be reached, or did not answer in time. Whether a write happened is open.
    #[error("the bus does not answer ({reason}): going on without it")]
    Unavailable {
        /// Which server, and what it said, for the log.
        reason: String,
    },
    /// It has no room. A message may still be noticed, as one that was lost.
    #[error("the bus has no room ({reason}): give memcached more memory (-m), or put less on it")]
    Full {
        /// Which server, and what it said, for the log.
        reason: String,
    },
    /// The request itself is wrong: change it.
    #[error("{0}")]
    Invalid(String),
}
