//! Writing down what tries came to: whatever waits goes into one change.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use trough_store::outbox::{Attempt, OutboxError};

use crate::claims::Held;
use crate::context::Context;

/// Most tries that wait to be written down, besides as many that are being written. Behind them nothing more is sent: what
/// is not noted is sent again if this process dies.
const BACKLOG: usize = 8;
/// Between two calls that fail.
const PAUSE: Duration = Duration::from_millis(250);

enum Note {
    Attempt(Attempt),
    Flush(oneshot::Sender<()>),
}

/// Takes notes for one shard. Clones write into one book.
#[derive(Clone)]
pub struct Notes(mpsc::Sender<Note>);

/// The claim was lost: what is left need not be noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

impl Notes {
    /// Begins to write, until all clones are gone or the claim is lost.
    pub fn begin(context: Arc<Context>, held: Held) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let writer = context.shutdown.tasks.spawn(write(context.clone(), held, receiver));
        // Without it nothing would be noted, and everything be sent again and again.
        tokio::spawn(async move { context.share_panic(writer).await });
        Self(sender)
    }

    /// Notes a try; it waits while too many wait to be written.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn take(&self, attempt: Attempt) -> Result<(), Lost> {
        self.0.send(Note::Attempt(attempt)).await.map_err(|_| Lost)
    }

    /// Returns when all that was noted before is durable.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn flush(&self) -> Result<(), Lost> {
        let (done, written) = oneshot::channel();
        self.0.send(Note::Flush(done)).await.map_err(|_| Lost)?;
        written.await.map_err(|_| Lost)
    }
}

async fn write(context: Arc<Context>, held: Held, mut notes: mpsc::Receiver<Note>) {
    let mut some = Vec::new();
    while notes.recv_many(&mut some, BACKLOG).await > 0 {
        let (mut attempts, mut waiting) = (Vec::new(), Vec::new());
        for note in some.drain(..) {
            match note {
                Note::Attempt(attempt) => attempts.push(attempt),
                Note::Flush(done) => waiting.push(done),
            }
        }
        if !attempts.is_empty() && store(&context, &held, attempts).await.is_err() {
            // Whoever waits hears that nobody writes any more.
            held.lost.cancel();
            return;
        }
        // Whoever does not wait any more does not need to know.
        for done in waiting {
            let _ = done.send(());
        }
    }
}

/// Until it is stored, or somebody else has the claim.
async fn store(context: &Context, held: &Held, attempts: Vec<Attempt>) -> Result<(), Lost> {
    let mut complained = Instant::now();
    loop {
        match context.outbox.attempted(held.claim, attempts.clone()).await {
            Ok(()) => {
                context.worked();
                return Ok(());
            }
            Err(OutboxError::Fenced(shard)) => {
                let count = attempts.len();
                tracing::warn!(%shard, count, "a claim was taken over before tries were noted: they are made again");
                return Err(Lost);
            }
            Err(error) => {
                context.failed(&error);
                if !matches!(error, OutboxError::Unavailable { .. }) && complained.elapsed() > PAUSE * 4 {
                    tracing::error!(%error, "tries cannot be noted");
                    complained = Instant::now();
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = held.lost.cancelled() => return Err(Lost),
        }
    }
}
