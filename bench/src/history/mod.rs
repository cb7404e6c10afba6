//! `trough bench history`: how fast readers are answered when there is a year of frames.
//!
//! [`Year`] says what lies there, [`Site`] puts it there and starts servers on it, [`Query`] asks them over HTTP.

mod figures;
mod query;
mod site;
mod text;
mod year;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use figures::{HistoryReport, PhaseFigures, QueryFigures, SizeFigures};
pub use query::{Query, Read};
pub use year::{HOUR, YEAR, Year};

use crate::deployment::Means;
use crate::machine::Machine;
use crate::scrape::Scrape;
use crate::storage::{Compacted, blocking};
use crate::{Say, Tell};
use query::Answer;
use site::{Site, Up};

/// A cold answer comes from a server of its own, so there are few.
const COLD: usize = 3;
const WARM: usize = 7;
/// How old frames become before they are compacted, in seconds: in a server that is measured the open file stays open.
const NEVER: &str = "86400";
const AT_ONCE: &str = "1";
const POLL: Duration = Duration::from_millis(200);
/// Compaction that writes nothing for so long does not get on.
const STALLED: Duration = Duration::from_secs(120);

/// Measures a year of so many frames of all devices, one number after another.
///
/// # Errors
/// A server fails, or an answer is not what it must be; figures are never an error.
pub async fn run(
    means: &Means,
    devices: usize,
    sizes: &[u64],
    machine: Machine,
    tell: Tell<'_, SizeFigures>,
) -> Result<HistoryReport> {
    let mut figures = Vec::new();
    for frames in sizes {
        let size = measure(means, devices, *frames, &|text| tell(crate::News::Stage(text))).await?;
        tell(crate::News::Done(&size));
        figures.push(size);
    }
    Ok(HistoryReport { machine, devices, sizes: figures })
}

async fn measure(means: &Means, devices: usize, frames: u64, say: Say<'_>) -> Result<SizeFigures> {
    let site = Site::new(means, devices, frames)?;
    say(&format!("{frames} frames: writing the journal"));
    let began = Instant::now();
    let (year, fill) = (site.year.clone(), means.storage.fill);
    blocking(&site.data, move |data| fill(data, &year, &mut |_| {})).await?;
    let (fill_seconds, journal_bytes) = (began.elapsed().as_secs_f64(), site.journal_bytes().await?);

    let claim = site.claim().await?;
    let (before, answers) = phase(&site, means, frames, "before compaction", say).await?;
    let release = means.storage.release;
    blocking(&site.data, move |data| release(data, claim)).await?;

    say(&format!("{frames} frames: compacting"));
    let began = Instant::now();
    let (compacted, claim) = compact(&site, means).await?;
    let compaction_seconds = began.elapsed().as_secs_f64();
    let (after, answers_after) = phase(&site, means, frames, "after compaction", say).await?;
    for ((query, before), after) in Query::ALL.iter().zip(answers).zip(answers_after) {
        ensure!(before == after, "{}: compaction has changed the answer", query.title());
    }
    blocking(&site.data, move |data| release(data, claim)).await?;
    site.remove()?;
    Ok(SizeFigures { frames, fill_seconds, journal_bytes, compaction_seconds, compacted, before, after })
}

/// Lets a server compact until there is nothing left to do, and claims compaction then.
async fn compact(site: &Site<'_>, means: &Means) -> Result<(Compacted, u64)> {
    let up = site.up(AT_ONCE).await?;
    let (mut last, mut at) = (0, Instant::now());
    loop {
        let scrape = Scrape::of(&means.http, &up.admin).await?;
        let failures = scrape.counter("trough_compaction_failures_total")?;
        ensure!(failures == 0, "compaction has failed {failures} times: the log says why");
        let bytes = scrape.counter("trough_compaction_bytes_total")?;
        if bytes != last {
            (last, at) = (bytes, Instant::now());
        }
        // The claim is held while there are steps to make: whoever gets it has waited for the last one.
        let compacted = blocking(&site.data, means.storage.compacted).await?;
        if compacted.frames == site.year.frames
            && let Some(claim) = blocking(&site.data, means.storage.claim).await?
        {
            let compacted = blocking(&site.data, means.storage.compacted).await?;
            up.stop().await?;
            return Ok((compacted, claim));
        }
        if at.elapsed() > STALLED {
            bail!("{} of {} frames are compacted, and it does not go on", compacted.frames, site.year.frames);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Asks everything, cold and warm. Also gives what the answers were, to be compared.
async fn phase(
    site: &Site<'_>,
    means: &Means,
    frames: u64,
    when: &str,
    say: Say<'_>,
) -> Result<(PhaseFigures, Vec<(u64, u32)>)> {
    let (mut queries, mut answers) = (Vec::new(), Vec::new());
    for query in Query::ALL {
        say(&format!("{frames} frames: {when}, {}", query.title()));
        let mut cold = Vec::new();
        let mut server: Option<Up> = None;
        for _ in 0..COLD {
            if let Some(up) = server.take() {
                up.stop().await?;
            }
            site.forget().await?;
            let up = server.insert(site.up(NEVER).await?);
            cold.push(query.ask(&site.year, up, &means.http).await?);
        }
        let up = server.context("at least one server was started")?;
        let mut warm = Vec::new();
        for _ in 0..WARM {
            warm.push(query.ask(&site.year, &up, &means.http).await?);
        }
        up.stop().await?;
        let (cold, warm) = (median(cold), median(warm));
        let same = (cold.bytes, cold.crc) == (warm.bytes, warm.crc);
        ensure!(same, "{}: two answers differ", query.title());
        answers.push((cold.bytes, cold.crc));
        queries.push(QueryFigures::new(query, &cold, &warm));
    }
    Ok((PhaseFigures(queries), answers))
}

fn median(mut answers: Vec<Answer>) -> Answer {
    answers.sort_by_key(|answer| answer.took);
    answers[answers.len() / 2]
}
