//! A journal object in memory, whole: what compaction and live tails read.

use bytes::Bytes;
use trough_protocol::DeviceId;
use trough_protocol::wire::WireError;
use trough_store::ObjectKey;
use trough_store::object_catalog::{ObjectId, ObjectRow};

use super::format::{HEADER_BYTES, Header, Index, TRAILER_BYTES, Trailer};
use super::names;
use crate::journal::Rank;
use crate::journal::run::Run;

/// An object whose header and index were checked, and are those that the catalog speaks of.
pub(crate) struct WholeObject {
    id: ObjectId,
    rank: Rank,
    index: Index,
    /// Where its devices begin in the index.
    places: Vec<u32>,
    bytes: Bytes,
}

impl WholeObject {
    /// Takes the bytes of the object that has this row.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn new(row: &ObjectRow, bytes: Bytes) -> Result<Self, WireError> {
        let header = Header::decode(&bytes)?;
        let needed = HEADER_BYTES + TRAILER_BYTES;
        let short = WireError::Truncated { what: "journal object", needed, had: bytes.len() };
        let split = bytes.len().checked_sub(TRAILER_BYTES).ok_or(short)?;
        let trailer = Trailer::decode(&bytes[split..])?;
        if (header.id, trailer.id) != (row.id, row.id) {
            let rule = "it is the object that the catalog speaks of";
            return Err(WireError::Invalid { what: "object number", value: header.id.n, rule });
        }
        let start = trailer.index_start(bytes.len() as u64)?;
        let at = usize::try_from(start).expect("it lies within the bytes");
        let index = Index::decode(bytes.slice(at..split), start, &trailer, row.received_at)?;
        let places = index.places();
        Ok(Self { id: row.id, rank: Rank::new(row.received_at, row.id), index, places, bytes })
    }

    /// Which copy of a frame what it has is.
    pub(crate) fn rank(&self) -> Rank {
        self.rank
    }

    /// Where it lies.
    pub(crate) fn key(&self) -> ObjectKey {
        names::key(self.id)
    }

    /// Its devices, rising.
    pub(crate) fn devices(&self) -> impl Iterator<Item = DeviceId> + '_ {
        self.places.iter().filter_map(|place| DeviceId::new(self.index.device_at(*place)).ok())
    }

    /// A device's runs, by key.
    pub(crate) fn runs(&self, device: &str) -> Vec<Run> {
        let found = self.places.binary_search_by(|place| self.index.device_at(*place).cmp(device));
        found.map_or_else(|_| Vec::new(), |at| self.index.runs_at(self.places[at]))
    }

    /// The data of a run, verified; `None` if it is damaged.
    pub(crate) fn data(&self, run: &Run) -> Option<Bytes> {
        let from = run.offset as usize;
        let data = self.bytes.slice(from..from + run.len as usize);
        (crc32c::crc32c(&data) == run.crc).then_some(data)
    }
}
