//! How far somebody has come in every journal: a vector, as several eaters commit at once and nothing puts what they
//! commit into one order.

use std::collections::BTreeMap;

use trough_protocol::Micros;
use trough_protocol::wire::{Reader, WireError};
use trough_store::object_catalog::{Incarnation, ObjectId};

/// Most journals in a vector that is read: far more than eaters are alive at a time.
const JOURNALS_MAX: usize = 1024;

/// A place in one journal: everything in objects (or files) before `n` is done, in `n` all runs that lie before `offset`,
/// and of the run that lies there the numbers up to `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of an object, or of a file of the local journal.
    pub n: u64,
    /// Bytes from its beginning; [`Place::ALL`] if all of it is done.
    pub offset: u32,
    /// 0 if nothing of the run is done.
    pub seq: u64,
}

impl Place {
    /// The offset behind everything.
    pub const ALL: u32 = u32::MAX;

    /// Behind a whole object.
    pub const fn behind(n: u64) -> Self {
        Self { n, offset: Self::ALL, seq: 0 }
    }

    /// The last object that is done as a whole.
    pub fn whole(&self) -> u64 {
        if self.offset == Self::ALL { self.n } else { self.n.saturating_sub(1) }
    }
}

/// A place in every journal that is not done for good.
///
/// A journal that is not named was done with when the vector was made if its eater had not been heard of for a while
/// by then, and began later otherwise: see [`Vector::is_done`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vector {
    /// When the journals were listed that it names, by the catalog's clock; 0 for the local journal.
    pub time: Micros,
    /// The places.
    pub places: BTreeMap<Incarnation, Place>,
}

/// A closed journal is named for so long after its eater was heard last: clocks of a database's servers differ.
const NAMED_FOR: Micros = 600_000_000;

impl Vector {
    /// Where it stands in a journal; before the first object if it does not name it.
    pub fn place(&self, incarnation: Incarnation) -> Place {
        self.places.get(&incarnation).copied().unwrap_or(Place::behind(0))
    }

    /// Goes on in a journal; never back.
    pub fn advance(&mut self, incarnation: Incarnation, to: Place) {
        let place = self.places.entry(incarnation).or_insert(to);
        *place = to.max(*place);
    }

    /// Whether all of an object is done.
    pub fn has(&self, id: ObjectId) -> bool {
        self.place(id.incarnation).whole() >= id.n
    }

    /// The same of one that names all journals that are not done for good.
    pub fn has_named(&self, id: ObjectId) -> bool {
        self.places.get(&id.incarnation).is_none_or(|place| place.whole() >= id.n)
    }

    /// Whether everything that another one says is done is done.
    pub fn covers(&self, other: &Self) -> bool {
        other.places.iter().all(|(incarnation, place)| match self.places.get(incarnation) {
            Some(mine) => mine >= place,
            // It is named no more, as it is done.
            None => self.time > other.time,
        })
    }

    /// Whether a journal that is not named, and whose eater was heard last at `heard`, was done with.
    pub fn is_done(&self, heard: Micros) -> bool {
        heard.saturating_add(NAMED_FOR) < self.time
    }

    /// Appends its bytes.
    ///
    /// ```text
    /// u64 time
    /// u16 journals, and for each, by incarnation
    ///   [16] incarnation, zeros for the local journal
    ///   u64 n
    ///   u8  1 if a place within n follows, else 0: all of n is done
    ///   u32 offset, u64 seq (only then)
    /// ```
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.time.to_le_bytes());
        let journals = u16::try_from(self.places.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&journals.to_le_bytes());
        for (incarnation, place) in self.places.iter().take(journals.into()) {
            out.extend_from_slice(&incarnation.0);
            out.extend_from_slice(&place.n.to_le_bytes());
            out.push(u8::from(place.offset != Place::ALL));
            if place.offset != Place::ALL {
                out.extend_from_slice(&place.offset.to_le_bytes());
                out.extend_from_slice(&place.seq.to_le_bytes());
            }
        }
    }

    /// Reads what [`Vector::put`] wrote.
    ///
    /// # Errors
    /// The first fault.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let time = reader.int("time", 0)?;
        let journals = usize::from(u16::from_le_bytes(reader.array("number of journals")?));
        if journals > JOURNALS_MAX {
            let (value, max) = (journals as u64, JOURNALS_MAX as u64);
            return Err(WireError::TooLarge { what: "number of journals", value, max });
        }
        let mut places = BTreeMap::new();
        for _ in 0..journals {
            let incarnation = Incarnation(reader.array("incarnation")?);
            let n = reader.int("object number", 0)?;
            let place = match reader.u8("kind of place")? {
                0 => Place::behind(n),
                1 => Place { n, offset: reader.u32("offset")?, seq: reader.int("seq", 0)? },
                value => {
                    let known = "0 (behind n) and 1 (within n)";
                    return Err(WireError::Unsupported { what: "kind of place", value: value.into(), known });
                }
            };
            places.insert(incarnation, place);
        }
        Ok(Self { time, places })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Incarnation = Incarnation([0xa; 16]);

    #[test]
    fn a_place_within_an_object_leaves_that_object_undone() {
        let mut vector = Vector::default();
        assert!(!vector.has(ObjectId { incarnation: A, n: 1 }));
        vector.advance(A, Place { n: 7, offset: 80, seq: 3 });
        assert!(
            vector.has(ObjectId { incarnation: A, n: 6 }) && !vector.has(ObjectId { incarnation: A, n: 7 })
        );
        vector.advance(A, Place::behind(7));
        assert!(vector.has(ObjectId { incarnation: A, n: 7 }));
        vector.advance(A, Place { n: 7, offset: 90, seq: 1 });
        assert_eq!(vector.place(A), Place::behind(7), "never back");
    }

    #[test]
    fn comes_back_from_its_bytes() {
        let mut vector = Vector { time: 5, ..Vector::default() };
        vector.advance(A, Place { n: 7, offset: 80, seq: 3 });
        vector.advance(Incarnation::LOCAL, Place::behind(9));
        let mut bytes = Vec::new();
        vector.put(&mut bytes);
        assert_eq!(Vector::read(&mut Reader::new(&bytes)), Ok(vector));
        for end in 0..bytes.len() {
            assert!(Vector::read(&mut Reader::new(&bytes[..end])).is_err(), "{end}");
        }
    }

    #[test]
    fn covers_what_it_names_and_what_was_done_with_since() {
        let of = |time, n| {
            let mut vector = Vector { time, ..Vector::default() };
            vector.advance(A, Place::behind(n));
            vector
        };
        assert!(of(1, 7).covers(&of(1, 7)) && of(1, 8).covers(&of(2, 7)) && !of(2, 6).covers(&of(1, 7)));
        let none = |time| Vector { time, ..Vector::default() };
        assert!(none(2).covers(&of(1, 7)) && !none(1).covers(&of(1, 7)));
    }

    #[test]
    fn who_is_not_named_was_done_with_or_began_later() {
        let vector = Vector { time: 2 * NAMED_FOR, ..Vector::default() };
        assert!(vector.is_done(NAMED_FOR - 1));
        assert!(!vector.is_done(NAMED_FOR) && !vector.is_done(2 * NAMED_FOR));
    }
}
