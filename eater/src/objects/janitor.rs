//! Looking after eaters that are gone: any eater does it, and several may do it at once.
//!
//! An eater is declared dead by closing its incarnation, which is safe whether it is dead or not: should it live, it
//! finds that out before it acknowledges anything more. What a dead eater stored and did not enter is removed. That is
//! only done under closed incarnations, where no row can follow, and again later: a PUT may still be on its way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use trough_protocol::Micros;
use trough_runtime::clock::micros;
use trough_store::CatalogError;
use trough_store::object_catalog::{Incarnation, IncarnationState};
use trough_store::objects::{LIST_MAX, ObjectError};

use super::life::Life;
use super::names;

/// How long what a closed incarnation left is looked for at every sweep, and how long at all, by the catalog's clock
/// since its last heartbeat; in between, every so often.
const OFTEN: Duration = Duration::from_secs(10 * 60);
const AT_ALL: Duration = Duration::from_secs(24 * 60 * 60);
const SELDOM: Duration = Duration::from_secs(10 * 60);
/// A silent eater is watched over this many sweeps before it is declared dead: when the database comes back after a long
/// outage nobody has been heard, and everybody gets the time to be.
const SWEEPS_WATCHED: u32 = 3;

/// A sweep could not be finished; the next one begins again.
#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Store(#[from] ObjectError),
}

/// What a janitor remembers from sweep to sweep.
#[derive(Default)]
pub(super) struct Janitor {
    /// Eaters that are silent: their last heartbeat, and over how many sweeps it has been the same.
    silent: HashMap<Incarnation, (Micros, u32)>,
    /// When what a closed incarnation left was looked for last.
    looked: HashMap<Incarnation, Instant>,
}

/// Sweeps until the journal ends.
pub(super) async fn run(life: Arc<Life>) {
    let mut janitor = Janitor::default();
    let mut failed = false;
    let ended = life.ended.clone();
    let work = async {
        for sweep in 0_u64.. {
            // Apart from one another, so that many eaters do not all do the same at once.
            let apart =
                crc32c::crc32c_append(crc32c::crc32c(&life.parts.incarnation.0), &sweep.to_le_bytes());
            sleep(life.config.sweep_every.mul_f64(0.5 + f64::from(apart) / f64::from(u32::MAX))).await;
            match janitor.sweep(&life).await {
                Ok(()) => failed = false,
                Err(error) if !std::mem::replace(&mut failed, true) => {
                    tracing::warn!(%error, "dead eaters cannot be looked after just now");
                }
                Err(_) => {}
            }
        }
    };
    ended.run_until_cancelled(work).await;
}

impl Janitor {
    /// One look at all incarnations.
    pub(super) async fn sweep(&mut self, life: &Life) -> Result<(), SweepError> {
        let incarnations = life.parts.catalog.incarnations().await?;
        let now = Instant::now();
        let known =
            |incarnation: &Incarnation| incarnations.iter().any(|state| state.incarnation == *incarnation);
        self.silent.retain(|incarnation, _| known(incarnation));
        self.looked.retain(|incarnation, _| known(incarnation));
        for state in incarnations {
            if !state.closed && state.incarnation != life.parts.incarnation && self.is_dead(life, &state) {
                let last = life.parts.catalog.close(state.incarnation).await?;
                life.parts.metrics.declared_dead.inc();
                tracing::warn!(incarnation = %state.incarnation, objects = last, "an eater was declared dead");
                self.remove_orphans(life, state.incarnation, last).await?;
            } else if state.closed && self.is_due(&state, now) {
                self.remove_orphans(life, state.incarnation, state.last).await?;
                self.looked.insert(state.incarnation, now);
            }
        }
        Ok(())
    }

    fn is_dead(&mut self, life: &Life, state: &IncarnationState) -> bool {
        let silent = state.now.saturating_sub(state.heartbeat_at);
        if silent < micros(life.config.dead_after) {
            self.silent.remove(&state.incarnation);
            return false;
        }
        let watched = self.silent.entry(state.incarnation).or_insert((state.heartbeat_at, 0));
        if watched.0 != state.heartbeat_at {
            *watched = (state.heartbeat_at, 0);
        }
        watched.1 += 1;
        watched.1 >= SWEEPS_WATCHED
    }

    fn is_due(&self, state: &IncarnationState, now: Instant) -> bool {
        let gone = state.now.saturating_sub(state.heartbeat_at);
        let looked = self.looked.get(&state.incarnation);
        gone < micros(OFTEN)
            || (gone < micros(AT_ALL) && looked.is_none_or(|looked| now.duration_since(*looked) >= SELDOM))
    }

    /// Removes objects of a closed incarnation behind its last row.
    async fn remove_orphans(
        &self,
        life: &Life,
        incarnation: Incarnation,
        last: u64,
    ) -> Result<(), SweepError> {
        let prefix = names::prefix(incarnation);
        // A row's object is never listed, however many there are.
        let mut after =
            (last > 0).then(|| names::key(trough_store::object_catalog::ObjectId { incarnation, n: last }));
        loop {
            let page = life.parts.store.list(&prefix, after.as_ref(), LIST_MAX).await?;
            let Some(end) = page.last() else { return Ok(()) };
            after = Some(end.key.clone());
            for entry in page {
                if names::number(incarnation, &entry.key).is_some_and(|n| n > last) {
                    life.parts.store.delete(&entry.key).await?;
                    life.parts.metrics.orphans_removed.inc();
                    tracing::info!(key = %entry.key, "an object that was never entered is removed");
                }
            }
        }
    }
}
