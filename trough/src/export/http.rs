//! From a running server.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use trough_eater::export::Exported;
use trough_protocol::frame::FrameRef;
use trough_protocol::{ContentType, DeviceId, Epoch, Micros, Seq};

use super::{Copied, Selection, Server, Sink};
use crate::api::{Api, ApiError};
use crate::output;
use crate::progress::Progress;

/// A server that does not answer is asked so often, each time after a longer pause.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// One line of the answer.
#[derive(Deserialize)]
struct Line<'a> {
    epoch: u64,
    seq: u64,
    ts: Micros,
    #[serde(borrow)]
    received_at: Cow<'a, str>,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    json: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    b64: Option<Cow<'a, str>>,
}

pub(super) async fn run(selection: Selection, server: Server) -> Result<Copied> {
    let request = selection.request(server.base.as_str());
    let api = Api::new(server.base, server.token, server.ca.as_deref())?;
    let all: BTreeSet<DeviceId> = api.devices(selection.group.as_ref()).await?.into_iter().collect();
    let progress = Arc::new(Progress::new("exporting", "frames", None));
    let mut copied = Copied::default();
    for (path, devices) in selection.files(all)? {
        let (mut sink, resume) = Sink::open(&path, &selection, &request, &progress, copied.frames)?;
        let begun = resume.progress;
        for device in devices.iter().filter(|device| device.as_str() >= begun.device.as_str()) {
            let after = if device.as_str() == begun.device { begun.after } else { (0, 0) };
            copy(&api, device, after, &selection, &mut sink).await?;
        }
        sink.finish(&mut copied)?;
    }
    progress.clear();
    if copied.files == 0 {
        output::note("every file is there already");
    }
    Ok(copied)
}

/// Copies a device's frames behind a place.
async fn copy(
    api: &Api,
    device: &DeviceId,
    mut after: (u64, u64),
    selection: &Selection,
    sink: &mut Sink,
) -> Result<()> {
    let (mut tries, mut pause) = (0, PAUSE);
    loop {
        let before = after;
        match copy_once(api, device, &mut after, selection, sink).await {
            Ok(()) => return Ok(()),
            Err(Failure::Server(error)) => {
                tries = if after == before { tries + 1 } else { 1 };
                pause = if after == before { pause * 2 } else { PAUSE };
                if tries >= TRIES {
                    return Err(error.context(format!("frames of {device} behind {}:{}", after.0, after.1)));
                }
                tokio::time::sleep(pause).await;
            }
            Err(Failure::Ours(error)) => return Err(error),
        }
    }
}

enum Failure {
    /// It may be tried again.
    Server(anyhow::Error),
    Ours(anyhow::Error),
}

async fn copy_once(
    api: &Api,
    device: &DeviceId,
    after: &mut (u64, u64),
    selection: &Selection,
    sink: &mut Sink,
) -> Result<(), Failure> {
    let mut parameters = Vec::new();
    if let Some(ts) = &selection.range.ts {
        parameters.push(("from", ts.start().to_string()));
        parameters.push(("to", (ts.end() + 1).min(trough_protocol::limits::INT_MAX).to_string()));
    }
    parameters.extend(selection.range.channel.iter().map(|channel| ("channel", channel.to_string())));
    if *after != (0, 0) {
        parameters.push(("after", format!("{}:{}", after.0, after.1)));
    }
    let answer = api.frames(device, &parameters, &mut None).await.map_err(|error| match error {
        ApiError::Again(error) => Failure::Server(error),
        refused => Failure::Ours(refused.into()),
    })?;
    let Some(mut lines) = answer else { return Ok(()) };
    while let Some(line) = lines.next().await.map_err(Failure::Server)? {
        let (place, copied) = take(line, device, sink);
        copied.map_err(Failure::Ours)?;
        *after = place;
    }
    Ok(())
}

fn take(line: &str, device: &DeviceId, sink: &mut Sink) -> ((u64, u64), Result<()>) {
    let mut place = (0, 0);
    let mut copy = || -> Result<()> {
        let line: Line<'_> = serde_json::from_str(line).context("the answer has a line that is no frame")?;
        place = (line.epoch, line.seq);
        let received_at: jiff::Timestamp = line.received_at.parse().context("received_at is no time")?;
        let bytes;
        let (content_type, payload) = match (line.json, &line.text, &line.b64) {
            (Some(json), None, None) => (ContentType::Json, json.get().as_bytes()),
            (None, Some(text), None) => (ContentType::Text, text.as_bytes()),
            (None, None, Some(b64)) => {
                let name = line.content_type.as_deref().unwrap_or("application/octet-stream");
                bytes = BASE64.decode(b64.as_bytes()).context("b64 is no base64")?;
                (ContentType::parse(name)?, &bytes[..])
            }
            _ => return Err(anyhow!("a frame has not exactly one of json, text and b64")),
        };
        let frame = FrameRef { ts: line.ts, channel: &line.channel, content_type, payload };
        Ok(sink.push(&Exported {
            device: device.as_str(),
            epoch: Epoch(line.epoch),
            seq: Seq(line.seq),
            received_at: Micros::try_from(received_at.as_microsecond()).unwrap_or(0),
            frame,
        })?)
    };
    let copied = copy();
    (place, copied)
}
