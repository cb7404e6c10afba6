//! What a repair set aside: damaged bytes of one journal file, and the frames that were in them.
//!
//! The journal file keeps its bytes; `{id:020}.damaged` says which of them are passed over, and keeps a copy.
//!
//! ```text
//! header, 64 bytes
//!    0  4 magic "TRJD"   u8 version, 1   u8 codec, 0   u8 critical flags, 0   u8 other flags, ignored
//!    8  u64 file id      u64 nonce       u32 number of pieces    u32 bytes of the pieces
//!   32  28 zeros
//!   60  u32 CRC32C of the 60 bytes before
//! piece
//!   u64 from   u64 to    u64 received at, µs since 1970    u32 number of losses   u32 bytes kept
//!   losses: u8 n, n device id, u64 epoch, u64 first seq, u64 last seq
//!   the bytes from `from` as they were found; fewer than `to - from` where the file had ended
//! u32 CRC32C of the pieces
//! ```

use std::collections::HashMap;
use std::io;

use trough_protocol::wire::{Reader, WireError};
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use super::disk::Disk;
use super::names;
use super::run::{Kind, Run};

const MAGIC: [u8; 4] = *b"TRJD";
const HEADER_BYTES: usize = 64;
/// No journal file is larger, in bytes: the index has offsets of 32 bits.
const FILE_BYTES_MAX: u64 = 1 << 32;

/// Frames that were in damaged bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub device: DeviceId,
    pub epoch: Epoch,
    pub first: Seq,
    pub last: Seq,
}

impl Loss {
    /// The numbers, as the index has them.
    pub(super) fn run(&self, received_at: Micros, offset: u64) -> Run {
        Run {
            epoch: self.epoch,
            first: self.first,
            count: self.last.0 - self.first.0 + 1,
            min_ts: 0,
            max_ts: 0,
            received_at,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            len: 0,
            crc: 0,
            kind: Kind::Damaged,
        }
    }
}

/// Damaged bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub from: u64,
    pub to: u64,
    pub received_at: Micros,
    pub losses: Vec<Loss>,
    pub bytes: Vec<u8>,
}

/// All that was set aside of a file; most files have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Aside {
    /// By `from`; they do not overlap.
    pub pieces: Vec<Piece>,
}

impl Aside {
    pub(super) const NONE: Self = Self { pieces: Vec::new() };

    /// Reads what was set aside of a journal file: nothing, if there is no such file.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` if the file is not what a repair wrote.
    pub(super) fn read(disk: &dyn Disk, file_id: u64, nonce: u64) -> io::Result<Self> {
        let file = match disk.open(&names::damaged(file_id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::NONE),
            Err(error) => return Err(error),
        };
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        Self::decode(&file.read_at(0, len)?, file_id, nonce)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The end of the piece that has the byte at `offset`.
    pub(super) fn covers(&self, offset: u64) -> Option<u64> {
        let after = self.pieces.partition_point(|piece| piece.from <= offset);
        let piece = &self.pieces[after.checked_sub(1)?];
        (offset < piece.to).then_some(piece.to)
    }

    /// The losses, as the index has them. Each gets an offset of its own within its piece.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&DeviceId, Run)> {
        self.pieces.iter().flat_map(|piece| {
            let offsets = piece.from..;
            offsets
                .zip(&piece.losses)
                .map(|(offset, loss)| (&loss.device, loss.run(piece.received_at, offset)))
        })
    }

    /// How many losses each device has.
    pub(super) fn losses_per_device(&self) -> HashMap<&DeviceId, u64> {
        let mut losses = HashMap::new();
        for loss in self.pieces.iter().flat_map(|piece| &piece.losses) {
            *losses.entry(&loss.device).or_default() += 1;
        }
        losses
    }

    pub(super) fn encode(&self, file_id: u64, nonce: u64) -> Vec<u8> {
        let mut pieces = Vec::new();
        for piece in &self.pieces {
            for field in [piece.from, piece.to, piece.received_at] {
                pieces.extend_from_slice(&field.to_le_bytes());
            }
            for len in [piece.losses.len(), piece.bytes.len()] {
                pieces.extend_from_slice(&u32::try_from(len).expect("a file is at most 4 GiB").to_le_bytes());
            }
            for loss in &piece.losses {
                let name = loss.device.as_str().as_bytes();
                pieces.push(u8::try_from(name.len()).expect("a device id has at most 64 bytes"));
                pieces.extend_from_slice(name);
                for field in [loss.epoch.0, loss.first.0, loss.last.0] {
                    pieces.extend_from_slice(&field.to_le_bytes());
                }
            }
            pieces.extend_from_slice(&piece.bytes);
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + pieces.len() + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&file_id.to_le_bytes());
        out.extend_from_slice(&nonce.to_le_bytes());
        for len in [self.pieces.len(), pieces.len()] {
            out.extend_from_slice(&u32::try_from(len).expect("a file is at most 4 GiB").to_le_bytes());
        }
        out.resize(HEADER_BYTES - 4, 0);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.extend_from_slice(&pieces);
        out.extend_from_slice(&crc32c::crc32c(&pieces).to_le_bytes());
        out
    }

    /// Reads the whole file.
    ///
    /// # Errors
    /// The first fault. `file_id` and `nonce` are those of the journal file that it must belong to.
    pub(super) fn decode(bytes: &[u8], file_id: u64, nonce: u64) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let header = reader.bytes("damage header", HEADER_BYTES)?;
        check_crc("damage header", header)?;
        let mut fields = Reader::new(header);
        let found = fields.array("damage header")?;
        if found != MAGIC {
            return Err(WireError::Magic { what: "damage header", found });
        }
        let [version, codec, critical, _] = fields.array("damage header")?;
        if (version, codec, critical) != (1, 0, 0) {
            let what = "version, codec or critical flags of a damage file";
            return Err(WireError::Unsupported {
                what,
                value: version.into(),
                known: "version 1 without flags",
            });
        }
        let belongs = (fields.u64("file id")?, fields.u64("nonce")?);
        if belongs != (file_id, nonce) {
            let rule = "it belongs to another journal file";
            return Err(WireError::Invalid { what: "file id", value: belongs.0, rule });
        }
        let count = fields.u32("number of pieces")?;
        let len = fields.u32("bytes of the pieces")? as usize;
        let pieces = reader.bytes("pieces and their checksum", len.saturating_add(4))?;
        reader.end("damage file")?;
        check_crc("damage pieces", pieces)?;
        let mut reader = Reader::new(&pieces[..len]);
        let mut aside = Self::NONE;
        for _ in 0..count {
            let piece = read_piece(&mut reader)?;
            if aside.pieces.last().is_some_and(|last| piece.from < last.to) {
                let rule = "the pieces stand in order and do not overlap";
                return Err(WireError::Invalid { what: "from", value: piece.from, rule });
            }
            aside.pieces.push(piece);
        }
        reader.end("damage pieces")?;
        Ok(aside)
    }
}

/// Checks the CRC32C in the last four bytes.
fn check_crc(what: &'static str, bytes: &[u8]) -> Result<(), WireError> {
    let (content, crc) = bytes.split_at(bytes.len() - 4);
    let (found, computed) = (Reader::new(crc).u32(what)?, crc32c::crc32c(content));
    if found == computed { Ok(()) } else { Err(WireError::Checksum { what, found, computed }) }
}

fn read_piece(reader: &mut Reader<'_>) -> Result<Piece, WireError> {
    let (from, to) = (reader.u64("from")?, reader.u64("to")?);
    if to > FILE_BYTES_MAX {
        return Err(WireError::TooLarge { what: "to", value: to, max: FILE_BYTES_MAX });
    }
    if from >= to {
        return Err(WireError::Invalid { what: "from", value: from, rule: "it must be below to" });
    }
    let received_at = reader.u64("received at")?;
    let (losses, kept) = (reader.u32("number of losses")?, reader.u32("bytes kept")? as usize);
    let mut piece = Piece { from, to, received_at, losses: Vec::new(), bytes: Vec::new() };
    for _ in 0..losses {
        let len = reader.u8("device id length")?;
        let name = DeviceId::check(reader.bytes("device id", usize::from(len))?)?;
        let (epoch, first) = (reader.int("epoch", 1)?, reader.int("first seq", 1)?);
        piece.losses.push(Loss {
            device: DeviceId::new(name)?,
            epoch: Epoch(epoch),
            first: Seq(first),
            last: Seq(reader.int("last seq", first)?),
        });
    }
    piece.bytes = reader.bytes("damaged bytes", kept)?.to_vec();
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(from: u64, to: u64) -> Piece {
        Piece { from, to, received_at: 1, losses: Vec::new(), bytes: Vec::new() }
    }

    #[test]
    fn pieces_are_in_order_and_within_a_file() {
        let decoded = |pieces| Aside::decode(&Aside { pieces }.encode(1, 2), 1, 2);
        let good = vec![piece(64, 100), piece(100, FILE_BYTES_MAX)];
        assert_eq!(decoded(good.clone()).unwrap().pieces, good);
        for bad in [
            vec![piece(100, 100)],
            vec![piece(100, 64)],
            vec![piece(64, 100), piece(99, 200)],
            vec![piece(100, 200), piece(64, 100)],
            vec![piece(64, FILE_BYTES_MAX + 1)],
            vec![piece(u64::MAX, u64::MAX)],
        ] {
            assert!(decoded(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
