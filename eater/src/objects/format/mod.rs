//! The bytes of journal objects: `docs/storage.md` has them in prose. Nothing here does I/O.
//!
//! A journal object is a [`Header`], batches exactly as they were received, an index of their runs by device
//! ([`Index`]), and a [`Trailer`] that says where the index is. All integers are little-endian. The index repeats what
//! the batches' directories say, and a catalog row repeats what the object says: all of it can be rebuilt.

mod header;
mod index;
mod inspect;
mod trailer;

pub use header::{HEADER_BYTES, Header};
pub use index::{Index, RUN_BYTES};
pub use inspect::inspect;
pub use trailer::{TRAILER_BYTES, Trailer};

pub(super) use inspect::{row, spans};

use trough_protocol::wire::{Reader, WireError};
use trough_store::object_catalog::{Incarnation, ObjectId};

/// Largest object that is read, in bytes: one largest batch over the size at which objects are sealed, and an index.
pub const OBJECT_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn put_id(id: ObjectId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.incarnation.0);
    out.extend_from_slice(&id.n.to_le_bytes());
}

fn read_id(reader: &mut Reader<'_>) -> Result<ObjectId, WireError> {
    Ok(ObjectId {
        incarnation: Incarnation(reader.array("incarnation")?),
        n: reader.int("object number", 1)?,
    })
}
