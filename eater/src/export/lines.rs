//! Frames as lines: what the API writes, with the device in front.

use super::{ExportFormat, Exported};
use crate::api::encode::{FrameEncoder, FrameFormat};

/// Where the encoder's buffer is emptied.
const BUFFER_BYTES: usize = 64 * 1024;

/// Encodes frames.
pub(super) struct Lines {
    format: FrameFormat,
    encoder: FrameEncoder,
    /// The run that was begun.
    run: Option<(u64, u64)>,
}

impl Lines {
    /// For NDJSON and CSV; `None` for other formats.
    pub(super) fn new(format: ExportFormat) -> Option<Self> {
        let format = match format {
            ExportFormat::NdJson => FrameFormat::NdJson,
            ExportFormat::Csv => FrameFormat::Csv,
            ExportFormat::Parquet => return None,
        };
        let mut encoder = FrameEncoder::new(format, BUFFER_BYTES);
        encoder.take();
        Some(Self { format, encoder, run: None })
    }

    /// What stands before the first frame.
    pub(super) fn header(&self) -> Vec<u8> {
        match self.format {
            FrameFormat::Csv => [b"device,", &FrameEncoder::new(FrameFormat::Csv, 0).take()[..]].concat(),
            _ => Vec::new(),
        }
    }

    /// Appends a frame to `out`.
    pub(super) fn push(&mut self, exported: &Exported<'_>, out: &mut Vec<u8>) {
        let run = (exported.epoch.0, exported.received_at);
        if self.run != Some(run) {
            self.encoder.begin_run(exported.epoch, exported.received_at);
            self.run = Some(run);
        }
        self.encoder.push(exported.seq, &exported.frame);
        // The rules of device ids leave nothing to escape or to quote.
        match self.format {
            FrameFormat::Csv => {
                out.extend_from_slice(exported.device.as_bytes());
                out.push(b',');
                self.encoder.drain(|line| out.extend_from_slice(line));
            }
            FrameFormat::Json | FrameFormat::NdJson => {
                out.extend_from_slice(b"{\"device\":\"");
                out.extend_from_slice(exported.device.as_bytes());
                out.extend_from_slice(b"\",");
                self.encoder.drain(|line| out.extend_from_slice(&line[1..]));
            }
        }
    }
}
