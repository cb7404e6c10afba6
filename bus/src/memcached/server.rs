//! One memcached server: its client, which is made anew when it fails, and its breaker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memcache::exp::{AsyncMetaClient, Error, Operation};
use tokio::time::timeout;

use super::breaker::{Breaker, Permit, Turn};
use super::standing::Standing;
use crate::error::BusError;

/// Connections to one server; further calls wait for one.
const CONNECTIONS_MAX: usize = 8;
/// To connect, or to get one of the connections.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
/// To send a request and to have its answer.
const EXCHANGE_TIMEOUT: Duration = Duration::from_millis(250);
/// All of a call, looking the name up included.
const CALL_TIMEOUT: Duration = Duration::from_millis(500);
/// Most requests written at once. With larger ones memcached would stop reading until its answers are read, which
/// the client does only when it has written everything.
const BATCH_MAX: usize = 256;

/// A server at `host:port`.
#[derive(Debug)]
pub(super) struct Server {
    address: String,
    breaker: Breaker,
    standing: Arc<Standing>,
    client: Mutex<Option<Client>>,
}

#[derive(Clone)]
struct Client(AsyncMetaClient);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Server {
    /// One that nobody has connected to yet.
    pub fn new(address: String, standing: Arc<Standing>) -> Self {
        Self { address, breaker: Breaker::default(), standing, client: Mutex::new(None) }
    }

    /// `host:port`, as it was configured.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// One operation.
    ///
    /// # Errors
    /// At once while the server is known to be away.
    pub async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, BusError> {
        let permit = self.admit()?;
        let result = timeout(CALL_TIMEOUT, async { self.client().await?.0.run(operation).await }).await;
        self.judge(permit, result.unwrap_or_else(|_| Err(late())))
    }

    /// Operations in one round trip; the first failure is that of all.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub async fn run_many<O: Operation>(&self, operations: Vec<O>) -> Result<Vec<O::Output>, BusError> {
        debug_assert!(operations.len() <= BATCH_MAX);
        let permit = self.admit()?;
        let result = timeout(CALL_TIMEOUT, async {
            self.client().await?.0.run_many(operations).await?.into_iter().collect()
        });
        self.judge(permit, result.await.unwrap_or_else(|_| Err(late())))
    }

    fn admit(&self) -> Result<Permit<'_>, BusError> {
        self.breaker.admit().ok_or_else(|| {
            self.standing.counts.breaker.inc();
            BusError::Unavailable { reason: format!("memcached {} is away", self.address) }
        })
    }

    /// The client, made anew if there is none: names are looked up only then.
    async fn client(&self) -> Result<Client, Error> {
        if let Some(client) = &*self.slot() {
            return Ok(client.clone());
        }
        let client = AsyncMetaClient::builder()
            .max_connections(Some(CONNECTIONS_MAX))
            .max_idle(CONNECTIONS_MAX)
            .connect_timeout(Some(CONNECT_TIMEOUT))
            .io_timeout(Some(EXCHANGE_TIMEOUT))
            .connect_async(self.address.clone())
            .await?;
        // Whoever was faster has made the one that is used.
        Ok(self.slot().get_or_insert(Client(client)).clone())
    }

    fn slot(&self) -> MutexGuard<'_, Option<Client>> {
        // Nothing panics while holding it.
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge<T>(&self, permit: Permit<'_>, result: Result<T, Error>) -> Result<T, BusError> {
        let judged = self.judged(permit, result);
        self.standing.counts.called(judged.as_ref().err());
        judged
    }

    fn judged<T>(&self, permit: Permit<'_>, result: Result<T, Error>) -> Result<T, BusError> {
        let error = match result {
            Ok(value) => {
                self.answered(permit);
                return Ok(value);
            }
            Err(error) => error,
        };
        let reason = format!("memcached {}: {}", self.address, told(&error));
        match cause(&error) {
            // It has answered, if not as one would like.
            Error::Server(_) => {
                self.answered(permit);
                Err(BusError::Full { reason })
            }
            Error::Rejected(_) | Error::Usage(_) => {
                self.answered(permit);
                Err(BusError::Invalid(reason))
            }
            _ => {
                let turn = permit.failed();
                if turn == Turn::Opened {
                    tracing::warn!(server = %self.address, error = %told(&error), "memcached is away, going on without it");
                    self.standing.lost_one();
                }
                if turn != Turn::None {
                    // Its name may lead elsewhere by now.
                    *self.slot() = None;
                }
                Err(BusError::Unavailable { reason })
            }
        }
    }

    fn answered(&self, permit: Permit<'_>) {
        if permit.succeeded() == Turn::Closed {
            tracing::info!(server = %self.address, "memcached is back");
            self.standing.found_one();
        }
    }
}

/// The client takes every refusal of something that was sent for an unknown outcome. What counts is whether the server
/// has answered: one that is full is not away.
fn cause(error: &Error) -> &Error {
    match error {
        Error::Ambiguous { source, .. } => cause(source),
        other => other,
    }
}

fn late() -> Error {
    Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// The error without the key: those of the token cache are nobody's business.
fn told(error: &Error) -> String {
    match error {
        Error::Timeout { .. } => "no answer in time".to_owned(),
        Error::Ambiguous { source, .. } => told(source),
        other => other.to_string(),
    }
}
