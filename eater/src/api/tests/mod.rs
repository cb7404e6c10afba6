//! The API over loopback, on a real journal and a real registry.

mod client;
mod commands;
mod cursors;
mod devices;
mod downsampling;
mod encounters;
mod frames;
mod lifecycle;
mod live;
mod many;
mod openapi;
mod refusals;
mod shapes;
mod streams;
pub(super) mod support;
