//! Entering objects into the catalog, in the order of their numbers, and acknowledging what they hold.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use trough_store::CatalogError;
use trough_store::object_catalog::{AppendError, ObjectRow};

use super::builder::Sealed;
use super::life::Life;
use super::sealer::{Item, REFUSED};
use crate::doorbell::News;

/// Works until the sealer has ended and everything it made is entered, or this eater was declared dead.
pub(super) async fn run(life: Arc<Life>, mut items: mpsc::Receiver<Item>) {
    let dead = life.dead.clone();
    let work = async {
        while let Some(item) = items.recv().await {
            match item {
                Item::Object(sealed, way) => {
                    // It ends only when the object is stored, or with a panic, after which nothing is known.
                    if way.await.is_err() {
                        return life.die("the task that stores an object has panicked".to_owned());
                    }
                    if let Err(why) = enter(&life, &sealed.row).await {
                        return life.die(why);
                    }
                    committed(&life, sealed);
                }
                Item::Refused { sink, number, text } => sink.rejected(number, REFUSED, &text),
            }
        }
        match life.unacknowledged() {
            _ if life.dead.is_cancelled() => {}
            0 => life.finished.cancel(),
            batches => life.die(format!("the task that makes objects ended with {batches} batches left")),
        }
    };
    dead.run_until_cancelled(work).await;
}

/// Enters a row, however long it takes. The reason, if that can never be.
async fn enter(life: &Life, row: &ObjectRow) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match life.parts.catalog.append(row).await {
            Ok(()) => break,
            Err(error @ (AppendError::Closed(_) | AppendError::Taken(_) | AppendError::Removed(_))) => {
                return Err(error.to_string());
            }
            // Nothing of this changes when the same row is tried again: rows before it are missing, perhaps as the
            // database was restored from an older copy. A new incarnation can go on.
            Err(AppendError::Catalog(error @ (CatalogError::Invalid(_) | CatalogError::Conflict { .. }))) => {
                return Err(format!("the catalog does not take object {}: {error}", row.id.n));
            }
            Err(AppendError::Catalog(error)) => {
                life.failed("enter a journal object", &error);
                sleep(life.config.retry_every).await;
            }
        }
    }
    life.parts.metrics.enter_seconds.observe(began.elapsed().as_secs_f64());
    Ok(())
}

/// The object is stored and entered: only now may anybody be told.
fn committed(life: &Life, sealed: Sealed) {
    life.succeeded();
    life.in_objects.fetch_sub(sealed.batches, Ordering::SeqCst);
    life.parts.metrics.in_flight.dec();
    let metrics = &life.parts.journal_metrics;
    metrics.groups.inc();
    metrics.batches.inc_by(sealed.batches as u64);
    metrics.frames.inc_by(sealed.frames);
    metrics.bytes.inc_by(sealed.row.bytes);
    metrics.group_batches.observe(sealed.batches as f64);
    metrics.queued_bytes.dec_by(sealed.batch_bytes as i64);
    life.heads.note(sealed.heads);
    sealed.acks.tell();
    if let Some(doorbell) = &life.parts.doorbell {
        let id = sealed.row.id;
        doorbell.ring(News::Objects { incarnation: id.incarnation, first: id.n, last: id.n });
    }
}
