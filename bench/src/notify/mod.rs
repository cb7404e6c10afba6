//! `trough bench notify`: how long it takes from a frame to the webhook that tells of it, and what a delivery costs.
//!
//! [`Site`] is a deployment with one rule and some subscriptions, [`send`] the traffic, [`Receiver`] whoever is told.

mod receiver;
mod send;
mod site;
mod text;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use trough_runtime::clock::Clock;

use crate::Tell;
use crate::deployment::Means;
use crate::load::histogram;
use crate::machine::Machine;
use crate::measure::Latencies;
use crate::procfs;
use receiver::{Receiver, Told};
use send::Traffic;
use site::Site;

/// Deliveries that have not come for so long do not come.
const STALLED: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// What comes of the first frames does not count: connections are made.
const WARMUP: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Telling {
    /// Devices, each with a session.
    pub devices: usize,
    /// Subscriptions, each of some of the devices: so many deliveries are on their way at once.
    pub subscriptions: usize,
    /// Frames a second over all devices.
    pub rate: f64,
    /// Of so many frames one is told of.
    pub every: u64,
    /// How long latencies are measured.
    pub duration: Duration,
    /// Deliveries that wait when the notifier starts whose work is measured.
    pub deliveries: u64,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct NotifyReport {
    /// Where.
    pub machine: Machine,
    /// Under which traffic.
    pub telling: Telling,
    /// From the frame's time at its device to the arrival of the webhook's request.
    pub told: Latencies,
    /// Webhooks that count.
    pub told_of: u64,
    /// A notifier at work on what waits.
    pub work: WorkFigures,
}

/// A notifier by itself, with many deliveries that wait.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct WorkFigures {
    /// What was delivered.
    pub deliveries: u64,
    /// From the first request to the last one, in seconds.
    pub seconds: f64,
    /// CPU time of the notifier meanwhile, in seconds.
    pub cpu_seconds: f64,
}

impl WorkFigures {
    /// Deliveries for each second of one core.
    pub fn per_core_second(&self) -> f64 {
        self.deliveries as f64 / self.cpu_seconds
    }
}

/// Which part is done.
#[derive(Debug)]
pub enum Part {
    /// Latencies.
    Told(Latencies, u64),
    /// Work.
    Work(WorkFigures),
}

/// Measures both.
///
/// # Errors
/// A server fails, or a delivery does not come; figures are never an error.
pub async fn run(
    means: &Means,
    telling: Telling,
    machine: Machine,
    tell: Tell<'_, Part>,
) -> Result<NotifyReport> {
    let say = &|text: &str| tell(crate::News::Stage(text));
    say("from a frame to its webhook");
    let (told, told_of) = latencies(means, telling).await?;
    tell(crate::News::Done(&Part::Told(told, told_of)));
    say("frames that are told of later");
    let work = work(means, telling, say).await?;
    tell(crate::News::Done(&Part::Work(work)));
    Ok(NotifyReport { machine, telling, told, told_of, work })
}

async fn latencies(means: &Means, telling: Telling) -> Result<(Latencies, u64)> {
    let receiver = Receiver::start().await?;
    let site = Site::new(means, telling, &receiver.url())?;
    let up = site.up().await?;
    let begun = Clock::system().now();
    let traffic = Traffic { rate: telling.rate, every: telling.every, duration: WARMUP + telling.duration };
    let matched = send::run(&up.target, traffic).await?;
    await_all(&receiver, matched).await?;
    up.server.stop().await?;
    let from = begun + u64::try_from(WARMUP.as_micros()).unwrap_or(u64::MAX);
    let mut latencies = histogram();
    for Told { at, arrived } in receiver.told().into_iter().filter(|told| told.at >= from) {
        latencies.saturating_record((arrived.saturating_sub(at) * 1000).max(1));
    }
    site.remove()?;
    Ok((Latencies::of(&latencies), latencies.len()))
}

async fn work(means: &Means, telling: Telling, say: crate::Say<'_>) -> Result<WorkFigures> {
    let receiver = Receiver::start().await?;
    let site = Site::new(means, telling, &receiver.url())?;
    let (services, target) = site.without_notifier().await?;
    // Every other frame is told of, as fast as they are taken.
    let seconds = 2.0 * telling.deliveries as f64 / send::FAST;
    let traffic = Traffic { rate: send::FAST, every: 2, duration: Duration::from_secs_f64(seconds) };
    let matched = send::run(&target, traffic).await?;
    site.await_events(&services, matched).await?;
    say(&format!("{matched} deliveries wait for a notifier"));
    let notifier = site.notifier()?;
    let before = procfs::cpu_time(notifier.pid())?;
    await_all(&receiver, matched).await?;
    let cpu_seconds = (procfs::cpu_time(notifier.pid())?.saturating_sub(before)).as_secs_f64();
    let arrived = |told: &Told| told.arrived;
    let told = receiver.told();
    let (first, last) = (told.iter().map(arrived).min(), told.iter().map(arrived).max());
    let seconds = last.unwrap_or(0).saturating_sub(first.unwrap_or(0)) as f64 / 1e6;
    notifier.stop().await?;
    for server in services.servers {
        server.stop().await?;
    }
    site.remove()?;
    Ok(WorkFigures { deliveries: matched, seconds, cpu_seconds })
}

/// Waits until so many deliveries have come, under different ids.
async fn await_all(receiver: &Receiver, count: u64) -> Result<()> {
    let (mut last, mut at) = (0, Instant::now());
    loop {
        let ids = receiver.ids();
        if ids >= count {
            ensure!(ids == count, "{ids} deliveries came, and there were {count} events");
            return Ok(());
        }
        if ids != last {
            (last, at) = (ids, Instant::now());
        }
        ensure!(at.elapsed() < STALLED, "{ids} of {count} deliveries came, and no more for {STALLED:?}");
        tokio::time::sleep(POLL).await;
    }
}
