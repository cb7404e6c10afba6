//! The registry in MongoDB.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mongodb::Database;
use tokio::sync::watch;
use trough_protocol::{Channel, DeviceId, Epoch, Micros};
use trough_runtime::clock::Clock;

use super::changes::Changes;
use super::client::{Mongo, OPERATION_MAX, Section};
use super::epochs::Epochs;
use super::failure::Failure;
use super::transaction::{Work, transact_counted};
use super::{devices, meta, position_schemas, readers, retention, tokens};
use crate::BoxFuture;
use crate::checks;
use crate::error::{AuthError, RegistryError};
use crate::names::{Group, ReaderName};
use crate::position_schema::{POSITION_SCHEMAS_MAX, PositionSchema};
use crate::registry::{
    DeviceFilter, DeviceGrant, DeviceRecord, NewDevice, NewReader, ReaderGrant, ReaderRecord, Registry,
};
use crate::retention::{RETENTION_POLICIES_MAX, RetentionNote, RetentionPolicy, RetentionRecord};
use crate::token::{PresentedToken, Token, TokenId, TokenKind};

/// How long a change of one device or reader may take: others may be in its way.
pub(super) const CHANGE_MAX: Duration = Duration::from_secs(10);
/// How long an import may take: the server gives a transaction a minute.
const IMPORT_MAX: Duration = Duration::from_secs(60);
/// How often a change is begun again because an id that was free has been taken meanwhile: then it is seen to be.
const COLLISIONS_MAX: usize = 3;

/// A registry in a database. Nothing connects before it is used.
#[derive(Debug)]
pub struct MongoRegistry {
    section: Section,
    changes: Changes,
    epochs: Arc<Epochs>,
    clock: Clock,
    /// Whether what is compared with events has the database's time.
    database_time: bool,
}

impl MongoRegistry {
    /// One in the collections `meta`, `devices`, `tokens`, `readers`, `retention`, `position_schemas`, `rules`,
    /// `subscriptions` and `push_tokens` of the database.
    pub fn new(mongo: Mongo, clock: Clock) -> Self {
        let section = Section::new(mongo, |database| Box::pin(meta::prepare(database)));
        Self { section, changes: Changes::new(), epochs: Arc::default(), clock, database_time: false }
    }

    /// The same, where readers, rules, subscriptions and phones are made at the database's time, as events are, whatever the
    /// clock of this process says: whether one was there before another must not depend on which process made it.
    #[must_use]
    pub fn with_database_time(self) -> Self {
        Self { database_time: true, ..self }
    }

    /// The database's time, if it counts.
    pub(super) async fn database_time(&self) -> Result<Option<Micros>, Failure> {
        if !self.database_time {
            return Ok(None);
        }
        Ok(Some(self.run(async |database| meta::now(&database).await).await?))
    }

    /// What time it is for whatever is compared with events.
    pub(super) async fn time(&self) -> Result<Micros, Failure> {
        Ok(self.database_time().await?.unwrap_or_else(|| self.clock.now()))
    }

    pub(super) async fn run<T, W, F>(&self, work: W) -> Result<T, Failure>
    where
        W: FnOnce(Database) -> F + Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
        T: Send + 'static,
    {
        self.changes.begin(&self.section, &self.clock).await;
        self.section.run(OPERATION_MAX, work).await
    }

    /// Changes who may do what: whole, counted, and announced.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        at_most: Duration,
        work: impl Work<T>,
    ) -> Result<T, RegistryError> {
        self.changes.begin(&self.section, &self.clock).await;
        let work = Arc::new(work);
        let mut done = Err(Failure::Unavailable("it was not begun".into()));
        for _ in 0..COLLISIONS_MAX {
            let work = work.clone();
            let counted = async move |database| transact_counted(database, &*work).await;
            done = self.section.run(at_most, counted).await;
            if !matches!(done, Err(Failure::Duplicate(_))) {
                break;
            }
        }
        self.changes.look_now();
        done?
    }

    async fn import(
        &self,
        at_most: Duration,
        devices: Vec<NewDevice>,
    ) -> Result<Vec<(DeviceId, Token)>, RegistryError> {
        checks::new_devices(&devices)?;
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let (devices, now) = (Arc::new(devices), self.clock.now());
        self.change(at_most, move |database, session| {
            let devices = devices.clone();
            Box::pin(async move { devices::add(database, session, &devices, now).await })
        })
        .await
    }

    /// Recognises a token. What the database does not say is never taken for an unknown token.
    async fn recognise<T, W, F>(&self, kind: TokenKind, token: &str, find: W) -> Result<T, AuthError>
    where
        W: FnOnce(Database, PresentedToken, Micros) -> F + Send + 'static,
        F: Future<Output = Result<T, AuthError>> + Send,
        T: Send + 'static,
    {
        let token = PresentedToken::parse(kind, token).ok_or(AuthError::Unknown)?;
        let now = self.clock.now();
        self.run(async move |database| Ok(find(database, token, now).await)).await?
    }
}

impl Registry for MongoRegistry {
    fn add_device(&self, device: NewDevice) -> BoxFuture<'_, Result<Token, RegistryError>> {
        Box::pin(async move {
            let added = self.import(CHANGE_MAX, vec![device]).await?;
            let (_, token) = added.into_iter().next().expect("one device was added, so there is one token");
            Ok(token)
        })
    }

    fn import_devices(
        &self,
        devices: Vec<NewDevice>,
    ) -> BoxFuture<'_, Result<Vec<(DeviceId, Token)>, RegistryError>> {
        Box::pin(self.import(IMPORT_MAX, devices))
    }

    fn list_devices(&self, filter: DeviceFilter) -> BoxFuture<'_, Result<Vec<DeviceRecord>, RegistryError>> {
        Box::pin(
            async move { Ok(self.run(async move |database| devices::list(&database, &filter).await).await?) },
        )
    }

    fn get_device<'a>(&'a self, id: &'a DeviceId) -> BoxFuture<'a, Result<DeviceRecord, RegistryError>> {
        Box::pin(async move {
            let wanted = id.clone();
            let found = self.run(async move |database| devices::get(&database, &wanted).await).await?;
            found.ok_or_else(|| checks::no_device(id))
        })
    }

    fn rotate_device<'a>(
        &'a self,
        id: &'a DeviceId,
        keep_old: Option<Duration>,
    ) -> BoxFuture<'a, Result<Token, RegistryError>> {
        let (id, now) = (id.clone(), self.clock.now());
        Box::pin(self.change(CHANGE_MAX, move |database, session| {
            let id = id.clone();
            Box::pin(async move { devices::rotate(database, session, &id, keep_old, now).await })
        }))
    }

    fn revoke_device<'a>(&'a self, id: &'a DeviceId) -> BoxFuture<'a, Result<(), RegistryError>> {
        let (id, now) = (id.clone(), self.clock.now());
        Box::pin(self.change(CHANGE_MAX, move |database, session| {
            let id = id.clone();
            Box::pin(async move { devices::revoke(database, session, &id, now).await })
        }))
    }

    fn set_groups<'a>(
        &'a self,
        id: &'a DeviceId,
        groups: BTreeSet<Group>,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let id = id.clone();
        Box::pin(async move {
            checks::groups(&groups)?;
            self.change(CHANGE_MAX, move |database, session| {
                let (id, groups) = (id.clone(), groups.clone());
                Box::pin(async move { devices::set_groups(database, session, &id, &groups).await })
            })
            .await
        })
    }

    fn authenticate_device<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<DeviceGrant, AuthError>> {
        let find = async |database: Database, token: PresentedToken, now| {
            devices::authenticate(&database, &token, now).await
        };
        Box::pin(self.recognise(TokenKind::Device, token, find))
    }

    fn tokens_revoked<'a>(
        &'a self,
        ids: &'a [TokenId],
    ) -> BoxFuture<'a, Result<Vec<TokenId>, RegistryError>> {
        Box::pin(async move {
            checks::token_count(ids)?;
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let (ids, now) = (ids.to_vec(), self.clock.now());
            Ok(self.run(async move |database| tokens::ended(&database, ids, now).await).await?)
        })
    }

    fn grant_epoch<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Epoch, RegistryError>> {
        Box::pin(async move {
            self.changes.begin(&self.section, &self.clock).await;
            match self.epochs.grant(&self.section, device.clone()).await? {
                Some(epoch) => Ok(epoch),
                // Revoked, unless there is none.
                None => self.get_device(device).await.and(Err(RegistryError::Revoked(device.clone()))),
            }
        })
    }

    fn current_epoch<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Epoch, RegistryError>> {
        Box::pin(async move { Ok(self.get_device(device).await?.epoch) })
    }

    fn add_reader(&self, reader: NewReader) -> BoxFuture<'_, Result<Token, RegistryError>> {
        Box::pin(async move {
            checks::new_reader(&reader)?;
            let (reader, now) = (Arc::new(reader), self.time().await?);
            self.change(CHANGE_MAX, move |database, session| {
                let reader = reader.clone();
                Box::pin(async move { readers::add(database, session, &reader, now).await })
            })
            .await
        })
    }

    fn list_readers(&self) -> BoxFuture<'_, Result<Vec<ReaderRecord>, RegistryError>> {
        Box::pin(async move { Ok(self.run(async |database| readers::list(&database).await).await?) })
    }

    fn get_reader<'a>(&'a self, name: &'a ReaderName) -> BoxFuture<'a, Result<ReaderRecord, RegistryError>> {
        let wanted = name.clone();
        Box::pin(async move {
            let found = self.run(async move |database| readers::find(&database, &wanted).await).await?;
            found.ok_or_else(|| checks::no_reader(name.as_str()))
        })
    }

    fn revoke_reader<'a>(&'a self, name: &'a ReaderName) -> BoxFuture<'a, Result<(), RegistryError>> {
        let (name, now) = (name.clone(), self.clock.now());
        Box::pin(self.change(CHANGE_MAX, move |database, session| {
            let name = name.clone();
            Box::pin(async move { readers::revoke(database, session, &name, now).await })
        }))
    }

    fn authenticate_reader<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ReaderGrant, AuthError>> {
        let find = async |database: Database, token: PresentedToken, now| {
            readers::authenticate(&database, &token, now).await
        };
        Box::pin(self.recognise(TokenKind::Reader, token, find))
    }

    fn set_retention(&self, policy: RetentionPolicy) -> BoxFuture<'_, Result<(), RegistryError>> {
        let now = self.clock.now();
        Box::pin(async move {
            checks::retention(&policy)?;
            let set = async move |database: Database| {
                if retention::others(&database, &policy.group).await? >= RETENTION_POLICIES_MAX as u64 {
                    return Ok(false);
                }
                retention::set(&database, &policy, now).await?;
                Ok(true)
            };
            if self.run(set).await? { Ok(()) } else { Err(checks::too_many_policies()) }
        })
    }

    fn list_retention(&self) -> BoxFuture<'_, Result<Vec<RetentionRecord>, RegistryError>> {
        Box::pin(async move { Ok(self.run(async |database| retention::list(&database).await).await?) })
    }

    fn enforce_retention<'a>(
        &'a self,
        group: &'a Group,
        set_at: Micros,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async move {
            let wanted = group.clone();
            let enforce =
                async move |database: Database| retention::enforce(&database, &wanted, set_at).await;
            match self.run(enforce).await? {
                (true, true) => Ok(()),
                (true, false) => Err(checks::not_counted(group)),
                (false, _) => Err(checks::no_retention(group)),
            }
        })
    }

    fn remove_retention<'a>(&'a self, group: &'a Group) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async move {
            let wanted = group.clone();
            let removed = self.run(async move |database| retention::remove(&database, &wanted).await).await?;
            if removed { Ok(()) } else { Err(checks::no_retention(group)) }
        })
    }

    fn note_retention<'a>(
        &'a self,
        group: &'a Group,
        set_at: Micros,
        note: RetentionNote,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let group = group.clone();
        let noted = async move |database: Database| retention::note(&database, &group, set_at, &note).await;
        Box::pin(async move { Ok(self.run(noted).await?) })
    }

    fn set_position_schema(&self, schema: PositionSchema) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(async move {
            let set = async move |database: Database| {
                let others = position_schemas::others(&database, schema.channel()).await?;
                if others >= POSITION_SCHEMAS_MAX as u64 {
                    return Ok(false);
                }
                position_schemas::set(&database, &schema).await?;
                Ok(true)
            };
            if self.run(set).await? { Ok(()) } else { Err(checks::too_many_position_schemas()) }
        })
    }

    fn list_position_schemas(&self) -> BoxFuture<'_, Result<Vec<PositionSchema>, RegistryError>> {
        Box::pin(async move { Ok(self.run(async |database| position_schemas::list(&database).await).await?) })
    }

    fn remove_position_schema<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async move {
            let wanted = channel.clone();
            let remove = async move |database: Database| position_schemas::remove(&database, &wanted).await;
            if self.run(remove).await? { Ok(()) } else { Err(checks::no_position_schema(channel)) }
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
