//! The registry's tokens: making, ending, recognising.

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::Micros;

use crate::error::{AuthError, RegistryError};
use crate::token::{PresentedToken, Token, TokenId, TokenKind};

/// Rows of ended tokens are kept this long, in µs (30 days), so that a device that shows one is told that it
/// was replaced.
const ENDED_KEPT: Micros = 30 * 24 * 3600 * 1_000_000;

/// Whose token: the column that names the owner.
fn owner_column(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Device => "device",
        TokenKind::Reader => "reader",
    }
}

/// Makes a token for an owner that exists. Ids have 60 random bits, so one that is taken is drawn again.
pub(super) fn issue(
    connection: &Connection,
    kind: TokenKind,
    owner: &str,
    now: Micros,
) -> Result<Token, RegistryError> {
    let column = owner_column(kind);
    let sql = format!(
        "INSERT INTO tokens (id, digest, {column}, created_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING"
    );
    let mut insert = connection.prepare_cached(&sql)?;
    loop {
        let token = Token::random(kind);
        if insert.execute(params![token.id.as_str(), token.digest().as_bytes(), owner, now])? == 1 {
            return Ok(token);
        }
    }
}

/// Ends all tokens of an owner now.
pub(super) fn revoke_all(
    connection: &Connection,
    kind: TokenKind,
    owner: &str,
    now: Micros,
) -> Result<(), RegistryError> {
    let column = owner_column(kind);
    let sql = format!("UPDATE tokens SET revoked_at = ?2 WHERE {column} = ?1 AND revoked_at IS NULL");
    connection.prepare_cached(&sql)?.execute(params![owner, now])?;
    Ok(())
}

/// Lets all tokens of a device end at a time, unless they end sooner.
pub(super) fn expire_all(connection: &Connection, device: &str, at: Micros) -> Result<(), RegistryError> {
    let sql = "UPDATE tokens SET expires_at = min(coalesce(expires_at, ?2), ?2) \
               WHERE device = ?1 AND revoked_at IS NULL";
    connection.prepare_cached(sql)?.execute(params![device, at])?;
    Ok(())
}

/// Forgets tokens of a device that ended long ago: one that is rotated daily must not grow for ever.
pub(super) fn forget_ended(connection: &Connection, device: &str, now: Micros) -> Result<(), RegistryError> {
    let sql = "DELETE FROM tokens WHERE device = ?1 AND coalesce(revoked_at, expires_at) < ?2";
    connection.prepare_cached(sql)?.execute(params![device, now.saturating_sub(ENDED_KEPT)])?;
    Ok(())
}

/// Recognises a token: its owner's name and its end. What is wrong with it is told only to whoever knows the
/// secret.
pub(super) fn recognise(
    connection: &Connection,
    kind: TokenKind,
    text: &PresentedToken,
    now: Micros,
) -> Result<(String, Option<Micros>), AuthError> {
    struct Stored {
        digest: Vec<u8>,
        owner: Option<String>,
        expires_at: Option<Micros>,
        revoked_at: Option<Micros>,
    }
    let column = owner_column(kind);
    let sql = format!("SELECT digest, {column}, expires_at, revoked_at FROM tokens WHERE id = ?1");
    let read = |row: &Row<'_>| {
        Ok(Stored {
            digest: row.get(0)?,
            owner: row.get(1)?,
            expires_at: row.get(2)?,
            revoked_at: row.get(3)?,
        })
    };
    let stored = connection.prepare_cached(&sql)?.query_row([text.id.as_str()], read).optional()?;
    let stored = stored.filter(|stored| text.digest.matches(&stored.digest)).ok_or(AuthError::Unknown)?;
    let owner = stored.owner.ok_or(AuthError::Unknown)?;
    if stored.revoked_at.is_some() {
        return Err(AuthError::Revoked);
    }
    if stored.expires_at.is_some_and(|at| at <= now) {
        return Err(AuthError::Expired);
    }
    Ok((owner, stored.expires_at))
}

/// Those that are not valid at `now`, in the order given.
pub(super) fn ended(
    connection: &Connection,
    ids: &[TokenId],
    now: Micros,
) -> Result<Vec<TokenId>, RegistryError> {
    let sql = "SELECT count(*) FROM tokens \
               WHERE id = ?1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?2)";
    let mut valid = connection.prepare_cached(sql)?;
    let mut ended = Vec::new();
    for id in ids {
        if valid.query_row(params![id.as_str(), now], |row| row.get::<_, i64>(0))? == 0 {
            ended.push(*id);
        }
    }
    Ok(ended)
}
