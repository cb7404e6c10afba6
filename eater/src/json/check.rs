//! Whether a payload that a device calls JSON may stand in our own JSON unchanged.
//!
//! The rules are those of `trough_protocol::device::json::frame_members`: a JSON text without white space around
//! it, nested no deeper than [`JSON_DEPTH_MAX`], without half a surrogate pair. One rule is added, for the same
//! reason, that one frame must not spoil the whole page for a common parser: no number beyond a 64-bit float.
//! What fails is given as base64 instead, so nothing is lost. All of it is done in one pass, as it is done for
//! every frame that is read.

use trough_protocol::limits::JSON_DEPTH_MAX;

use super::escape::plain_prefix;

/// What a valid JSON text is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Whether it has line breaks. They can only be white space between its tokens.
    pub has_line_breaks: bool,
}

/// Checks one JSON text; `None` if it is not fit to be passed on.
pub fn check_json(payload: &[u8]) -> Option<Checked> {
    std::str::from_utf8(payload).ok()?;
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t' | b'\n' | b'\r'));
    if is_space(payload.first()) || is_space(payload.last()) {
        return None;
    }
    let mut checker = Checker { rest: payload, has_line_breaks: false, objects: 0, depth: 0 };
    checker.text()?;
    Some(Checked { has_line_breaks: checker.has_line_breaks })
}

struct Checker<'a> {
    rest: &'a [u8],
    has_line_breaks: bool,
    /// One bit for each open bracket, the innermost lowest: whether it is an object. Holds [`JSON_DEPTH_MAX`].
    objects: u128,
    depth: usize,
}

const _: () = assert!(JSON_DEPTH_MAX <= u128::BITS as usize, "one bit for each level");

impl Checker<'_> {
    /// No recursion: the depth of the input must not become that of the stack.
    fn text(&mut self) -> Option<()> {
        loop {
            // A value is due.
            self.space();
            match self.next()? {
                b'{' => {
                    self.open(true)?;
                    self.space();
                    if self.rest.first() != Some(&b'}') {
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.open(false)?;
                    self.space();
                    if self.rest.first() != Some(&b']') {
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.literal(b"rue")?,
                b'f' => self.literal(b"alse")?,
                b'n' => self.literal(b"ull")?,
                first @ (b'-' | b'0'..=b'9') => self.number(first)?,
                _ => return None,
            }
            // A value, or an opening bracket with its closing one right behind, has been read.
            loop {
                self.space();
                if self.depth == 0 {
                    return self.rest.is_empty().then_some(());
                }
                match (self.next()?, self.objects & 1 == 1) {
                    (b',', true) => {
                        self.space();
                        self.key()?;
                        break;
                    }
                    (b',', false) => break,
                    (b'}', true) | (b']', false) => self.close(),
                    _ => return None,
                }
            }
        }
    }

    fn open(&mut self, object: bool) -> Option<()> {
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        (self.depth <= JSON_DEPTH_MAX).then_some(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn space(&mut self) {
        while let Some((first @ (b' ' | b'\t' | b'\n' | b'\r'), rest)) = self.rest.split_first() {
            self.has_line_breaks |= matches!(first, b'\n' | b'\r');
            self.rest = rest;
        }
    }

    fn literal(&mut self, tail: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(tail)?;
        Some(())
    }

    fn key(&mut self) -> Option<()> {
        if self.next()? != b'"' {
            return None;
        }
        self.string()?;
        self.space();
        (self.next()? == b':').then_some(())
    }

    /// The rest of a string whose opening quote has been read.
    fn string(&mut self) -> Option<()> {
        loop {
            self.rest = &self.rest[plain_prefix(self.rest)..];
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.hex4()? {
                0xd800..=0xdbff => {
                    self.literal(b"\\u")?;
                    matches!(self.hex4()?, 0xdc00..=0xdfff).then_some(())
                }
                0xdc00..=0xdfff => None,
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn hex4(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |value, _| Some(value << 4 | char::from(self.next()?).to_digit(16)?))
    }

    /// The rest of a number whose first character has been read.
    fn number(&mut self, first: u8) -> Option<()> {
        let start = self.rest;
        let lead = if first == b'-' { self.next()? } else { first };
        match lead {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        let mut large = start.len() - self.rest.len() > 300;
        if self.rest.first() == Some(&b'.') {
            self.next();
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.rest.first() {
            self.next();
            if let Some(b'+' | b'-') = self.rest.first() {
                self.next();
            }
            self.some_digits()?;
            large = true;
        }
        if !large {
            return Some(());
        }
        // The sign may be missing here; it does not matter to the magnitude.
        let written = &start[..start.len() - self.rest.len()];
        let magnitude = [&[first][..], written].concat();
        let value: f64 = std::str::from_utf8(&magnitude).ok()?.parse().ok()?;
        value.is_finite().then_some(())
    }

    fn digits(&mut self) {
        let count = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.rest = &self.rest[count..];
    }

    fn some_digits(&mut self) -> Option<()> {
        let before = self.rest.len();
        self.digits();
        (self.rest.len() < before).then_some(())
    }
}

#[cfg(test)]
mod tests;
