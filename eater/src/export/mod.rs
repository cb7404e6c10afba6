//! Copying frames out into one file, in a way that goes on where it was if it is interrupted.
//!
//! - [`source`]: frames of storage, read without a server. Others may bring their own.
//! - [`file`]: what has come so far, and how far it is known to be complete ([`state`]).
//! - [`lines`] and [`table`]: the formats.

mod file;
mod lines;
mod source;
mod state;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use trough_protocol::frame::FrameRef;
use trough_protocol::{Channel, Epoch, Micros, Seq};

use crate::journal::ReadError;
pub use file::{ExportFile, Resume};
pub use source::{DirectParts, DirectSource};
pub use state::Progress;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// The columns of segments up to `payload`, zstd.
    Parquet,
    /// A JSON object a line, as the API writes them, with the device in front.
    NdJson,
    /// RFC 4180, as the API writes it, with the device in front.
    Csv,
}

/// Which frames of each device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportRange {
    /// Only with these time stamps, by the device's clock.
    pub ts: Option<RangeInclusive<Micros>>,
    /// Only of this channel.
    pub channel: Option<Channel>,
}

impl ExportRange {
    /// Whether a frame is asked for.
    pub fn wants(&self, frame: &FrameRef<'_>) -> bool {
        self.ts.as_ref().is_none_or(|ts| ts.contains(&frame.ts))
            && self.channel.as_ref().is_none_or(|channel| channel.as_str() == frame.channel)
    }
}

/// A frame that is copied out. They come by (device, epoch, seq).
#[derive(Debug, Clone, Copy)]
pub struct Exported<'a> {
    /// Whose.
    pub device: &'a str,
    /// Its numbering.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
    /// When an eater received it, in µs since 1970.
    pub received_at: Micros,
    /// The frame.
    pub frame: FrameRef<'a>,
}

/// An export cannot go on. What is complete stays, and the same export goes on there.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file, or what lies beside it.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is another file of this name: it is not written over.
    #[error("{} is there already: remove it, or choose another name with --out", .0.display())]
    Exists(PathBuf),
    /// Another process makes this file.
    #[error(
        "another export is making this file, as {} is locked: wait until it ends, or choose another name with --out", .0.display()
    )]
    InUse(PathBuf),
    /// What lies there was begun with other options.
    #[error(
        "{} was begun by another export ({found}, and this is {wanted}): remove it, or give the same options", path.display()
    )]
    Other {
        /// The state.
        path: PathBuf,
        /// What was asked for then.
        found: String,
        /// What is asked for now.
        wanted: String,
    },
    /// The state cannot be read: it is not known how much is complete.
    #[error("{} is not the state of an export ({found}): remove it, and the export begins anew", path.display())]
    State {
        /// The state.
        path: PathBuf,
        /// What is wrong.
        found: String,
    },
    /// What was complete is not there any more.
    #[error(
        "{} has {found} bytes, and at least {wanted} were complete when the export stopped: remove {}, and it begins anew", path.display(), state.display()
    )]
    Short {
        /// The file, or a part of it.
        path: PathBuf,
        /// How large it is, in bytes; 0 if it is gone.
        found: u64,
        /// How large it was at least, in bytes.
        wanted: u64,
        /// The state.
        state: PathBuf,
    },
    /// The Parquet library refuses.
    #[error("cannot write Parquet to {}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: parquet::errors::ParquetError,
    },
    /// Frames cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A frame that was read is none.
    #[error("frame {seq} of epoch {epoch} of device {device} is damaged: {found}")]
    Frame {
        /// Whose.
        device: String,
        /// Its numbering.
        epoch: Epoch,
        /// Its number.
        seq: Seq,
        /// What is wrong.
        found: String,
    },
}

impl ExportError {
    fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
