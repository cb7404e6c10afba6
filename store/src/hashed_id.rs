//! Ids that are made of hashes.

/// A type of ids: a prefix and 16 bytes in hexadecimal digits.
macro_rules! hashed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The id that follows from these parts, and from no others.
            pub fn of(parts: &[&[u8]]) -> Self {
                use sha2::Digest;
                let mut hash = sha2::Sha256::new();
                hash.update($prefix.as_bytes());
                for part in parts {
                    hash.update((part.len() as u64).to_le_bytes());
                    hash.update(part);
                }
                let mut id = [0; 16];
                id.copy_from_slice(&hash.finalize()[..16]);
                Self(id)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($prefix)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::error::RegistryError;
            fn from_str(s: &str) -> Result<Self, $crate::error::RegistryError> {
                let bytes = s.strip_prefix($prefix).filter(|hex| hex.len() == 32).and_then(|hex| {
                    let mut id = [0; 16];
                    for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
                        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
                    }
                    Some(id)
                });
                // One id has one text: digits of other forms, such as capitals, are none.
                bytes.map(Self).filter(|id| id.to_string() == s).ok_or_else(|| {
                    let shown: String = s.chars().take(80).collect();
                    $crate::error::RegistryError::Invalid(format!(
                        "{shown:?} is no id of this kind: use {} and 32 digits of 0-9 a-f",
                        $prefix
                    ))
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use hashed_id;
