//! Names that people give: device groups, readers and rules.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest group or reader name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Not a name. The message says of what, shows the value, and gives the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} name {value:?} is not valid: use 1 to 64 of A–Z a–z 0–9 . _ - : @")]
pub struct NameError {
    /// A group or a reader.
    pub what: &'static str,
    /// What was given, cut to 80 characters.
    pub value: String,
}

fn check(what: &'static str, name: &str) -> Result<Arc<str>, NameError> {
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'@');
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_name_byte) {
        Ok(name.into())
    } else {
        Err(NameError { what, value: name.chars().take(80).collect() })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// [`NameError`].
            pub fn new(name: &str) -> Result<Self, NameError> {
                check($what, name).map(Self)
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(
    /// A set of devices that readers are given access to, and retention is set for. A device may be in
    /// several, or in none; then only readers of all groups see it.
    Group,
    "group"
);
name!(
    /// Who reads: a name for one user of the API, such as `ios-production`.
    ReaderName,
    "reader"
);
name!(
    /// What a rule is called: it stands in each of its events.
    RuleName,
    "rule"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_the_rule_is_told() {
        assert_eq!(Group::new("north.1").unwrap().as_str(), "north.1");
        for bad in ["", "two words", "a,b", "ü", &"x".repeat(65)] {
            let error = ReaderName::new(bad).unwrap_err().to_string();
            assert!(error.starts_with("reader name ") && error.contains("1 to 64"), "{error}");
        }
    }
}
