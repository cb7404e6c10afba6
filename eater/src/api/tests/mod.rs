//! The API over loopback, on a real journal and a real registry.

mod client;
mod cursors;
mod devices;
mod frames;
mod lifecycle;
mod openapi;
mod refusals;
mod streams;
pub(super) mod support;
