//! Up to where a shard was looked at, as bytes in the outbox.

use trough_protocol::Micros;
use trough_protocol::wire::{Reader, WireError};

use crate::live::Vector;

/// The version of the bytes.
const VERSION: u8 = 1;

/// A place of watching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WatchPlace {
    /// When it was taken, by the outbox's clock: everything that was received long before is done.
    pub at: Micros,
    /// When the rules were asked for by which was looked, by the same clock.
    pub rules_at: Micros,
    /// All that is done.
    pub vector: Vector,
}

impl WatchPlace {
    /// Its bytes: `u8` 1 (the version), `u64` at, `u64` rules at, and the vector as [`Vector::put`] writes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.rules_at.to_le_bytes());
        self.vector.put(&mut out);
        out
    }

    /// Reads what [`WatchPlace::to_bytes`] wrote.
    ///
    /// # Errors
    /// The first fault.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("version")?;
        if version != VERSION {
            let (what, value) = ("version of a watcher's place", version.into());
            return Err(WireError::Unsupported { what, value, known: "1" });
        }
        let (at, rules_at) = (reader.u64("time")?, reader.u64("time of the rules")?);
        let vector = Vector::read(&mut reader)?;
        match reader.rest().len() {
            0 => Ok(Self { at, rules_at, vector }),
            left => Err(WireError::Trailing { what: "a watcher's place", left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use trough_store::object_catalog::Incarnation;

    use super::*;
    use crate::live::Place;

    #[test]
    fn comes_back_from_its_bytes() {
        let mut vector = Vector { time: 5, ..Vector::default() };
        vector.advance(Incarnation([0xa; 16]), Place::behind(7));
        vector.advance(Incarnation::LOCAL, Place { n: 3, offset: 80, seq: 0 });
        let place = WatchPlace { at: 6, rules_at: 4, vector };
        let bytes = place.to_bytes();
        assert_eq!(WatchPlace::from_bytes(&bytes), Ok(place));
        for end in 0..bytes.len() {
            assert!(WatchPlace::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        assert!(WatchPlace::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        assert!(WatchPlace::from_bytes(&[&[2], &bytes[1..]].concat()).is_err());
    }
}
