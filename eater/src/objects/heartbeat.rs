//! Saying that this eater lives, and writing heads behind.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use trough_store::object_catalog::AppendError;

use super::life::Life;

/// Works until everything is entered or this eater was declared dead.
pub(super) async fn run(life: Arc<Life>) {
    let (dead, finished, ended) = (life.dead.clone(), life.finished.clone(), life.ended.clone());
    let work = async {
        let mut beat_at = Instant::now() + life.config.heartbeat_every;
        loop {
            sleep_until((Instant::now() + life.config.heads_every).min(beat_at)).await;
            life.heads.write(&*life.parts.catalog).await;
            if Instant::now() >= beat_at && !beat(&life).await {
                return;
            }
            if Instant::now() >= beat_at {
                beat_at = Instant::now() + life.config.heartbeat_every;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = dead.cancelled() => {}
        () = finished.cancelled() => {}
        () = ended.cancelled() => {}
    }
}

/// Whether this eater may go on.
async fn beat(life: &Life) -> bool {
    match life.parts.catalog.heartbeat(life.parts.incarnation).await {
        Ok(()) => true,
        Err(error @ (AppendError::Closed(_) | AppendError::Taken(_) | AppendError::Removed(_))) => {
            life.die(error.to_string());
            false
        }
        Err(AppendError::Catalog(error)) => {
            // Whether it still lives is decided by the next row that it enters, not here.
            tracing::warn!(%error, "the catalog could not be told that this eater lives");
            true
        }
    }
}
