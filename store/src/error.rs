//! What can go wrong, by what the caller can do about it.

use std::time::Duration;

use trough_protocol::DeviceId;

/// The registry did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// There is no such thing: check the name.
    #[error("there is no {what} {name:?}: check the name, or add it first")]
    NotFound {
        /// A device or a reader.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The name is taken: choose another, or work with what has it.
    #[error("{what} {name:?} exists already: choose another name (those of revoked devices stay taken)")]
    AlreadyExists {
        /// A device or a reader.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The device was revoked: refuse it. Its id is never given out again.
    #[error("device {0:?} was revoked, for good: add a device with another id")]
    Revoked(DeviceId),
    /// The request itself is wrong: change it.
    #[error("{0}")]
    Invalid(String),
    /// The registry cannot be reached or is too busy: nothing is known to have changed; try again.
    #[error("the registry does not answer ({reason}): try again in {} s", retry_after.as_secs_f64())]
    Unavailable {
        /// What it said, for the log.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// Its content makes no sense: a person must look.
    #[error("the registry is damaged ({0}): restore it from a backup")]
    Corrupt(String),
}

/// A token was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not a token, or none of ours, or its secret is wrong. Refuse (401), and do not say which.
    #[error("the token is not known: check that it is complete and of this deployment")]
    Unknown,
    /// It was valid once. Refuse (401); only its owner learns this, as the secret was right.
    #[error("the token was revoked: get a new one from the operator")]
    Revoked,
    /// It was replaced, and the time both were valid is over. Refuse (401).
    #[error("the token has expired: use the one that replaced it")]
    Expired,
    /// Nobody can tell just now. Refuse with a time to come back (503).
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// The catalog did not do what it was asked. All of it can be rebuilt from the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// This journal file is already in the catalog with other figures: rebuild the catalog.
    #[error(
        "journal file {file_id} is in the catalog with other figures: rebuild the catalog from the journal"
    )]
    Conflict {
        /// The file.
        file_id: u64,
    },
    /// The request itself is wrong: change it.
    #[error("{0}")]
    Invalid(String),
    /// The catalog is too busy, or its disk is full: nothing changed; try again.
    #[error("the catalog does not answer ({reason}): try again in {} s", retry_after.as_secs_f64())]
    Unavailable {
        /// What it said, for the log.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// Its content makes no sense: rebuild it.
    #[error("the catalog is damaged ({0}): rebuild it from the journal")]
    Corrupt(String),
}
