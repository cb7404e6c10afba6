//! A batch: frames of many devices, with a directory of runs before them. It travels from feeder to journal
//! without being re-encoded; the commit path looks at header, directory and checksums, never at payloads.
//!
//! ```text
//! header, 24 bytes                         run, 50 bytes and the device id
//!   4  magic "TRBA"                          u8  kind: 0 frames, 1 skip
//!   u8 version, 1                            u8  device id length
//!   u8 codec, 0 = none                           device id
//!   u8 critical flags, 0                     u64 epoch
//!   u8 other flags, ignored                  u64 first seq
//!   u32 number of runs                       u64 count
//!   u32 directory bytes                      u64 lowest ts     (0 in a skip)
//!   u32 data bytes                           u64 highest ts    (0 in a skip)
//!   u32 CRC32C of the 20 bytes before        u32 data bytes
//!       and of the directory                 u32 CRC32C of its data
//! directory: the runs; then the runs' data in the same order
//! ```
//! A run's data is its frames ([`crate::frame`]) one after another, or for a skip one byte, the reason.
//! There is at least one run, and the data of a frames run is long enough for its count.

mod builder;
mod check;

pub use builder::BatchBuilder;
pub use check::Batch;

use crate::wire::WireError;
use crate::words::{Epoch, Micros, Seq};

/// The first bytes of a batch.
pub const MAGIC: [u8; 4] = *b"TRBA";
/// Bytes of the fixed part before the directory.
pub const HEADER_BYTES: usize = 24;
/// Bytes of a run in the directory, besides the device id.
pub const RUN_BYTES: usize = 50;
const VERSION: u8 = 1;

/// What a run holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// Frames.
    Frames,
    /// Numbers that the device declared lost.
    Skip,
}

/// Consecutive sequence numbers of one device and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// Frames or a declared loss.
    pub kind: RunKind,
    /// Whose.
    pub device: &'a str,
    /// In which numbering.
    pub epoch: Epoch,
    /// The first number.
    pub first: Seq,
    /// How many numbers; at least 1.
    pub count: u64,
    /// Lowest ts of the frames; 0 in a skip.
    pub min_ts: Micros,
    /// Highest ts of the frames; 0 in a skip.
    pub max_ts: Micros,
    /// Where the run's data begins, in bytes from the start of the batch.
    pub offset: u32,
    /// Bytes of the run's data.
    pub len: u32,
    /// CRC32C of the run's data.
    pub crc: u32,
}

impl Run<'_> {
    /// The last number.
    pub fn last(&self) -> Seq {
        Seq(self.first.0 + self.count - 1)
    }

    /// Checks the run's data against its checksum.
    ///
    /// # Errors
    /// [`WireError::Checksum`].
    pub fn check(&self, data: &[u8]) -> Result<(), WireError> {
        let computed = crc32c::crc32c(data);
        if computed == self.crc {
            Ok(())
        } else {
            Err(WireError::Checksum { what: "run data", found: self.crc, computed })
        }
    }
}

fn head_crc(head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..20]), &head[HEADER_BYTES..])
}
