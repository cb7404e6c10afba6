//! TLS with certificates from files, which are read again when they change: whoever rotates them (cert-manager, an
//! ACME client) restarts nothing.
//!
//! [`files`] reads them, [`reloading`] holds what is in use, [`mod@watch`] looks for changes, [`accept`] shakes hands
//! with clients, and [`explain`] says in plain words why a handshake failed.

pub mod accept;
pub mod explain;
pub mod files;
pub mod reloading;
pub mod watch;

pub use files::{Files, Part, TlsError};
pub use reloading::{ClientTls, ServerTls};
pub use watch::{Purpose, TlsMetrics, watch};
