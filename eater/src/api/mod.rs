//! The HTTP read API: devices, their frames and their gaps, for readers with a token.
//!
//! What it promises to its clients is in `docs/api.md`. One request's way: [`server`] takes the connection,
//! [`routes`] finds the handler and logs the request's end, [`auth`] says whose token it is and which devices
//! that reader sees, [`query`] reads the parameters, [`page`] or [`stream`] reads the journal on a thread that
//! may block, [`encode`] writes the frames, and [`refusal`] maps whatever goes wrong to HTTP.
//! [`openapi`] describes all of it, and [`docs`] shows that.

mod answer;
mod auth;
mod code;
mod cursor;
mod devices;
mod docs;
mod encode;
mod etag;
mod fault;
mod frames;
mod gaps;
mod health;
mod media;
mod metrics;
mod openapi;
mod page;
mod params;
mod query;
mod reads;
mod refusal;
mod routes;
mod run;
mod server;
mod stall;
mod state;
mod stream;
mod track;
mod watch;

#[cfg(test)]
mod tests;

pub use metrics::ApiMetrics;
pub use server::serve;
pub use state::{ApiLimits, ApiState};
