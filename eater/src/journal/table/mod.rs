//! A sealed file's index, `{id:020}.tri`: all that is in memory while a file is written, in a form that is read
//! piece by piece. It holds nothing of its own: it is made from the journal file, and can be made again.
//!
//! ```text
//! header, 160 bytes
//!    0  4 magic "TRJX"   u8 version, 1   u8 codec, 0   u8 critical flags, 0   u8 other flags, ignored
//!    8  u64 file id   u64 nonce   u64 sealed length of the journal file
//!   32  u64 frames    u64 runs    u64 lowest, highest received at    u64 lowest, highest ts
//!   80  u64 devices   u64 records u64 directory at   u64 directory bytes   u64 fences at   u64 fences bytes
//!  128  28 zeros
//!  156  u32 CRC32C of the 156 bytes before
//! records, from 160: in blocks of 64, each block followed by its u32 CRC32C; the last may be shorter
//!   u64 epoch   u64 first seq   u64 count   u64 lowest, highest ts   u64 received at
//!   u32 offset of the data in the journal file   u32 bytes   u32 CRC32C
//!   u8 kind: 0 frames, 1 skip, 2 damaged   u8 reason of a skip   2 zeros
//! directory: blocks, each u32 bytes, u32 CRC32C, entries of devices in the order of their ids
//! fences: u32 CRC32C of what follows, then for each directory block
//!   u64 at   u32 bytes, both with the block's own 8   u8 n, n id of its first device
//! ```
//! A device's records stand together: frames, then numbers without frames, each by (epoch, first seq, offset).

mod entry;
mod reader;
mod writer;

use std::io;

use trough_protocol::wire::{Reader, WireError};
use trough_protocol::{Epoch, Seq};
use trough_store::SealedFile;

use super::run::{Kind, Run};

pub(super) use entry::{Entry, LastAt};
pub(super) use reader::Table;
pub(super) use writer::write;

const MAGIC: [u8; 4] = *b"TRJX";
pub(super) const HEADER_BYTES: usize = 160;
const RECORD_BYTES: usize = 64;
const BLOCK_RECORDS: usize = 64;
const BLOCK_BYTES: usize = BLOCK_RECORDS * RECORD_BYTES + 4;

/// An index cannot be read.
#[derive(Debug)]
pub(in crate::journal) enum TableError {
    Io(io::Error),
    /// It is not what was written.
    Damaged(String),
}

impl From<io::Error> for TableError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WireError> for TableError {
    fn from(error: WireError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The first bytes of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub nonce: u64,
    /// What the catalog knows of the file.
    pub facts: SealedFile,
    pub devices: u64,
    pub records: u64,
    pub directory: (u64, u64),
    pub fences: (u64, u64),
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let facts = &self.facts;
        let fields = [
            facts.file_id,
            self.nonce,
            facts.bytes,
            facts.frames,
            facts.runs,
            facts.min_received,
            facts.max_received,
            facts.min_ts,
            facts.max_ts,
            self.devices,
            self.records,
            self.directory.0,
            self.directory.1,
            self.fences.0,
            self.fences.1,
        ];
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = 1;
        for (place, field) in bytes[8..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let header = reader.bytes("index header", HEADER_BYTES)?;
        let mut reader = Reader::new(header);
        let found = reader.array("index header")?;
        if found != MAGIC {
            return Err(WireError::Magic { what: "journal index", found });
        }
        check_crc("index header", header)?;
        let [version, codec, critical, _] = reader.array("index header")?;
        if (version, codec, critical) != (1, 0, 0) {
            let what = "version, codec or critical flags of a journal index";
            return Err(WireError::Unsupported {
                what,
                value: version.into(),
                known: "version 1 without flags",
            });
        }
        let mut next = || reader.u64("index header");
        let (file_id, nonce) = (next()?, next()?);
        Ok(Self {
            nonce,
            facts: SealedFile {
                file_id,
                bytes: next()?,
                frames: next()?,
                runs: next()?,
                min_received: next()?,
                max_received: next()?,
                min_ts: next()?,
                max_ts: next()?,
            },
            devices: next()?,
            records: next()?,
            directory: (next()?, next()?),
            fences: (next()?, next()?),
        })
    }
}

/// Checks the CRC32C in the last four bytes of `bytes`.
fn check_crc(what: &'static str, bytes: &[u8]) -> Result<(), WireError> {
    let (content, crc) = bytes.split_at(bytes.len().saturating_sub(4));
    let (found, computed) = (Reader::new(crc).u32(what)?, crc32c::crc32c(content));
    if found == computed { Ok(()) } else { Err(WireError::Checksum { what, found, computed }) }
}

fn encode_record(run: &Run, out: &mut Vec<u8>) {
    for field in [run.epoch.0, run.first.0, run.count, run.min_ts, run.max_ts, run.received_at] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for field in [run.offset, run.len, run.crc] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    let (kind, reason) = match run.kind {
        Kind::Frames => (0, 0),
        Kind::Skip(reason) => (1, reason),
        Kind::Damaged => (2, 0),
    };
    out.extend_from_slice(&[kind, reason, 0, 0]);
}

fn decode_record(bytes: &[u8]) -> Result<Run, WireError> {
    let mut reader = Reader::new(bytes);
    let (epoch, first) = (Epoch(reader.u64("epoch")?), Seq(reader.u64("first seq")?));
    let count = reader.int("count", 1)?;
    first.last_of(count)?;
    Ok(Run {
        epoch,
        first,
        count,
        min_ts: reader.u64("lowest ts")?,
        max_ts: reader.u64("highest ts")?,
        received_at: reader.u64("received at")?,
        offset: reader.u32("offset")?,
        len: reader.u32("bytes")?,
        crc: reader.u32("checksum")?,
        kind: match (reader.u8("kind")?, reader.u8("reason")?) {
            (0, _) => Kind::Frames,
            (1, reason) => Kind::Skip(reason),
            (2, _) => Kind::Damaged,
            (kind, _) => {
                let known = "0 (frames), 1 (skip) and 2 (damaged)";
                return Err(WireError::Unsupported { what: "run kind", value: kind.into(), known });
            }
        },
    })
}
