//! JSON pointers (RFC 6901): a value out of a payload, byte for byte as sent.

use super::escape::plain_prefix;

/// Longest pointer, in bytes.
pub const POINTER_BYTES_MAX: usize = 256;

/// A pointer with at least one name in it: the whole payload needs none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    names: Vec<String>,
}

impl Pointer {
    /// Reads one: `/` before each name, in which `~1` stands for `/` and `~0` for `~`. `None` if it is none, or too long.
    pub fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('/').filter(|_| text.len() <= POINTER_BYTES_MAX)?;
        let names = inner.split('/').map(unescape).collect::<Option<_>>()?;
        Some(Self { text: text.to_owned(), names })
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text of the value that it points to, without white space around it. Of a name that occurs twice in an object the
    /// last one counts, as with most parsers.
    ///
    /// `json` is known to be valid; of anything else the answer may be any part, or `None`.
    pub fn find<'a>(&self, json: &'a [u8]) -> Option<&'a [u8]> {
        self.names.iter().try_fold(json, |value, name| member(value, name))
    }
}

fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('~');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(1)?;
        text.push(match code {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        text.push_str(rest);
    }
    Some(text)
}

/// The member or element of this name.
fn member<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut scan = Scan { rest: value };
    match scan.next()? {
        b'{' => scan.member(name),
        b'[' => scan.element(index(name)?),
        _ => None,
    }
}

/// Digits without a leading zero.
fn index(name: &str) -> Option<usize> {
    let plain = name == "0" || !name.starts_with('0');
    name.parse().ok().filter(|_| plain && name.bytes().all(|b| b.is_ascii_digit()))
}

/// Goes through a valid JSON text.
struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    /// Behind the opening bracket of an object.
    fn member(&mut self, name: &str) -> Option<&'a [u8]> {
        let mut found = None;
        self.space();
        while self.rest.first() != Some(&b'}') {
            let key = self.value()?;
            self.space();
            self.next().filter(|b| *b == b':')?;
            self.space();
            let value = self.value()?;
            if is_key(key, name) {
                found = Some(value);
            }
            if !self.comma()? {
                break;
            }
        }
        found
    }

    /// Behind the opening bracket of an array.
    fn element(&mut self, index: usize) -> Option<&'a [u8]> {
        self.space();
        if self.rest.first() == Some(&b']') {
            return None;
        }
        for _ in 0..index {
            self.value()?;
            if !self.comma()? {
                return None;
            }
        }
        self.value()
    }

    /// Whether another one follows.
    fn comma(&mut self) -> Option<bool> {
        self.space();
        let more = self.next()? == b',';
        self.space();
        Some(more)
    }

    /// The value that begins here.
    fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.rest;
        match self.next()? {
            b'"' => self.string()?,
            b'{' | b'[' => self.nested()?,
            _ => {
                let ends = |b: &u8| matches!(b, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
                let len = self.rest.iter().position(ends).unwrap_or(self.rest.len());
                self.rest = &self.rest[len..];
            }
        }
        Some(&start[..start.len() - self.rest.len()])
    }

    /// The rest of an object or array whose opening bracket has been read. No recursion.
    fn nested(&mut self) -> Option<()> {
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                b'"' => self.string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
        Some(())
    }

    /// The rest of a string whose opening quote has been read.
    fn string(&mut self) -> Option<()> {
        loop {
            self.rest = &self.rest[plain_prefix(self.rest)..];
            match self.next()? {
                b'"' => return Some(()),
                // Whatever is escaped, its first character is no end.
                b'\\' => self.next().map(drop)?,
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn space(&mut self) {
        while let Some((b' ' | b'\t' | b'\n' | b'\r', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
    }
}

/// Whether a key, quotes and escapes included, is this name. Only one with escapes is decoded.
fn is_key(key: &[u8], name: &str) -> bool {
    let Some(inner) = key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\"")) else { return false };
    if !inner.contains(&b'\\') {
        return inner == name.as_bytes();
    }
    serde_json::from_slice::<String>(key).is_ok_and(|key| key == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn find<'a>(pointer: &str, json: &'a str) -> Option<&'a str> {
        Pointer::parse(pointer)
            .unwrap()
            .find(json.as_bytes())
            .map(|found| std::str::from_utf8(found).unwrap())
    }

    /// RFC 6901, section 5, but for the pointer to everything.
    #[test]
    fn the_examples_of_the_rfc() {
        let json = r#"{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6,
            " ": 7, "m~n": 8}"#;
        for (pointer, value) in [
            ("/foo", r#"["bar", "baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(find(pointer, json), Some(value), "{pointer}");
        }
        for absent in ["/foo/2", "/foo/-", "/foo/00", "/foo/01", "/foo/+1", "/foo/", "/foo/0/0", "/bar", "/a"]
        {
            assert_eq!(find(absent, json), None, "{absent}");
        }
    }

    #[test]
    fn values_are_as_they_were_sent_and_the_last_of_a_name_counts() {
        assert_eq!(find("/a/b", "{ \"a\" :\n{\"x\":[{}],\"b\" : 1.50E+1 } , \"c\":1}"), Some("1.50E+1"));
        assert_eq!(find("/a", r#"{"a":1,"\u0061":{"b":"}\"]"}}"#), Some(r#"{"b":"}\"]"}"#));
        assert_eq!(find("/1", "[ [1,2] , null ]"), Some("null"));
        assert_eq!(find("/0", "[]"), None);
        assert_eq!(find("/a", "{ }"), None);
        assert_eq!(find("/a", "17"), None);
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for bad in ["", "a", "a/b", "/~", "/~2", "/a~", "#/a", &format!("/{}", "x".repeat(256))] {
            assert_eq!(Pointer::parse(bad), None, "{bad}");
        }
        assert!(Pointer::parse(&format!("/{}", "x".repeat(255))).is_some());
    }

    fn json() -> impl Strategy<Value = Value> {
        let key = prop::sample::select(vec!["a", "b", "", "0", "1", "a/b", "~", "\"", "ü"]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "[a\"\\\\{}\\[\\],]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..4).prop_map(|members| Value::Object(
                    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
                )),
            ]
        })
    }

    proptest! {
        #[test]
        fn finds_what_serde_json_finds(
            value in json(),
            names in prop::collection::vec(
                prop::sample::select(vec!["a", "b", "", "0", "1", "2", "a~1b", "~0", "\"", "ü", "-", "01"]), 1..4),
            pretty in any::<bool>(),
        ) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            let pointer = format!("/{}", names.join("/"));
            let found = find(&pointer, &text).map(|found| serde_json::from_str::<Value>(found).unwrap());
            prop_assert_eq!(found.as_ref(), value.pointer(&pointer), "{} in {}", pointer, text);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Pointer::parse("/a/0/b").unwrap().find(&bytes);
            let _ = Pointer::parse("/0").unwrap().find(&[b"[", &bytes[..]].concat());
        }
    }
}
