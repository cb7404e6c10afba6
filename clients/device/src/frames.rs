//! Frames that are encoded before they are given to a device.

use trough_protocol::frame::FrameRef;
use trough_protocol::wire::WireError;

/// Encoded frames in order, for [`Device::send_all`](crate::Device::send_all): the cheapest way to give a device
/// many at once.
#[derive(Debug, Clone, Default)]
pub struct FrameBuf {
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    /// Bytes at the front that a device has taken.
    taken: usize,
    /// As many frames.
    frames_taken: usize,
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
        if self.is_empty() {
            self.clear();
        }
        let start = self.bytes.len();
        frame.encode(&mut self.bytes)?;
        let length = self.bytes.len() - start;
        self.lengths.push(u32::try_from(length).expect("a frame's length field has four bytes"));
        self.payload_max = self.payload_max.max(frame.payload.len());
        self.encoded_max = self.encoded_max.max(length);
        Ok(())
    }

    /// How many frames it holds.
    pub fn len(&self) -> usize {
        self.lengths.len() - self.frames_taken
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the frames it holds.
    pub fn bytes(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Lets go of all frames and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
        (self.taken, self.frames_taken, self.payload_max, self.encoded_max) = (0, 0, 0, 0);
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

    pub(crate) fn lengths(&self) -> &[u32] {
        &self.lengths[self.frames_taken..]
    }

    /// How many frames at the front fit into `room` bytes, and their bytes. With `one` the first fits anyway.
    pub(crate) fn prefix(&self, room: usize, one: bool) -> (usize, usize) {
        if self.bytes() <= room {
            return (self.len(), self.bytes());
        }
        let (mut count, mut bytes) = (0, 0);
        for length in self.lengths() {
            let end = bytes + *length as usize;
            if end > room && !(one && count == 0) {
                break;
            }
            (count, bytes) = (count + 1, end);
        }
        (count, bytes)
    }

    pub(crate) fn take(&mut self, count: usize, bytes: usize) {
        self.taken += bytes;
        self.frames_taken += count;
        if self.is_empty() {
            self.clear();
        } else if self.taken > self.bytes.len() / 2 {
            // A caller that keeps adding behind a slow device must not pile up what was taken.
            self.bytes.drain(..self.taken);
            self.lengths.drain(..self.frames_taken);
            (self.taken, self.frames_taken) = (0, 0);
        }
    }
}
