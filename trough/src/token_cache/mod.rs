//! A registry with a bus in front: tokens that were recognised a moment ago are not looked up again, and whoever
//! takes a right away rings a doorbell that all other processes hear.
//!
//! It stands here because only this crate may know both the registry (`store`) and the bus. It wraps any
//! [`Registry`], and is one.
//!
//! - What the cache says is sealed: whoever can write memcached cannot make a grant ([`trough_bus::seal`]).
//! - A key has the environment and the SHA-256 of the token's secret, never the token. Only grants are kept, never
//!   refusals.
//! - A grant is believed for a minute at the most, and not if it was looked up before the last change that anybody
//!   heard of: by the doorbell, by the time of the last change that lies on the bus (for those who came later), or
//!   by the registry's own [`Registry::changes`].
//! - The registry itself is asked about everything else: a bus that is away costs latency, not rights.

mod doorbell;
mod entry;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use trough_bus::seal::{Sealed, Sealer};
use trough_bus::{Bus, BusError, Deployment, Environment, Key};
use trough_protocol::{Channel, DeviceId, Epoch, Micros};
use trough_runtime::clock::{Clock, micros};
use trough_runtime::random::random_below;
use trough_store::token::PresentedToken;
use trough_store::{
    AuthError, BoxFuture, DeviceFilter, DeviceGrant, DeviceRecord, Group, NewDevice, NewReader,
    PositionSchema, ReaderGrant, ReaderName, ReaderRecord, Registry, RegistryError, RetentionNote,
    RetentionPolicy, RetentionRecord, Token, TokenId, TokenKind,
};

use self::doorbell::Doorbell;
use self::entry::Entry;

/// Longest life of a grant in the cache.
const TTL: Duration = Duration::from_secs(60);
/// It is this much shorter at random, so that a fleet's grants do not expire together.
const TTL_SPREAD: Duration = Duration::from_secs(15);
/// How far the clocks of two processes may differ. If they differ more, a grant may be believed after a doorbell,
/// but never longer than it lives.
const SKEW: Duration = Duration::from_secs(5);

/// The registry behind the bus.
pub struct CachedRegistry {
    inner: Arc<dyn Registry>,
    /// Where grants lie. It may evict them; what the doorbell leaves lies with the doorbell.
    cache: Arc<dyn Bus>,
    /// Without one nothing is cached; doorbells ring all the same.
    sealer: Option<Sealer>,
    deployment: Deployment,
    clock: Clock,
    doorbell: Doorbell,
    /// Grants that were looked up until then are not believed, in µs since 1970.
    distrusted_until: Arc<AtomicU64>,
    changes: watch::Receiver<u64>,
    listener: AbortHandle,
}

impl Drop for CachedRegistry {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl CachedRegistry {
    /// Puts a bus in front of a registry, and the cache on another one or the same. Without a sealer, of the same
    /// environment, nothing is cached.
    ///
    /// # Panics
    /// Outside a tokio runtime: it listens in the background until it is dropped.
    pub fn new(
        inner: Arc<dyn Registry>,
        deployment: Deployment,
        cache: Arc<dyn Bus>,
        sealer: Option<Sealer>,
        clock: Clock,
    ) -> Self {
        let doorbell = Doorbell::new(&deployment);
        let distrusted_until = Arc::<AtomicU64>::default();
        let (sender, changes) = watch::channel(0);
        // Both are made before the task first runs, so that what changes from now on is noticed.
        let (mut looks, bell) = (inner.changes(), doorbell.subscribe());
        looks.mark_unchanged();
        let listener = doorbell::listen(looks, bell, clock.clone(), distrusted_until.clone(), sender);
        let listener = tokio::spawn(listener).abort_handle();
        Self { inner, cache, sealer, deployment, clock, doorbell, distrusted_until, changes, listener }
    }

    /// Asks the cache, then the registry, and tells the cache.
    async fn cached<G: Entry>(
        &self,
        kind: TokenKind,
        token: &str,
        look_up: impl Future<Output = Result<G, AuthError>> + Send,
    ) -> Result<G, AuthError> {
        let (Some(sealer), Some(shown)) = (&self.sealer, PresentedToken::parse(kind, token)) else {
            return look_up.await;
        };
        let key = key(self.deployment.environment(), kind, &shown);
        if let Some(grant) = self.find(sealer, &key, shown.id).await {
            return Ok(grant);
        }
        let made_at = self.clock.now();
        let grant = look_up.await?;
        let life = TTL - Duration::from_millis(random_below(TTL_SPREAD.as_millis() as u64));
        let expires_at = (made_at + micros(life)).min(grant.expires_at().unwrap_or(Micros::MAX));
        let sealed = Sealed { made_at, expires_at, content: grant.encode() };
        if let Err(error) = self.cache.set(&key, sealer.seal(&key, &sealed), life).await {
            tracing::debug!(%error, "a grant was not cached");
        }
        Ok(grant)
    }

    /// The grant in the cache, if it is to be believed.
    async fn find<G: Entry>(&self, sealer: &Sealer, key: &Key, token: TokenId) -> Option<G> {
        let (found, changed_at) = self.ask(key).await.ok()?;
        let sealed = sealer.open(key, &found?)?;
        let changed_at = changed_at.map_or(Some(0), |bytes| doorbell::changed_at(&bytes))?;
        let now = self.clock.now();
        let distrusted =
            changed_at.saturating_add(micros(SKEW)).max(self.distrusted_until.load(Ordering::SeqCst));
        let believed = sealed.made_at > distrusted
            && sealed.made_at <= now + micros(SKEW)
            && sealed.expires_at <= sealed.made_at + micros(TTL)
            && now < sealed.expires_at;
        believed.then(|| G::decode(&sealed.content)).flatten().filter(|grant: &G| grant.token_id() == token)
    }

    /// What lies in the cache, and what the doorbell has left: in one question if one bus has both.
    async fn ask(&self, key: &Key) -> Result<(Option<Bytes>, Option<Bytes>), BusError> {
        let changed = self.doorbell.changed_key();
        if std::ptr::addr_eq(Arc::as_ptr(&self.cache), Arc::as_ptr(self.deployment.bus())) {
            let mut found = self.cache.get_many(&[key.clone(), changed.clone()]).await?.into_iter();
            return Ok((found.next().flatten(), found.next().flatten()));
        }
        tokio::try_join!(self.cache.get(key), self.deployment.bus().get(changed))
    }

    /// Does what takes rights away, and tells everybody.
    async fn ringing<T>(
        &self,
        change: impl Future<Output = Result<T, RegistryError>> + Send,
    ) -> Result<T, RegistryError> {
        let result = change.await;
        // Also if it failed: it may have happened all the same.
        self.doorbell.ring(self.clock.now()).await;
        result
    }
}

fn key(environment: &Environment, kind: TokenKind, shown: &PresentedToken) -> Key {
    let mut name = String::from(match kind {
        TokenKind::Device => "grant:device:",
        TokenKind::Reader => "grant:reader:",
    });
    shown.digest.as_bytes().iter().for_each(|byte| name.push_str(&format!("{byte:02x}")));
    Key::new(environment, &name)
}

impl Registry for CachedRegistry {
    fn add_device(&self, device: NewDevice) -> BoxFuture<'_, Result<Token, RegistryError>> {
        self.inner.add_device(device)
    }

    fn import_devices(
        &self,
        devices: Vec<NewDevice>,
    ) -> BoxFuture<'_, Result<Vec<(DeviceId, Token)>, RegistryError>> {
        self.inner.import_devices(devices)
    }

    fn list_devices(&self, filter: DeviceFilter) -> BoxFuture<'_, Result<Vec<DeviceRecord>, RegistryError>> {
        self.inner.list_devices(filter)
    }

    fn get_device<'a>(&'a self, id: &'a DeviceId) -> BoxFuture<'a, Result<DeviceRecord, RegistryError>> {
        self.inner.get_device(id)
    }

    fn rotate_device<'a>(
        &'a self,
        id: &'a DeviceId,
        keep_old: Option<Duration>,
    ) -> BoxFuture<'a, Result<Token, RegistryError>> {
        Box::pin(self.ringing(self.inner.rotate_device(id, keep_old)))
    }

    fn revoke_device<'a>(&'a self, id: &'a DeviceId) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(self.ringing(self.inner.revoke_device(id)))
    }

    fn set_groups<'a>(
        &'a self,
        id: &'a DeviceId,
        groups: BTreeSet<Group>,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(self.ringing(self.inner.set_groups(id, groups)))
    }

    fn authenticate_device<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<DeviceGrant, AuthError>> {
        // Asked only if it is awaited.
        let look_up = async move { self.inner.authenticate_device(token).await };
        Box::pin(self.cached(TokenKind::Device, token, look_up))
    }

    fn tokens_revoked<'a>(
        &'a self,
        ids: &'a [TokenId],
    ) -> BoxFuture<'a, Result<Vec<TokenId>, RegistryError>> {
        self.inner.tokens_revoked(ids)
    }

    fn grant_epoch<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Epoch, RegistryError>> {
        self.inner.grant_epoch(device)
    }

    fn current_epoch<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Epoch, RegistryError>> {
        self.inner.current_epoch(device)
    }

    fn add_reader(&self, reader: NewReader) -> BoxFuture<'_, Result<Token, RegistryError>> {
        self.inner.add_reader(reader)
    }

    fn list_readers(&self) -> BoxFuture<'_, Result<Vec<ReaderRecord>, RegistryError>> {
        self.inner.list_readers()
    }

    fn get_reader<'a>(&'a self, name: &'a ReaderName) -> BoxFuture<'a, Result<ReaderRecord, RegistryError>> {
        self.inner.get_reader(name)
    }

    fn revoke_reader<'a>(&'a self, name: &'a ReaderName) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(self.ringing(self.inner.revoke_reader(name)))
    }

    fn authenticate_reader<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ReaderGrant, AuthError>> {
        // Asked only if it is awaited.
        let look_up = async move { self.inner.authenticate_reader(token).await };
        Box::pin(self.cached(TokenKind::Reader, token, look_up))
    }

    fn set_retention(&self, policy: RetentionPolicy) -> BoxFuture<'_, Result<(), RegistryError>> {
        self.inner.set_retention(policy)
    }

    fn list_retention(&self) -> BoxFuture<'_, Result<Vec<RetentionRecord>, RegistryError>> {
        self.inner.list_retention()
    }

    fn enforce_retention<'a>(
        &'a self,
        group: &'a Group,
        set_at: Micros,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        self.inner.enforce_retention(group, set_at)
    }

    fn remove_retention<'a>(&'a self, group: &'a Group) -> BoxFuture<'a, Result<(), RegistryError>> {
        self.inner.remove_retention(group)
    }

    fn note_retention<'a>(
        &'a self,
        group: &'a Group,
        set_at: Micros,
        note: RetentionNote,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        self.inner.note_retention(group, set_at, note)
    }

    fn set_position_schema(&self, schema: PositionSchema) -> BoxFuture<'_, Result<(), RegistryError>> {
        self.inner.set_position_schema(schema)
    }

    fn list_position_schemas(&self) -> BoxFuture<'_, Result<Vec<PositionSchema>, RegistryError>> {
        self.inner.list_position_schemas()
    }

    fn remove_position_schema<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        self.inner.remove_position_schema(channel)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}
