//! Commands as documents.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::device::CommandId;
use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::micros;

use super::failure::Failure;
use super::integer;
use crate::commands::{CommandPayload, CommandPlace, CommandRecord, CommandState, FINISHED_KEPT};

type Result<T> = std::result::Result<T, Failure>;

/// A command. Times are in µs since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CommandDocument {
    #[serde(rename = "_id")]
    pub id: Binary,
    pub device: String,
    pub content_type: String,
    pub payload: Binary,
    pub created_at: Micros,
    pub expires_at: Micros,
    /// When there is something to do about it: to mark it as expired, and once it is finished to forget it.
    pub due_at: Micros,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub made_by: String,
    pub state: i64,
    /// There only while it is neither finished nor marked as expired: what the index of those goes by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<bool>,
    pub sends: i64,
    pub sent_at: Option<Micros>,
    pub finished_at: Option<Micros>,
    pub result_type: Option<String>,
    pub result: Option<Binary>,
}

impl CommandDocument {
    /// That of a command which was made just now.
    pub fn queued(record: &CommandRecord) -> Self {
        Self {
            id: binary(&record.id.0),
            device: record.device.as_str().to_owned(),
            content_type: record.payload.content_type.clone(),
            payload: binary(&record.payload.bytes),
            created_at: record.created_at,
            expires_at: record.expires_at,
            due_at: record.expires_at,
            key: record.key.clone(),
            made_by: record.made_by.clone(),
            state: CommandState::Queued.number().into(),
            pending: Some(true),
            sends: 0,
            sent_at: None,
            finished_at: None,
            result_type: None,
            result: None,
        }
    }
}

/// Where commands lie.
pub(super) fn commands<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("commands")
}

/// One command.
pub(super) fn this(place: &CommandPlace) -> Document {
    doc! { "_id": binary(&place.id.0), "device": place.device.as_str() }
}

/// The change that finishes a command.
pub(super) fn finished(state: CommandState, finished_at: Micros, now: Micros) -> Document {
    let due_at = integer(now + micros(FINISHED_KEPT));
    let state = i64::from(state.number());
    doc! {
        "$set": { "state": state, "finished_at": integer(finished_at), "due_at": due_at },
        "$unset": { "pending": "" },
    }
}

/// Bytes as the database has them.
pub(super) fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

/// The id that a document has.
pub(super) fn id_of(binary: &Binary) -> Result<CommandId> {
    let id = <[u8; 16]>::try_from(&binary.bytes[..]);
    id.map(CommandId).map_err(|_| Failure::Corrupt("a command's id does not have 16 bytes".into()))
}

/// The device that a document names.
pub(super) fn device_of(name: &str) -> Result<DeviceId> {
    DeviceId::new(name).map_err(|error| Failure::Corrupt(error.to_string()))
}

impl TryFrom<CommandDocument> for CommandRecord {
    type Error = Failure;
    fn try_from(document: CommandDocument) -> Result<Self> {
        let state = CommandState::of_number(document.state)
            .ok_or_else(|| Failure::Corrupt(format!("command state {} is not known", document.state)))?;
        let result = document.result_type.map(|content_type| CommandPayload {
            content_type,
            bytes: document.result.map(|result| result.bytes).unwrap_or_default(),
        });
        Ok(Self {
            id: id_of(&document.id)?,
            device: device_of(&document.device)?,
            payload: CommandPayload { content_type: document.content_type, bytes: document.payload.bytes },
            created_at: document.created_at,
            expires_at: document.expires_at,
            key: document.key,
            made_by: document.made_by,
            state,
            sends: u32::try_from(document.sends).unwrap_or(u32::MAX),
            sent_at: document.sent_at,
            finished_at: document.finished_at,
            result,
        })
    }
}

/// Only where a command is.
#[derive(Debug, Deserialize)]
pub(super) struct PlaceDocument {
    #[serde(rename = "_id")]
    id: Binary,
    device: String,
}

impl PlaceDocument {
    pub fn place(&self) -> Result<CommandPlace> {
        Ok(CommandPlace { device: device_of(&self.device)?, id: id_of(&self.id)? })
    }
}
