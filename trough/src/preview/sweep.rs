//! A look at every slot, and the end of those that nobody uses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::json;
use trough_runtime::clock::Clock;

use super::activity::{Record, Sample};
use super::kubernetes::{Kubernetes, KubernetesError};
use super::look::{Limits, Look, Verdict, judge};
use super::slots::{NAMESPACE_PREFIX, Slots};
use super::workloads::{Workloads, pods};
use crate::error::CliError;
use crate::{http, output};

/// Where is remembered when slots were used: a ConfigMap beside the CronJob, out of the reach of the slots' owners.
const RECORDS: &str = "activity";
/// A pod's answer may take this long; it has a megabyte at the most.
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);
const METRICS_BYTES_MAX: usize = 1024 * 1024;
/// Pods of a slot that are asked at a time: what a team's pods answer must not fill the memory of the sweep for all.
const PODS_AT_A_TIME: usize = 2;

/// What a sweep needs.
#[derive(Debug)]
pub struct Sweep {
    /// The cluster.
    pub kubernetes: Kubernetes,
    /// Asks pods.
    pub metrics: Client,
    /// The namespace that it runs in.
    pub namespace: String,
    /// How long a slot may be without use.
    pub limits: Limits,
    /// Whether to end nothing.
    pub dry_run: bool,
    /// What time it is.
    pub clock: Clock,
}

#[derive(Deserialize)]
struct Records {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

impl Sweep {
    /// Prepares one, with the ServiceAccount in a directory.
    ///
    /// # Errors
    /// A file of the ServiceAccount cannot be read.
    pub fn new(server: Url, account: &Path, limits: Limits, dry_run: bool) -> Result<Self> {
        let file = account.join("namespace");
        let namespace = std::fs::read_to_string(&file).with_context(|| {
            format!("cannot read {}: does the pod mount a ServiceAccount's token?", file.display())
        })?;
        Ok(Self {
            kubernetes: Kubernetes::new(server, account)?,
            metrics: http::client_that_stays(None)?,
            namespace: namespace.trim().to_owned(),
            limits,
            dry_run,
            clock: Clock::system(),
        })
    }

    /// Looks at every slot, and prints a line for each.
    ///
    /// # Errors
    /// Slots that could not be looked at or put to sleep; the others were.
    pub async fn run(self, slots: &Slots) -> Result<(), CliError> {
        let path = self.records();
        let records = self.kubernetes.get::<Records>(&path).await.map_err(|error| match error {
            KubernetesError::Missing(said) => anyhow!("{said}: apply it (kubectl apply -k deploy/preview)"),
            other => other.into(),
        })?;
        let this = Arc::new(self);
        // All at once: one whose pods take their time to end must not keep the others waiting.
        let looks = slots.iter().map(|(name, claim)| {
            let before = records.rest.data.get(name).and_then(|text| serde_json::from_str(text).ok());
            let whose = claim.map_or_else(|| "nobody".to_owned(), |claim| claim.owners());
            let this = this.clone();
            async move { (name, whose, this.slot(name, before).await) }
        });
        let mut failed = Vec::new();
        for (name, whose, outcome) in join_all(looks).await {
            match outcome {
                Ok(text) => output::line(format!("{name} ({whose}): {text}"))?,
                Err(error) => {
                    output::note(format!("{name} ({whose}): failed: {error:#}"));
                    failed.push(name);
                }
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => {
                Err(anyhow!("not all was done, and the next sweep tries it again: {}", failed.join(", "))
                    .into())
            }
        }
    }

    fn records(&self) -> String {
        format!("api/v1/namespaces/{}/configmaps/{RECORDS}", self.namespace)
    }

    async fn slot(&self, name: &str, before: Option<Record>) -> Result<String> {
        let namespace = format!("{NAMESPACE_PREFIX}{name}");
        let workloads = Workloads::find(&self.kubernetes, &namespace).await?;
        let look = Look {
            workloads: !workloads.is_empty(),
            deployed: workloads.deployed,
            pods: self.ask(&namespace).await?,
        };
        let (record, verdict) = judge(before.clone(), &look, self.clock.now(), &self.limits);
        // Before anything is done by it: what was seen must not be lost.
        if before.as_ref() != Some(&record) {
            let text = serde_json::to_string(&record).context("a record is written")?;
            self.kubernetes.merge(&self.records(), &json!({ "data": { name: text } })).await?;
        }
        let minutes = |time: Duration| time.as_secs() / 60;
        Ok(match verdict {
            Verdict::Asleep => "asleep".to_owned(),
            Verdict::Used(what) => format!("in use: {what}"),
            Verdict::Resting { idle, limit } => {
                format!("no devices or readers for {} of {} min", minutes(idle), minutes(limit))
            }
            Verdict::Unknown(why) => {
                tracing::warn!(
                    slot = name,
                    reason = why,
                    "nobody knows whether the slot is in use; it is left alone"
                );
                format!("left alone, as nobody knows whether it is in use: {why}")
            }
            Verdict::Forgotten { idle, .. } => {
                let (names, idle) = (workloads.names(), minutes(idle));
                if self.dry_run {
                    return Ok(format!("no devices or readers for {idle} min: would put to sleep {names}"));
                }
                workloads.end(&self.kubernetes).await.context("it could not be put to sleep")?;
                format!(
                    "no devices or readers for {idle} min: put to sleep {names}; ConfigMaps, Secrets and volumes are \
                     kept; wake it with kubectl apply -k deploy/preview/slots/{name}"
                )
            }
        })
    }

    async fn ask(&self, namespace: &str) -> Result<BTreeMap<String, Result<Sample, String>>> {
        let pods = pods(&self.kubernetes, namespace).await?;
        let asked = pods.into_iter().filter_map(|pod| Some((pod.metadata.name, pod.rest.admin()?)));
        let samples = asked.map(|(name, at)| async move {
            let sample = match at {
                Ok(at) => self.sample(at).await,
                Err(reason) => Err(reason),
            };
            (name, sample)
        });
        Ok(stream::iter(samples).buffer_unordered(PODS_AT_A_TIME).collect().await)
    }

    async fn sample(&self, at: SocketAddr) -> Result<Sample, String> {
        let failed = |error: anyhow::Error| format!("{at} gives no metrics: {error:#}");
        let request = self.metrics.get(format!("http://{at}/metrics")).timeout(METRICS_TIMEOUT);
        let response = request.send().await.map_err(http::plain).map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("{at} answers {status} for its metrics"));
        }
        let text = http::text_at_most(response, METRICS_BYTES_MAX).await.map_err(failed)?;
        Sample::parse(&text)
    }
}
