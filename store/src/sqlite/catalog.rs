//! The catalog in an SQLite file.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};
use trough_protocol::{DeviceId, Epoch, Seq};

use super::database::{Database, OpenError, Schema};
use super::devices::parsed;
use super::pool::Pool;
use super::writer::Writer;
use crate::BoxFuture;
use crate::catalog::{Catalog, ChannelLast, DeviceState, DeviceSummary, STATES_MAX, SealedFile};
use crate::error::CatalogError;

static SCHEMA: Schema = Schema {
    name: "catalog",
    application_id: 0x5472_4361, // "TrCa"
    // What a power cut takes is entered again from the journal.
    synchronous: "NORMAL",
    migrations: &[include_str!("catalog-1.sql")],
};

/// Connections that read.
const READERS: usize = 2;

/// A catalog in one file. Dropping it finishes what was begun; that blocks for one commit at most.
#[derive(Debug)]
pub struct SqliteCatalog {
    pool: Pool,
    writer: Writer,
}

impl SqliteCatalog {
    /// Opens the file, or makes it (mode 0600) in a directory that exists. Blocking, for a few milliseconds.
    ///
    /// # Errors
    /// [`OpenError`]: no access, a newer schema, another kind of file.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let database = Database::open(path, &SCHEMA)?;
        let no_thread = |source| OpenError::Io { name: SCHEMA.name, path: path.to_owned(), source };
        Ok(Self {
            pool: Pool::open(&database, READERS)?,
            writer: Writer::start(database.connect()?, SCHEMA.name).map_err(no_thread)?,
        })
    }
}

impl Catalog for SqliteCatalog {
    fn record_sealed(
        &self,
        file: SealedFile,
        devices: Vec<DeviceSummary>,
    ) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(self.writer.run(move |connection| record(connection, &file, &devices)))
    }

    fn files(&self) -> BoxFuture<'_, Result<Vec<SealedFile>, CatalogError>> {
        Box::pin(self.pool.run(|connection| {
            let sql = format!("SELECT {FILE_COLUMNS} FROM files ORDER BY file_id");
            Ok(connection.prepare_cached(&sql)?.query_map([], read_file)?.collect::<Result<_, _>>()?)
        }))
    }

    fn remove_files<'a>(&'a self, file_ids: &'a [u64]) -> BoxFuture<'a, Result<(), CatalogError>> {
        let file_ids = file_ids.to_vec();
        Box::pin(self.writer.run(move |connection| {
            let mut delete = connection.prepare_cached("DELETE FROM files WHERE file_id = ?1")?;
            for file_id in file_ids {
                delete.execute([file_id])?;
            }
            Ok(())
        }))
    }

    fn device_states(
        &self,
        after: Option<DeviceId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeviceState>, CatalogError>> {
        Box::pin(self.pool.run(move |connection| states(connection, after.as_ref(), limit)))
    }

    fn device_channels<'a>(
        &'a self,
        device: &'a DeviceId,
    ) -> BoxFuture<'a, Result<Vec<ChannelLast>, CatalogError>> {
        let device = device.clone();
        Box::pin(self.pool.run(move |connection| {
            let sql = "SELECT channel, epoch, seq, ts, received_at, file_id, offset, len \
                       FROM channels WHERE device = ?1 ORDER BY channel";
            let mut select = connection.prepare_cached(sql)?;
            Ok(select.query_map([device.as_str()], read_channel)?.collect::<Result<_, _>>()?)
        }))
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(self.writer.run(|connection| {
            for table in ["channels", "heads", "devices", "files"] {
                connection.execute(&format!("DELETE FROM {table}"), [])?;
            }
            Ok(())
        }))
    }
}

const FILE_COLUMNS: &str = "file_id, bytes, frames, runs, min_received, max_received, min_ts, max_ts";

fn read_file(row: &Row<'_>) -> rusqlite::Result<SealedFile> {
    Ok(SealedFile {
        file_id: row.get(0)?,
        bytes: row.get(1)?,
        frames: row.get(2)?,
        runs: row.get(3)?,
        min_received: row.get(4)?,
        max_received: row.get(5)?,
        min_ts: row.get(6)?,
        max_ts: row.get(7)?,
    })
}

fn read_channel(row: &Row<'_>) -> rusqlite::Result<ChannelLast> {
    Ok(ChannelLast {
        channel: parsed(row, 0)?,
        epoch: Epoch(row.get(1)?),
        seq: Seq(row.get(2)?),
        ts: row.get(3)?,
        received_at: row.get(4)?,
        file_id: row.get(5)?,
        offset: row.get(6)?,
        len: row.get(7)?,
    })
}

fn record(connection: &Connection, file: &SealedFile, devices: &[DeviceSummary]) -> Result<(), CatalogError> {
    let sql = format!("SELECT {FILE_COLUMNS} FROM files WHERE file_id = ?1");
    let known = connection.prepare_cached(&sql)?.query_row([file.file_id], read_file).optional()?;
    match known {
        Some(known) if known == *file => return Ok(()),
        Some(_) => return Err(CatalogError::Conflict { file_id: file.file_id }),
        None => {}
    }
    let SealedFile { file_id, bytes, frames, runs, min_received, max_received, min_ts, max_ts } = *file;
    let sql = format!("INSERT INTO files ({FILE_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    connection.prepare_cached(&sql)?.execute(params![
        file_id,
        bytes,
        frames,
        runs,
        min_received,
        max_received,
        min_ts,
        max_ts
    ])?;
    devices.iter().try_for_each(|device| merge(connection, device))
}

/// Every merge takes a maximum (of copies, a minimum), so that the order of files cannot matter.
fn merge(connection: &Connection, summary: &DeviceSummary) -> Result<(), CatalogError> {
    let device = summary.device.as_str();
    // The last frame by (received, time stamp): both parts come from the same one.
    let sql = "INSERT INTO devices (device, frames, last_received, last_ts) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (device) DO UPDATE SET frames = frames + excluded.frames, \
               last_ts = iif((excluded.last_received, excluded.last_ts) > (last_received, last_ts), \
                             excluded.last_ts, last_ts), \
               last_received = max(last_received, excluded.last_received)";
    let DeviceSummary { frames, last_received, last_ts, .. } = *summary;
    connection.prepare_cached(sql)?.execute(params![device, frames, last_received, last_ts])?;

    let sql = "INSERT INTO heads (device, epoch, seq) VALUES (?1, ?2, ?3) \
               ON CONFLICT (device, epoch) DO UPDATE SET seq = max(seq, excluded.seq)";
    let mut insert = connection.prepare_cached(sql)?;
    for (epoch, seq) in &summary.heads {
        insert.execute(params![device, epoch.0, seq.0])?;
    }

    let sql = "INSERT INTO channels (device, channel, epoch, seq, ts, received_at, file_id, offset, len) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
               ON CONFLICT (device, channel) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq, \
               ts = excluded.ts, received_at = excluded.received_at, file_id = excluded.file_id, \
               offset = excluded.offset, len = excluded.len \
               WHERE (excluded.epoch, excluded.seq) > (epoch, seq) OR \
               ((excluded.epoch, excluded.seq) = (epoch, seq) \
                AND (excluded.received_at, excluded.file_id, excluded.offset) < (received_at, file_id, offset))";
    let mut insert = connection.prepare_cached(sql)?;
    for last in &summary.channels {
        let ChannelLast { epoch, seq, ts, received_at, file_id, offset, len, .. } = *last;
        let channel = last.channel.as_str();
        insert.execute(params![device, channel, epoch.0, seq.0, ts, received_at, file_id, offset, len])?;
    }
    Ok(())
}

fn states(
    connection: &Connection,
    after: Option<&DeviceId>,
    limit: usize,
) -> Result<Vec<DeviceState>, CatalogError> {
    let after = after.map_or("", DeviceId::as_str);
    // One statement sees one state of the file, so devices and heads fit together.
    let sql = "SELECT d.device, d.frames, d.last_received, d.last_ts, h.epoch, h.seq \
               FROM (SELECT * FROM devices WHERE device > ?1 ORDER BY device LIMIT ?2) d \
               LEFT JOIN heads h ON h.device = d.device ORDER BY d.device, h.epoch";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(params![after, limit.min(STATES_MAX)])?;
    let mut states: Vec<DeviceState> = Vec::new();
    while let Some(row) = rows.next()? {
        let head = match row.get::<_, Option<u64>>(4)? {
            Some(epoch) => Some((Epoch(epoch), Seq(row.get(5)?))),
            None => None,
        };
        let name = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        match states.last_mut() {
            Some(last) if last.device.as_str() == name => last.heads.extend(head),
            _ => states.push(DeviceState {
                device: parsed(row, 0)?,
                heads: head.into_iter().collect(),
                frames: row.get(1)?,
                last_received: row.get(2)?,
                last_ts: row.get(3)?,
            }),
        }
    }
    Ok(states)
}
