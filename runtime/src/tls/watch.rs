//! Looking whether the files have changed.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::reloading::Reloading;
use crate::clock::Clock;
use crate::health::Health;
use crate::shutdown::Shutdown;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Devices and readers.
    Http,
    /// Feeders and eaters.
    Link,
}

impl Purpose {
    /// The label in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Link => "link",
        }
    }

    /// The part of `/readyz`.
    fn part(self) -> &'static str {
        match self {
            Self::Http => "tls",
            Self::Link => "link_tls",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    purpose: &'static str,
}

/// When certificates expire. Cloning is cheap: clones count together.
#[derive(Debug, Clone, Default)]
pub struct TlsMetrics {
    expiry: Family<Label, Gauge>,
}

impl TlsMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "When the certificate that new connections get expires, in seconds since 1970";
        registry.register("trough_tls_certificate_expiry_seconds", help, metrics.expiry.clone());
        metrics
    }
}

/// Looks at the files every `every`, until `shutdown` is killed. A new certificate is for new connections; a bad
/// one changes nothing, is logged once, and shows in `health` until it is mended. A certificate that has expired
/// shows there, too.
///
/// Cancel-safe: dropping it ends the looking.
pub async fn watch<C: Send + Sync + 'static>(
    tls: Arc<Reloading<C>>,
    purpose: Purpose,
    every: Duration,
    (clock, health, metrics, shutdown): (Clock, Health, TlsMetrics, Shutdown),
) {
    let label = Label { purpose: purpose.name() };
    let mut refused = None;
    loop {
        let expires_s = tls.expires_s();
        metrics.expiry.get_or_create(&label).set(i64::try_from(expires_s).unwrap_or(i64::MAX));
        let has_expired = clock.now() / 1_000_000 >= expires_s;
        let expired = has_expired.then(|| {
            let file = tls.files().certificate.display();
            format!(
                "the certificate in {file} has expired, and is refused by the other side: issue a new one"
            )
        });
        match refused.as_ref().or(expired.as_ref()) {
            Some(reason) => health.degrade(purpose.part(), reason.clone()),
            None => health.restore(purpose.part()),
        }
        tokio::select! {
            () = shutdown.killed.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let looked = tls.clone();
        match tokio::task::spawn_blocking(move || looked.reload()).await {
            Ok(Some(Ok(()))) => {
                refused = None;
                tracing::info!(purpose = purpose.name(), expires_s = tls.expires_s(), "certificate loaded");
            }
            // Health logs a reason when it is news.
            Ok(Some(Err(error))) => refused = Some(format!("{error}; the certificate before stays in use")),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "looking at the certificates failed"),
        }
    }
}
