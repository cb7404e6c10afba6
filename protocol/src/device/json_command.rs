//! Commands and their results as JSON objects.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::Int;
use super::json_payload::{PayloadMembers, Text, payload_members, present};
use super::{Command, CommandId, CommandResult, CommandStatus};
use crate::limits::{COMMAND_BYTES_MAX, COMMAND_RESULT_BYTES_MAX};
use crate::wire::{WireError, cut_text};
use crate::words::ContentType;

/// The members of a command.
#[derive(Deserialize)]
pub(super) struct CommandJson<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    expires: Int,
    #[serde(borrow, default, deserialize_with = "present")]
    json: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    text: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    b64: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    content_type: Option<Text<'a>>,
}

impl CommandJson<'_> {
    /// Reads the command.
    ///
    /// # Errors
    /// Malformed.
    pub(super) fn read(&self) -> Result<Command, WireError> {
        let (text, b64, content_type) =
            (Text::of(&self.text), Text::of(&self.b64), Text::of(&self.content_type));
        let members = PayloadMembers { json: self.json, text, b64, content_type };
        let (content_type, payload) = members.take(format_args!("the command"))?;
        check_len("command", payload.len(), COMMAND_BYTES_MAX)?;
        Ok(Command {
            id: command_id(&self.id)?,
            expires: self.expires.check("command.expires", 0)?,
            content_type: content_type.as_str().to_owned(),
            payload: payload.into_owned(),
        })
    }
}

/// The members of a result. Without a payload it has an empty one.
#[derive(Deserialize)]
pub(super) struct ResultJson<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    json: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    text: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    b64: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    content_type: Option<Text<'a>>,
}

impl ResultJson<'_> {
    /// Reads the result; its type and payload are written to `scratch`, which is cleared first.
    ///
    /// # Errors
    /// Malformed.
    pub(super) fn read<'s>(&self, scratch: &'s mut Vec<u8>) -> Result<CommandResult<'s>, WireError> {
        let id = command_id(&self.id)?;
        let status = CommandStatus::parse(&self.status).ok_or_else(|| {
            let shown = cut_text(&self.status, 40);
            WireError::Json(format!("command_result.status is {shown:?}: use done or rejected"))
        })?;
        let (text, b64, content_type) =
            (Text::of(&self.text), Text::of(&self.b64), Text::of(&self.content_type));
        let members = PayloadMembers { json: self.json, text, b64, content_type };
        let (content_type, payload) = match members.is_empty() {
            true => (ContentType::Bytes, Cow::default()),
            false => members.take(format_args!("the result"))?,
        };
        check_len("command result", payload.len(), COMMAND_RESULT_BYTES_MAX)?;
        scratch.clear();
        let name = content_type.as_str();
        scratch.extend_from_slice(name.as_bytes());
        scratch.extend_from_slice(&payload);
        let (name, payload) = scratch.split_at(name.len());
        let name = std::str::from_utf8(name).expect("it was copied from a string");
        Ok(CommandResult { id, status, content_type: ContentType::parse(name)?, payload })
    }
}

fn command_id(text: &str) -> Result<CommandId, WireError> {
    text.parse().map_err(|error: super::BadCommandId| WireError::Json(error.to_string()))
}

fn check_len(what: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len <= max { Ok(()) } else { Err(WireError::TooLarge { what, value: len as u64, max: max as u64 }) }
}

/// A command as text.
pub(super) fn command_text(command: &Command) -> String {
    let content_type =
        ContentType::parse(&command.content_type).unwrap_or(ContentType::Other(&command.content_type));
    let payload = payload_members(content_type, &command.payload);
    format!("{{\"type\":\"command\",\"id\":\"{}\",\"expires\":{},{payload}}}", command.id, command.expires)
}

/// A result as text.
pub(super) fn result_text(result: &CommandResult<'_>) -> String {
    let (id, status) = (result.id, result.status.name());
    let payload = match (result.payload, result.content_type) {
        ([], ContentType::Bytes) => String::new(),
        (payload, content_type) => format!(",{}", payload_members(content_type, payload)),
    };
    format!("{{\"type\":\"command_result\",\"id\":\"{id}\",\"status\":\"{status}\"{payload}}}")
}
