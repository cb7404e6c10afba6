//! A few connections that only read, lent to tokio's blocking threads.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::database::{Database, OpenError};
use super::failure::Failure;

/// The connections. Cloning shares them.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

/// A connection that goes back even if its user panics.
struct Lent<'a> {
    idle: &'a Mutex<Vec<Connection>>,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.connection.take());
    }
}

impl Pool {
    /// Opens `size` connections. Blocking.
    pub fn open(database: &Database, size: usize) -> Result<Self, OpenError> {
        let idle = (0..size)
            .map(|_| {
                let connection = database.connect()?;
                // It cannot fail on a connection that has just answered.
                let _ = connection.pragma_update(None, "query_only", true);
                Ok(connection)
            })
            .collect::<Result<Vec<_>, OpenError>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(idle)), permits: Arc::new(Semaphore::new(size)) })
    }

    /// Does `work` on a free connection, waiting for one if need be.
    ///
    /// Cancel safety: dropped while it waits, nothing happens; later, the work is done for nobody.
    pub async fn run<F, T, E>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Failure> + Send + 'static,
    {
        let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let idle = self.idle.clone();
        let done = tokio::task::spawn_blocking(move || {
            // Dropped last: whoever gets the permit next finds the connection.
            let _permit = permit;
            let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let lent = Lent { idle: &idle, connection };
            work(lent.connection.as_ref().expect("there are as many connections as permits"))
        });
        done.await.map_err(|error| E::from(Failure::Unavailable(format!("a read was cut short: {error}"))))?
    }
}
