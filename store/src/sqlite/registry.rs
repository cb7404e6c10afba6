//! The registry in an SQLite file.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;
use trough_protocol::{Channel, DeviceId, Epoch, Micros};
use trough_runtime::clock::Clock;

use super::changes::Changes;
use super::database::{Database, OpenError, Schema};
use super::pool::Pool;
use super::writer::Writer;
use super::{devices, position_schemas, readers, retention, tokens};
use crate::BoxFuture;
use crate::checks;
use crate::error::{AuthError, RegistryError};
use crate::names::{Group, ReaderName};
use crate::position_schema::PositionSchema;
use crate::registry::{
    DeviceFilter, DeviceGrant, DeviceRecord, NewDevice, NewReader, ReaderGrant, ReaderRecord, Registry,
};
use crate::retention::{RetentionNote, RetentionPolicy, RetentionRecord};
use crate::token::{PresentedToken, Token, TokenId, TokenKind};

pub(super) static SCHEMA: Schema = Schema {
    name: "registry",
    application_id: 0x5472_5265, // "TrRe"
    synchronous: "FULL",
    migrations: &[
        include_str!("registry-1.sql"),
        include_str!("registry-2.sql"),
        include_str!("registry-3.sql"),
        include_str!("registry-4.sql"),
    ],
};

/// Connections that read: enough for a fleet that reconnects, on the few cores of one machine.
const READERS: usize = 4;

/// A registry in one file. Dropping it finishes what was begun; that blocks for one commit at most.
#[derive(Debug)]
pub struct SqliteRegistry {
    // Fields are dropped in this order: the watcher and the readers before the writer, whose connection, being
    // the last, folds the write-ahead log into the file.
    pub(super) changes: Changes,
    pub(super) pool: Pool,
    pub(super) writer: Writer,
    pub(super) clock: Clock,
}

impl SqliteRegistry {
    /// Opens the file, or makes it (mode 0600) in a directory that exists. Blocking, for a few milliseconds.
    ///
    /// # Errors
    /// [`OpenError`]: no access, a newer schema, another kind of file.
    pub fn open(path: &Path, clock: Clock) -> Result<Self, OpenError> {
        let database = Database::open(path, &SCHEMA)?;
        let no_thread = |source| OpenError::Io { name: SCHEMA.name, path: path.to_owned(), source };
        Ok(Self {
            changes: Changes::start(database.connect()?, clock.clone()).map_err(no_thread)?,
            pool: Pool::open(&database, READERS)?,
            writer: Writer::start(database.connect()?, SCHEMA.name).map_err(no_thread)?,
            clock,
        })
    }

    /// Changes who may do what: counted, and announced.
    pub(super) async fn change<F, T>(&self, work: F) -> Result<T, RegistryError>
    where
        F: FnOnce(&Connection, Micros) -> Result<T, RegistryError> + Send + 'static,
        T: Send + 'static,
    {
        self.change_if(move |connection, now| work(connection, now).map(|done| (done, true))).await
    }

    /// The same, if the work says that it has changed anything.
    pub(super) async fn change_if<F, T>(&self, work: F) -> Result<T, RegistryError>
    where
        F: FnOnce(&Connection, Micros) -> Result<(T, bool), RegistryError> + Send + 'static,
        T: Send + 'static,
    {
        let now = self.clock.now();
        let counted = move |connection: &Connection| {
            let (done, changed) = work(connection, now)?;
            if changed {
                connection.prepare_cached("UPDATE meta SET generation = generation + 1")?.execute([])?;
            }
            Ok(done)
        };
        let done = self.writer.run(counted).await;
        self.changes.look_now();
        done
    }

    /// Reads, beside whoever writes.
    pub(super) async fn read<F, T>(&self, work: F) -> Result<T, RegistryError>
    where
        F: FnOnce(&Connection) -> Result<T, RegistryError> + Send + 'static,
        T: Send + 'static,
    {
        self.pool.run(work).await
    }

    async fn recognise<F, T>(&self, kind: TokenKind, token: &str, find: F) -> Result<T, AuthError>
    where
        F: FnOnce(&Connection, &PresentedToken, Micros) -> Result<T, AuthError> + Send + 'static,
        T: Send + 'static,
    {
        let token = PresentedToken::parse(kind, token).ok_or(AuthError::Unknown)?;
        let now = self.clock.now();
        self.pool.run(move |connection| find(connection, &token, now)).await
    }
}

impl Registry for SqliteRegistry {
    fn add_device(&self, device: NewDevice) -> BoxFuture<'_, Result<Token, RegistryError>> {
        Box::pin(async move {
            let added = self.import_devices(vec![device]).await?;
            let (_, token) = added.into_iter().next().expect("one device was added, so there is one token");
            Ok(token)
        })
    }

    fn import_devices(
        &self,
        devices: Vec<NewDevice>,
    ) -> BoxFuture<'_, Result<Vec<(DeviceId, Token)>, RegistryError>> {
        Box::pin(async move {
            checks::new_devices(&devices)?;
            self.change(move |connection, now| devices::add(connection, devices, now)).await
        })
    }

    fn list_devices(&self, filter: DeviceFilter) -> BoxFuture<'_, Result<Vec<DeviceRecord>, RegistryError>> {
        Box::pin(self.pool.run(move |connection| devices::list(connection, &filter)))
    }

    fn get_device<'a>(&'a self, id: &'a DeviceId) -> BoxFuture<'a, Result<DeviceRecord, RegistryError>> {
        let id = id.clone();
        Box::pin(self.pool.run(move |connection| devices::get(connection, &id)))
    }

    fn rotate_device<'a>(
        &'a self,
        id: &'a DeviceId,
        keep_old: Option<Duration>,
    ) -> BoxFuture<'a, Result<Token, RegistryError>> {
        let id = id.clone();
        Box::pin(self.change(move |connection, now| devices::rotate(connection, &id, keep_old, now)))
    }

    fn revoke_device<'a>(&'a self, id: &'a DeviceId) -> BoxFuture<'a, Result<(), RegistryError>> {
        let id = id.clone();
        Box::pin(self.change(move |connection, now| devices::revoke(connection, &id, now)))
    }

    fn set_groups<'a>(
        &'a self,
        id: &'a DeviceId,
        groups: BTreeSet<Group>,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let id = id.clone();
        Box::pin(async move {
            checks::groups(&groups)?;
            self.change(move |connection, _| devices::set_groups(connection, &id, &groups)).await
        })
    }

    fn authenticate_device<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<DeviceGrant, AuthError>> {
        Box::pin(self.recognise(TokenKind::Device, token, devices::authenticate))
    }

    fn tokens_revoked<'a>(
        &'a self,
        ids: &'a [TokenId],
    ) -> BoxFuture<'a, Result<Vec<TokenId>, RegistryError>> {
        Box::pin(async move {
            checks::token_count(ids)?;
            let (ids, now) = (ids.to_vec(), self.clock.now());
            self.pool.run(move |connection| tokens::ended(connection, &ids, now)).await
        })
    }

    fn grant_epoch<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Epoch, RegistryError>> {
        let device = device.clone();
        Box::pin(self.writer.run(move |connection| devices::grant_epoch(connection, &device)))
    }

    fn current_epoch<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Epoch, RegistryError>> {
        let device = device.clone();
        Box::pin(self.pool.run(move |connection| devices::current_epoch(connection, &device)))
    }

    fn add_reader(&self, reader: NewReader) -> BoxFuture<'_, Result<Token, RegistryError>> {
        Box::pin(async move {
            checks::new_reader(&reader)?;
            self.change(move |connection, now| readers::add(connection, &reader, now)).await
        })
    }

    fn list_readers(&self) -> BoxFuture<'_, Result<Vec<ReaderRecord>, RegistryError>> {
        Box::pin(self.pool.run(readers::list))
    }

    fn get_reader<'a>(&'a self, name: &'a ReaderName) -> BoxFuture<'a, Result<ReaderRecord, RegistryError>> {
        let name = name.clone();
        Box::pin(self.pool.run(move |connection| readers::find(connection, &name)))
    }

    fn revoke_reader<'a>(&'a self, name: &'a ReaderName) -> BoxFuture<'a, Result<(), RegistryError>> {
        let name = name.clone();
        Box::pin(self.change(move |connection, now| readers::revoke(connection, &name, now)))
    }

    fn authenticate_reader<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ReaderGrant, AuthError>> {
        Box::pin(self.recognise(TokenKind::Reader, token, readers::authenticate))
    }

    fn set_retention(&self, policy: RetentionPolicy) -> BoxFuture<'_, Result<(), RegistryError>> {
        let now = self.clock.now();
        Box::pin(async move {
            checks::retention(&policy)?;
            self.writer.run(move |connection| retention::set(connection, &policy, now)).await
        })
    }

    fn list_retention(&self) -> BoxFuture<'_, Result<Vec<RetentionRecord>, RegistryError>> {
        Box::pin(self.pool.run(retention::list))
    }

    fn enforce_retention<'a>(
        &'a self,
        group: &'a Group,
        set_at: Micros,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let group = group.clone();
        Box::pin(self.writer.run(move |connection| retention::enforce(connection, &group, set_at)))
    }

    fn remove_retention<'a>(&'a self, group: &'a Group) -> BoxFuture<'a, Result<(), RegistryError>> {
        let group = group.clone();
        Box::pin(self.writer.run(move |connection| retention::remove(connection, &group)))
    }

    fn note_retention<'a>(
        &'a self,
        group: &'a Group,
        set_at: Micros,
        note: RetentionNote,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let group = group.clone();
        Box::pin(self.writer.run(move |connection| retention::note(connection, &group, set_at, &note)))
    }

    fn set_position_schema(&self, schema: PositionSchema) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(self.writer.run(move |connection| position_schemas::set(connection, &schema)))
    }

    fn list_position_schemas(&self) -> BoxFuture<'_, Result<Vec<PositionSchema>, RegistryError>> {
        Box::pin(self.pool.run(position_schemas::list))
    }

    fn remove_position_schema<'a>(
        &'a self,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        let channel = channel.clone();
        Box::pin(self.writer.run(move |connection| position_schemas::remove(connection, &channel)))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
