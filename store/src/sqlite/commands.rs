//! Commands in the registry's file.

use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row, params};
use tokio::sync::watch;
use trough_protocol::device::CommandId;
use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::micros;
use trough_runtime::random::random_bytes;

use super::devices::parsed;
use super::failure::Failure;
use super::registry::SqliteRegistry;
use crate::BoxFuture;
use crate::checks::no_device;
use crate::commands::{
    AddedCommand, COMMAND_DEVICES_MAX, CommandAnswer, CommandError, CommandFilter, CommandPayload,
    CommandPlace, CommandRecord, CommandState, Commands, ExpiredCommand, FINISHED_KEPT, LIST_COMMANDS_MAX,
    NewCommand, PENDING_MAX, SEND_COMMANDS_MAX, SWEEP_COMMANDS_MAX, SweptCommands, check_answer,
};
use crate::error::RegistryError;

const COLUMNS: &str = "id, device, content_type, payload, created_at, expires_at, key, made_by, state, sends, \
    sent_at, finished_at, result_type, result";

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        Self::Registry(failure.into())
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}

impl Commands for SqliteRegistry {
    fn add_command(&self, command: NewCommand) -> BoxFuture<'_, Result<AddedCommand, CommandError>> {
        let now = self.clock.now();
        Box::pin(async move {
            command.check(now)?;
            let added = self.writer.run(move |connection| add(connection, command, now)).await;
            self.changes.look_now();
            added
        })
    }

    fn get_command<'a>(
        &'a self,
        place: &'a CommandPlace,
    ) -> BoxFuture<'a, Result<CommandRecord, CommandError>> {
        let (place, now) = (place.clone(), self.clock.now());
        Box::pin(self.pool.run(move |connection| get(connection, &place, now)))
    }

    fn list_commands(
        &self,
        filter: CommandFilter,
    ) -> BoxFuture<'_, Result<Vec<CommandRecord>, RegistryError>> {
        let now = self.clock.now();
        Box::pin(self.pool.run(move |connection| list(connection, &filter, now)))
    }

    fn cancel_command<'a>(
        &'a self,
        place: &'a CommandPlace,
    ) -> BoxFuture<'a, Result<CommandRecord, CommandError>> {
        let (place, now) = (place.clone(), self.clock.now());
        Box::pin(self.writer.run(move |connection| cancel(connection, &place, now)))
    }

    fn pending_commands(
        &self,
        devices: Vec<DeviceId>,
    ) -> BoxFuture<'_, Result<Vec<CommandPlace>, RegistryError>> {
        let now = self.clock.now();
        Box::pin(self.pool.run(move |connection| pending(connection, devices, now)))
    }

    fn devices_with_commands(
        &self,
        after: Option<DeviceId>,
    ) -> BoxFuture<'_, Result<Vec<DeviceId>, RegistryError>> {
        let now = self.clock.now();
        Box::pin(self.pool.run(move |connection: &Connection| {
            let sql = "SELECT DISTINCT device FROM commands WHERE state < 2 AND device > ?1 AND expires_at > ?2 \
                       ORDER BY device LIMIT ?3";
            let after = after.as_ref().map_or("", DeviceId::as_str);
            let mut found = connection.prepare_cached(sql)?;
            let found = found.query_map(params![after, now, COMMAND_DEVICES_MAX], |row| parsed(row, 0))?;
            Ok(found.collect::<Result<_, _>>()?)
        }))
    }

    fn send_commands(
        &self,
        places: Vec<CommandPlace>,
    ) -> BoxFuture<'_, Result<Vec<CommandRecord>, RegistryError>> {
        let now = self.clock.now();
        Box::pin(self.writer.run(move |connection| send(connection, &places, now)))
    }

    fn finish_command<'a>(
        &'a self,
        place: &'a CommandPlace,
        answer: CommandAnswer,
    ) -> BoxFuture<'a, Result<Option<CommandRecord>, CommandError>> {
        let (place, now) = (place.clone(), self.clock.now());
        Box::pin(async move {
            check_answer(&answer)?;
            self.writer.run(move |connection| finish(connection, &place, &answer, now)).await
        })
    }

    fn sweep_commands(&self) -> BoxFuture<'_, Result<SweptCommands, RegistryError>> {
        let now = self.clock.now();
        Box::pin(async move {
            // Most of the time there is nothing to do, which needs no commit.
            let due = move |connection: &Connection| {
                let sql = "SELECT 1 FROM commands WHERE due_at <= ?1 LIMIT 1";
                let found = connection.prepare_cached(sql)?.query_row([now], |_| Ok(())).optional()?;
                Ok::<_, RegistryError>(found.is_some())
            };
            match self.pool.run(due).await? {
                true => self.writer.run(move |connection| sweep(connection, now)).await,
                false => Ok(SweptCommands::default()),
            }
        })
    }

    fn commands_added(&self) -> watch::Receiver<u64> {
        self.changes.commands_added()
    }
}

fn read_id(row: &Row<'_>, index: usize) -> rusqlite::Result<CommandId> {
    row.get(index).map(CommandId)
}

fn read_state(row: &Row<'_>, index: usize) -> rusqlite::Result<CommandState> {
    let number = row.get(index)?;
    CommandState::of_number(number).ok_or_else(|| {
        let unknown = format!("command state {number} is not known").into();
        Error::FromSqlConversionFailure(index, Type::Integer, unknown)
    })
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<CommandRecord> {
    let result_type: Option<String> = row.get(12)?;
    let result = match result_type {
        None => None,
        Some(content_type) => Some(CommandPayload { content_type, bytes: row.get(13)? }),
    };
    Ok(CommandRecord {
        id: read_id(row, 0)?,
        device: parsed(row, 1)?,
        payload: CommandPayload { content_type: row.get(2)?, bytes: row.get(3)? },
        created_at: row.get(4)?,
        expires_at: row.get(5)?,
        key: row.get(6)?,
        made_by: row.get(7)?,
        state: read_state(row, 8)?,
        sends: row.get(9)?,
        sent_at: row.get(10)?,
        finished_at: row.get(11)?,
        result,
    })
}

fn add(connection: &Connection, command: NewCommand, now: Micros) -> Result<AddedCommand, CommandError> {
    let NewCommand { device, payload, expires_at, key, made_by } = command;
    let sql = "SELECT revoked_at FROM devices WHERE id = ?1";
    let known = connection.prepare_cached(sql)?.query_row([device.as_str()], |row| row.get(0)).optional()?;
    match known {
        None => return Err(no_device(&device).into()),
        Some(Some::<Micros>(_)) => return Err(RegistryError::Revoked(device).into()),
        Some(None) => {}
    }
    if let Some(key) = &key {
        let sql = format!("SELECT {COLUMNS} FROM commands WHERE device = ?1 AND key = ?2");
        let mut found = connection.prepare_cached(&sql)?;
        let found = found.query_row([device.as_str(), key], read_record).optional()?;
        match found.map(|record| record.at(now)) {
            Some(record) if record.payload == payload => return Ok(AddedCommand { record, is_new: false }),
            Some(record) => return Err(CommandError::KeyUsed { key: key.clone(), id: record.id }),
            None => {}
        }
    }
    let sql = "SELECT count(*) FROM commands WHERE device = ?1 AND state < 2 AND expires_at > ?2";
    let pending: usize =
        connection.prepare_cached(sql)?.query_row(params![device.as_str(), now], |row| row.get(0))?;
    if pending >= PENDING_MAX {
        return Err(CommandError::TooMany(device));
    }
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
    let sql = "INSERT INTO commands (id, device, content_type, payload, created_at, expires_at, due_at, key, \
               made_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)";
    connection.prepare_cached(sql)?.execute(params![
        record.id.0,
        record.device.as_str(),
        record.payload.content_type,
        record.payload.bytes,
        now,
        expires_at,
        record.key,
        record.made_by
    ])?;
    Ok(AddedCommand { record, is_new: true })
}

fn get(connection: &Connection, place: &CommandPlace, now: Micros) -> Result<CommandRecord, CommandError> {
    let sql = format!("SELECT {COLUMNS} FROM commands WHERE id = ?1 AND device = ?2");
    let mut found = connection.prepare_cached(&sql)?;
    let found = found.query_row(params![place.id.0, place.device.as_str()], read_record).optional()?;
    Ok(found.ok_or(CommandError::NotFound(place.id))?.at(now))
}

fn list(
    connection: &Connection,
    filter: &CommandFilter,
    now: Micros,
) -> Result<Vec<CommandRecord>, RegistryError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM commands WHERE device = ?1 AND (?2 IS NULL OR id < ?2) AND (?3 IS NULL OR \
         ?3 = CASE WHEN state < 2 AND expires_at <= ?4 THEN 4 ELSE state END) ORDER BY id DESC LIMIT ?5"
    );
    let values = params![
        filter.device.as_str(),
        filter.before.map(|id| id.0),
        filter.state.map(CommandState::number),
        now,
        filter.limit.min(LIST_COMMANDS_MAX),
    ];
    let mut found = connection.prepare_cached(&sql)?;
    let found = found.query_map(values, read_record)?;
    Ok(found.map(|record| Ok(record?.at(now))).collect::<rusqlite::Result<_>>()?)
}

fn cancel(connection: &Connection, place: &CommandPlace, now: Micros) -> Result<CommandRecord, CommandError> {
    let sql = "UPDATE commands SET state = 5, finished_at = ?3, due_at = ?4 \
               WHERE id = ?1 AND device = ?2 AND state < 2 AND expires_at > ?3";
    let due_at = now + micros(FINISHED_KEPT);
    connection.prepare_cached(sql)?.execute(params![place.id.0, place.device.as_str(), now, due_at])?;
    let record = get(connection, place, now)?;
    match record.state {
        CommandState::Cancelled => Ok(record),
        state => Err(CommandError::Finished { id: place.id, state }),
    }
}

fn pending(
    connection: &Connection,
    devices: Vec<DeviceId>,
    now: Micros,
) -> Result<Vec<CommandPlace>, RegistryError> {
    let sql =
        "SELECT id FROM commands WHERE device = ?1 AND state < 2 AND expires_at > ?2 ORDER BY id LIMIT ?3";
    let mut one = connection.prepare_cached(sql)?;
    let mut places = Vec::new();
    for device in devices.into_iter().take(COMMAND_DEVICES_MAX) {
        let ids = one.query_map(params![device.as_str(), now, PENDING_MAX], |row| read_id(row, 0))?;
        for id in ids {
            places.push(CommandPlace { device: device.clone(), id: id? });
        }
    }
    Ok(places)
}

fn send(
    connection: &Connection,
    places: &[CommandPlace],
    now: Micros,
) -> Result<Vec<CommandRecord>, RegistryError> {
    let sql = format!(
        "UPDATE commands SET state = 1, sends = sends + 1, sent_at = ?3 \
         WHERE id = ?1 AND device = ?2 AND state < 2 AND expires_at > ?3 RETURNING {COLUMNS}"
    );
    let mut one = connection.prepare_cached(&sql)?;
    let mut sent = Vec::new();
    for place in places.iter().take(SEND_COMMANDS_MAX) {
        let row = one.query_row(params![place.id.0, place.device.as_str(), now], read_record).optional()?;
        sent.extend(row);
    }
    Ok(sent)
}

fn finish(
    connection: &Connection,
    place: &CommandPlace,
    answer: &CommandAnswer,
    now: Micros,
) -> Result<Option<CommandRecord>, CommandError> {
    let sql = format!(
        "UPDATE commands SET state = ?3, finished_at = ?4, due_at = ?5, result_type = ?6, result = ?7 \
         WHERE id = ?1 AND device = ?2 AND state NOT IN (2, 3) RETURNING {COLUMNS}"
    );
    let mut change = connection.prepare_cached(&sql)?;
    let values = params![
        place.id.0,
        place.device.as_str(),
        CommandState::of_status(answer.status).number(),
        now,
        now + micros(FINISHED_KEPT),
        answer.payload.content_type,
        answer.payload.bytes,
    ];
    match change.query_row(values, read_record).optional()? {
        Some(record) => Ok(Some(record)),
        None => get(connection, place, now).map(|_| None),
    }
}

fn sweep(connection: &Connection, now: Micros) -> Result<SweptCommands, RegistryError> {
    let sql = "UPDATE commands SET state = 4, finished_at = expires_at, due_at = expires_at + ?2 WHERE id IN \
               (SELECT id FROM commands WHERE due_at <= ?1 AND state < 2 ORDER BY due_at LIMIT ?3) \
               RETURNING id, device, sends, created_at";
    let mut ended = connection.prepare_cached(sql)?;
    let expired = |row: &Row<'_>| {
        let place = CommandPlace { device: parsed(row, 1)?, id: read_id(row, 0)? };
        Ok(ExpiredCommand { place, sends: row.get(2)?, created_at: row.get(3)? })
    };
    let values = params![now, micros(FINISHED_KEPT), SWEEP_COMMANDS_MAX];
    let expired: Vec<_> = ended.query_map(values, expired)?.collect::<Result<_, _>>()?;
    let sql = "DELETE FROM commands WHERE id IN \
               (SELECT id FROM commands WHERE due_at <= ?1 AND state >= 2 ORDER BY due_at LIMIT ?2)";
    let forgotten = connection.prepare_cached(sql)?.execute(params![now, SWEEP_COMMANDS_MAX])?;
    let more = expired.len().max(forgotten) == SWEEP_COMMANDS_MAX;
    Ok(SweptCommands { expired, more })
}
