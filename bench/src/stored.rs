//! Counting what is stored, by reading it back as any reader would.

use anyhow::{Context, Result, bail};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::header::ACCEPT;
use serde::{Deserialize, Serialize};

use crate::deployment::{Deployment, Readers, Subject};
use crate::load::Load;
use trough_protocol::frame::FrameRef;

/// Devices that are read at a time.
const READING: usize = 2;
/// Devices that are named when they do not have what they should.
const SHOWN: usize = 5;
/// Longest beginning of an error that is shown, in characters.
const DETAIL_CHARS_MAX: usize = 300;

/// Whether what was acknowledged is stored.
#[derive(Debug, Clone, Serialize)]
pub struct Stored {
    /// Frames acknowledged.
    pub acked: u64,
    /// Frames found.
    pub found: u64,
    /// Devices that were compared one by one; 0 if only the sums could be.
    pub devices: usize,
    /// How it was counted.
    pub how: &'static str,
    /// Devices that do not have exactly what was acknowledged, a few of them.
    pub mismatches: Vec<String>,
}

impl Stored {
    /// Whether every frame that was acknowledged is there, and no other.
    pub fn is_equal(&self) -> bool {
        self.acked == self.found && self.mismatches.is_empty()
    }
}

/// Compares; `None` if the subject stores nothing.
///
/// # Errors
/// What is stored cannot be read.
pub async fn check(
    deployment: &Deployment,
    http: &reqwest::Client,
    load: &Load,
    acked: &[(String, u64)],
) -> Result<Option<Stored>> {
    let sum = acked.iter().map(|(_, frames)| frames).sum();
    match (&deployment.readers, deployment.subject) {
        (Some(readers), _) => check_devices(readers, http, acked, sum).await.map(Some),
        (None, Subject::FloorDurable) => {
            let (bytes, frame) = (deployment.floor_bytes()?, frame_bytes(load));
            let mismatches = match bytes % frame {
                0 => Vec::new(),
                _ => vec![format!("{bytes} bytes are not a whole number of frames of {frame} bytes")],
            };
            let found = bytes / frame;
            Ok(Some(Stored { acked: sum, found, devices: 0, how: "bytes of the file", mismatches }))
        }
        (None, _) => Ok(None),
    }
}

fn frame_bytes(load: &Load) -> u64 {
    let payload = vec![0; load.payload_bytes];
    let content_type = crate::payload::Payloads::new(load.payload, load.payload_bytes).content_type();
    let channel = crate::load::CHANNEL;
    FrameRef { ts: 1, channel, content_type, payload: &payload }.encoded_len() as u64
}

async fn check_devices(
    readers: &Readers,
    http: &reqwest::Client,
    acked: &[(String, u64)],
    sum: u64,
) -> Result<Stored> {
    let counts: Vec<(&str, u64, Contents)> = stream::iter(acked)
        .map(|(device, acked)| async move {
            let contents = read(readers, http, device).await?;
            Ok::<_, anyhow::Error>((device.as_str(), *acked, contents))
        })
        .buffered(READING)
        .try_collect()
        .await?;
    let wrong = counts.iter().filter(|(_, acked, found)| found.frames != *acked || found.last_seq != *acked);
    let mismatches = wrong
        .map(|(device, acked, found)| {
            let Contents { frames, last_seq, .. } = found;
            format!("{device}: {acked} acknowledged, {frames} read, the last with seq {last_seq}")
        })
        .take(SHOWN)
        .collect();
    let found = counts.iter().map(|(_, _, found)| found.frames).sum();
    Ok(Stored { acked: sum, found, devices: counts.len(), how: "read back over HTTP as NDJSON", mismatches })
}

/// What one device has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contents {
    /// Lines.
    pub frames: u64,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// The number of the last frame; equal to `frames` if none is missing, as lines come in the order of seq.
    pub last_seq: u64,
}

#[derive(Deserialize)]
struct Line {
    seq: u64,
}

/// Reads all frames of a device as NDJSON and counts them.
///
/// # Errors
/// The answer is an error, or breaks off.
pub async fn read(readers: &Readers, http: &reqwest::Client, device: &str) -> Result<Contents> {
    let url = format!("{}/v1/devices/{device}/frames", readers.base);
    let request = http.get(&url).bearer_auth(&readers.token).header(ACCEPT, "application/x-ndjson");
    let mut response = request.send().await.with_context(|| format!("no answer from {url}"))?;
    if !response.status().is_success() {
        let status = response.status();
        let detail: String = response.text().await?.chars().take(DETAIL_CHARS_MAX).collect();
        bail!("{url} answers {status}: {detail}");
    }
    let mut contents = Contents::default();
    let mut tail = Vec::new();
    while let Some(chunk) = response.chunk().await.with_context(|| format!("{url} broke off"))? {
        contents.bytes += chunk.len() as u64;
        contents.frames += memchr::memchr_iter(b'\n', &chunk).count() as u64;
        keep_last_line(&mut tail, &chunk);
    }
    if contents.frames > 0 {
        let line: Line = serde_json::from_slice(&tail)
            .with_context(|| format!("the last line is {:?}", String::from_utf8_lossy(&tail)))?;
        contents.last_seq = line.seq;
    }
    Ok(contents)
}

/// Keeps what may belong to the last line, which ends with a line feed.
fn keep_last_line(tail: &mut Vec<u8>, chunk: &[u8]) {
    if tail.ends_with(b"\n") && !chunk.is_empty() {
        tail.clear();
    }
    let before_end = chunk.len().saturating_sub(1);
    match memchr::memrchr(b'\n', &chunk[..before_end]) {
        Some(at) => {
            tail.clear();
            tail.extend_from_slice(&chunk[at + 1..]);
        }
        None => tail.extend_from_slice(chunk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_found_however_the_body_is_cut() {
        let body = b"{\"seq\":1}\n{\"seq\":2}\n{\"seq\":37}\n";
        for first in 0..body.len() {
            for second in first..body.len() {
                let mut tail = Vec::new();
                for part in [&body[..first], &body[first..second], &body[second..]] {
                    keep_last_line(&mut tail, part);
                }
                assert_eq!(tail, b"{\"seq\":37}\n", "{first} {second}");
            }
        }
    }
}
