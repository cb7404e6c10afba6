//! Reading back: how fast a reader gets what the journal holds, and what memory that takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::Say;
use crate::deployment::{Deployment, Means, Readers, Subject};
use crate::load::{Crew, Load, Pace};
use crate::payload::PayloadKind;
use crate::{procfs, stored};

/// Everything is read so often; the pass of median time is reported.
const PASSES: usize = 3;
/// How often the server's memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
/// While the journal is filled: enough to keep the servers busy, within the feeder's window.
const FILL_WINDOW: u64 = 512;
const FILL_FRAMES_PER_MESSAGE: u32 = 64;
/// Longer than filling can take.
const FILL_TIME_MAX: Duration = Duration::from_secs(3600);

/// What is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Devices, whose frames lie mixed in the journal. They are read one after another.
    pub devices: usize,
    /// Frames of all devices together.
    pub frames: u64,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// JSON stands in NDJSON as it is, binary as base64.
    pub payload: PayloadKind,
}

/// What reading has shown.
#[derive(Debug, Clone, Serialize)]
pub struct ReadFigures {
    /// What was measured.
    pub subject: Subject,
    /// Devices that were read, one after another.
    pub devices: usize,
    /// Frames of all of them.
    pub frames: u64,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Its kind.
    pub payload: PayloadKind,
    /// Of the pass of median time, in seconds.
    pub seconds: f64,
    /// Frames a second.
    pub frames_per_second: f64,
    /// Bytes of NDJSON a second.
    pub bytes_per_second: f64,
    /// CPU time of the server for each frame, in µs, over all passes.
    pub server_cpu_us_per_frame: f64,
    /// The server's resident memory before the first pass, in bytes.
    pub resident_before: u64,
    /// The most that was seen while reading.
    pub resident_peak: u64,
    /// Whether every pass has brought every frame, by count and by the number of the last one.
    pub complete: bool,
}

/// Fills a journal and reads it.
///
/// # Errors
/// A server, a session or a read fails.
pub async fn run(means: &Means, reading: Reading, threads: usize, say: Say<'_>) -> Result<ReadFigures> {
    let subject = Subject::Trough;
    say(&format!("{}: filling a journal with {} frames", subject.title(), reading.frames));
    let deployment = Deployment::start(means, subject, reading.devices).await?;
    fill(&deployment, reading, threads).await?;
    let readers = deployment.readers.as_ref().context("this subject has readers")?;
    let eater = deployment.servers.iter().find(|server| server.name() == "eater");
    let pid = eater.context("this subject has an eater")?.pid();
    say(&format!("{}: reading {PASSES} times", subject.title()));
    let resident_before = procfs::resident_bytes(pid)?;
    let cpu_before = procfs::cpu_time(pid)?;
    let watch = MemoryWatch::start(pid)?;
    let mut passes = Vec::new();
    for _ in 0..PASSES {
        passes.push(pass(&deployment, means, readers, reading).await?);
    }
    let resident_peak = watch.peak();
    let cpu = procfs::cpu_time(pid)?.saturating_sub(cpu_before);
    deployment.stop().await?;
    passes.sort_by_key(|pass| pass.time);
    let median = &passes[PASSES / 2];
    let seconds = median.time.as_secs_f64();
    Ok(ReadFigures {
        subject,
        devices: reading.devices,
        frames: reading.frames,
        payload_bytes: reading.payload_bytes,
        payload: reading.payload,
        seconds,
        frames_per_second: median.frames as f64 / seconds,
        bytes_per_second: median.bytes as f64 / seconds,
        server_cpu_us_per_frame: cpu.as_secs_f64() * 1e6 / (reading.frames.max(1) as f64 * PASSES as f64),
        resident_before,
        resident_peak: resident_peak.max(resident_before),
        complete: passes.iter().all(|pass| pass.complete),
    })
}

async fn fill(deployment: &Deployment, reading: Reading, threads: usize) -> Result<()> {
    let each = reading.frames / reading.devices.max(1) as u64;
    let load = Load {
        payload_bytes: reading.payload_bytes,
        payload: reading.payload,
        frames_per_message: FILL_FRAMES_PER_MESSAGE,
        pace: Pace::Closed { window: FILL_WINDOW, frames: Some(each) },
        warmup: Duration::ZERO,
        duration: FILL_TIME_MAX,
        threads,
    };
    let (_, outcome) = Crew::connect(&deployment.target, &load).await?.go(&load);
    let outcome = outcome.await?;
    let full = outcome.acked.iter().all(|(_, frames)| *frames == each);
    ensure!(full, "not every device has got its {each} frames acknowledged");
    Ok(())
}

struct Pass {
    time: Duration,
    frames: u64,
    bytes: u64,
    complete: bool,
}

async fn pass(deployment: &Deployment, means: &Means, readers: &Readers, reading: Reading) -> Result<Pass> {
    let each = reading.frames / reading.devices.max(1) as u64;
    let began = Instant::now();
    let mut pass = Pass { time: Duration::ZERO, frames: 0, bytes: 0, complete: true };
    for credentials in &deployment.target.devices {
        let contents = stored::read(readers, &means.http, &credentials.device).await?;
        pass.frames += contents.frames;
        pass.bytes += contents.bytes;
        pass.complete &= contents.frames == each && contents.last_seq == each;
    }
    pass.time = began.elapsed();
    Ok(pass)
}

/// A thread that looks at a process's memory.
struct MemoryWatch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl MemoryWatch {
    fn start(pid: u32) -> Result<Self> {
        let watch = Self { peak: Arc::default(), stop: Arc::default() };
        let (peak, stop) = (watch.peak.clone(), watch.stop.clone());
        std::thread::Builder::new().name("bench-memory".into()).spawn(move || {
            while !stop.load(Ordering::Relaxed)
                && let Ok(bytes) = procfs::resident_bytes(pid)
            {
                peak.fetch_max(bytes, Ordering::Relaxed);
                std::thread::sleep(SAMPLE_EVERY);
            }
        })?;
        Ok(watch)
    }

    fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
