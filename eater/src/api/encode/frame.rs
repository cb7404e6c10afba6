//! One frame in one of the formats.

use trough_protocol::frame::FrameRef;
use trough_protocol::{ContentType, Epoch, Micros, Seq};

use super::FrameFormat;
use super::csv::{CSV_HEADER, push_field, push_quoted};
use super::escape::push_json_string;
use super::payload::{Payload, push_base64};
use super::time::TimeWriter;

/// Writes frames one after another into a buffer of its own.
///
/// [`FrameEncoder::begin_run`] is called where epoch or time of receipt change, [`FrameEncoder::push`] for each
/// frame, and the bytes are taken with [`FrameEncoder::take`].
#[derive(Debug)]
pub struct FrameEncoder {
    format: FrameFormat,
    out: Vec<u8>,
    capacity: usize,
    /// What stands before the seq: it changes only with the run.
    before_seq: Vec<u8>,
    /// What stands between time and channel.
    before_channel: Vec<u8>,
    time: TimeWriter,
    frames: u64,
}

impl FrameEncoder {
    /// An encoder whose buffer starts with `capacity` bytes, and is given that much again each time it is
    /// taken. CSV starts with its header.
    pub fn new(format: FrameFormat, capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        if format == FrameFormat::Csv {
            out.extend_from_slice(CSV_HEADER);
        }
        Self {
            format,
            out,
            capacity,
            before_seq: Vec::new(),
            before_channel: Vec::new(),
            time: TimeWriter::default(),
            frames: 0,
        }
    }

    /// The frames that follow are of this epoch, and came at this time.
    pub fn begin_run(&mut self, epoch: Epoch, received_at: Micros) {
        let mut digits = itoa::Buffer::new();
        let epoch = digits.format(epoch.0).as_bytes();
        let mut times = TimeWriter::default();
        let received_at = &times.text(received_at)[..];
        let (before_seq, before_channel): (&[&[u8]], &[&[u8]]) = match self.format {
            FrameFormat::Json | FrameFormat::NdJson => (
                &[b"{\"epoch\":", epoch, b",\"seq\":"],
                &[b"\",\"received_at\":\"", received_at, b"\",\"channel\":\""],
            ),
            FrameFormat::Csv => (&[epoch, b","], &[b",", received_at, b","]),
        };
        for (part, pieces) in [(&mut self.before_seq, before_seq), (&mut self.before_channel, before_channel)]
        {
            part.clear();
            pieces.iter().for_each(|piece| part.extend_from_slice(piece));
        }
    }

    /// Appends one frame of the run.
    pub fn push(&mut self, seq: Seq, frame: &FrameRef<'_>) {
        match self.format {
            FrameFormat::Json => {
                if self.frames > 0 {
                    self.out.extend_from_slice(b",\n");
                }
                self.push_object(seq, frame);
            }
            FrameFormat::NdJson => {
                self.push_object(seq, frame);
                self.out.push(b'\n');
            }
            FrameFormat::Csv => self.push_record(seq, frame),
        }
        self.frames += 1;
    }

    fn push_object(&mut self, seq: Seq, frame: &FrameRef<'_>) {
        let mut digits = itoa::Buffer::new();
        let out = &mut self.out;
        out.extend_from_slice(&self.before_seq);
        out.extend_from_slice(digits.format(seq.0).as_bytes());
        out.extend_from_slice(b",\"ts\":");
        out.extend_from_slice(digits.format(frame.ts).as_bytes());
        out.extend_from_slice(b",\"time\":\"");
        out.extend_from_slice(self.time.text(frame.ts));
        out.extend_from_slice(&self.before_channel);
        // The rules of channel names leave nothing to escape.
        out.extend_from_slice(frame.channel.as_bytes());
        match Payload::of(frame) {
            Payload::Json { text, has_line_breaks } => {
                out.extend_from_slice(b"\",\"json\":");
                let start = out.len();
                out.extend_from_slice(text);
                if has_line_breaks && self.format == FrameFormat::NdJson {
                    // Line breaks are white space here, and inside of strings JSON does not allow them.
                    out[start..].iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
                }
            }
            Payload::Text(text) => {
                out.extend_from_slice(b"\",\"text\":");
                push_json_string(out, text);
            }
            Payload::Binary(bytes) => {
                out.extend_from_slice(b"\",\"content_type\":");
                match frame.content_type {
                    ContentType::Bytes => out.extend_from_slice(b"\"application/octet-stream\""),
                    other => push_json_string(out, other.as_str()),
                }
                out.extend_from_slice(b",\"b64\":\"");
                push_base64(out, bytes);
                out.push(b'"');
            }
        }
        out.push(b'}');
    }

    fn push_record(&mut self, seq: Seq, frame: &FrameRef<'_>) {
        let mut digits = itoa::Buffer::new();
        let out = &mut self.out;
        out.extend_from_slice(&self.before_seq);
        out.extend_from_slice(digits.format(seq.0).as_bytes());
        out.push(b',');
        out.extend_from_slice(digits.format(frame.ts).as_bytes());
        out.push(b',');
        out.extend_from_slice(self.time.text(frame.ts));
        out.extend_from_slice(&self.before_channel);
        // The rules of channel names leave nothing to quote.
        out.extend_from_slice(frame.channel.as_bytes());
        out.push(b',');
        push_field(out, frame.content_type.as_str().as_bytes());
        match Payload::of(frame) {
            Payload::Json { text, .. } => {
                out.extend_from_slice(b",json,");
                push_quoted(out, text);
            }
            Payload::Text(text) => {
                out.extend_from_slice(b",text,");
                push_quoted(out, text.as_bytes());
            }
            Payload::Binary(bytes) => {
                out.extend_from_slice(b",b64,");
                push_base64(out, bytes);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Appends bytes as they are: what stands around the frames.
    pub fn push_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Frames written so far, those already taken included.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The bytes written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.out, Vec::with_capacity(self.capacity))
    }
}

#[cfg(test)]
mod tests;
