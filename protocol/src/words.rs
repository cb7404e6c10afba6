//! Device ids, channels, content types, epochs and sequence numbers.

use std::fmt;
use std::sync::Arc;

use crate::limits::{CHANNEL_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, DEVICE_ID_BYTES_MAX, INT_MAX};

/// A word that does not follow the rules of its kind. The message names the value and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// Not a device id.
    #[error("device id {0:?} is not valid: use 1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ =")]
    DeviceId(String),
    /// Not a channel name.
    #[error("channel {0:?} is not valid: use 1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ = /")]
    Channel(String),
    /// Not a content type.
    #[error(
        "content type {0:?} is not valid: use 1 to 127 visible ASCII characters with spaces only between them, such as text/csv"
    )]
    ContentType(String),
    /// An integer above 2^53 − 1, or zero where numbering starts at 1.
    #[error("{what} {value} is out of range: use {min} to 9007199254740991 (2^53 - 1)")]
    Integer {
        /// Which number.
        what: &'static str,
        /// What was given.
        value: u64,
        /// The smallest accepted.
        min: u64,
    },
}

fn shorten(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

/// Bytes of device ids, by their value: every frame's channel is checked, so it is one look-up a byte.
const ID_BYTES: [bool; 256] = allowed(b"._-:~+@=");
/// Bytes of channels.
const CHANNEL_BYTES: [bool; 256] = allowed(b"._-:~+@=/");

const fn allowed(signs: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut sign = 0;
    while sign < signs.len() {
        table[signs[sign] as usize] = true;
        sign += 1;
    }
    table
}

/// `name` as text if it is 1 to `max` bytes of `table`, which has only ASCII.
fn check_bytes<'a>(name: &'a [u8], max: usize, table: &[bool; 256]) -> Option<&'a str> {
    // `&`, not `all`: names are short, and a loop without a way out early is a fast one.
    let known = name.iter().fold(true, |known, byte| known & table[usize::from(*byte)]);
    if known && (1..=max).contains(&name.len()) { std::str::from_utf8(name).ok() } else { None }
}

/// A device's name: 1 to 64 bytes of `A–Z a–z 0–9 . _ - : ~ + @ =`. Immutable and never reused.
///
/// Cloning is cheap (a reference count).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(Arc<str>);

impl DeviceId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`WordError::DeviceId`] if it is empty, too long, or has a character outside the set.
    pub fn new(name: &str) -> Result<Self, WordError> {
        Self::check(name.as_bytes()).map(|name| Self(name.into()))
    }

    /// Checks a name without keeping it.
    ///
    /// # Errors
    /// As [`DeviceId::new`].
    pub fn check(name: &[u8]) -> Result<&str, WordError> {
        check_bytes(name, DEVICE_ID_BYTES_MAX, &ID_BYTES).ok_or_else(|| WordError::DeviceId(shorten(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for DeviceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for DeviceId {
    type Err = WordError;
    fn from_str(s: &str) -> Result<Self, WordError> {
        Self::new(s)
    }
}

/// The name of a stream within a device: 1 to 64 bytes of the device id's characters and `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

impl Channel {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`WordError::Channel`].
    pub fn new(name: &str) -> Result<Self, WordError> {
        Self::check(name.as_bytes()).map(|name| Self(name.into()))
    }

    /// Checks a name without keeping it.
    ///
    /// # Errors
    /// [`WordError::Channel`].
    pub fn check(name: &[u8]) -> Result<&str, WordError> {
        check_bytes(name, CHANNEL_BYTES_MAX, &CHANNEL_BYTES).ok_or_else(|| WordError::Channel(shorten(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Channel {
    type Err = WordError;
    fn from_str(s: &str) -> Result<Self, WordError> {
        Self::new(s)
    }
}

/// In documents the words are strings, checked when they are read.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(DeviceId, Channel);

/// What a payload is (RFC 9110, section 8.3). The common ones take one byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentType<'a> {
    /// `application/octet-stream`
    Bytes,
    /// `application/json`
    Json,
    /// `text/plain; charset=utf-8`
    Text,
    /// Any other: 1 to 127 visible ASCII characters, with spaces only between them.
    Other(&'a str),
}

impl<'a> ContentType<'a> {
    /// The media type, as in HTTP.
    pub fn as_str(&self) -> &'a str {
        match self {
            Self::Bytes => "application/octet-stream",
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
            Self::Other(name) => name,
        }
    }

    /// From a media type's name; the coded ones are recognised.
    ///
    /// # Errors
    /// [`WordError::ContentType`].
    pub fn parse(name: &'a str) -> Result<Self, WordError> {
        let fits = (1..=CONTENT_TYPE_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
            && name.trim_ascii().len() == name.len();
        match name {
            _ if !fits => Err(WordError::ContentType(shorten(name.as_bytes()))),
            "application/octet-stream" => Ok(Self::Bytes),
            "application/json" => Ok(Self::Json),
            "text/plain; charset=utf-8" => Ok(Self::Text),
            _ => Ok(Self::Other(name)),
        }
    }
}

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = u64;

/// One numbering of a device's frames, granted by the registry, rising from 1. 0 means "none yet".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    /// What a device says that has no epoch: grant me one.
    pub const NONE: Self = Self(0);

    /// Whether this is 0, "grant me one".
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A frame's number within its epoch: from 1, consecutive. 0 means "before the first".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first frame: what a head or an ack is when there is none.
    pub const ZERO: Self = Self(0);
    /// The first frame of an epoch.
    pub const FIRST: Self = Self(1);

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The last of `count` consecutive numbers that begin with this one.
    ///
    /// # Errors
    /// [`WordError::Integer`] if it is above 2^53 − 1: the epoch is used up, and the device must take a new one.
    pub fn last_of(self, count: u64) -> Result<Self, WordError> {
        let value = self.0.saturating_add(count.saturating_sub(1));
        match Self::check(value) {
            Ok(last) => Ok(last),
            Err(_) => Err(WordError::Integer { what: "last seq", value, min: 1 }),
        }
    }

    /// Checks the range 1 to 2^53 − 1.
    ///
    /// # Errors
    /// [`WordError::Integer`].
    pub fn check(value: u64) -> Result<Self, WordError> {
        if (1..=INT_MAX).contains(&value) {
            Ok(Self(value))
        } else {
            Err(WordError::Integer { what: "seq", value, min: 1 })
        }
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 16 random bytes that name one running feeder or eater (an incarnation): new at every start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub [u8; 16]);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
