//! Documents as JSON text in fields.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;

/// As the text that is stored.
pub(super) fn to_json<T: Serialize>(document: &T) -> Result<String, Failure> {
    serde_json::to_string(document).map_err(|error| Failure::Invalid(format!("cannot be stored: {error}")))
}

/// What a field holds; what we did not write is corruption.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Corrupt(error.to_string()))
}
