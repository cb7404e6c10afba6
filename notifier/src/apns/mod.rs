//! Pushes to phones by way of Apple (APNs): HTTP/2, one connection, a token that all processes share.
//!
//! - [`token`]: who pushes. [`mod@payload`]: what. [`answer`]: what Apple says to it.

pub mod answer;
pub mod payload;
pub mod token;

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::outbox::Delivery;
use trough_store::subscription::{PushEnvironment, PushToken};
use trough_store::{Event, EventId, SealKey};
use uuid::Uuid;

use crate::client::{self, bytes};
use crate::retry_after::retry_after;
use crate::tried::{Tried, Verdict};
use answer::Answer;
use payload::{Way, payload};
use token::Credentials;

/// The part of health that says that Apple does not accept us.
const PART: &str = "apns";
/// A request with its answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The part of it that a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that does not answer a ping is given up.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long Apple keeps a push for a phone that is off, from when the delivery was made on.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where Apple listens, and as whom it is spoken to.
#[derive(Debug, Clone)]
pub struct ApnsConfig {
    /// As whom.
    pub credentials: Credentials,
    /// Where, for apps of the App Store.
    pub production: Url,
    /// Where, for apps run from Xcode.
    pub sandbox: Url,
    /// PEM: trust this authority, and no other.
    pub ca: Option<Vec<u8>>,
}

impl ApnsConfig {
    /// Apple's own servers.
    ///
    /// # Panics
    /// Never, as the URLs are good.
    pub fn new(credentials: Credentials) -> Self {
        #[expect(clippy::expect_used, reason = "they are written down here")]
        let url = |text: &str| Url::parse(text).expect("a URL");
        Self {
            credentials,
            production: url("https://api.push.apple.com"),
            sandbox: url("https://api.sandbox.push.apple.com"),
            ca: None,
        }
    }
}

/// Sends pushes. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Apns {
    client: Client,
    config: ApnsConfig,
    clock: Clock,
    health: Health,
}

impl Apns {
    /// A client that connects when it is needed.
    ///
    /// # Errors
    /// The authority is not PEM, or the system's certificates cannot be read.
    pub fn new(config: ApnsConfig, clock: Clock, health: Health) -> Result<Self, reqwest::Error> {
        let mut builder = client::builder();
        if let Some(pem) = &config.ca {
            builder = builder.tls_built_in_root_certs(false);
            for certificate in Certificate::from_pem_bundle(pem)? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let client = builder
            .redirect(Policy::none())
            .https_only(true)
            // Only h2 is offered, so requests that come before the connection is up wait for it, and share it.
            .http2_prior_knowledge()
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .pool_idle_timeout(None)
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()?;
        Ok(Self { client, config, clock, health })
    }

    /// Pushes to a phone, and says what came of it: [`Verdict::Gone`] means that the phone is to be forgotten, unless it
    /// has registered since.
    ///
    /// Cancel safety: if the future is dropped, nobody knows whether it was pushed.
    pub async fn send(&self, phone: &PushToken, delivery: &Delivery, seal: &SealKey) -> Tried {
        let token = match seal.open(&phone.token, &phone.id.to_string()) {
            Ok(token) => token,
            Err(error) => return Tried::unsent(Verdict::Ours, error.to_string()),
        };
        let Ok(token) = String::from_utf8(token) else {
            return Tried::unsent(Verdict::Gone, "the push token is no text");
        };
        let Some(url) = self.url(phone.environment, &token) else {
            return Tried::unsent(Verdict::Gone, "the push token is not made of digits");
        };
        let way = Way::of(delivery.event.kind);
        let request = self
            .client
            .post(url)
            .bearer_auth(self.config.credentials.token(self.clock.now()))
            .header("apns-topic", &phone.topic)
            .header("apns-push-type", way.push_type())
            .header("apns-priority", way.priority())
            .header("apns-id", Uuid::from_bytes(delivery.id.0).to_string())
            .header("apns-collapse-id", collapse_id(&delivery.event))
            .header("apns-expiration", expiration(delivery.created_at))
            .body(payload(delivery));
        let response = match request.send().await {
            Ok(response) => response,
            // The path of the URL is the phone's token: nothing that names it is kept.
            Err(error) => return Tried::unanswered(client::plain(&error.without_url())),
        };
        let asked = retry_after(response.headers(), self.clock.now());
        let status = response.status().as_u16();
        let Answer { tried, ours } = answer::read(status, &bytes(response).await, asked, phone.registered_at);
        if ours {
            let reason = format!(
                "Apple does not accept the provider token ({}): check the key, its id and the team's; pushes are tried \
                 again by themselves",
                tried.said
            );
            self.health.degrade(PART, reason);
        } else {
            self.health.restore(PART);
        }
        tried
    }

    fn base(&self, environment: PushEnvironment) -> &Url {
        match environment {
            PushEnvironment::Production => &self.config.production,
            PushEnvironment::Sandbox => &self.config.sandbox,
        }
    }

    fn url(&self, environment: PushEnvironment, token: &str) -> Option<Url> {
        let digits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut url = self.base(environment).clone();
        url.set_path(&format!("/3/device/{token}"));
        digits.then_some(url)
    }
}

/// Of what is about one thing, a phone shows the newest: 32 of the 64 bytes that there may be.
fn collapse_id(event: &Event) -> String {
    let about = event.rule.as_ref().map_or(event.kind.as_str(), |rule| rule.as_str());
    let device = event.device.as_ref().map_or("", DeviceId::as_str);
    let id = EventId::of(&[about.as_bytes(), device.as_bytes()]).to_string();
    id.trim_start_matches("evt_").to_owned()
}

/// In seconds since 1970, the same at every try.
fn expiration(created_at: Micros) -> u64 {
    created_at / 1_000_000 + KEPT.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::delivery;
    use trough_store::EventKind;

    #[test]
    fn what_is_about_one_thing_collapses() {
        let mut event = delivery("bus-1").event;
        let matched = collapse_id(&event);
        event.kind = EventKind::RuleCleared;
        assert_eq!(collapse_id(&event), matched);
        assert_eq!(matched.len(), 32);
        assert_ne!(collapse_id(&delivery("bus-2").event), matched);
    }
}
