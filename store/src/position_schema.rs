//! Which channels carry positions.

use trough_protocol::Channel;

use crate::error::RegistryError;

/// Longest JSON pointer, in bytes.
const POINTER_BYTES_MAX: usize = 256;
/// Most channels that may carry positions.
pub const POSITION_SCHEMAS_MAX: usize = 64;

/// Where the frames of a channel say that their device is: JSON pointers (RFC 6901) to degrees of latitude and longitude
/// (WGS 84).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionSchema {
    channel: Channel,
    lat: String,
    lon: String,
}

impl PositionSchema {
    /// Checks the pointers.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] names the pointer and the rule.
    pub fn new(channel: Channel, lat: &str, lon: &str) -> Result<Self, RegistryError> {
        for pointer in [lat, lon] {
            Self::check(pointer)?;
        }
        Ok(Self { channel, lat: lat.to_owned(), lon: lon.to_owned() })
    }

    /// Checks a pointer.
    ///
    /// # Errors
    /// As [`PositionSchema::new`].
    pub fn check(pointer: &str) -> Result<(), RegistryError> {
        let escapes = || pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if pointer.starts_with('/') && pointer.len() <= POINTER_BYTES_MAX && escapes() {
            return Ok(());
        }
        let shown: String = pointer.chars().take(80).collect();
        Err(RegistryError::Invalid(format!(
            "{shown:?} is no JSON pointer (RFC 6901) of at most {POINTER_BYTES_MAX} bytes: use one such as /lat or \
             /fix/0, with ~1 for a slash in a name and ~0 for a tilde"
        )))
    }

    /// Whose frames.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The pointer to the latitude.
    pub fn lat(&self) -> &str {
        &self.lat
    }

    /// The pointer to the longitude.
    pub fn lon(&self) -> &str {
        &self.lon
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_checked() {
        let with = |lat: &str| PositionSchema::new(Channel::new("gps").unwrap(), lat, "/lon");
        for good in ["/lat", "/fix/0/lat", "/", "/a~1b/~0"] {
            assert_eq!(with(good).unwrap().lat(), good);
        }
        for bad in ["", "lat", "$.lat", "/a~", "/a~2", &format!("/{}", "x".repeat(256))] {
            let refused = with(bad).unwrap_err().to_string();
            assert!(refused.contains("RFC 6901") && refused.contains("/lat"), "{refused}");
        }
    }
}
