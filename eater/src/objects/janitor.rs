//! Looking after eaters that are gone: any eater does it, and several may do it at once.
//!
//! An eater is declared dead by closing its incarnation, which is safe whether it is dead or not: should it live, it
//! finds that out before it acknowledges anything more. What a dead eater stored and did not enter is removed. That is
//! only done under closed incarnations, where no row can follow, and again later: a PUT may still be on its way. And only
//! if it can be what an eater had on its way when it died: a catalog that was restored from an older copy does not know
//! the last rows of an eater, and what they named was acknowledged.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use trough_protocol::Micros;
use trough_runtime::clock::micros;
use trough_store::object_catalog::{Incarnation, IncarnationState, ObjectId};
use trough_store::objects::{LIST_MAX, ObjectError};
use trough_store::{CatalogError, ObjectKey};

use super::format::{HEADER_BYTES, Header};
use super::life::Life;
use super::names;

/// The part of health that says that the catalog is perhaps not the one that it was.
const PART: &str = "catalog";

/// How long what a closed incarnation left is looked for at every sweep, and how long at all, by the catalog's clock
/// since its last heartbeat; in between, every so often.
const OFTEN: Duration = Duration::from_secs(10 * 60);
const AT_ALL: Duration = Duration::from_secs(24 * 60 * 60);
const SELDOM: Duration = Duration::from_secs(10 * 60);
/// One that is heard no more, as it is cut off from the database, may seal some objects so much later; clocks may differ, too.
const LATE: Duration = Duration::from_secs(5 * 60);
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
    /// Those that left what was perhaps entered once.
    doubtful: HashSet<Incarnation>,
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
        self.doubtful.retain(known);
        for state in incarnations {
            if !state.closed && state.incarnation != life.parts.incarnation && self.is_dead(life, &state) {
                let last = life.parts.catalog.close(state.incarnation).await?;
                life.parts.metrics.declared_dead.inc();
                tracing::warn!(incarnation = %state.incarnation, objects = last, "an eater was declared dead");
                self.remove_orphans(life, IncarnationState { last, ..state }).await?;
            } else if state.closed && self.is_due(&state, now) {
                self.remove_orphans(life, state).await?;
                self.looked.insert(state.incarnation, now);
            }
        }
        match self.doubtful.iter().next() {
            None => life.parts.health.restore(PART),
            Some(first) => life.parts.health.degrade(PART, doubt(self.doubtful.len(), *first)),
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
        let long_ago = looked.is_none_or(|looked| now.duration_since(*looked) >= SELDOM);
        let at_all = gone < micros(AT_ALL) || self.doubtful.contains(&state.incarnation);
        gone < micros(OFTEN) || (at_all && long_ago)
    }

    /// Removes objects of a closed incarnation behind its last row, if they cannot have had one.
    async fn remove_orphans(&mut self, life: &Life, state: IncarnationState) -> Result<(), SweepError> {
        let IncarnationState { incarnation, last, .. } = state;
        let prefix = names::prefix(incarnation);
        // A row's object is never listed, however many there are.
        let after = (last > 0).then(|| names::key(ObjectId { incarnation, n: last }));
        let page = life.parts.store.list(&prefix, after.as_ref(), LIST_MAX).await?;
        let number = |key: &ObjectKey| names::number(incarnation, key).filter(|n| *n > last);
        let orphans: Vec<(u64, ObjectKey)> =
            page.into_iter().filter_map(|entry| Some((number(&entry.key)?, entry.key))).collect();
        if self.may_have_been_entered(life, &state, &orphans).await? {
            if self.doubtful.insert(incarnation) {
                tracing::error!(%incarnation, last, objects = orphans.len(), "{}", doubt(1, incarnation));
            }
            return Ok(());
        }
        self.doubtful.remove(&incarnation);
        for (_, key) in orphans {
            life.parts.store.delete(&key).await?;
            life.parts.metrics.orphans_removed.inc();
            tracing::info!(%key, "an object that was never entered is removed");
        }
        Ok(())
    }

    /// Whether objects behind the last row are more, or were sealed later, than those that an eater had on its way when it
    /// was heard last.
    async fn may_have_been_entered(
        &self,
        life: &Life,
        state: &IncarnationState,
        orphans: &[(u64, ObjectKey)],
    ) -> Result<bool, SweepError> {
        let on_their_way = state.last + 2 * life.config.in_flight_max as u64;
        if orphans.last().is_some_and(|(n, _)| *n > on_their_way) {
            return Ok(true);
        }
        let late = state.heartbeat_at.saturating_add(micros(LATE));
        for (_, key) in orphans {
            let sealed_at = match life.parts.store.get_range(key, 0..HEADER_BYTES as u64).await {
                Ok(bytes) => Header::decode(&bytes).map_or(0, |header| header.received_at),
                // Another janitor was here, or it is too short to have been anything.
                Err(ObjectError::NotFound(_) | ObjectError::Invalid(_)) => 0,
                Err(error) => return Err(error.into()),
            };
            if sealed_at > late {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a person should know of it.
fn doubt(incarnations: usize, first: Incarnation) -> String {
    format!(
        "{incarnations} ended eaters, first {first}, have more objects than an eater has on its way, or later ones, behind their \
         last row: the catalog was perhaps restored from an older copy, so these objects are kept, and not read; restore a \
         newer copy, or stop every server, drop what the catalog has of journal objects, and run `trough fsck --rebuild`"
    )
}
