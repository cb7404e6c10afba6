//! The registry's tokens. Only hashes of their secrets are stored.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use mongodb::error::Result;
use mongodb::{ClientSession, Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;

use super::failure::Failure;
use crate::error::AuthError;
use crate::token::{PresentedToken, Token, TokenId, TokenKind};

/// Ended tokens are kept this long, in µs (30 days), so that a device that shows one is told that it was replaced.
const ENDED_KEPT: Micros = 30 * 24 * 3600 * 1_000_000;
/// Ids in one question, well within the largest document.
const IDS_MAX: usize = 10_000;

/// A token. Times are in µs since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TokenDocument {
    /// The token's public id.
    #[serde(rename = "_id")]
    id: String,
    /// SHA-256 of its secret.
    digest: Binary,
    /// Whose it is: a device's…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// …or a reader's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reader: Option<String>,
    created_at: Micros,
    expires_at: Option<Micros>,
    revoked_at: Option<Micros>,
}

impl TokenDocument {
    /// The document of a token just made.
    pub fn new(token: &Token, kind: TokenKind, owner: &str, now: Micros) -> Self {
        let owned = |of| (of == kind).then(|| owner.to_owned());
        Self {
            id: token.id.as_str().to_owned(),
            digest: Binary { subtype: BinarySubtype::Generic, bytes: token.digest().as_bytes().to_vec() },
            device: owned(TokenKind::Device),
            reader: owned(TokenKind::Reader),
            created_at: now,
            expires_at: None,
            revoked_at: None,
        }
    }

    fn is_valid(&self, now: Micros) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now)
    }
}

/// Where they lie.
pub(super) fn tokens(database: &Database) -> Collection<TokenDocument> {
    database.collection("tokens")
}

/// The field that names the owner.
fn owner_field(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Device => "device",
        TokenKind::Reader => "reader",
    }
}

/// A time as the database has it. Those that are written are at most 2^53.
pub(super) fn time(at: Micros) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// Ends all tokens of an owner now.
pub(super) async fn revoke_all(
    database: &Database,
    session: &mut ClientSession,
    kind: TokenKind,
    owner: &str,
    now: Micros,
) -> Result<()> {
    let live = doc! { owner_field(kind): owner, "revoked_at": null };
    tokens(database).update_many(live, doc! { "$set": { "revoked_at": time(now) } }).session(session).await?;
    Ok(())
}

/// Lets all tokens of a device end at a time, unless they end sooner.
pub(super) async fn expire_all(
    database: &Database,
    session: &mut ClientSession,
    device: &str,
    at: Micros,
) -> Result<()> {
    let later = [doc! { "expires_at": null }, doc! { "expires_at": { "$gt": time(at) } }];
    let live = doc! { "device": device, "revoked_at": null, "$or": later.to_vec() };
    tokens(database).update_many(live, doc! { "$set": { "expires_at": time(at) } }).session(session).await?;
    Ok(())
}

/// Forgets tokens of a device that ended long ago: one that is rotated daily must not grow for ever.
pub(super) async fn forget_ended(
    database: &Database,
    session: &mut ClientSession,
    device: &str,
    now: Micros,
) -> Result<()> {
    let long_ago = doc! { "$lt": time(now.saturating_sub(ENDED_KEPT)) };
    let ended =
        [doc! { "revoked_at": long_ago.clone() }, doc! { "revoked_at": null, "expires_at": long_ago }];
    tokens(database).delete_many(doc! { "device": device, "$or": ended.to_vec() }).session(session).await?;
    Ok(())
}

/// Recognises a token: its owner's name and its end. What is wrong with it is told only to whoever knows the secret.
pub(super) async fn recognise(
    database: &Database,
    kind: TokenKind,
    shown: &PresentedToken,
    now: Micros,
) -> std::result::Result<(String, Option<Micros>), AuthError> {
    let stored = tokens(database).find_one(doc! { "_id": shown.id.as_str() }).await.map_err(Failure::from)?;
    let stored =
        stored.filter(|stored| shown.digest.matches(&stored.digest.bytes)).ok_or(AuthError::Unknown)?;
    if stored.revoked_at.is_some() {
        return Err(AuthError::Revoked);
    }
    if !stored.is_valid(now) {
        return Err(AuthError::Expired);
    }
    let owner = match kind {
        TokenKind::Device => stored.device,
        TokenKind::Reader => stored.reader,
    };
    Ok((owner.ok_or(AuthError::Unknown)?, stored.expires_at))
}

/// Those that are not valid at `now`, in the order given.
pub(super) async fn ended(
    database: &Database,
    ids: Vec<TokenId>,
    now: Micros,
) -> std::result::Result<Vec<TokenId>, Failure> {
    let mut ended = Vec::new();
    for part in ids.chunks(IDS_MAX) {
        let asked: Vec<&str> = part.iter().map(TokenId::as_str).collect();
        let mut found = tokens(database).find(doc! { "_id": { "$in": asked } }).await?;
        let mut valid = std::collections::HashSet::new();
        while found.advance().await? {
            let token = found.deserialize_current()?;
            if token.is_valid(now) {
                valid.extend(TokenId::parse(&token.id));
            }
        }
        ended.extend(part.iter().filter(|id| !valid.contains(id)));
    }
    Ok(ended)
}

/// When the first token ends by itself after `time`.
pub(super) async fn expiry_after(
    database: &Database,
    after: Micros,
) -> std::result::Result<Option<Micros>, Failure> {
    let later = doc! { "revoked_at": null, "expires_at": { "$gt": time(after) } };
    let first = tokens(database).find_one(later).sort(doc! { "expires_at": 1 }).await?;
    Ok(first.and_then(|token| token.expires_at))
}

/// The indexes: who owns a token, and which ends next.
pub(super) fn indexes() -> Vec<Document> {
    vec![doc! { "device": 1 }, doc! { "reader": 1 }, doc! { "expires_at": 1 }]
}
