//! What every store of commands refuses before it asks its storage.

use trough_protocol::limits::{COMMAND_BYTES_MAX, COMMAND_RESULT_BYTES_MAX};
use trough_protocol::{ContentType, Micros};
use trough_runtime::clock::micros;

use super::{CommandAnswer, CommandPayload, EXPIRES_MAX, KEY_BYTES_MAX, NewCommand};
use crate::error::RegistryError;

impl NewCommand {
    /// Checks what must hold for one made at `now`.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`], naming the value and what is accepted.
    pub(crate) fn check(&self, now: Micros) -> Result<(), RegistryError> {
        check_payload("the payload", &self.payload, COMMAND_BYTES_MAX)?;
        if self.expires_at <= now || self.expires_at > now.saturating_add(micros(EXPIRES_MAX)) {
            let expires_at = self.expires_at;
            return Err(RegistryError::Invalid(format!(
                "expires_at is {expires_at} µs, and now it is {now}: use a later time, at most 30 days from now"
            )));
        }
        match &self.key {
            Some(key) if !is_key(key) => Err(RegistryError::Invalid(format!(
                "the idempotency key {:?} cannot be one: use 1 to {KEY_BYTES_MAX} visible ASCII characters",
                key.chars().take(80).collect::<String>()
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether this can be an idempotency key.
pub fn is_key(key: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Checks what a device said.
///
/// # Errors
/// [`RegistryError::Invalid`].
pub(crate) fn check_answer(answer: &CommandAnswer) -> Result<(), RegistryError> {
    check_payload("the result", &answer.payload, COMMAND_RESULT_BYTES_MAX)
}

fn check_payload(what: &str, payload: &CommandPayload, max: usize) -> Result<(), RegistryError> {
    let invalid = |reason| Err(RegistryError::Invalid(reason));
    if payload.bytes.len() > max {
        return invalid(format!("{what} has {} bytes: use {max} at most", payload.bytes.len()));
    }
    match ContentType::parse(&payload.content_type) {
        Ok(_) => Ok(()),
        Err(error) => invalid(error.to_string()),
    }
}
