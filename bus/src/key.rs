//! Names of topics, leases and values. Each belongs to an environment: no name exists without one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// Longest environment, in bytes.
pub const ENVIRONMENT_BYTES_MAX: usize = 32;
/// Longest name as it stands, environment included, in bytes. memcached takes keys of 250; what the
/// implementations put around a name has room in the rest.
pub const NAME_BYTES_MAX: usize = 200;

/// Which data a deployment works on, such as `production` or `sandbox`. Deployments of different environments may
/// share a bus and never see each other's names.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Environment(Arc<str>);

/// Not an environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment {0:?} is not valid: use 1 to 32 of a–z 0–9 -")]
pub struct EnvironmentError(String);

impl Environment {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`EnvironmentError`].
    pub fn new(name: &str) -> Result<Self, EnvironmentError> {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=ENVIRONMENT_BYTES_MAX).contains(&name.len()) && name.bytes().all(known) {
            return Ok(Self(name.into()));
        }
        Err(EnvironmentError(name.chars().take(80).collect()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Environment {
    type Err = EnvironmentError;
    fn from_str(s: &str) -> Result<Self, EnvironmentError> {
        Self::new(s)
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// `environment:name`, or `environment:#hash` if the name is too long, or has spaces or anything else that
/// memcached does not take.
fn text(environment: &Environment, name: &str) -> Arc<str> {
    let plain = !name.is_empty()
        && !name.starts_with('#')
        && name.len() < NAME_BYTES_MAX - ENVIRONMENT_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    if plain {
        return format!("{environment}:{name}").into();
    }
    let hash = Sha256::digest(name.as_bytes());
    let mut text = format!("{environment}:#");
    hash.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    text.into()
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Any name is good; one that is long or has odd characters is hashed (SHA-256).
            pub fn new(environment: &Environment, name: &str) -> Self {
                Self(text(environment, name))
            }

            /// As it stands on the bus: printable ASCII, at most [`NAME_BYTES_MAX`] bytes.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
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
    /// The name of a value or a lease. Values and leases of one name are different things.
    Key
);
name!(
    /// What messages are published to.
    Topic
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_two_environments_never_meet() {
        let [production, sandbox] = ["production", "sandbox"].map(|name| Environment::new(name).unwrap());
        let long = "x".repeat(1000);
        for name in ["a", "", "two words", &long, "ü", "#a", "sandbox:a"] {
            assert_ne!(Key::new(&production, name), Key::new(&sandbox, name), "{name:?}");
        }
    }

    #[test]
    fn every_name_fits_and_none_is_another() {
        let environment = Environment::new(&"e".repeat(32)).unwrap();
        let limit = NAME_BYTES_MAX - ENVIRONMENT_BYTES_MAX - 1;
        let names =
            ["", " ", "a", "a b", "a\nb", "a\0", "#", &"k".repeat(limit), &"k".repeat(limit + 1), "ä"];
        let mut keys: Vec<_> = names.iter().map(|name| Key::new(&environment, name)).collect();
        for key in &keys {
            assert!(key.as_str().len() <= NAME_BYTES_MAX, "{key}");
            assert!(key.as_str().bytes().all(|byte| byte.is_ascii_graphic()), "{key}");
        }
        // Nobody can spell the name that another one hashes to.
        keys.push(Key::new(&environment, keys[0].as_str().split_once(':').unwrap().1));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), names.len() + 1);
    }

    #[test]
    fn environments_are_checked_and_the_rule_is_told() {
        for bad in ["", "Production", "a b", "a:b", &"e".repeat(33)] {
            assert!(Environment::new(bad).unwrap_err().to_string().contains("1 to 32"), "{bad:?}");
        }
    }
}
