//! Which copy of a frame it is.

use trough_protocol::Micros;
use trough_store::object_catalog::{Incarnation, ObjectId};

/// Where a copy stands among the copies of a frame: the lowest is the one that readers see, everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// When it was received, in µs since 1970; 0 in the local journal, whose clock may step back while its file numbers
    /// do not.
    pub received_at: Micros,
    /// Whose journal it was in.
    pub incarnation: Incarnation,
    /// The journal object's number, or the local journal file's.
    pub n: u64,
}

impl Rank {
    /// The rank of what was received then, and came out of this journal object or file.
    pub fn new(received_at: Micros, source: ObjectId) -> Self {
        let ObjectId { incarnation, n } = source;
        let received_at = if incarnation == Incarnation::LOCAL { 0 } else { received_at };
        Self { received_at, incarnation, n }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_clock_does_not_count() {
        let local = |received_at, n| Rank::new(received_at, ObjectId { incarnation: Incarnation::LOCAL, n });
        assert!(local(900, 1) < local(100, 2));
        let object =
            |received_at, n| Rank::new(received_at, ObjectId { incarnation: Incarnation([1; 16]), n });
        assert!(object(100, 2) < object(900, 1));
        assert!(local(u64::MAX, u64::MAX) < object(1, 1));
    }
}
