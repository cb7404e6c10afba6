//! A number that is to be so for a while: what comparisons and rates have in common.

use trough_protocol::Micros;
use trough_protocol::wire::{Reader, WireError};
use trough_store::when::When;

use trough_runtime::clock::micros;

/// How a condition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Matching {
    /// It does not hold.
    #[default]
    No,
    /// It has held since this device time, not for long enough yet.
    Since(Micros),
    /// It has matched, and has not ended.
    Yes,
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Matched,
    Cleared,
}

impl Matching {
    /// Takes a number of the device time `ts`.
    pub fn take(&mut self, when: &When, number: f64, ts: Micros) -> Option<Change> {
        let holds = when.holds(number, *self == Self::Yes);
        match (*self, holds) {
            (Self::Yes, true) | (Self::No, false) => None,
            (Self::Yes, false) => {
                *self = Self::No;
                Some(Change::Cleared)
            }
            (Self::Since(_), false) => {
                *self = Self::No;
                None
            }
            (Self::No | Self::Since(_), true) => {
                // A device's clock that was set back has shown no time of this yet.
                let since = if let Self::Since(since) = *self { since.min(ts) } else { ts };
                if ts - since < micros(when.hold) {
                    *self = Self::Since(since);
                    return None;
                }
                *self = Self::Yes;
                Some(Change::Matched)
            }
        }
    }

    /// Appends its bytes: `u8` 0 no, 1 since (and `u64` that), 2 yes.
    pub fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::No => out.push(0),
            Self::Since(since) => {
                out.push(1);
                out.extend_from_slice(&since.to_le_bytes());
            }
            Self::Yes => out.push(2),
        }
    }

    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.u8("how a condition stands")? {
            0 => Ok(Self::No),
            1 => Ok(Self::Since(reader.u64("since when")?)),
            2 => Ok(Self::Yes),
            value => {
                let known = "0 (no), 1 (since) and 2 (yes)";
                Err(WireError::Unsupported { what: "how a condition stands", value: value.into(), known })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has changed at which of some (seconds, number).
    fn changes(when: &str, numbers: &[(u64, f64)]) -> Vec<(u64, Change)> {
        let (when, mut matching) = (when.parse::<When>().unwrap(), Matching::default());
        let take = |(ts, number): &(u64, f64)| Some((*ts, matching.take(&when, *number, ts * 1_000_000)?));
        numbers.iter().filter_map(take).collect()
    }

    use Change::{Cleared, Matched};

    #[test]
    fn at_once_and_with_hysteresis() {
        let numbers = [(1, 29.0), (2, 31.0), (3, 32.0), (4, 29.0), (5, 28.0), (6, 29.0), (7, 30.1), (8, 0.0)];
        assert_eq!(changes("/v > 30", &numbers), [(2, Matched), (4, Cleared), (7, Matched), (8, Cleared)]);
        assert_eq!(
            changes("/v > 30 clear 28", &numbers),
            [(2, Matched), (5, Cleared), (7, Matched), (8, Cleared)]
        );
        assert_eq!(
            changes("/v == 29", &numbers),
            [(1, Matched), (2, Cleared), (4, Matched), (5, Cleared), (6, Matched), (7, Cleared)]
        );
        assert_eq!(changes("/v < 0", &[(1, 0.0), (2, -0.0), (3, -1.0)]), [(3, Matched)]);
    }

    #[test]
    fn for_a_while_of_the_device_time() {
        let when = "/v >= 30 for 60s";
        assert_eq!(
            changes(when, &[(10, 30.0), (69, 30.0), (70, 30.0), (80, 31.0), (90, 1.0)]),
            [(70, Matched), (90, Cleared)]
        );
        // One in between that is not so: it counts from anew.
        assert_eq!(
            changes(when, &[(10, 30.0), (40, 2.0), (50, 30.0), (100, 30.0), (110, 30.0)]),
            [(110, Matched)]
        );
        // A long silence in which nothing else was said counts.
        assert_eq!(changes(when, &[(10, 30.0), (1000, 30.0)]), [(1000, Matched)]);
        // A clock that was set back.
        assert_eq!(changes(when, &[(100, 30.0), (20, 30.0), (79, 30.0), (80, 30.0)]), [(80, Matched)]);
        // Below the number for a while is not above hysteresis.
        assert_eq!(changes("/v > 30 clear 20 for 60s", &[(0, 31.0), (30, 25.0), (60, 31.0)]), []);
    }

    #[test]
    fn comes_back_from_its_bytes() {
        for matching in [Matching::No, Matching::Since(7), Matching::Yes] {
            let mut bytes = Vec::new();
            matching.put(&mut bytes);
            assert_eq!(Matching::read(&mut Reader::new(&bytes)), Ok(matching));
            assert!(Matching::read(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
        }
        assert!(Matching::read(&mut Reader::new(&[3])).is_err());
    }
}
