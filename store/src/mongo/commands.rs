//! Commands to devices: one document for each.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::{IndexOptions, ReturnDocument};
use mongodb::{ClientSession, Collection, Database, IndexModel};
use tokio::sync::watch;
use trough_protocol::device::CommandId;
use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::Clock;
use trough_runtime::random::random_bytes;

use super::client::{Mongo, OPERATION_MAX, Section};
use super::command_rows::{CommandDocument, PlaceDocument, binary, commands, device_of, finished, this};
use super::command_sweep::sweep;
use super::devices::devices;
use super::failure::Failure;
use super::integer;
use super::transaction::{refuse, transact};
use crate::BoxFuture;
use crate::checks::no_device;
use crate::commands::{
    AddedCommand, COMMAND_DEVICES_MAX, CommandAnswer, CommandError, CommandFilter, CommandPlace,
    CommandRecord, CommandState, Commands, LIST_COMMANDS_MAX, NewCommand, PENDING_MAX, SEND_COMMANDS_MAX,
    SweptCommands, check_answer,
};
use crate::error::RegistryError;

/// How long it may take to change many commands, one after another.
const MANY_MAX: Duration = Duration::from_secs(15);

/// How often a command is made again because its device's turn was taken for the first time meanwhile.
const COLLISIONS_MAX: usize = 3;

type Result<T> = std::result::Result<T, Failure>;

/// Commands in a database. It connects when it is first used.
#[derive(Debug)]
pub struct MongoCommands {
    section: Section,
    clock: Clock,
    /// Nobody tells of those of other processes: it stands still.
    added: watch::Sender<u64>,
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        Self::Registry(failure.into())
    }
}

/// Whose turn it is to make a command of a device: written by everybody who does.
fn turns(database: &Database) -> Collection<Document> {
    database.collection("command_turns")
}

fn prepare(database: Database) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let plain = |keys: Document| IndexModel::builder().keys(keys).build();
        let partial = |keys: Document, filter: Document, unique: bool| {
            let options = IndexOptions::builder().partial_filter_expression(filter).unique(unique).build();
            IndexModel::builder().keys(keys).options(options).build()
        };
        let indexes = [
            plain(doc! { "device": 1, "_id": -1 }),
            plain(doc! { "due_at": 1 }),
            partial(doc! { "device": 1, "key": 1 }, doc! { "key": { "$exists": true } }, true),
            partial(doc! { "device": 1, "expires_at": 1 }, doc! { "pending": true }, false),
        ];
        commands::<Document>(&database).create_indexes(indexes).await?;
        // So that no transaction has to make it. It may be there already; what else is in the way the first command says.
        let _ = database.create_collection("command_turns").await;
        Ok(())
    })
}

/// The same, as long as it may be sent.
fn this_pending(place: &CommandPlace, now: Micros) -> Document {
    let mut filter = this(place);
    filter.extend(doc! { "pending": true, "expires_at": { "$gt": integer(now) } });
    filter
}

impl MongoCommands {
    /// Those in the collections `commands` and `command_turns` of the database, which is that of the registry.
    pub fn new(mongo: Mongo, clock: Clock) -> Self {
        Self { section: Section::new(mongo, prepare), clock, added: watch::Sender::new(0) }
    }

    async fn run<T, W, F>(&self, work: W) -> Result<T>
    where
        W: FnOnce(Database) -> F + Send + 'static,
        F: Future<Output = Result<T>> + Send,
        T: Send + 'static,
    {
        self.section.run(OPERATION_MAX, work).await
    }

    async fn get(&self, place: &CommandPlace) -> std::result::Result<CommandRecord, CommandError> {
        let (filter, now) = (this(place), self.clock.now());
        let found = self.run(async move |database| Ok(commands(&database).find_one(filter).await?)).await?;
        let document: CommandDocument = found.ok_or(CommandError::NotFound(place.id))?;
        Ok(CommandRecord::try_from(document)?.at(now))
    }
}

/// What has gone wrong, out of a transaction.
type Refused = mongodb::error::Result<AddedCommand>;

/// Makes a command. All that are made for a device write one document first, so that no two of them are made side by side:
/// each sees the one before it. It is not the device's own: whoever is killed in here leaves it locked until the server ends
/// the transaction, and the device needs its own to begin a session.
async fn add(database: &Database, session: &mut ClientSession, record: &CommandRecord) -> Refused {
    let (device, now) = (&record.device, record.created_at);
    let this = doc! { "_id": device.as_str() };
    let taken = doc! { "$inc": { "made": 1_i64 } };
    turns(database).update_one(this.clone(), taken).upsert(true).session(&mut *session).await?;
    let alive = doc! { "_id": device.as_str(), "revoked_at": null };
    if devices(database).find_one(alive).session(&mut *session).await?.is_none() {
        let known = devices(database).find_one(this).session(&mut *session).await?;
        return Err(refuse(CommandError::Registry(match known {
            None => no_device(device),
            Some(_) => RegistryError::Revoked(device.clone()),
        })));
    }
    if let Some(key) = &record.key {
        let same = doc! { "device": device.as_str(), "key": key };
        let found = commands::<CommandDocument>(database).find_one(same).session(&mut *session).await?;
        if let Some(document) = found {
            let known =
                CommandRecord::try_from(document).map_err(|failure| refuse(CommandError::from(failure)))?;
            let known = known.at(now);
            return match known.payload == record.payload {
                true => Ok(AddedCommand { record: known, is_new: false }),
                false => Err(refuse(CommandError::KeyUsed { key: key.clone(), id: known.id })),
            };
        }
    }
    let pending = doc! { "device": device.as_str(), "pending": true, "expires_at": { "$gt": integer(now) } };
    let pending = commands::<Document>(database).count_documents(pending).session(&mut *session).await?;
    if pending >= PENDING_MAX as u64 {
        return Err(refuse(CommandError::TooMany(device.clone())));
    }
    commands(database).insert_one(CommandDocument::queued(record)).session(session).await?;
    Ok(AddedCommand { record: record.clone(), is_new: true })
}

impl Commands for MongoCommands {
    fn add_command(
        &self,
        command: NewCommand,
    ) -> BoxFuture<'_, std::result::Result<AddedCommand, CommandError>> {
        let now = self.clock.now();
        Box::pin(async move {
            command.check(now)?;
            let NewCommand { device, payload, expires_at, key, made_by } = command;
            let record = CommandRecord {
                id: CommandId::new(now, random_bytes()),
                device,
                payload,
                created_at: now,
                expires_at,
                key,
                made_by,
                state: CommandState::Queued,
                sends: 0,
                sent_at: None,
                finished_at: None,
                result: None,
            };
            let record = std::sync::Arc::new(record);
            let mut done = Err(Failure::Unavailable("it was not begun".into()));
            for _ in 0..COLLISIONS_MAX {
                let record = record.clone();
                let work = async move |database: Database| {
                    transact(database, move |database: &Database, session: &mut ClientSession| {
                        let record = record.clone();
                        Box::pin(async move { add(database, session, &record).await })
                    })
                    .await
                };
                done = self.run(work).await;
                if !matches!(done, Err(Failure::Duplicate(_))) {
                    break;
                }
            }
            done?
        })
    }

    fn get_command<'a>(
        &'a self,
        place: &'a CommandPlace,
    ) -> BoxFuture<'a, std::result::Result<CommandRecord, CommandError>> {
        Box::pin(self.get(place))
    }

    fn list_commands(
        &self,
        filter: CommandFilter,
    ) -> BoxFuture<'_, std::result::Result<Vec<CommandRecord>, RegistryError>> {
        let now = self.clock.now();
        Box::pin(async move {
            let mut wanted = doc! { "device": filter.device.as_str() };
            if let Some(before) = filter.before {
                wanted.insert("_id", doc! { "$lt": binary(&before.0) });
            }
            let number = |state: CommandState| i64::from(state.number());
            let over = doc! { "pending": true, "expires_at": { "$lte": integer(now) } };
            match filter.state {
                None => {}
                Some(CommandState::Expired) => {
                    let marked = doc! { "state": number(CommandState::Expired) };
                    wanted.insert("$or", vec![marked, over]);
                }
                Some(state) => {
                    wanted.insert("state", number(state));
                    wanted.insert("$nor", vec![over]);
                }
            }
            let limit = filter.limit.min(LIST_COMMANDS_MAX) as i64;
            let work = async move |database: Database| {
                let all = commands::<CommandDocument>(&database);
                let mut found = all.find(wanted).sort(doc! { "_id": -1 }).limit(limit).await?;
                let mut records = Vec::new();
                while found.advance().await? {
                    records.push(CommandRecord::try_from(found.deserialize_current()?)?.at(now));
                }
                Ok(records)
            };
            match limit {
                0 => Ok(Vec::new()),
                _ => Ok(self.run(work).await?),
            }
        })
    }

    fn cancel_command<'a>(
        &'a self,
        place: &'a CommandPlace,
    ) -> BoxFuture<'a, std::result::Result<CommandRecord, CommandError>> {
        let now = self.clock.now();
        Box::pin(async move {
            let filter = this_pending(place, now);
            let change = finished(CommandState::Cancelled, now, now);
            self.run(async move |database| {
                commands::<Document>(&database).update_one(filter, change).await?;
                Ok(())
            })
            .await?;
            let record = self.get(place).await?;
            match record.state {
                CommandState::Cancelled => Ok(record),
                state => Err(CommandError::Finished { id: place.id, state }),
            }
        })
    }

    fn pending_commands(
        &self,
        devices: Vec<DeviceId>,
    ) -> BoxFuture<'_, std::result::Result<Vec<CommandPlace>, RegistryError>> {
        let now = self.clock.now();
        Box::pin(async move {
            let names: Vec<&str> =
                devices.iter().take(COMMAND_DEVICES_MAX).map(|device| device.as_str()).collect();
            if names.is_empty() {
                return Ok(Vec::new());
            }
            let wanted = doc! {
                "device": { "$in": names }, "pending": true, "expires_at": { "$gt": integer(now) },
            };
            let places = self.run(async move |database| {
                let all = commands::<PlaceDocument>(&database);
                let found = all.find(wanted).projection(doc! { "device": 1 });
                let mut found = found.sort(doc! { "_id": 1 }).await?;
                let mut places = Vec::new();
                while found.advance().await? {
                    places.push(found.deserialize_current()?.place()?);
                }
                Ok(places)
            });
            Ok(places.await?)
        })
    }

    fn devices_with_commands(
        &self,
        after: Option<DeviceId>,
    ) -> BoxFuture<'_, std::result::Result<Vec<DeviceId>, RegistryError>> {
        let now = self.clock.now();
        Box::pin(async move {
            let mut wanted = doc! { "pending": true, "expires_at": { "$gt": integer(now) } };
            if let Some(after) = after {
                wanted.insert("device", doc! { "$gt": after.as_str() });
            }
            let steps = [
                doc! { "$match": wanted },
                doc! { "$group": { "_id": "$device" } },
                doc! { "$sort": { "_id": 1 } },
                doc! { "$limit": COMMAND_DEVICES_MAX as i64 },
            ];
            let devices = self.run(async move |database| {
                let mut found = commands::<Document>(&database).aggregate(steps).await?;
                let mut devices = Vec::new();
                while found.advance().await? {
                    let document: Document = found.deserialize_current()?;
                    devices.push(device_of(document.get_str("_id").unwrap_or_default())?);
                }
                Ok(devices)
            });
            Ok(devices.await?)
        })
    }

    fn send_commands(
        &self,
        places: Vec<CommandPlace>,
    ) -> BoxFuture<'_, std::result::Result<Vec<CommandRecord>, RegistryError>> {
        let now = self.clock.now();
        Box::pin(async move {
            let work = async move |database: Database| {
                let mut sent = Vec::new();
                for place in places.iter().take(SEND_COMMANDS_MAX) {
                    let change = doc! {
                        "$set": { "state": i64::from(CommandState::Sent.number()), "sent_at": integer(now) },
                        "$inc": { "sends": 1_i64 },
                    };
                    let found = commands::<CommandDocument>(&database)
                        .find_one_and_update(this_pending(place, now), change)
                        .return_document(ReturnDocument::After)
                        .await?;
                    if let Some(document) = found {
                        sent.push(document.try_into()?);
                    }
                }
                Ok(sent)
            };
            Ok(self.section.run(MANY_MAX, work).await?)
        })
    }

    fn finish_command<'a>(
        &'a self,
        place: &'a CommandPlace,
        answer: CommandAnswer,
    ) -> BoxFuture<'a, std::result::Result<Option<CommandRecord>, CommandError>> {
        let now = self.clock.now();
        Box::pin(async move {
            check_answer(&answer)?;
            let answered = [CommandState::Acknowledged, CommandState::Rejected];
            let mut filter = this(place);
            filter.insert("state", doc! { "$nin": answered.map(|state| i64::from(state.number())).to_vec() });
            let mut change = finished(CommandState::of_status(answer.status), now, now);
            let result = doc! {
                "result_type": answer.payload.content_type, "result": binary(&answer.payload.bytes),
            };
            if let Ok(set) = change.get_document_mut("$set") {
                set.extend(result);
            }
            let work = async move |database: Database| {
                let all = commands::<CommandDocument>(&database);
                let change = all.find_one_and_update(filter, change);
                Ok(change.return_document(ReturnDocument::After).await?)
            };
            match self.run(work).await? {
                Some(document) => Ok(Some(CommandRecord::try_from(document)?)),
                None => self.get(place).await.map(|_| None),
            }
        })
    }

    fn sweep_commands(&self) -> BoxFuture<'_, std::result::Result<SweptCommands, RegistryError>> {
        let now = self.clock.now();
        Box::pin(async move {
            Ok(self.section.run(MANY_MAX, async move |database| sweep(&database, now).await).await?)
        })
    }

    fn commands_added(&self) -> watch::Receiver<u64> {
        self.added.subscribe()
    }
}
