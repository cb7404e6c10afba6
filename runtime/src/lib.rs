//! The chassis every service of Trough stands on: time, randomness, shutdown, telemetry, health, and the
//! small HTTP server of the admin port. Nothing here knows a device or a frame, but for [`trace`], which knows how their
//! numbers make a trace's id.

pub mod accept;
pub mod admin;
pub mod clock;
pub mod drain;
pub mod health;
pub mod local;
pub mod metrics;
pub mod problem;
pub mod process;
pub mod random;
pub mod request_id;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod trace;

/// A response whose whole body is at hand.
pub type FullResponse = http::Response<http_body_util::Full<bytes::Bytes>>;
