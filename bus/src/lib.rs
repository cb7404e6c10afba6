//! The bus between processes: doorbells, leases, and small values that expire ([`Bus`]).
//!
//! It is a doorbell and a scratchpad, never the ledger: whatever is on it may be gone the next moment, and only
//! latency suffers. Two implementations pass one conformance suite: [`local::Local`] inside of one process, and
//! [`memcached::Memcached`] for a deployment of many.

use std::future::Future;
use std::pin::Pin;

mod bus;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod deployment;
pub mod devices;
pub mod envelope;
pub mod error;
pub mod key;
pub mod lease;
pub mod local;
pub mod memcached;
pub mod seal;
pub mod subscription;

pub use bus::{Bus, KEYS_MAX, MESSAGE_BYTES_MAX, VALUE_BYTES_MAX, VALUE_TTL_MAX};
pub use deployment::Deployment;
pub use error::BusError;
pub use key::{Environment, Key, Topic};
pub use lease::Lease;
pub use subscription::{Cause, Event, Subscription};

/// What the methods of [`Bus`] return: a future in a box, so that services hold an `Arc<dyn Bus>`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
