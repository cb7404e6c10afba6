//! The HTTP read API: devices, their frames and their gaps, for readers with a token.
//!
//! What it promises to its clients is in `docs/api.md`. One request's way: [`server`] takes the connection,
//! [`routes`] finds the handler and logs the request's end, [`auth`] says whose token it is and which devices
//! that reader sees, [`query`] and [`frames_query`] read the parameters, [`roster`] finds the devices and [`walk`] their
//! frames, [`page`] or [`stream`] reads them on a thread that may block, or [`rows`] what is made of them, [`encode`] writes
//! them, and [`refusal`] maps whatever goes wrong to HTTP. [`openapi`] describes all of it, and [`docs`] shows that.

mod answer;
mod auth;
mod buckets;
mod code;
mod commands;
mod commands_body;
mod commands_query;
mod cursor;
mod devices;
mod docs;
mod downsample;
pub(crate) mod encode;
mod encounters;
mod encounters_query;
mod etag;
mod fault;
mod frames;
mod frames_query;
mod gaps;
mod health;
mod live;
mod media;
mod metrics;
mod openapi;
mod page;
mod paged;
mod params;
mod query;
mod reads;
mod refusal;
mod roster;
mod routes;
mod rows;
mod run;
mod server;
mod stall;
mod state;
mod stream;
mod streamed;
mod track;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

pub use commands::CommandDesk;
pub use metrics::ApiMetrics;
pub use server::serve;
pub use state::{ApiLimits, ApiState};
