//! Whether a JSON value can stand inside another document that every common reader takes.
//!
//! The grammar allows what parsers refuse (RFC 8259, sections 8.2 and 9): thousands of nested arrays, and strings
//! with half a surrogate pair. One such payload would make a whole page of frames unreadable.

use crate::limits::JSON_DEPTH_MAX;
use crate::wire::WireError;

/// Checks `json`, which follows the grammar already.
///
/// # Errors
/// [`WireError::TooLarge`] if it is nested deeper than [`JSON_DEPTH_MAX`], [`WireError::Json`] for half a surrogate
/// pair.
pub(super) fn check(json: &str) -> Result<(), WireError> {
    let mut rest = json.as_bytes();
    let mut in_string = false;
    let mut depth = 0_usize;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' => rest = skip_escape(rest)?,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    let (value, max) = (depth as u64, JSON_DEPTH_MAX as u64);
                    return Err(WireError::TooLarge { what: "nesting of json", value, max });
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// What follows the escape of which `bytes` begins after the backslash.
fn skip_escape(bytes: &[u8]) -> Result<&[u8], WireError> {
    match unit(bytes) {
        None => Ok(bytes.get(1..).unwrap_or_default()),
        Some(0xD800..=0xDBFF) => {
            match bytes.get(5..).and_then(|rest| rest.strip_prefix(b"\\")).and_then(unit) {
                Some(0xDC00..=0xDFFF) => Ok(&bytes[11..]),
                _ => Err(half_a_pair()),
            }
        }
        Some(0xDC00..=0xDFFF) => Err(half_a_pair()),
        Some(_) => Ok(&bytes[5..]),
    }
}

/// The UTF-16 unit of an escape `uXXXX`.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"u")?.first_chunk::<4>()?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn half_a_pair() -> WireError {
    WireError::Json("json has half of a \\u surrogate pair: send it as text or b64".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_counts_only_outside_strings() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(JSON_DEPTH_MAX)).expect("at the limit");
        assert!(matches!(check(&nested(JSON_DEPTH_MAX + 1)), Err(WireError::TooLarge { value: 101, .. })));
        check(&format!("[\"{}\",{}]", "[{\\\"".repeat(500), "{},".repeat(500) + "0")).expect("not nested");
    }

    #[test]
    fn surrogates_come_in_pairs() {
        for good in [r#""\ud83d\ude00""#, r#"{"\uD83D\uDE00x":1}"#, r#""\\ud800""#, r#""\u00e4\n\"\/""#] {
            check(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx\ude00""#, r#""\ud83d\ud83d""#, r#""\ud83d\n""#]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
