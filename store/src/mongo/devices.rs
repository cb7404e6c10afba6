//! The registry's devices.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::{DeviceId, Epoch, Micros};
use trough_runtime::clock::micros;

use super::failure::Failure;
use super::tokens::{self, TokenDocument, time, tokens};
use super::transaction::refuse;
use crate::checks::no_device;
use crate::error::{AuthError, RegistryError};
use crate::names::Group;
use crate::registry::{DeviceFilter, DeviceGrant, DeviceRecord, LIST_DEVICES_MAX, NewDevice};
use crate::token::{PresentedToken, Token, TokenKind};

/// Ids in one question, and documents in one insert, well within the largest message.
const BATCH_MAX: usize = 10_000;

/// A device. Documents stay for ever: ids are never reused. Times are in µs since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DeviceDocument {
    #[serde(rename = "_id")]
    id: String,
    groups: Vec<String>,
    query_token: bool,
    created_at: Micros,
    revoked_at: Option<Micros>,
    /// The last one granted.
    epoch: u64,
}

/// Where they lie.
pub(super) fn devices(database: &Database) -> Collection<DeviceDocument> {
    database.collection("devices")
}

/// The indexes: which devices a group has, in order.
pub(super) fn indexes() -> Vec<Document> {
    vec![doc! { "groups": 1, "_id": 1 }]
}

/// Groups as the database has them.
pub(super) fn names(groups: &BTreeSet<Group>) -> Vec<String> {
    groups.iter().map(|group| group.as_str().to_owned()).collect()
}

/// What was stored, parsed; what we did not write is corruption.
pub(super) fn groups(names: &[String]) -> std::result::Result<BTreeSet<Group>, Failure> {
    let parsed = names.iter().map(|name| Group::new(name)).collect::<std::result::Result<_, _>>();
    parsed.map_err(|error| Failure::Corrupt(error.to_string()))
}

fn id_of(text: &str) -> std::result::Result<DeviceId, Failure> {
    DeviceId::new(text).map_err(|error| Failure::Corrupt(error.to_string()))
}

impl TryFrom<DeviceDocument> for DeviceRecord {
    type Error = Failure;
    fn try_from(document: DeviceDocument) -> std::result::Result<Self, Failure> {
        Ok(Self {
            id: id_of(&document.id)?,
            groups: groups(&document.groups)?,
            query_token: document.query_token,
            created_at: document.created_at,
            revoked_at: document.revoked_at,
            epoch: Epoch(document.epoch),
        })
    }
}

/// Adds devices, each with its first token; refuses at the first one whose id is taken.
pub(super) async fn add(
    database: &Database,
    session: &mut ClientSession,
    new: &[NewDevice],
    now: Micros,
) -> Result<Vec<(DeviceId, Token)>> {
    if let Some(name) = first_taken(database, session, new).await? {
        return Err(refuse(RegistryError::AlreadyExists { what: "device", name }));
    }
    let mut added = Vec::with_capacity(new.len());
    for part in new.chunks(BATCH_MAX) {
        let made: Vec<_> =
            part.iter().map(|device| (device.id.clone(), Token::random(TokenKind::Device))).collect();
        let token =
            |(id, token): &(DeviceId, Token)| TokenDocument::new(token, TokenKind::Device, id.as_str(), now);
        let token_documents: Vec<_> = made.iter().map(token).collect();
        let documents = part.iter().map(|device| DeviceDocument {
            id: device.id.as_str().to_owned(),
            groups: names(&device.groups),
            query_token: device.query_token,
            created_at: now,
            revoked_at: None,
            epoch: 0,
        });
        devices(database).insert_many(documents).session(&mut *session).await?;
        tokens(database).insert_many(token_documents).session(&mut *session).await?;
        added.extend(made);
    }
    Ok(added)
}

/// The first of the new ids that exists, or stands earlier in the list.
async fn first_taken(
    database: &Database,
    session: &mut ClientSession,
    new: &[NewDevice],
) -> Result<Option<String>> {
    let mut first = new.len();
    let mut places = HashMap::with_capacity(new.len());
    for (place, device) in new.iter().enumerate() {
        if places.contains_key(device.id.as_str()) {
            first = first.min(place);
        } else {
            places.insert(device.id.as_str(), place);
        }
    }
    let ids = database.collection::<IdOnly>("devices");
    for part in new.chunks(BATCH_MAX) {
        let asked: Vec<&str> = part.iter().map(|device| device.id.as_str()).collect();
        let asked = ids.find(doc! { "_id": { "$in": asked } }).projection(doc! { "_id": 1 });
        let mut found = asked.session(&mut *session).await?;
        while let Some(taken) = found.next(session).await {
            first = first.min(places.get(taken?.id.as_str()).copied().unwrap_or(first));
        }
    }
    Ok(new.get(first).map(|device| device.id.to_string()))
}

#[derive(Debug, Deserialize)]
struct IdOnly {
    #[serde(rename = "_id")]
    id: String,
}

/// A page of devices.
pub(super) async fn list(
    database: &Database,
    filter: &DeviceFilter,
) -> std::result::Result<Vec<DeviceRecord>, Failure> {
    let limit = filter.limit.min(LIST_DEVICES_MAX);
    // To the database, a limit of 0 is none.
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut wanted = Document::new();
    if let Some(after) = &filter.after {
        wanted.insert("_id", doc! { "$gt": after.as_str() });
    }
    if let Some(groups) = &filter.groups {
        wanted.insert("groups", doc! { "$in": names(groups) });
    }
    let mut found = devices(database).find(wanted).sort(doc! { "_id": 1 }).limit(limit as i64).await?;
    let mut page = Vec::new();
    while found.advance().await? {
        page.push(found.deserialize_current()?.try_into()?);
    }
    Ok(page)
}

/// One device, if there is one.
pub(super) async fn get(
    database: &Database,
    id: &DeviceId,
) -> std::result::Result<Option<DeviceRecord>, Failure> {
    let found = devices(database).find_one(doc! { "_id": id.as_str() }).await?;
    found.map(DeviceRecord::try_from).transpose()
}

/// When a device was revoked, if it was; refuses one that does not exist.
async fn revoked_at(
    database: &Database,
    session: &mut ClientSession,
    id: &DeviceId,
) -> Result<Option<Micros>> {
    let found = devices(database).find_one(doc! { "_id": id.as_str() }).session(session).await?;
    found.map(|device| device.revoked_at).ok_or_else(|| refuse(no_device(id)))
}

async fn set(
    database: &Database,
    session: &mut ClientSession,
    id: &DeviceId,
    fields: Document,
) -> Result<()> {
    let change = doc! { "$set": fields };
    devices(database).update_one(doc! { "_id": id.as_str() }, change).session(session).await?;
    Ok(())
}

/// A new token; the older ones end now or after `keep_old`.
pub(super) async fn rotate(
    database: &Database,
    session: &mut ClientSession,
    id: &DeviceId,
    keep_old: Option<Duration>,
    now: Micros,
) -> Result<Token> {
    if revoked_at(database, session, id).await?.is_some() {
        return Err(refuse(RegistryError::Revoked(id.clone())));
    }
    match keep_old {
        None => tokens::revoke_all(database, session, TokenKind::Device, id.as_str(), now).await?,
        Some(keep) => {
            let at = now.saturating_add(micros(keep)).min(trough_protocol::limits::INT_MAX);
            tokens::expire_all(database, session, id.as_str(), at).await?;
        }
    }
    tokens::forget_ended(database, session, id.as_str(), now).await?;
    let token = Token::random(TokenKind::Device);
    let document = TokenDocument::new(&token, TokenKind::Device, id.as_str(), now);
    tokens(database).insert_one(document).session(session).await?;
    Ok(token)
}

/// Ends a device's tokens for good.
pub(super) async fn revoke(
    database: &Database,
    session: &mut ClientSession,
    id: &DeviceId,
    now: Micros,
) -> Result<()> {
    if revoked_at(database, session, id).await?.is_some() {
        return Ok(());
    }
    set(database, session, id, doc! { "revoked_at": time(now) }).await?;
    tokens::revoke_all(database, session, TokenKind::Device, id.as_str(), now).await
}

/// Puts a device, revoked or not, in these groups only: readers still see a revoked one's frames.
pub(super) async fn set_groups(
    database: &Database,
    session: &mut ClientSession,
    id: &DeviceId,
    groups: &BTreeSet<Group>,
) -> Result<()> {
    revoked_at(database, session, id).await?;
    set(database, session, id, doc! { "groups": names(groups) }).await
}

/// Whose token this is.
pub(super) async fn authenticate(
    database: &Database,
    token: &PresentedToken,
    now: Micros,
) -> std::result::Result<DeviceGrant, AuthError> {
    let (owner, expires_at) = tokens::recognise(database, TokenKind::Device, token, now).await?;
    let device = id_of(&owner)?;
    // Devices are never removed: a token without one is damage, not a stranger's.
    let record = get(database, &device).await?;
    let record = record.ok_or_else(|| Failure::Corrupt(format!("token {} has no device", token.id)))?;
    Ok(DeviceGrant { device, token_id: token.id, query_token: record.query_token, expires_at })
}
