//! Reading fixed-width little-endian fields from untrusted bytes.

use crate::limits::{INT_MAX, TEXT_BYTES_MAX};
use crate::words::WordError;

/// Why bytes are not what they should be. Each names the field, what it had, and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("truncated: {what} needs {needed} bytes and {had} are left")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Its size.
        needed: usize,
        /// What was left.
        had: usize,
    },
    /// Bytes remain after the last field.
    #[error("{left} bytes follow the end of {what}")]
    Trailing {
        /// The structure that had ended.
        what: &'static str,
        /// How many follow.
        left: usize,
    },
    /// The first bytes are not those of this format.
    #[error("not a {what}: the first bytes are {found:02x?}")]
    Magic {
        /// The expected structure.
        what: &'static str,
        /// What stood there.
        found: [u8; 4],
    },
    /// A version, codec, flag or kind that this release does not know.
    #[error("{what} {value} is not supported by this release, which knows {known}")]
    Unsupported {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What is known.
        known: &'static str,
    },
    /// The bytes are not those that were written.
    #[error("{what} is damaged: checksum {found:08x}, computed {computed:08x} (CRC32C)")]
    Checksum {
        /// The structure.
        what: &'static str,
        /// What the bytes say.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// Above a limit.
    #[error("{what} is {value}, over the limit of {max}")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// A field that contradicts another or its own rule.
    #[error("{what} is {value}: {rule}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What must hold.
        rule: &'static str,
    },
    /// A word that breaks the rules of its kind.
    #[error(transparent)]
    Word(#[from] WordError),
    /// Not JSON, or not the JSON that the protocol has.
    #[error("not a message of trough.v1.json: {0}")]
    Json(String),
}

/// A cursor over untrusted bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn bytes(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], WireError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(WireError::Truncated { what, needed: len, had: self.rest.len() });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// Takes an array of `N` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let bytes = self.bytes(what, N)?;
        Ok(bytes.try_into().expect("the slice has N bytes"))
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array::<1>(what).map(|[b]| b)
    }

    /// Takes two bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// Takes four bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Takes eight bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Takes eight bytes that hold an integer from `min` to 2^53 − 1.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::Word`].
    pub fn int(&mut self, what: &'static str, min: u64) -> Result<u64, WireError> {
        let value = self.u64(what)?;
        if (min..=INT_MAX).contains(&value) {
            Ok(value)
        } else {
            Err(WordError::Integer { what, value, min }.into())
        }
    }

    /// Takes a text with a one-byte length before it; what is not UTF-8 is replaced, as it is only shown.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn text(&mut self, what: &'static str) -> Result<String, WireError> {
        let len = self.u8(what)?;
        let bytes = self.bytes(what, usize::from(len))?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Ends the structure: nothing may be left.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    pub fn end(&self, what: &'static str) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(WireError::Trailing { what, left }),
        }
    }
}

/// Cuts `text` to what [`Reader::text`] can carry, at a character boundary.
pub fn cut_text(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max).min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes a text with a one-byte length before it, cut to [`TEXT_BYTES_MAX`]: for what people read, never for
/// names.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = cut_text(text, TEXT_BYTES_MAX);
    out.push(u8::try_from(text.len()).expect("cut to 255 bytes"));
    out.extend_from_slice(text.as_bytes());
}
