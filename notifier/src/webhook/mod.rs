//! Webhooks as the Standard Webhooks specification says (<https://www.standardwebhooks.com>): a POST with an id, a time
//! and signatures.
//!
//! - [`trough_store::webhook`]: where a URL may lead to; `resolver`: where its name does lead to.
//! - `body`: what is said.

mod body;
mod resolver;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook, WebhookError,
};
use tokio::time::{Instant, timeout_at};
use trough_protocol::Micros;
use trough_runtime::clock::Clock;
use trough_runtime::trace::TraceContext;
use trough_store::outbox::Delivery;
use trough_store::webhook::Reach;
use trough_store::webhook::network::NotPublic;
use trough_store::{SealKey, Sealed, SubscriptionId};

use crate::client::{self, said};
use crate::retry_after::retry_after;
use crate::tried::{Tried, Verdict};
use resolver::CheckedResolver;

/// A request with its answer, from the look-up of the name on.
pub const TIMEOUT: Duration = Duration::from_secs(15);
/// The part of it that a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long is waited for the body of an answer whose status says all there is to know.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections of an endpoint that are kept, and for how long.
const IDLE_CONNECTIONS: usize = 4;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

/// Sends webhooks. Clones share connections.
#[derive(Debug, Clone)]
pub struct Webhooks {
    client: Client,
    reach: Reach,
    timeout: Duration,
    clock: Clock,
}

/// What a subscription says of its webhook.
#[derive(Debug, Clone, Copy)]
pub struct Hook<'a> {
    /// Where to.
    pub url: &'a str,
    /// The sealed keys, the newest first.
    pub keys: &'a [Sealed],
    /// When the older one is not used any more.
    pub old_key_until: Option<Micros>,
}

impl Webhooks {
    /// A client that goes where `reach` says, and gives up after `timeout` ([`TIMEOUT`]).
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn new(reach: Reach, timeout: Duration, clock: Clock) -> Result<Self, reqwest::Error> {
        let client = client::builder()
            .dns_resolver(Arc::new(CheckedResolver { private_networks: reach.private_networks }))
            // A redirect would lead past every check.
            .redirect(Policy::none())
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build()?;
        Ok(Self { client, reach, timeout, clock })
    }

    /// Where they may lead to.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Sends one, with a `traceparent` if it is traced, and says what came of it.
    ///
    /// Cancel safety: if the future is dropped, nobody knows whether it was delivered.
    pub async fn send(
        &self,
        hook: Hook<'_>,
        (delivery, trace): (&Delivery, Option<TraceContext>),
        seal: &SealKey,
    ) -> Tried {
        let url = match self.reach.check(hook.url) {
            Ok(url) => url,
            Err(error) => return Tried::unsent(Verdict::Ours, error.to_string()),
        };
        let (now, id, body) = (self.clock.now(), delivery.id.to_string(), body::body(delivery));
        let seconds = i64::try_from(now / 1_000_000).unwrap_or_default();
        let signature = match sign(hook, delivery.subscription, seal, now, (&id, seconds, &body)) {
            Ok(signature) => signature,
            Err(fault) => return Tried::unsent(Verdict::Ours, fault),
        };
        let until = Instant::now() + self.timeout;
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, seconds)
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .body(body);
        let request = match trace {
            Some(trace) => request.header(TRACEPARENT, trace.to_string()),
            None => request,
        };
        match request.send().await {
            Ok(response) => self.judge(response, until).await,
            Err(error) => not_public(&error).unwrap_or_else(|| Tried::unanswered(client::plain(&error))),
        }
    }

    async fn judge(&self, response: Response, until: Instant) -> Tried {
        let status = response.status();
        let asked = retry_after(response.headers(), self.clock.now());
        let verdict = match status.as_u16() {
            200..=299 => Verdict::Delivered,
            410 => Verdict::Gone,
            429 | 503 => Verdict::Again(asked),
            _ => Verdict::Again(None),
        };
        let body = timeout_at(until.min(Instant::now() + BODY_TIMEOUT), said(response)).await;
        let body = body.unwrap_or_default();
        let redirect = if status.is_redirection() { " (redirects are not followed)" } else { "" };
        let colon = if body.is_empty() { "" } else { ": " };
        Tried::answered(status.as_u16(), verdict, format!("{status}{redirect}{colon}{body}"))
    }
}

/// One signature for each key that is in use.
fn sign(
    hook: Hook<'_>,
    subscription: SubscriptionId,
    seal: &SealKey,
    now: Micros,
    (id, seconds, body): (&str, i64, &str),
) -> Result<String, String> {
    let old_ends = hook.old_key_until.is_some_and(|until| until <= now);
    let keys = if old_ends { hook.keys.get(..1).unwrap_or_default() } else { hook.keys };
    let sign = |key: &Sealed| {
        let key = seal.open(key, &subscription.to_string()).map_err(|error| error.to_string())?;
        let signed = Webhook::from_bytes(key).and_then(|webhook| webhook.sign(id, seconds, body.as_bytes()));
        signed.map_err(|error: WebhookError| format!("it cannot be signed: {error}"))
    };
    Ok(keys.iter().map(sign).collect::<Result<Vec<_>, _>>()?.join(" "))
}

/// The resolver's refusal, if that is what it was.
fn not_public(error: &reqwest::Error) -> Option<Tried> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<NotPublic>() {
            return Some(Tried::unsent(Verdict::Again(None), refused.to_string()));
        }
        cause = error.source();
    }
    None
}
