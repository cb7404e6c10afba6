//! What compaction does to acknowledgements: the same traffic while nothing is compacted, and while older frames are.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::Say;
use crate::deployment::{Backlog, Deployment, Means, Subject};
use crate::load::Load;
use crate::measure::{self, Latencies, LoadFigures};
use crate::scrape::Scrape;
use crate::storage::blocking;
use crate::text::grouped;

/// How long compaction may take until its first step is made.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// What both runs have shown.
#[derive(Debug, Clone, Serialize)]
pub struct CompactingFigures {
    /// Frames that were in the journal before the traffic began.
    pub backlog: u64,
    /// While nothing is compacted.
    pub without: LoadFigures,
    /// While they are.
    pub with: LoadFigures,
}

/// Runs both.
///
/// # Errors
/// As [`measure::run`], and if nothing is compacted.
pub async fn run(
    means: &Means,
    subject: Subject,
    sessions: usize,
    load: &Load,
    backlog: u64,
    say: Say<'_>,
) -> Result<CompactingFigures> {
    let without = one(means, subject, sessions, load, (backlog, false), say).await?;
    let with = one(means, subject, sessions, load, (backlog, true), say).await?;
    Ok(CompactingFigures { backlog, without, with })
}

async fn one(
    means: &Means,
    subject: Subject,
    sessions: usize,
    load: &Load,
    (frames, compacts): (u64, bool),
    say: Say<'_>,
) -> Result<LoadFigures> {
    say(&format!("{}: writing {} older frames", subject.title(), grouped(frames as f64)));
    let deployment = Deployment::start_with(means, subject, sessions, Some(frames)).await?;
    let measured = async {
        if let Some(backlog) = deployment.backlog.as_ref().filter(|_| compacts) {
            say(&format!("{}: waiting for compaction to begin", subject.title()));
            begin(means, backlog).await?;
        }
        measure::measure(&deployment, means, sessions, load, say).await
    };
    let figures = measured.await.with_context(|| measure::describe_servers(&deployment))?;
    deployment.stop().await?;
    Ok(figures)
}

/// Lets compaction begin, and waits until it has made a step.
async fn begin(means: &Means, backlog: &Backlog) -> Result<()> {
    let (claim, release) = (backlog.claim, means.storage.release);
    blocking(&backlog.data, move |data| release(data, claim)).await?;
    let began = Instant::now();
    loop {
        let scrape = Scrape::of(&means.http, &backlog.admin).await?;
        if scrape.counter("trough_compaction_steps_total")? > 0 {
            return Ok(());
        }
        ensure!(began.elapsed() < BEGIN_TIMEOUT, "nothing was compacted within {BEGIN_TIMEOUT:?}");
        tokio::time::sleep(POLL).await;
    }
}

impl Display for CompactingFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { backlog, without, with } = self;
        write!(f, "{without}{with}")?;
        writeln!(f, "compaction of {} older frames meanwhile", grouped(*backlog as f64))?;
        let line = |f: &mut Formatter<'_>, what: &str, of: fn(&Latencies) -> f64| {
            let [without, with] = [without, with].map(|figures| of(&figures.ack) / 1000.0);
            writeln!(f, "  {what:<15} {without:.2} ms without, {with:.2} ms with")
        };
        line(f, "ack p50", |ack| ack.p50_us)?;
        line(f, "ack p99", |ack| ack.p99_us)?;
        let [of_without, of_with] = [without, with].map(|figures| grouped(figures.frames_per_second));
        writeln!(f, "  acked           {of_without} frames/s without, {of_with} frames/s with")?;
        let Some(compaction) = with.compaction else { return Ok(()) };
        let rate = grouped(compaction.frames as f64 / with.seconds);
        let end =
            if compaction.to_the_end { "to the end" } else { "BUT NOT TO THE END: use a larger --backlog" };
        writeln!(f, "  compacted       {rate} frames/s meanwhile, {end}")
    }
}
