//! What a rule knows of a device, in memory and as bytes in the outbox.

use trough_protocol::wire::{Reader, WireError};
use trough_protocol::{Epoch, Micros, Seq};
use trough_store::event::FrameNumber;

use super::gaps::OpenGap;
use super::matching::Matching;
use super::rate::Course;
use super::silence::Heard;

/// The version of the bytes.
const VERSION: u8 = 1;
/// What a state is of, as the bytes say it. Numbers are never used again.
const COMPARE: u8 = 1;
const RATE: u8 = 2;
const GEOFENCE: u8 = 3;
const SILENCE: u8 = 4;
const FIRST_FRAME: u8 = 5;
const GAPS: u8 = 6;

/// What a rule knows of a device, by the kind of its condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Known {
    Compare(Matching),
    Rate(Course),
    /// Whether the last position was inside.
    Geofence(Option<bool>),
    Silence(Option<Heard>),
    /// Whether a frame was looked at.
    FirstFrame(bool),
    Gaps(Option<OpenGap>),
}

/// The same, and up to where frames were looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct State {
    pub through: FrameNumber,
    pub known: Known,
}

impl State {
    /// Before the first frame.
    pub fn new(known: Known) -> Self {
        Self { through: FrameNumber { epoch: Epoch::NONE, seq: Seq::ZERO }, known }
    }

    /// Its bytes.
    ///
    /// ```text
    /// u8  1, the version
    /// u8  the kind: 1 compare, 2 rate, 3 geofence, 4 silence, 5 first frame, 6 gaps
    /// u64 epoch, u64 seq of the last frame that was looked at
    /// compare     u8 0 no, 1 since (u64 since when), 2 yes
    /// rate        u8 0, or 1 and u64 ts, f64 number; then as compare
    /// geofence    u8 0 outside, 1 inside, 2 no position yet
    /// silence     u8 0, or 1 and u64 epoch, u64 seq, u64 received at, u8 silent
    /// first frame u8 0, or 1 if a frame was looked at
    /// gaps        u8 0, or 1 and u64 epoch, u64 first, u64 epoch, u64 last, u8 reason
    /// ```
    pub fn to_bytes(self) -> Vec<u8> {
        let mut out = vec![VERSION, self.kind()];
        put_number(&mut out, self.through);
        match self.known {
            Known::Compare(matching) => matching.put(&mut out),
            Known::Rate(course) => {
                out.push(u8::from(course.last.is_some()));
                if let Some((ts, number)) = course.last {
                    out.extend_from_slice(&ts.to_le_bytes());
                    out.extend_from_slice(&number.to_bits().to_le_bytes());
                }
                course.matching.put(&mut out);
            }
            Known::Geofence(inside) => out.push(inside.map_or(2, u8::from)),
            Known::Silence(heard) => {
                out.push(u8::from(heard.is_some()));
                if let Some(heard) = heard {
                    put_number(&mut out, heard.frame);
                    out.extend_from_slice(&heard.at.to_le_bytes());
                    out.push(u8::from(heard.silent));
                }
            }
            Known::FirstFrame(done) => out.push(u8::from(done)),
            Known::Gaps(open) => {
                out.push(u8::from(open.is_some()));
                if let Some(open) = open {
                    put_number(&mut out, open.first);
                    put_number(&mut out, open.last);
                    out.push(open.reason);
                }
            }
        }
        out
    }

    const fn kind(&self) -> u8 {
        match self.known {
            Known::Compare(_) => COMPARE,
            Known::Rate(_) => RATE,
            Known::Geofence(_) => GEOFENCE,
            Known::Silence(_) => SILENCE,
            Known::FirstFrame(_) => FIRST_FRAME,
            Known::Gaps(_) => GAPS,
        }
    }

    /// Reads what [`State::to_bytes`] wrote.
    ///
    /// # Errors
    /// The first fault.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("version")?;
        if version != VERSION {
            return Err(unsupported("version of a rule's state", version, "1"));
        }
        let kind = reader.u8("kind")?;
        let through = number(&mut reader)?;
        let known = match kind {
            COMPARE => Known::Compare(Matching::read(&mut reader)?),
            RATE => {
                let last = match flag(&mut reader)? {
                    true => Some((time(&mut reader)?, f64::from_bits(reader.u64("number")?))),
                    false => None,
                };
                Known::Rate(Course { last, matching: Matching::read(&mut reader)? })
            }
            GEOFENCE => match reader.u8("inside")? {
                2 => Known::Geofence(None),
                inside => Known::Geofence(Some(inside == 1)),
            },
            SILENCE => Known::Silence(match flag(&mut reader)? {
                true => {
                    let (frame, at) = (number(&mut reader)?, time(&mut reader)?);
                    Some(Heard { frame, at, silent: flag(&mut reader)? })
                }
                false => None,
            }),
            FIRST_FRAME => Known::FirstFrame(flag(&mut reader)?),
            GAPS => Known::Gaps(match flag(&mut reader)? {
                true => {
                    let (first, last) = (number(&mut reader)?, number(&mut reader)?);
                    Some(OpenGap { first, last, reason: reader.u8("reason")? })
                }
                false => None,
            }),
            kind => return Err(unsupported("kind of a rule's state", kind, "1 to 6")),
        };
        match reader.rest().len() {
            0 => Ok(Self { through, known }),
            left => Err(WireError::Trailing { what: "a rule's state", left }),
        }
    }
}

fn unsupported(what: &'static str, value: u8, known: &'static str) -> WireError {
    WireError::Unsupported { what, value: value.into(), known }
}

fn put_number(out: &mut Vec<u8>, number: FrameNumber) {
    out.extend_from_slice(&number.epoch.0.to_le_bytes());
    out.extend_from_slice(&number.seq.0.to_le_bytes());
}

fn number(reader: &mut Reader<'_>) -> Result<FrameNumber, WireError> {
    Ok(FrameNumber { epoch: Epoch(reader.u64("epoch")?), seq: Seq(reader.u64("seq")?) })
}

fn time(reader: &mut Reader<'_>) -> Result<Micros, WireError> {
    reader.u64("time")
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    match reader.u8("flag")? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(unsupported("flag", value, "0 and 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<State> {
        let at = |epoch, seq| FrameNumber { epoch: Epoch(epoch), seq: Seq(seq) };
        let course = |last, matching| Known::Rate(Course { last, matching });
        let gap = OpenGap { first: at(1, 2), last: at(1, 9), reason: 3 };
        let knowns = [
            Known::Compare(Matching::Since(7)),
            course(None, Matching::No),
            course(Some((5, -1.5)), Matching::Yes),
            Known::Geofence(None),
            Known::Geofence(Some(false)),
            Known::Geofence(Some(true)),
            Known::Silence(None),
            Known::Silence(Some(Heard { frame: at(3, 4), at: 5, silent: true })),
            Known::FirstFrame(true),
            Known::Gaps(None),
            Known::Gaps(Some(gap)),
        ];
        knowns.map(|known| State { through: at(2, 77), known }).into()
    }

    #[test]
    fn comes_back_from_its_bytes() {
        for state in all() {
            let bytes = state.to_bytes();
            assert!(bytes.len() <= trough_store::outbox::STATE_BYTES_MAX);
            assert_eq!(State::from_bytes(&bytes), Ok(state));
            for end in 0..bytes.len() {
                assert!(State::from_bytes(&bytes[..end]).is_err(), "{state:?} {end}");
            }
            assert!(State::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    /// Stored states outlive releases.
    #[test]
    fn the_bytes_stay_what_they_are() {
        let hex = |state: State| state.to_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>();
        let head = |kind| format!("01{kind}02000000000000004d00000000000000");
        let all: Vec<String> = all().into_iter().map(hex).collect();
        assert_eq!(all[0], head("01") + "010700000000000000");
        assert_eq!(all[2], head("02") + "010500000000000000000000000000f8bf02");
        assert_eq!(all[5], head("03") + "01");
        assert_eq!(all[7], head("04") + "01030000000000000004000000000000000500000000000000" + "01");
        assert_eq!(all[8], head("05") + "01");
        let gap = "01010000000000000002000000000000000100000000000000090000000000000003";
        assert_eq!(all[10], head("06") + gap);
    }
}
