//! What journals have, as rows and losses, device by device.

use trough_protocol::DeviceId;
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_store::object_catalog::ObjectId;

use super::CompactError;
use super::copies::Copies;
use super::output::Output;
use super::repair::GivenUp;
use crate::journal::run::{Kind, Run};
use crate::journal::{Chunk, GapKind, ReadError};
use crate::segments::Row;
use crate::segments::format::Loss;

/// Takes the next frames of a device.
pub(super) type TakeChunk<'a> = dyn FnMut(&Chunk) -> Result<(), CompactError> + 'a;

/// Parts of journals. Its methods block.
pub(super) trait Input {
    /// The devices that have anything in it, rising.
    fn devices(&mut self) -> Result<Vec<DeviceId>, ReadError>;

    /// Gives a device's frames, rising, each number once and of its copies the one that counts; and then its losses.
    fn device(&mut self, device: &DeviceId, take: &mut TakeChunk<'_>) -> Result<Vec<Loss>, CompactError>;

    /// Copies that were left out so far and that nobody has compared yet.
    fn copies(&self) -> Copies;

    /// What was given up so far because it is damaged.
    fn given_up(&mut self) -> Vec<GivenUp> {
        Vec::new()
    }
}

/// Writes all of it. How many frames that were. `go_on` is asked now and then.
pub(super) fn write(
    input: &mut dyn Input,
    output: &mut Output<'_>,
    go_on: &dyn Fn() -> Result<(), CompactError>,
) -> Result<u64, CompactError> {
    let mut frames = 0;
    for device in input.devices()? {
        go_on()?;
        let losses = input.device(&device, &mut |chunk| {
            frames += chunk.count;
            push(output, &device, chunk)
        })?;
        for loss in losses {
            output.lose(&device, loss)?;
        }
    }
    Ok(frames)
}

fn push(output: &mut Output<'_>, device: &DeviceId, chunk: &Chunk) -> Result<(), CompactError> {
    let (mut rest, mut seq) = (&chunk.bytes[..], chunk.first);
    for _ in 0..chunk.count {
        let frame = FrameRef::decode(&mut rest, FRAME_BYTES_MAX).map_err(|error| CompactError::Frame {
            device: device.to_string(),
            reason: format!("frame {seq} of epoch {}: {error}", chunk.epoch),
        })?;
        let (epoch, received_at, source) = (chunk.epoch, chunk.received_at, chunk.source);
        output.push(&Row { device: device.as_str(), epoch, seq, received_at, source, frame })?;
        seq = seq.next();
    }
    Ok(())
}

/// Numbers without frames, as a segment keeps them.
pub(super) fn loss(run: &Run, source: ObjectId) -> Loss {
    let kind = match run.kind {
        Kind::Skip(reason) => GapKind::Skipped { reason },
        Kind::Damaged | Kind::Frames => GapKind::Damaged,
    };
    Loss { epoch: run.epoch, first: run.first, last: run.last(), kind, received_at: run.received_at, source }
}
