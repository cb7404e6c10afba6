//! Noticing what anybody changed in the registry: this process, the command line in another, or time.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::watch;
use trough_protocol::Micros;
use trough_runtime::clock::Clock;

/// How often the file is looked at. A look at an unchanged file reads one word of shared memory.
const POLL: Duration = Duration::from_millis(200);

/// Watches the registry from a thread of its own, until it is dropped.
#[derive(Debug)]
pub(super) struct Changes {
    seen: watch::Receiver<u64>,
    commands: watch::Receiver<u64>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Changes {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(connection: Connection, clock: Clock) -> io::Result<Self> {
        let (sender, seen) = watch::channel(0);
        let (commands_sender, commands) = watch::channel(0);
        // One place: a second wake-up while one waits would tell nothing new.
        let (wake, woken) = sync_channel(1);
        let mut watcher = Watcher::new(connection, clock);
        // Where things stand is learnt before anybody can rely on it: a change right after must be seen. If this
        // fails, the first look that succeeds counts as a change.
        let _ = watcher.look();
        let thread = std::thread::Builder::new()
            .name("registry-changes".into())
            .spawn(move || watcher.watch(&woken, &sender, &commands_sender))?;
        Ok(Self { seen, commands, wake: Some(wake), thread: Some(thread) })
    }

    /// The number that rises.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.seen.clone()
    }

    /// The number that rises when there are new commands.
    pub fn commands_added(&self) -> watch::Receiver<u64> {
        self.commands.clone()
    }

    /// Makes the thread look now: this process has changed something.
    pub fn look_now(&self) {
        if let Some(wake) = &self.wake {
            // Full means that it will look anyway.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has already been reported where it happened.
            let _ = thread.join();
        }
    }
}

struct Watcher {
    connection: Connection,
    clock: Clock,
    /// SQLite's count of commits by others, as this connection sees it.
    data_version: Option<i64>,
    /// The registry's own count of changes that matter here (epoch grants do not).
    generation: Option<i64>,
    /// The newest command, and whether it has been told of.
    newest_command: Option<Vec<u8>>,
    has_commands: bool,
    /// Tokens that ended up to this time were announced.
    expired_until: Micros,
    next_expiry: Option<Micros>,
    failing: bool,
}

impl Watcher {
    fn new(connection: Connection, clock: Clock) -> Self {
        let expired_until = clock.now();
        let (data_version, generation, next_expiry) = (None, None, None);
        Self {
            connection,
            clock,
            data_version,
            generation,
            newest_command: None,
            has_commands: false,
            expired_until,
            next_expiry,
            failing: false,
        }
    }

    fn watch(&mut self, woken: &Receiver<()>, sender: &watch::Sender<u64>, commands: &watch::Sender<u64>) {
        loop {
            match self.look() {
                Ok(moved) => {
                    self.failing = false;
                    if moved {
                        sender.send_modify(|seen| *seen += 1);
                    }
                }
                Err(error) => {
                    if !self.failing {
                        tracing::warn!(%error, "cannot see whether the registry changed, trying again");
                    }
                    self.failing = true;
                }
            }
            if std::mem::take(&mut self.has_commands) {
                commands.send_modify(|seen| *seen += 1);
            }
            if woken.recv_timeout(POLL) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn look(&mut self) -> rusqlite::Result<bool> {
        let now = self.clock.now();
        let data_version = self.number("PRAGMA data_version")?;
        let expired = self.next_expiry.is_some_and(|at| at <= now);
        if !expired && Some(data_version) == self.data_version {
            return Ok(false);
        }
        let generation = self.number("SELECT generation FROM meta")?;
        let changed = self.generation != Some(generation);
        let newest = self.newest_command()?;
        self.has_commands |= newest > self.newest_command;
        self.newest_command = newest;
        if expired {
            self.expired_until = now;
        }
        self.next_expiry = self.expiry_after(self.expired_until)?;
        self.generation = Some(generation);
        self.data_version = Some(data_version);
        Ok(changed || expired)
    }

    fn newest_command(&self) -> rusqlite::Result<Option<Vec<u8>>> {
        self.connection.prepare_cached("SELECT max(id) FROM commands")?.query_row([], |row| row.get(0))
    }

    fn number(&self, sql: &str) -> rusqlite::Result<i64> {
        self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
    }

    fn expiry_after(&self, time: Micros) -> rusqlite::Result<Option<Micros>> {
        let sql = "SELECT expires_at FROM tokens WHERE revoked_at IS NULL AND expires_at > ?1 \
                   ORDER BY expires_at LIMIT 1";
        self.connection.prepare_cached(sql)?.query_row([time], |row| row.get(0)).optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_changes_and_expiries_once_and_epochs_never() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registry.db");
        let other = Connection::open(&path).unwrap();
        other.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        other.execute_batch(include_str!("registry-1.sql")).unwrap();
        other.execute_batch(include_str!("registry-3.sql")).unwrap();
        other.execute("INSERT INTO devices VALUES ('bus-1', 0, 0, NULL, 0)", []).unwrap();
        let clock = Clock::manual(100);
        let mut watcher = Watcher::new(Connection::open(&path).unwrap(), clock.clone());
        let mut look = || watcher.look().unwrap();
        assert!(look(), "what came before the first look counts");
        assert!(!look());
        other.execute("UPDATE devices SET epoch = 1", []).unwrap();
        assert!(!look());
        let token = "INSERT INTO tokens VALUES (?1, zeroblob(32), 'bus-1', NULL, 0, ?2, NULL)";
        for (id, expires_at) in [("old", 90), ("soon", 110), ("later", 120)] {
            other.execute(token, rusqlite::params![id, expires_at]).unwrap();
        }
        other.execute("UPDATE meta SET generation = generation + 1", []).unwrap();
        assert!(look());
        assert!(!look());
        for _ in 0..2 {
            clock.advance(Duration::from_micros(10));
            assert!(look(), "a token ends at {}", clock.now());
            assert!(!look());
        }
        clock.advance(Duration::from_secs(1));
        assert!(!look());
    }
}
