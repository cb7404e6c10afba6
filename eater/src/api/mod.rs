//! The HTTP API: devices, their frames and their gaps, what devices are asked to do, and what is told of them, for readers
//! with a token.
//!
//! What it promises to its clients is in `docs/api.md`. One request's way: [`server`] takes the connection,
//! [`routes`] finds the handler and logs the request's end, [`auth`] says whose token it is and which devices
//! that reader sees, [`query`] and [`frames_query`] read the parameters, [`roster`] finds the devices and [`walk`] their
//! frames, [`page`] or [`stream`] reads them on a thread that may block, or [`rows`] what is made of them, [`encode`] writes
//! them, and [`refusal`] maps whatever goes wrong to HTTP. What changes
//! something reads its [`body`], and asks the stores of its desk: [`commands`], or [`notices`] for [`subscriptions`],
//! [`push_tokens`], [`deliveries`], [`events`] and [`rules`]. [`openapi`] describes all of it, and [`docs`] shows that.

mod answer;
mod auth;
mod body;
mod buckets;
mod code;
mod commands;
mod commands_body;
mod commands_query;
mod cursor;
mod deliveries;
mod devices;
mod docs;
mod downsample;
pub(crate) mod encode;
mod encounters;
mod encounters_query;
mod etag;
mod event_json;
mod events;
mod fault;
mod frames;
mod frames_query;
mod gaps;
mod health;
mod id_page;
mod live;
mod mark;
mod media;
mod metrics;
mod no_parameters;
mod notice_refusal;
mod notices;
mod openapi;
mod page;
mod paged;
mod params;
mod patience;
mod push_tokens;
mod query;
mod reads;
mod refusal;
mod roster;
mod routes;
mod rows;
mod rule_forms;
mod rules;
mod run;
mod server;
mod sight;
mod stall;
mod state;
mod stream;
mod streamed;
mod subscription_acts;
mod subscription_body;
mod subscriptions;
mod track;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

pub use commands::CommandDesk;
pub use metrics::ApiMetrics;
pub use notices::NoticeDesk;
pub use server::serve;
pub use state::{ApiLimits, ApiState};
