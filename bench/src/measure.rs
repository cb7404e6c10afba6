//! One run of traffic against one subject, and its figures.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Say;
use crate::deployment::{Deployment, Means, Subject};
use crate::load::{Arrivals, Crew, Load, Pace};
use crate::procfs;
use crate::scrape::Scrape;
use crate::storage::blocking;
use crate::stored::{self, Stored};

/// What a run of traffic has shown.
#[derive(Debug, Clone, Serialize)]
pub struct LoadFigures {
    /// What was measured.
    pub subject: Subject,
    /// What an acknowledgement of it waits for; none if it is the floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// The traffic.
    #[serde(flatten)]
    pub shape: Shape,
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// Frames acknowledged meanwhile.
    pub frames_acked: u64,
    /// The same for each second.
    pub frames_per_second: f64,
    /// From the beginning of a frame (in an open loop the intended one) to its ack at the client.
    pub ack: Latencies,
    /// CPU time of each server for each acknowledged frame, in µs.
    pub server_cpu_us_per_frame: BTreeMap<&'static str, f64>,
    /// Their sum.
    pub server_cpu_us_per_frame_sum: f64,
    /// The load generator's own.
    pub client_cpu_us_per_frame: f64,
    /// How late the load generator itself began the frames of an open loop; counted in `ack`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Latencies>,
    /// What was compacted meanwhile, if there was a backlog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction: Option<Compaction>,
    /// Sessions that were lost and made anew.
    pub reconnects: u64,
    /// The check of what is stored; none if the subject stores nothing.
    pub stored: Option<Stored>,
}

/// What compaction did while acknowledgements were measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Compaction {
    /// Frames written to segments, each time they were.
    pub frames: u64,
    /// Whether it was at it when the traffic ended.
    pub to_the_end: bool,
}

/// What the traffic of a run looked like. Runs of the same shape can be compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shape {
    /// Connected devices.
    pub sessions: usize,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Frames in a message.
    pub frames_per_message: u32,
    /// Frames of one session on their way at most, in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// Frames a second over all sessions, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// When they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<Arrivals>,
}

impl Shape {
    /// That of a load.
    pub fn new(sessions: usize, load: &Load) -> Self {
        let (window, rate, arrivals) = match load.pace {
            Pace::Closed { window, .. } => (Some(window), None, None),
            Pace::Open { rate, arrivals } => (None, Some(rate), Some(arrivals)),
        };
        let (payload_bytes, frames_per_message) = (load.payload_bytes, load.frames_per_message);
        Self { sessions, payload_bytes, frames_per_message, window, rate, arrivals }
    }
}

/// A distribution, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latencies {
    /// Frames it is of.
    pub frames: u64,
    /// Half of them are not above this.
    pub p50_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// All.
    pub max_us: f64,
}

impl Latencies {
    /// Of nanoseconds.
    pub fn of(ns: &Histogram<u64>) -> Self {
        let us = |quantile| ns.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            frames: ns.len(),
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: ns.max() as f64 / 1000.0,
        }
    }
}

/// CPU times at one instant.
struct Sample {
    at: Instant,
    acked: u64,
    servers: Vec<Duration>,
    client: Duration,
    compaction: Option<Compaction>,
}

/// Runs it and checks what is stored.
///
/// # Errors
/// A server, a session or the check fails. That the figures are bad is no error.
pub async fn run(
    means: &Means,
    subject: Subject,
    sessions: usize,
    load: &Load,
    say: Say<'_>,
) -> Result<LoadFigures> {
    let title = subject.title();
    say(&format!("{title}: starting, {sessions} sessions"));
    let deployment = Deployment::start(means, subject, sessions).await?;
    let figures = measure(&deployment, means, sessions, load, say).await;
    let figures = figures.with_context(|| describe_servers(&deployment))?;
    deployment.stop().await?;
    Ok(figures)
}

pub(crate) fn describe_servers(deployment: &Deployment) -> String {
    let logs = deployment
        .servers
        .iter()
        .map(|server| format!("the last lines of the {}:\n{}", server.name(), server.last_lines()));
    logs.collect::<Vec<_>>().join("\n")
}

/// Measures servers that run.
///
/// # Errors
/// As [`run`].
pub(crate) async fn measure(
    deployment: &Deployment,
    means: &Means,
    sessions: usize,
    load: &Load,
    say: Say<'_>,
) -> Result<LoadFigures> {
    let title = deployment.subject.title();
    let crew = Crew::connect(&deployment.target, load).await?;
    let acked = crew.acked();
    say(&format!("{title}: {:.0} s of traffic", (load.warmup + load.duration).as_secs_f64()));
    let (schedule, outcome) = crew.go(load);
    let sample = |at: Instant| {
        let acked = acked.clone();
        async move {
            tokio::time::sleep_until(at.into()).await;
            let cpu = |server: &crate::server::Server| procfs::cpu_time(server.pid());
            let servers = deployment.servers.iter().map(cpu).collect::<Result<_>>()?;
            let client = procfs::cpu_time(std::process::id())?;
            Ok::<_, anyhow::Error>(Sample {
                at: Instant::now(),
                acked: acked.load(Ordering::Relaxed),
                servers,
                client,
                compaction: compaction(deployment, means).await?,
            })
        }
    };
    let samples = async { Ok((sample(schedule.from).await?, sample(schedule.to).await?)) };
    let (outcome, (before, after)) = tokio::try_join!(outcome, samples)?;

    say(&format!("{title}: counting what is stored"));
    let stored = stored::check(deployment, &means.http, load, &outcome.acked).await?;
    let frames = after.acked - before.acked;
    let per_frame = |before: Duration, after: Duration| {
        (after.saturating_sub(before)).as_secs_f64() * 1e6 / frames.max(1) as f64
    };
    let spent = before.servers.iter().zip(&after.servers);
    let server_cpu_us_per_frame: BTreeMap<_, _> = deployment
        .servers
        .iter()
        .zip(spent)
        .map(|(server, (before, after))| (server.name(), per_frame(*before, *after)))
        .collect();
    let seconds = (after.at - before.at).as_secs_f64();
    Ok(LoadFigures {
        subject: deployment.subject,
        storage: matches!(deployment.subject, Subject::Trough).then(|| means.backends.describe()),
        shape: Shape::new(sessions, load),
        seconds,
        frames_acked: frames,
        frames_per_second: frames as f64 / seconds,
        ack: Latencies::of(&outcome.ack_ns),
        server_cpu_us_per_frame_sum: server_cpu_us_per_frame.values().sum(),
        server_cpu_us_per_frame,
        client_cpu_us_per_frame: per_frame(before.client, after.client),
        late: matches!(load.pace, Pace::Open { .. }).then(|| Latencies::of(&outcome.late_ns)),
        compaction: before.compaction.zip(after.compaction).map(|(before, after)| Compaction {
            frames: after.frames - before.frames,
            to_the_end: after.to_the_end,
        }),
        reconnects: outcome.reconnects,
        stored,
    })
}

/// What was compacted until now, and whether somebody is at it.
async fn compaction(deployment: &Deployment, means: &Means) -> Result<Option<Compaction>> {
    let Some(backlog) = &deployment.backlog else { return Ok(None) };
    let frames = Scrape::of(&means.http, &backlog.admin).await?.counter("trough_compaction_frames_total")?;
    let claim = blocking(&backlog.data, means.storage.claim).await?;
    if let Some(claim) = claim {
        let release = means.storage.release;
        blocking(&backlog.data, move |data| release(data, claim)).await?;
    }
    Ok(Some(Compaction { frames, to_the_end: claim.is_none() }))
}
