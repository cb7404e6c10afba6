//! Why a segment cannot be written.

use parquet::errors::ParquetError;
use trough_protocol::wire::WireError;
use trough_protocol::{DeviceId, Epoch, Seq};

/// A segment cannot be written. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Rows must come by (device, epoch, seq), each once: sort them, and choose one copy of each.
    #[error(
        "frame {} of epoch {} of device {device} comes behind frame {} of epoch {} of device {before}: \
         the rows of a segment rise by (device, epoch, seq)",
        key.1, key.0, behind.1, behind.0
    )]
    Disorder {
        /// The row's device.
        device: DeviceId,
        /// Its epoch and number.
        key: (Epoch, Seq),
        /// The device of the row before.
        before: DeviceId,
        /// That row's epoch and number.
        behind: (Epoch, Seq),
    },
    /// A value that no frame and no loss has.
    #[error("a row of a segment cannot be written: {0}")]
    Invalid(#[from] WireError),
    /// More than one segment may have: finish it earlier.
    #[error("a segment of {bytes} bytes of {what} is too large, {max} is the most: finish it earlier")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A segment without a row and a loss says nothing: do not make it.
    #[error("a segment must have a row or a loss")]
    Empty,
    /// The Parquet library refuses.
    #[error("a segment cannot be encoded: {0}")]
    Parquet(#[from] ParquetError),
}
