//! The questions that are put, and what the answers must be.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::header::ACCEPT;
use serde::Serialize;
use trough_protocol::Micros;

use super::Year;
use super::site::Up;
use crate::scrape::Scrape;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// One device's last hour.
    DeviceHour,
    /// All that one device has.
    DeviceYear,
    /// All devices, an hour in the middle of the year.
    FleetHour,
}

/// One answer, read to its end.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// From the request to the last byte.
    pub took: Duration,
    /// Lines of it.
    pub frames: u64,
    /// Bytes of it.
    pub bytes: u64,
    /// CRC32C of it.
    pub crc: u32,
    /// What the server read for it.
    pub read: Read,
}

/// Bytes that were asked from files, whether the system had them in memory or not; what the server itself had in memory
/// is not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Read {
    /// Of journal files and their indexes.
    pub journal_bytes: u64,
    /// Of segments, their indexes among them.
    pub segment_bytes: u64,
}

impl Read {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.journal_bytes + self.segment_bytes
    }
}

impl Query {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::DeviceHour, Self::DeviceYear, Self::FleetHour];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::DeviceHour => "a device's last hour",
            Self::DeviceYear => "a device's year",
            Self::FleetHour => "an hour of all",
        }
    }

    /// How many frames answer it.
    pub fn frames(self, year: &Year) -> u64 {
        match self {
            Self::FleetHour => year.frames_in(&self.span(year)),
            Self::DeviceHour | Self::DeviceYear => year.frames_of(self.device(year), &self.span(year)),
        }
    }

    fn span(self, year: &Year) -> Range<Micros> {
        match self {
            Self::DeviceHour => year.last_hour(),
            Self::DeviceYear => year.whole(),
            Self::FleetHour => year.middle_hour(),
        }
    }

    /// One among the others.
    fn device(self, year: &Year) -> usize {
        year.devices.len() / 2
    }

    /// Asks, and checks that the answer has as many frames as it must have.
    pub async fn ask(self, year: &Year, up: &Up, http: &reqwest::Client) -> Result<Answer> {
        let Range { start, end } = self.span(year);
        let whose = match self {
            Self::FleetHour => "frames".to_owned(),
            _ => format!("devices/{}/frames", year.devices[self.device(year)].as_str()),
        };
        let url = format!("{}/v1/{whose}?from={start}&to={end}", up.readers.base);
        let before = read(http, &up.admin).await?;
        let began = Instant::now();
        let request = http.get(&url).bearer_auth(&up.readers.token).header(ACCEPT, "application/x-ndjson");
        let mut response = request.send().await.with_context(|| format!("no answer from {url}"))?;
        if !response.status().is_success() {
            bail!("{url} answers {}: {}", response.status(), response.text().await?);
        }
        let (mut frames, mut bytes, mut crc) = (0, 0, 0);
        while let Some(chunk) = response.chunk().await.with_context(|| format!("{url} broke off"))? {
            frames += memchr::memchr_iter(b'\n', &chunk).count() as u64;
            bytes += chunk.len() as u64;
            crc = crc32c::crc32c_append(crc, &chunk);
        }
        let took = began.elapsed();
        let after = read(http, &up.admin).await?;
        let expected = self.frames(year);
        ensure!(frames == expected, "{url} gives {frames} frames where there are {expected}");
        let read = Read {
            journal_bytes: after.journal_bytes - before.journal_bytes,
            segment_bytes: after.segment_bytes - before.segment_bytes,
        };
        Ok(Answer { took, frames, bytes, crc, read })
    }
}

async fn read(http: &reqwest::Client, admin: &str) -> Result<Read> {
    let scrape = Scrape::of(http, admin).await?;
    Ok(Read {
        journal_bytes: scrape.counter("trough_journal_read_bytes_total")?,
        segment_bytes: scrape.counter("trough_segments_fetched_bytes_total")?,
    })
}
