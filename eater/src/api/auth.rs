//! Who asks, and what they may see.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use lru::LruCache;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use trough_protocol::{DeviceId, Micros};
use trough_runtime::secret::Secret;
use trough_store::token::PresentedToken;
use trough_store::{
    AuthError, DeviceFilter, DeviceRecord, PositionSchema, ReaderGrant, Registry, RegistryError, Scope,
    TokenId, TokenKind,
};

use super::refusal::Refusal;

/// Tokens remembered; the one not used for longest is forgotten first.
const CACHED_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// A token is looked up again after this, even if the registry announced no change.
const CACHED_FOR: Duration = Duration::from_secs(10);
/// The registry must answer within this.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);
/// What a client is told when it did not.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A token's id and the SHA-256 of its secret: the tokens themselves are not kept.
type Key = (TokenId, [u8; 32]);

struct Cached {
    /// What [`Registry::changes`] showed before the registry was asked.
    version: u64,
    at: Instant,
    grant: Arc<ReaderGrant>,
}

/// Recognises readers by their tokens, and remembers them for a short time.
///
/// A grant is believed only while [`Registry::changes`] stands where it stood before the grant was looked up, so
/// that a revocation holds as soon as it is announced (within 500 ms).
pub struct Authenticator {
    registry: Arc<dyn Registry>,
    changes: watch::Receiver<u64>,
    cache: Mutex<LruCache<Key, Cached>>,
}

/// Who made a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What the registry granted.
    pub grant: Arc<ReaderGrant>,
    /// To ask again with, while a long answer is being sent.
    token: Secret<Arc<str>>,
}

impl Caller {
    /// That the reader has a scope.
    ///
    /// # Errors
    /// [`Refusal::MissingScope`].
    pub fn require(&self, scope: Scope) -> Result<(), Refusal> {
        if self.grant.scopes.contains(&scope) {
            return Ok(());
        }
        Err(Refusal::MissingScope { reader: self.grant.name.to_string(), scope })
    }
}

impl Authenticator {
    /// One that remembers nothing yet.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        let changes = registry.changes();
        Self { registry, changes, cache: Mutex::new(LruCache::new(CACHED_MAX)) }
    }

    /// A receiver that wakes when rights may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Who sends these headers.
    ///
    /// # Errors
    /// [`Refusal::NoToken`], [`Refusal::BadToken`], [`Refusal::Busy`].
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let token = bearer(headers)?;
        let grant = self.grant(token).await?;
        Ok(Caller { grant, token: Secret::new(token.into()) })
    }

    /// The same caller with the rights it has now.
    ///
    /// # Errors
    /// As [`Authenticator::caller`].
    pub async fn again(&self, caller: &Caller) -> Result<Caller, Refusal> {
        let grant = self.grant(caller.token.expose()).await?;
        Ok(Caller { grant, token: caller.token.clone() })
    }

    async fn grant(&self, token: &str) -> Result<Arc<ReaderGrant>, Refusal> {
        let shown = PresentedToken::parse(TokenKind::Reader, token).ok_or(AuthError::Unknown)?;
        let key = (shown.id, *shown.digest.as_bytes());
        let version = *self.changes.borrow();
        if let Some(grant) = self.cached(&key, version) {
            return Ok(grant);
        }
        let grant = timeout(REGISTRY_TIMEOUT, self.registry.authenticate_reader(token)).await;
        let grant = Arc::new(grant.map_err(|_| silent())??);
        let cached = Cached { version, at: Instant::now(), grant: grant.clone() };
        self.cache().put(key, cached);
        Ok(grant)
    }

    fn cached(&self, key: &Key, version: u64) -> Option<Arc<ReaderGrant>> {
        let mut cache = self.cache();
        let cached = cache.get(key)?;
        if cached.version == version && cached.at.elapsed() < CACHED_FOR {
            return Some(cached.grant.clone());
        }
        cache.pop(key);
        None
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, LruCache<Key, Cached>> {
        // Nothing panics while holding it, and a map of grants cannot be half changed.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device of this name, if the caller may see it.
    ///
    /// # Errors
    /// [`Refusal::NoSuchDevice`], the same whether it does not exist or is none of the caller's business;
    /// [`Refusal::Busy`].
    pub async fn device(&self, caller: &Caller, name: &str) -> Result<DeviceRecord, Refusal> {
        let unseen = || Refusal::NoSuchDevice(name.chars().take(64).collect());
        let id = DeviceId::new(name).map_err(|_| unseen())?;
        let record = timeout(REGISTRY_TIMEOUT, self.registry.get_device(&id)).await.map_err(|_| silent())?;
        match record {
            Ok(record) if caller.grant.groups.allows(&record.groups) => Ok(record),
            Ok(_) | Err(RegistryError::NotFound { .. }) => Err(unseen()),
            Err(error) => Err(error.into()),
        }
    }

    /// Since when the caller has its name: what an earlier reader of that name has left is none of its business.
    ///
    /// # Errors
    /// [`Refusal::BadToken`] if it was revoked just now; [`Refusal::Busy`].
    pub async fn since(&self, caller: &Caller) -> Result<Micros, Refusal> {
        let found = timeout(REGISTRY_TIMEOUT, self.registry.get_reader(&caller.grant.name)).await;
        match found.map_err(|_| silent())? {
            Ok(reader) if reader.revoked_at.is_none() => Ok(reader.created_at),
            Ok(_) | Err(RegistryError::NotFound { .. }) => Err(AuthError::Revoked.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Which channels carry positions.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub async fn position_schemas(&self) -> Result<Vec<PositionSchema>, Refusal> {
        let schemas = timeout(REGISTRY_TIMEOUT, self.registry.list_position_schemas()).await;
        Ok(schemas.map_err(|_| silent())??)
    }

    /// A page of devices. The filter's groups are the caller's to choose: see [`Caller`].
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub async fn devices(&self, filter: DeviceFilter) -> Result<Vec<DeviceRecord>, Refusal> {
        let devices = timeout(REGISTRY_TIMEOUT, self.registry.list_devices(filter)).await;
        Ok(devices.map_err(|_| silent())??)
    }
}

fn silent() -> Refusal {
    tracing::warn!(timeout_s = REGISTRY_TIMEOUT.as_secs(), "the registry does not answer in time");
    Refusal::Busy { what: "the registry does not answer".to_owned(), retry_after: RETRY_AFTER }
}

/// The token in `Authorization: Bearer …` (RFC 6750, section 2.1); the scheme in any case.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next().ok_or(Refusal::NoToken)?, values.next()) else {
        return Err(Refusal::BadToken("Authorization is sent more than once: send it once".to_owned()));
    };
    let (scheme, token) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or(Refusal::NoToken)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Refusal::NoToken) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn finds_the_token_and_nothing_else() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(of(&["Bearer abc"]), Ok("abc".to_owned()));
        assert_eq!(of(&["bEARER   abc "]), Ok("abc".to_owned()));
        for none in [&[][..], &["Basic abc"], &["Bearer"], &["abc"]] {
            assert_eq!(of(none), Err(Refusal::NoToken));
        }
        assert!(matches!(of(&["Bearer a", "Bearer a"]), Err(Refusal::BadToken(_))));
    }
}
