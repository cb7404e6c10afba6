//! Commands to devices and what devices answer, the same in both subprotocols.

use std::fmt;
use std::str::FromStr;

use crate::wire::WireError;
use crate::words::{ContentType, Micros};

/// What a device can do besides what every device can; bits that are not known mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(pub u32);

impl Features {
    const NAMES: [(Self, &'static str); 1] = [(Self::COMMANDS, "commands")];

    /// Nothing: what a device has that does not say.
    pub const NONE: Self = Self(0);
    /// It takes commands.
    pub const COMMANDS: Self = Self(1);

    /// Whether it has all of `others`.
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// The names in JSON of those that are known.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(feature, _)| self.has(*feature)).map(|(_, name)| name)
    }

    /// From names; unknown ones are passed over.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let known = |name| Self::NAMES.iter().find(|(_, known)| *known == name);
        Self(names.into_iter().filter_map(known).fold(0, |all, (feature, _)| all | feature.0))
    }
}

/// A command's id: a UUID (RFC 9562) of version 7, so that ids of one server stand in the order of their commands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub [u8; 16]);

/// Digits of the five parts of a UUID as text, in bytes.
const PARTS: [usize; 5] = [4, 2, 2, 2, 6];

/// Not the text of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no command's id: use the UUID that the command was given, in small letters")]
pub struct BadCommandId(String);

impl CommandId {
    /// An id made at `now`, with the fraction of the millisecond in it (RFC 9562, section 6.2, method 3).
    pub fn new(now: Micros, random: [u8; 8]) -> Self {
        let (millis, fraction) = (now / 1000, (now % 1000) * 4096 / 1000);
        let mut id = [0; 16];
        id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        id[6..8].copy_from_slice(&(0x7000 | fraction as u16).to_be_bytes());
        id[8..].copy_from_slice(&random);
        id[8] = 0x80 | id[8] & 0x3F;
        Self(id)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &self.0[..];
        for (index, len) in PARTS.into_iter().enumerate() {
            let (part, others) = rest.split_at(len);
            rest = others;
            f.write_str(if index == 0 { "" } else { "-" })?;
            part.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CommandId {
    type Err = BadCommandId;
    fn from_str(text: &str) -> Result<Self, BadCommandId> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            *byte = std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .unwrap_or_default();
        }
        // One id has one text: whatever was misread above is not written like this.
        let shown = || text.chars().take(80).collect();
        Some(Self(id)).filter(|id| id.to_string() == text).ok_or_else(|| BadCommandId(shown()))
    }
}

/// What a device is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Names it: one that comes again has the same.
    pub id: CommandId,
    /// It is not to be begun after this time.
    pub expires: Micros,
    /// What the payload is, as [`ContentType::as_str`] writes it.
    pub content_type: String,
    /// Opaque to Trough; at most [`crate::limits::COMMAND_BYTES_MAX`].
    pub payload: Vec<u8>,
}

/// How a command went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandStatus {
    /// The device did it.
    Done,
    /// The device did not, and will not.
    Rejected,
}

impl CommandStatus {
    /// Its number in binary messages.
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Rejected => 1,
        }
    }

    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Rejected => "rejected",
        }
    }

    /// From its number.
    ///
    /// # Errors
    /// [`WireError::Unsupported`].
    pub fn of_number(number: u8) -> Result<Self, WireError> {
        let known = "0 (done) and 1 (rejected)";
        match number {
            0 => Ok(Self::Done),
            1 => Ok(Self::Rejected),
            _ => Err(WireError::Unsupported { what: "command_result.status", value: number.into(), known }),
        }
    }

    /// From its name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Done, Self::Rejected].into_iter().find(|status| status.name() == name)
    }
}

/// What a device answers to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandResult<'a> {
    /// Which command.
    pub id: CommandId,
    /// How it went.
    pub status: CommandStatus,
    /// What the payload is.
    pub content_type: ContentType<'a>,
    /// Opaque to Trough, often empty; at most [`crate::limits::COMMAND_RESULT_BYTES_MAX`].
    pub payload: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stand_in_the_order_of_their_time_and_have_one_text() {
        let now = 1_700_000_000_000_000;
        let ids = [0, 1, 999, 1000, 5_000_000].map(|later| CommandId::new(now + later, [0xFF; 8]));
        assert!(ids.is_sorted() && ids[0] < ids[1]);
        assert_eq!(ids[0].to_string(), "018bcfe5-6800-7000-bfff-ffffffffffff");
        assert_eq!(ids[2].to_string(), "018bcfe5-6800-7ffb-bfff-ffffffffffff");
        assert_eq!(ids[0].to_string().parse(), Ok(ids[0]));
        for bad in [
            "",
            "018bcfe5",
            "018BCFE5-6800-7000-bfff-ffffffffffff",
            "018bcfe568007000bfffffffffffffff",
            "018bcfe5-6800-7000-bfff-fffffffffffff",
            "018bcfe5-6800-7000-bfff-ffffffffff+f",
            "ü",
        ] {
            assert!(bad.parse::<CommandId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_features_mean_nothing() {
        assert_eq!(Features::of_names(["later", "commands"]), Features::COMMANDS);
        assert!(Features(0xFFFF_FFFF).has(Features::COMMANDS) && !Features(2).has(Features::COMMANDS));
        assert_eq!(Features(3).names().collect::<Vec<_>>(), ["commands"]);
    }
}
