//! What an operator may set, with the defaults.

use std::time::Duration;

use trough_protocol::limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX};
use trough_runtime::tls::ServerTls;
use trough_runtime::trace::Tracer;

use crate::uplink::LinkSecurity;

/// The limits and timings of a feeder.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads that each carry a part of the sessions, with links of their own.
    pub shards: usize,
    /// Most sessions at once; further ones get 503.
    pub sessions_max: usize,
    /// Most connections at once, sessions included; further ones wait in the kernel.
    pub connections_max: usize,
    /// Largest payload of a frame, in bytes.
    pub frame_bytes_max: usize,
    /// Largest WebSocket message, in bytes.
    pub message_bytes_max: usize,
    /// Bytes of one session that may wait for their ack before its socket is not read any further.
    pub window_bytes: usize,
    /// Largest batch that is filled, in bytes.
    pub batch_bytes: usize,
    /// Links of each shard to a name with a single address, which may be a load balancer's. It leads them to
    /// different eaters; with two, the sessions of one that dies move at once.
    pub links_per_address: usize,
    /// How often the names of the eaters are resolved again.
    pub resolve_interval: Duration,
    /// The shortest life of a link over TCP: then another is opened and takes over.
    pub link_age_min: Duration,
    /// The longest; each link's is random in between, so that they do not all end together.
    pub link_age_max: Duration,
    /// Over how long sessions move to an eater that is new.
    pub move_spread: Duration,
    /// How long a connection may take until its request is complete.
    pub request_timeout: Duration,
    /// How long a session may take until its hello has come.
    pub hello_timeout: Duration,
    /// How often a session is pinged.
    pub ping_interval: Duration,
    /// How long its pong may take.
    pub pong_timeout: Duration,
    /// How long a device may leave what is sent to it unread.
    pub slow_reader_timeout: Duration,
    /// How long a device that was taken over is asked to wait, at the least.
    pub takeover_delay: Duration,
    /// Over how long the sessions are closed when the feeder stops.
    pub drain_spread: Duration,
    /// How long new connections are still accepted when the feeder stops.
    pub drain_linger: Duration,
    /// TLS for devices; without it the port speaks plain HTTP.
    pub tls: Option<ServerTls>,
    /// What links are secured with.
    pub links: LinkSecurity,
    /// Where traces of runs go.
    pub tracer: Tracer,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: std::thread::available_parallelism().map_or(1, |n| n.get().min(16)),
            sessions_max: 16_384,
            connections_max: 18_000,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            message_bytes_max: 256 * 1024,
            window_bytes: 256 * 1024,
            batch_bytes: 512 * 1024,
            links_per_address: 2,
            resolve_interval: Duration::from_secs(10),
            link_age_min: Duration::from_secs(10 * 60),
            link_age_max: Duration::from_secs(20 * 60),
            move_spread: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            hello_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            pong_timeout: Duration::from_secs(8),
            slow_reader_timeout: Duration::from_secs(30),
            takeover_delay: Duration::from_secs(10),
            drain_spread: Duration::from_secs(5),
            drain_linger: Duration::from_secs(5),
            tls: None,
            links: LinkSecurity::default(),
            tracer: Tracer::off(),
        }
    }
}

impl Config {
    /// Checks what must hold between the values.
    ///
    /// # Errors
    /// Every fault, each with the option, its value and what is accepted.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        let mut require = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        require((1..=256).contains(&self.shards), format!("shards is {}: use 1 to 256", self.shards));
        require(
            (1..=FRAME_BYTES_MAX).contains(&self.frame_bytes_max),
            format!("frame-bytes-max is {}: use 1 to {FRAME_BYTES_MAX}", self.frame_bytes_max),
        );
        require(
            (1..=16).contains(&self.links_per_address),
            format!("links-per-address is {}: use 1 to 16", self.links_per_address),
        );
        require(
            self.link_age_min <= self.link_age_max,
            format!(
                "link-age-max is {:?}: use {:?} (link-age-min) or more",
                self.link_age_max, self.link_age_min
            ),
        );
        let message_min = self.frame_bytes_max + 512;
        let message_max = 2 * FRAME_BYTES_MAX;
        require(
            (message_min..=message_max).contains(&self.message_bytes_max),
            format!(
                "message-bytes-max is {}: use {message_min} (one largest frame) to {message_max}",
                self.message_bytes_max
            ),
        );
        require(
            self.window_bytes >= self.message_bytes_max && self.window_bytes <= u32::MAX as usize,
            format!(
                "window-bytes is {}: use {} (one largest message) or more",
                self.window_bytes, self.message_bytes_max
            ),
        );
        require(self.sessions_max >= 1, "sessions-max is 0: use 1 or more".into());
        require(
            self.connections_max > self.sessions_max,
            format!("connections-max is {}: it must be above sessions-max", self.connections_max),
        );
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}
