//! Opening one of our SQLite files: its mode, its kind, its schema.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::failure::Failure;

/// How long a statement waits for another process's write before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A write-ahead log that grew beyond this is cut back to it, in bytes.
const LOG_BYTES_KEPT: u32 = 16 * 1024 * 1024;
/// Compiled statements that a connection keeps: more than there are of any file.
const STATEMENTS_KEPT: usize = 128;

/// What a kind of file looks like.
#[derive(Debug)]
pub(super) struct Schema {
    /// What it is called in messages.
    pub name: &'static str,
    /// Marks the kind in the file's header, so that nobody opens a catalog as a registry.
    pub application_id: i32,
    /// `FULL` where a commit must outlive a power cut, `NORMAL` where it can be made again.
    pub synchronous: &'static str,
    /// Version n is what the first n scripts make. Append only.
    pub migrations: &'static [&'static str],
}

/// Why a file could not be opened. All of them want a person.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be created or read.
    #[error("cannot open the {name} {path}: {source}", path = path.display())]
    Io {
        /// Registry or catalog.
        name: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A newer release wrote it.
    #[error(
        "the {name} {path} has schema version {found}, and this release knows versions up to {known}: run the release that wrote it, or a newer one",
        path = path.display()
    )]
    NewerSchema {
        /// Registry or catalog.
        name: &'static str,
        /// Where.
        path: PathBuf,
        /// The file's version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// It is a database, of something else.
    #[error("{path} is not a {name} of Trough: give another path, or move the file away", path = path.display())]
    NotOurs {
        /// What was expected.
        name: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// SQLite refuses it.
    #[error("cannot open the {name} {path}: {reason}", path = path.display())]
    Refused {
        /// Registry or catalog.
        name: &'static str,
        /// Where.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
}

/// A file that was opened once and has our schema.
#[derive(Debug, Clone)]
pub(super) struct Database {
    path: PathBuf,
    schema: &'static Schema,
}

impl Database {
    /// Makes the file if it is missing (readable by its owner only) and brings it to our schema. The directory
    /// must exist. Blocking.
    pub fn open(path: &Path, schema: &'static Schema) -> Result<Self, OpenError> {
        let io_error = |source| OpenError::Io { name: schema.name, path: path.to_owned(), source };
        create_private(path).map_err(io_error)?;
        let this = Self { path: path.to_owned(), schema };
        let mut connection = this.connect()?;
        this.migrate(&mut connection)?;
        this.refusing(set_write_ahead(&connection))?;
        Ok(this)
    }

    /// Another connection to the file. Blocking.
    pub fn connect(&self) -> Result<Connection, OpenError> {
        self.refusing(self.try_connect())
    }

    fn try_connect(&self) -> rusqlite::Result<Connection> {
        // Every connection is used by one thread at a time, so that SQLite's own lock is not needed.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        connection.pragma_update(None, "synchronous", self.schema.synchronous)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // What a savepoint may have to undo, which is small, makes no file.
        connection.pragma_update(None, "temp_store", "memory")?;
        connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_KEPT, |_| Ok(()))?;
        Ok(connection)
    }

    /// In one exclusive transaction, so that two processes that start together do it once.
    fn migrate(&self, connection: &mut Connection) -> Result<(), OpenError> {
        let known = self.schema.migrations.len() as i64;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = self.refusing(transaction)?;
        let number = |sql: &str| self.refusing(transaction.query_row(sql, [], |row| row.get::<_, i64>(0)));
        let application_id = number("PRAGMA application_id")?;
        let found = number("PRAGMA user_version")?;
        let fresh = application_id == 0 && found == 0 && number("SELECT count(*) FROM sqlite_master")? == 0;
        if !fresh && application_id != i64::from(self.schema.application_id) {
            return Err(OpenError::NotOurs { name: self.schema.name, path: self.path.clone() });
        }
        let pending = usize::try_from(found).ok().and_then(|found| self.schema.migrations.get(found..));
        let Some(pending) = pending else {
            let path = self.path.clone();
            return Err(OpenError::NewerSchema { name: self.schema.name, path, found, known });
        };
        if pending.is_empty() {
            return Ok(());
        }
        let script = pending.concat();
        let applied = transaction
            .execute_batch(&script)
            .and_then(|()| transaction.pragma_update(None, "application_id", self.schema.application_id))
            .and_then(|()| transaction.pragma_update(None, "user_version", known))
            .and_then(|()| transaction.commit());
        self.refusing(applied)
    }

    fn refusing<T>(&self, result: rusqlite::Result<T>) -> Result<T, OpenError> {
        result.map_err(|error| OpenError::Refused {
            name: self.schema.name,
            path: self.path.clone(),
            reason: Failure::from(error).to_string(),
        })
    }
}

/// Makes an empty file of mode 0600 and its directory entry durable, or narrows the mode of an old one.
/// SQLite gives its -wal and -shm files the same mode.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = fs::metadata(path)?.permissions().mode();
            if mode & 0o077 != 0 {
                tracing::warn!(
                    path = %path.display(),
                    mode = format!("{:o}", mode & 0o777),
                    "others could read this file; its mode is now 600"
                );
                fs::set_permissions(path, Permissions::from_mode(0o600))?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Switching the journal mode takes an exclusive lock and does not wait for it by itself, so two processes
/// that make the file together would trip over one another here.
fn set_write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        let set = connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()));
        match set {
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
