//! Frames that are encoded before they are given to a device.

use trough_protocol::frame::{FRAME_HEADER_BYTES, FrameRef};
use trough_protocol::wire::WireError;

/// Encoded frames in order, for [`Device::send_all`](crate::Device::send_all): the cheapest way to give a device
/// many at once.
#[derive(Debug, Clone, Default)]
pub struct FrameBuf {
    bytes: Vec<u8>,
    /// Bytes at the front that a device has taken.
    taken: usize,
    count: u64,
    payload_max: usize,
    encoded_max: usize,
}

impl FrameBuf {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a frame at the end.
    ///
    /// # Errors
    /// As [`FrameRef::encode`]; the buffer is unchanged then.
    pub fn push(&mut self, frame: &FrameRef<'_>) -> Result<(), WireError> {
        if self.count == 0 {
            self.clear();
        }
        frame.encode(&mut self.bytes)?;
        self.count += 1;
        self.payload_max = self.payload_max.max(frame.payload.len());
        self.encoded_max = self.encoded_max.max(frame.encoded_len());
        Ok(())
    }

    /// How many frames it holds.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the frames it holds.
    pub fn bytes(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Lets go of all frames and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        (self.taken, self.count, self.payload_max, self.encoded_max) = (0, 0, 0, 0);
    }

    /// The largest payload of the frames pushed since it was last empty.
    pub(crate) fn payload_max(&self) -> usize {
        self.payload_max
    }

    /// The longest of them, encoded.
    pub(crate) fn encoded_max(&self) -> usize {
        self.encoded_max
    }

    pub(crate) fn encoded(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// How many frames at the front fit into `room` bytes, and their bytes. With `one` the first fits anyway.
    pub(crate) fn prefix(&self, room: usize, one: bool) -> (u64, usize) {
        if self.bytes() <= room {
            return (self.count, self.bytes());
        }
        let (mut count, mut bytes) = (0, 0);
        while let Some(prefix) = self.encoded()[bytes..].first_chunk() {
            let end = bytes + 4 + u32::from_le_bytes(*prefix) as usize;
            if end > room && !(one && count == 0) {
                break;
            }
            (count, bytes) = (count + 1, end);
        }
        (count, bytes)
    }

    pub(crate) fn take(&mut self, count: u64, bytes: usize) {
        self.count -= count;
        self.taken += bytes;
        debug_assert!(self.bytes() >= self.count as usize * FRAME_HEADER_BYTES);
        if self.count == 0 {
            self.clear();
        } else if self.taken > self.bytes.len() / 2 {
            // A caller that keeps adding behind a slow device must not pile up what was taken.
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }
}
