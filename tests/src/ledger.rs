//! What was sent, and whether exactly that can be read.

use futures_util::{StreamExt as _, stream};
use trough_protocol::ContentType;
use trough_protocol::frame::FrameRef;

use crate::reader::{ReadFrame, Reader};

/// Devices that are read at a time: a database on a busy machine takes its time for each.
const READ_AT_A_TIME: usize = 8;

/// A frame as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The device's time, in µs since 1970.
    pub ts: u64,
    /// Its stream.
    pub channel: String,
    /// What the payload is.
    pub content_type: String,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Sent {
    /// As the protocol has it.
    pub fn frame(&self) -> FrameRef<'_> {
        FrameRef {
            ts: self.ts,
            channel: &self.channel,
            content_type: ContentType::parse(&self.content_type).unwrap(),
            payload: &self.payload,
        }
    }

    /// Bytes on the channel `c`, as `Wire::frames` sends them.
    pub fn on_wire(seq: u64, payload: &[u8]) -> Self {
        Self {
            ts: crate::wire::ts_of(seq),
            channel: "c".into(),
            content_type: "application/octet-stream".into(),
            payload: payload.to_vec(),
        }
    }
}

/// All that one device sends, in order: number 1, 2, …
#[derive(Debug, Clone)]
pub struct Track {
    /// Which device.
    pub device: String,
    /// Its frames.
    pub sent: Vec<Sent>,
}

impl Track {
    /// That `read` is exactly what was sent, each frame once, in order, in epoch `epoch` from number 1.
    ///
    /// # Panics
    /// If it is not; the message names the first difference.
    pub fn assert_read(&self, epoch: u64, read: &[ReadFrame]) {
        let Self { device, sent } = self;
        for (seq, (sent, read)) in (1..).zip(sent.iter().zip(read)) {
            let place = (read.epoch, read.seq);
            assert_eq!(place, (epoch, seq), "{device}: frame {seq} of epoch {epoch} was due");
            assert!(is_same(sent, read), "{device}: frame {seq} differs: sent {sent:?}, read {read:?}");
        }
        assert_eq!(sent.len(), read.len(), "{device}: frames sent, frames read");
    }

    /// That exactly this can be read, and no gap is reported.
    pub async fn assert_readable(&self, reader: &Reader, epoch: u64) {
        self.assert_read(epoch, &reader.frames(&self.device).await);
        assert_eq!(reader.gaps(&self.device).await, [], "{}", self.device);
        let device = reader.device(&self.device).await;
        let known = (device["epoch"].as_u64(), device["head"].as_u64(), device["frames"].as_u64());
        let count = Some(self.sent.len() as u64);
        assert_eq!(known, (Some(epoch), count, count), "{}: epoch, head and frames", self.device);
    }
}

/// Whether every byte is the same.
pub fn is_same(sent: &Sent, read: &ReadFrame) -> bool {
    (sent.ts, &sent.channel, &sent.content_type, &sent.payload)
        == (read.ts, &read.channel, &read.content_type, &read.payload)
}

/// That the frames of all tracks can be read, each in epoch 1.
pub async fn assert_all_frames_readable(reader: &Reader, tracks: &[Track]) {
    let check = async |track: &Track| track.assert_read(1, &reader.frames(&track.device).await);
    stream::iter(tracks).map(check).buffer_unordered(READ_AT_A_TIME).collect::<()>().await;
}

/// That all tracks can be read, each in epoch 1.
pub async fn assert_all_readable(reader: &Reader, tracks: &[Track]) {
    let checks = stream::iter(tracks).map(|track| track.assert_readable(reader, 1));
    checks.buffer_unordered(READ_AT_A_TIME).collect::<()>().await;
}
