//! The API over loopback, on a real journal and a real registry.

mod client;
mod commands;
mod cursors;
mod deliveries;
mod devices;
mod downsampling;
mod encounters;
mod events;
mod frames;
mod lifecycle;
mod live;
mod live_order;
mod many;
mod openapi;
mod push_tokens;
mod refusals;
mod rules;
mod shapes;
mod streams;
mod subscriptions;
pub(super) mod support;
