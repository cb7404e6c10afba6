//! The harness of the whole-system tests: it starts the real processes in temporary directories on loopback
//! addresses of their own, plays devices and readers, good and bad, and checks what the system promises.
//!
//! - [`cluster`]: a deployment in one of its two shapes; kill, stop, restart. [`admin`]: its devices and readers.
//! - [`fleet`]: many well-behaved devices, by the client library.
//! - [`wire`]: one device that may behave as badly as it likes.
//! - [`peer`]: one end of a link, by hand.
//! - [`reader`]: what the API answers. [`outbox`]: rules, and what they found.
//! - [`ledger`]: what was sent, and whether exactly that can be read.
//! - [`data`]: the real data that is sent.
//! - [`duckdb`]: what a stranger finds in history.
//! - [`live`]: clients of live streams that are cut again and again.
//! - [`looker`]: whether what is acknowledged can be read, all the time.
//! - [`servers`]: memcached, a database, object stores, NGINX.
//! - [`stage`]: a deployment over all of them; [`faults`]: what happens to it, by schedule.
//! - [`manifests`]: what `deploy/` renders to.
//! - [`notices`]: a notifier in this process; [`faulty_outbox`]: what it stands on, of which a part does not work.
//! - [`certificates`]: an authority, and files that are rotated.
//! - [`seed`] and [`poll`]: chance that can be repeated, and waiting without sleeping.
//!
//! Nothing here uses a mock, and no test waits for a fixed time to let something happen.

#![allow(clippy::unwrap_used, reason = "in a test, a panic with its place is the report")]
#![allow(clippy::disallowed_methods, reason = "the harness is the outside: it reads its own environment")]

pub mod admin;
pub mod certificates;
pub mod cluster;
pub mod data;
#[cfg(test)]
mod dependencies;
pub mod duckdb;
pub mod faults;
pub mod faulty_outbox;
pub mod fleet;
pub mod ledger;
pub mod live;
pub mod looker;
pub mod manifests;
pub mod notices;
pub mod outbox;
pub mod peer;
pub mod poll;
pub mod process;
pub mod reader;
pub mod seed;
pub mod servers;
pub mod stage;
pub mod upgrade;
pub mod wire;
