//! One frame in one of the formats.

use trough_protocol::frame::FrameRef;
use trough_protocol::{ContentType, DeviceId, Epoch, Micros, Seq};

use super::csv::{csv_header, push_field, push_quoted, push_value};
use super::payload::{Payload, push_base64};
use super::push_json_string;
use super::time::TimeWriter;
use super::{FrameFormat, Pointer, Shape};

/// Writes frames one after another into a buffer of its own.
///
/// [`FrameEncoder::begin_device`] is called where the device changes, if frames carry it, [`FrameEncoder::begin_run`]
/// where epoch or time of receipt change, [`FrameEncoder::push`] for each frame, and the bytes are taken with
/// [`FrameEncoder::take`].
#[derive(Debug)]
pub struct FrameEncoder {
    format: FrameFormat,
    shape: Shape,
    /// The chosen fields as member names: `"/lat":`.
    names: Vec<Vec<u8>>,
    out: Vec<u8>,
    capacity: usize,
    /// What stands before the epoch.
    before_epoch: Vec<u8>,
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
        Self::shaped(format, capacity, Shape::default())
    }

    /// The same of frames that carry their device, or only some fields of their payloads.
    pub fn shaped(format: FrameFormat, capacity: usize, shape: Shape) -> Self {
        let mut out = Vec::with_capacity(capacity);
        if format == FrameFormat::Csv {
            csv_header(&mut out, &shape);
        }
        let names = shape.fields.iter().map(|field| {
            let mut name = Vec::new();
            push_json_string(&mut name, field.as_str());
            name.push(b':');
            name
        });
        Self {
            format,
            names: names.collect(),
            shape,
            out,
            capacity,
            before_epoch: if format == FrameFormat::Csv { Vec::new() } else { b"{\"epoch\":".to_vec() },
            before_seq: Vec::new(),
            before_channel: Vec::new(),
            time: TimeWriter::default(),
            frames: 0,
        }
    }

    /// The frames that follow are of this device, which they carry if the encoder's shape says so.
    pub fn begin_device(&mut self, device: &DeviceId) {
        if !self.shape.device {
            return;
        }
        // The rules of device ids leave nothing to escape or quote.
        let device = device.as_str().as_bytes();
        let pieces: &[&[u8]] = match self.format {
            FrameFormat::Json | FrameFormat::NdJson => &[b"{\"device\":\"", device, b"\",\"epoch\":"],
            FrameFormat::Csv => &[device, b","],
        };
        self.before_epoch.clear();
        pieces.iter().for_each(|piece| self.before_epoch.extend_from_slice(piece));
    }

    /// The frames that follow are of this epoch, and came at this time.
    pub fn begin_run(&mut self, epoch: Epoch, received_at: Micros) {
        let mut digits = itoa::Buffer::new();
        let epoch = digits.format(epoch.0).as_bytes();
        let mut times = TimeWriter::default();
        let received_at = &times.text(received_at)[..];
        let before_epoch = &self.before_epoch[..];
        let (before_seq, before_channel): (&[&[u8]], &[&[u8]]) = match self.format {
            FrameFormat::Json | FrameFormat::NdJson => (
                &[before_epoch, epoch, b",\"seq\":"],
                &[b"\",\"received_at\":\"", received_at, b"\",\"channel\":\""],
            ),
            FrameFormat::Csv => (&[before_epoch, epoch, b","], &[b",", received_at, b","]),
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
        let one_line = self.format == FrameFormat::NdJson;
        if !self.shape.fields.is_empty() {
            push_fields(out, frame, (&self.shape.fields, &self.names), one_line);
            return;
        }
        match Payload::of(frame) {
            Payload::Json { text, has_line_breaks } => {
                out.extend_from_slice(b"\",\"json\":");
                let start = out.len();
                out.extend_from_slice(text);
                if has_line_breaks && one_line {
                    without_breaks(&mut out[start..]);
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
        if !self.shape.fields.is_empty() {
            let json = Payload::json(frame);
            for field in &self.shape.fields {
                out.push(b',');
                if let Some(value) = json.and_then(|json| field.find(json)) {
                    push_value(out, value);
                }
            }
            out.extend_from_slice(b"\r\n");
            return;
        }
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

    /// Frames written so far, those already taken included.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Shows the bytes written since the last time, and forgets them; the buffer stays.
    pub fn drain(&mut self, show: impl FnOnce(&[u8])) {
        show(&self.out);
        self.out.clear();
    }

    /// The bytes written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.out, Vec::with_capacity(self.capacity))
    }
}

/// `","json":{"/lat":30.41}}`: what stands behind the channel when fields were chosen. A frame without a JSON payload has
/// none of them, and says what it has.
fn push_fields(
    out: &mut Vec<u8>,
    frame: &FrameRef<'_>,
    (fields, names): (&[Pointer], &[Vec<u8>]),
    one_line: bool,
) {
    let json = Payload::json(frame);
    if json.is_none() {
        out.extend_from_slice(b"\",\"content_type\":");
        push_json_string(out, frame.content_type.as_str());
        out.extend_from_slice(b",\"json\":{");
    } else {
        out.extend_from_slice(b"\",\"json\":{");
    }
    let mut first = true;
    for (field, name) in fields.iter().zip(names) {
        let Some(value) = json.and_then(|json| field.find(json)) else { continue };
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        out.extend_from_slice(name);
        let start = out.len();
        out.extend_from_slice(value);
        if one_line {
            without_breaks(&mut out[start..]);
        }
    }
    out.extend_from_slice(b"}}");
}

/// Line breaks in a JSON text are white space between its tokens: inside of strings it does not allow them.
fn without_breaks(json: &mut [u8]) {
    json.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
}

#[cfg(test)]
mod tests;
