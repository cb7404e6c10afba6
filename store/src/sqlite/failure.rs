//! What SQLite reports, sorted by what the caller can do.

use std::time::Duration;

use rusqlite::{Error, ErrorCode};

use crate::error::{AuthError, CatalogError, RegistryError};
use crate::object_catalog::AppendError;
use crate::outbox::OutboxError;
use crate::segment_catalog::CommitError;

/// When to try again after a failure that may pass.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A failed statement or commit. Clonable, because one commit fails for everybody who shared it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Busy, out of space, not readable: may pass.
    #[error("{0}")]
    Unavailable(String),
    /// Not what we wrote.
    #[error("{0}")]
    Corrupt(String),
    /// A value that the file cannot hold.
    #[error("{0}")]
    Invalid(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error {
            Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch => {
                    Self::Corrupt(reason)
                }
                ErrorCode::ConstraintViolation | ErrorCode::TooBig => Self::Invalid(reason),
                ErrorCode::DiskFull => Self::Unavailable(format!("{reason}: make room on its disk")),
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                    Self::Unavailable(format!("{reason}: another process is writing for long"))
                }
                _ => Self::Unavailable(reason),
            },
            Error::ToSqlConversionFailure(_) => Self::Invalid(reason),
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..) => Self::Corrupt(reason),
            _ => Self::Unavailable(reason),
        }
    }
}

macro_rules! from_failure {
    ($($error:ty),*) => {$(
        impl From<Failure> for $error {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::Unavailable(reason) => Self::Unavailable { reason, retry_after: RETRY_AFTER },
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

impl From<Failure> for AppendError {
    fn from(failure: Failure) -> Self {
        Self::Catalog(failure.into())
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        Self::Catalog(failure.into())
    }
}

macro_rules! from_sqlite {
    ($($error:ty),*) => {$(
        impl From<Error> for $error {
            fn from(error: Error) -> Self {
                Failure::from(error).into()
            }
        }
    )*};
}

from_sqlite!(RegistryError, CatalogError, AuthError, AppendError, CommitError, OutboxError);
