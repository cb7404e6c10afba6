//! What the database reports, sorted by what the caller can do.

use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::error::{AuthError, CatalogError, RegistryError};
use crate::outbox::OutboxError;

/// When to try again after a failure that may pass.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The server's code for a second document with a unique key (MongoDB, `src/mongo/base/error_codes.yml`).
const DUPLICATE_KEY: i32 = 11000;
/// A document above 16 MiB, by the server's two names for it.
const TOO_LARGE: [i32; 2] = [10334, 17280];

/// An operation that did not succeed. None of them has a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// No server answers, or it does not let us in: may pass. Whether a write happened is not known.
    #[error("{0}")]
    Unreachable(String),
    /// The server answers, but not with what was asked for: may pass.
    #[error("{0}")]
    Unavailable(String),
    /// A document with the same unique key exists. Handle this one before it becomes another error.
    #[error("{0}")]
    Duplicate(String),
    /// Not what we wrote.
    #[error("{0}")]
    Corrupt(String),
    /// Something that the database cannot hold.
    #[error("{0}")]
    Invalid(String),
}

impl Failure {
    /// Whether it says something of the connection rather than of the work.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = error.kind.to_string();
        match &*error.kind {
            ErrorKind::ServerSelection { .. }
            | ErrorKind::Io(_)
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::DnsResolve { .. }
            | ErrorKind::InvalidTlsConfig { .. } => Self::Unreachable(reason),
            ErrorKind::Authentication { .. } => {
                Self::Unreachable(format!("{reason}: check user, password and authSource of the URL"))
            }
            ErrorKind::Bson(_) => Self::Corrupt(reason),
            ErrorKind::InvalidArgument { .. } => Self::Invalid(reason),
            _ => match code(&error) {
                Some(DUPLICATE_KEY) => Self::Duplicate(reason),
                Some(code) if TOO_LARGE.contains(&code) => Self::Invalid(reason),
                _ => Self::Unavailable(reason),
            },
        }
    }
}

/// The server's code, wherever the driver puts it.
fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::InsertMany(error) => error.write_errors.as_ref()?.first().map(|error| error.code),
        _ => None,
    }
}

macro_rules! from_failure {
    ($($error:ty),*) => {$(
        impl From<Failure> for $error {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::Unreachable(reason) | Failure::Unavailable(reason) | Failure::Duplicate(reason) => {
                        Self::Unavailable { reason, retry_after: RETRY_AFTER }
                    }
                    Failure::Corrupt(reason) => Self::Corrupt(reason),
                    Failure::Invalid(reason) => Self::Invalid(reason),
                }
            }
        }
    )*};
}

from_failure!(RegistryError, CatalogError, OutboxError);

impl From<Failure> for AuthError {
    fn from(failure: Failure) -> Self {
        Self::Registry(failure.into())
    }
}
