//! How a notifier behaves.

use std::time::Duration;

use trough_runtime::random::random_bytes;
use trough_runtime::trace::Tracer;
use trough_store::webhook::Reach;

use crate::apns::ApnsConfig;
use crate::schedule;
use crate::webhook;

/// How a notifier behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where webhooks may lead to.
    pub reach: Reach,
    /// How long a webhook's endpoint may take to answer.
    pub webhook_timeout: Duration,
    /// How pushes are sent; `None`: they wait, and say so.
    pub apns: Option<ApnsConfig>,
    /// Waits before the second try and those behind it.
    pub waits: Vec<Duration>,
    /// Who claims: random for each process, or always the same where there is only one.
    pub owner: [u8; 16],
    /// How long others wait after this process has died.
    pub claim_ttl: Duration,
    /// How many free shards of a duty are claimed at a time.
    pub claims_at_once: usize,
    /// How often is looked for what nobody has told of.
    pub look_every: Duration,
    /// Most requests on their way.
    pub in_flight_max: usize,
    /// Most of them of one owner's subscriptions.
    pub in_flight_of_owner_max: usize,
    /// Most of them to one endpoint.
    pub in_flight_of_endpoint_max: usize,
    /// How long what is finished is remembered.
    pub keep_finished: Duration,
    /// Where traces of deliveries go.
    pub tracer: Tracer,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            reach: Reach::default(),
            webhook_timeout: webhook::TIMEOUT,
            apns: None,
            waits: schedule::WAITS.to_vec(),
            owner: random_bytes(),
            claim_ttl: Duration::from_secs(10),
            claims_at_once: 2,
            look_every: Duration::from_secs(1),
            in_flight_max: 256,
            in_flight_of_owner_max: 64,
            in_flight_of_endpoint_max: 4,
            keep_finished: Duration::from_secs(7 * 24 * 60 * 60),
            tracer: Tracer::off(),
        }
    }
}

impl Config {
    /// Of the only notifier of a deployment: it need not share, and after a restart it goes on with its own claims.
    pub fn alone() -> Self {
        Self {
            owner: *b"the only process",
            claim_ttl: Duration::from_secs(60),
            claims_at_once: usize::MAX,
            ..Self::default()
        }
    }
}
