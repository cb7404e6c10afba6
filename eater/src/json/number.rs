//! Numbers in JSON texts.

use super::Pointer;

/// The number that a pointer points to; `None` if there is something else, or nothing. `json` is known to be valid.
pub fn number_at(json: &[u8], pointer: &Pointer) -> Option<f64> {
    let text = std::str::from_utf8(pointer.find(json)?).ok()?;
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| is_number && number.is_finite())
}

/// The same, and numbers in strings, as some devices send their positions.
pub fn number_or_text_at(json: &[u8], pointer: &Pointer) -> Option<f64> {
    let found = pointer.find(json)?;
    let quoted = found.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inner) = quoted else { return number_at(json, pointer) };
    let text = std::str::from_utf8(inner).ok()?;
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_numbers() {
        let json = br#"{"a":-1.5e2,"b":"7","c":" -97.25 ","d":null,"e":true,"f":"NaN","g":[3]}"#;
        let at = |pointer: &str| Pointer::parse(pointer).unwrap();
        for (pointer, number, or_text) in [
            ("/a", Some(-150.0), Some(-150.0)),
            ("/b", None, Some(7.0)),
            ("/c", None, Some(-97.25)),
            ("/d", None, None),
            ("/e", None, None),
            ("/f", None, None),
            ("/g", None, None),
            ("/g/0", Some(3.0), Some(3.0)),
            ("/x", None, None),
        ] {
            assert_eq!(number_at(json, &at(pointer)), number, "{pointer}");
            assert_eq!(number_or_text_at(json, &at(pointer)), or_text, "{pointer}");
        }
    }
}
