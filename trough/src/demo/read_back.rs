//! Reading everything back over HTTP, as any reader would, and comparing it with the file.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api::{Api, Frame, Place};
use crate::data::buses::{Bus, CHANNEL, Position, csv_line};
use crate::progress::Progress;

/// Requests at a time.
const REQUESTS: usize = 8;

/// Reads the frames of every bus and compares each with its line of the file; how many there were.
///
/// # Errors
/// A request fails, or the first difference.
pub async fn read_back(api: &Api, buses: &Arc<Vec<Bus>>, progress: &Arc<Progress>) -> Result<u64> {
    let permits = Arc::new(Semaphore::new(REQUESTS));
    let mut reading = JoinSet::new();
    for index in 0..buses.len() {
        let (api, buses, progress) = (api.clone(), buses.clone(), progress.clone());
        let permits = permits.clone();
        reading.spawn(async move {
            let _permit = permits.acquire().await.context("the demo ends")?;
            let bus = &buses[index];
            let read = compare(&api, bus, &progress).await;
            read.with_context(|| format!("what was stored of {} differs from the file", bus.id))
        });
    }
    let mut frames = 0;
    while let Some(read) = reading.join_next().await {
        frames += read.context("a reader has panicked")??;
    }
    Ok(frames)
}

async fn compare(api: &Api, bus: &Bus, progress: &Progress) -> Result<u64> {
    let mut lines = api.frames(&bus.id, &[], &mut None).await?.context("the answer has no frames")?;
    let mut epoch = None;
    let mut positions = (1..).zip(&bus.positions);
    let mut frames = 0;
    while let Some(line) = lines.next().await? {
        let Some((seq, position)) = positions.next() else { bail!("there are more frames than lines") };
        let frame: Frame<'_> = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let expected = Place { epoch: *epoch.get_or_insert(frame.place.epoch), seq };
        check(&frame, expected, position)?;
        frames += 1;
        progress.add(1);
    }
    ensure!(positions.next().is_none(), "there are {frames} frames for {} lines", bus.positions.len());
    Ok(frames)
}

fn check(frame: &Frame<'_>, expected: Place, position: &Position) -> Result<()> {
    ensure!(frame.place == expected, "frame {} came where {expected} was due", frame.place);
    ensure!(frame.channel == CHANNEL, "frame {expected} is of channel {:?}", frame.channel);
    ensure!(frame.ts == position.ts, "frame {expected} has ts {}, not {}", frame.ts, position.ts);
    let json = frame.json.with_context(|| format!("frame {expected} is not JSON"))?.get();
    ensure!(json == position.json, "frame {expected} is {json}, not {}", position.json);
    let line = csv_line(json).with_context(|| format!("frame {expected}"))?;
    ensure!(line == position.line, "frame {expected} is {line:?}, and the file has {:?}", position.line);
    Ok(())
}
