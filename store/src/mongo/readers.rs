//! The registry's readers.

use mongodb::bson::doc;
use mongodb::error::Result;
use mongodb::{ClientSession, Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::devices::{groups, names};
use super::failure::Failure;
use super::tokens::{self, TokenDocument, time, tokens};
use super::transaction::refuse;
use super::{push_tokens, subscription_rows};
use crate::checks::no_reader;
use crate::error::{AuthError, RegistryError};
use crate::names::ReaderName;
use crate::registry::{GroupAccess, NewReader, ReaderGrant, ReaderRecord};
use crate::token::{PresentedToken, Token, TokenKind};

/// A reader. Times are in µs since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReaderDocument {
    #[serde(rename = "_id")]
    name: String,
    scopes: Vec<String>,
    all_groups: bool,
    groups: Vec<String>,
    created_at: Micros,
    revoked_at: Option<Micros>,
}

fn readers(database: &Database) -> Collection<ReaderDocument> {
    database.collection("readers")
}

impl TryFrom<ReaderDocument> for ReaderRecord {
    type Error = Failure;
    fn try_from(document: ReaderDocument) -> std::result::Result<Self, Failure> {
        let access = match document.all_groups {
            true => GroupAccess::All,
            false => GroupAccess::Only(groups(&document.groups)?),
        };
        Ok(Self {
            name: ReaderName::new(&document.name).map_err(|error| Failure::Corrupt(error.to_string()))?,
            // A scope that a newer release gave is passed over: an older one does not know what it would allow.
            scopes: document.scopes.iter().filter_map(|scope| scope.parse().ok()).collect(),
            groups: access,
            created_at: document.created_at,
            revoked_at: document.revoked_at,
        })
    }
}

/// When a reader was added, in a transaction. What it makes is later, also by a clock that was ahead then and was set back since.
pub(super) async fn since(
    database: &Database,
    session: &mut ClientSession,
    name: &ReaderName,
) -> Result<Micros> {
    let found = readers(database).find_one(doc! { "_id": name.as_str() }).session(session).await?;
    Ok(found.map_or(0, |reader| reader.created_at))
}

/// Adds a reader, or one that was revoked again, with a new token.
pub(super) async fn add(
    database: &Database,
    session: &mut ClientSession,
    reader: &NewReader,
    now: Micros,
) -> Result<Token> {
    let name = reader.name.as_str();
    let known = readers(database).find_one(doc! { "_id": name }).session(&mut *session).await?;
    if known.is_some_and(|known| known.revoked_at.is_none()) {
        return Err(refuse(RegistryError::AlreadyExists { what: "reader", name: name.to_owned() }));
    }
    let subscribed = subscription_rows::last_of(database, &mut *session, name).await?;
    let registered = push_tokens::last_of(database, &mut *session, name).await?;
    let document = ReaderDocument {
        name: name.to_owned(),
        scopes: reader.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        all_groups: reader.groups == GroupAccess::All,
        groups: reader.groups.as_filter().map(|only| names(&only)).unwrap_or_default(),
        // Nothing is this reader's that was made by whoever had the name before.
        created_at: now.max(subscribed.max(registered) + 1),
        revoked_at: None,
    };
    readers(database).replace_one(doc! { "_id": name }, document).upsert(true).session(&mut *session).await?;
    let token = Token::random(TokenKind::Reader);
    let document = TokenDocument::new(&token, TokenKind::Reader, name, now);
    tokens(database).insert_one(document).session(session).await?;
    Ok(token)
}

/// All readers.
pub(super) async fn list(database: &Database) -> std::result::Result<Vec<ReaderRecord>, Failure> {
    let mut found = readers(database).find(doc! {}).sort(doc! { "_id": 1 }).await?;
    let mut all = Vec::new();
    while found.advance().await? {
        all.push(found.deserialize_current()?.try_into()?);
    }
    Ok(all)
}

/// One of them.
pub(super) async fn find(
    database: &Database,
    name: &ReaderName,
) -> std::result::Result<Option<ReaderRecord>, Failure> {
    let found = readers(database).find_one(doc! { "_id": name.as_str() }).await?;
    found.map(ReaderRecord::try_from).transpose()
}

/// Ends a reader's tokens.
pub(super) async fn revoke(
    database: &Database,
    session: &mut ClientSession,
    name: &ReaderName,
    now: Micros,
) -> Result<()> {
    let name = name.as_str();
    let known = readers(database).find_one(doc! { "_id": name }).session(&mut *session).await?;
    if known.ok_or_else(|| refuse(no_reader(name)))?.revoked_at.is_some() {
        return Ok(());
    }
    let change = doc! { "$set": { "revoked_at": time(now) } };
    readers(database).update_one(doc! { "_id": name }, change).session(&mut *session).await?;
    tokens::revoke_all(database, session, TokenKind::Reader, name, now).await
}

/// Whose token this is.
pub(super) async fn authenticate(
    database: &Database,
    token: &PresentedToken,
    now: Micros,
) -> std::result::Result<ReaderGrant, AuthError> {
    let (owner, _) = tokens::recognise(database, TokenKind::Reader, token, now).await?;
    let found = readers(database).find_one(doc! { "_id": &owner }).await.map_err(Failure::from)?;
    let found = found.ok_or_else(|| Failure::Corrupt(format!("token {} has no reader", token.id)))?;
    let reader = ReaderRecord::try_from(found)?;
    Ok(ReaderGrant { name: reader.name, token_id: token.id, scopes: reader.scopes, groups: reader.groups })
}
