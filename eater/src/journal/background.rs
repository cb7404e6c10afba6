//! The thread that does what nobody waits for: sealing files, entering them into the catalog, comparing
//! resends.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use trough_protocol::Micros;
use trough_runtime::clock::micros;
use trough_store::CatalogError;

use super::catalog::summaries;
use super::scan::Fetch;
use super::seal::seal;
use super::shared::{PART, Shared};
use super::verify::verify;
use super::work::{Check, Job, span};

/// The part of health that says that sealed files cannot be entered.
const CATALOG_PART: &str = "catalog";
/// How long to wait after the disk or the catalog refused.
const RETRY: Duration = Duration::from_secs(2);
/// Most conflicts logged in a second; the metric counts all.
const LOGGED_MAX: u32 = 10;

/// Works the queue of [`super::work::Work`] off.
pub(super) struct Background {
    shared: Arc<Shared>,
    fetch: Fetch,
    seal_failed: bool,
    catalog_failed: bool,
    logged: (Micros, u32),
}

impl Background {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let fetch = Fetch::new(shared.clone());
        Self { shared, fetch, seal_failed: false, catalog_failed: false, logged: (0, 0) }
    }

    /// Works until the journal is closed. What is left then is done at the next start.
    pub(super) fn run(mut self) {
        while !self.shared.work.is_closed() {
            if self.step() {
                continue;
            }
            let failed = self.seal_failed || self.catalog_failed;
            self.shared.work.wait(!self.seal_failed, failed.then_some(RETRY));
            (self.seal_failed, self.catalog_failed) = (false, false);
        }
    }

    /// Does one piece of work. Whether there may be more to do now.
    pub(super) fn step(&mut self) -> bool {
        match self.shared.work.next(!self.seal_failed) {
            Some(Job::Seal { file, len }) => {
                self.seal(file, len);
                true
            }
            Some(Job::Check(check)) => {
                self.check(&check);
                true
            }
            None => !self.catalog_failed && self.record_next(),
        }
    }

    /// Forgets that something failed, so that it is tried again.
    #[cfg(test)]
    pub(super) fn retry(&mut self) {
        (self.seal_failed, self.catalog_failed) = (false, false);
    }

    fn seal(&mut self, file: u64, len: u64) {
        match seal(&self.shared, file, len) {
            Ok(()) => self.shared.work.sealed(),
            Err(error) => {
                self.seal_failed = true;
                let dir = self.shared.config.dir.display();
                let reason = format!(
                    "the index of file {file} cannot be written in {dir}: {error}; when too many files wait for \
                     theirs, nothing more is stored; look at the disk, it goes on by itself"
                );
                self.shared.health.degrade("journal index", reason);
                return;
            }
        }
        self.shared.health.restore("journal index");
    }

    /// Enters the oldest file that the catalog does not know. Whether there was one.
    fn record_next(&mut self) -> bool {
        let unrecorded = || self.shared.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = unrecorded().first().copied() else { return false };
        match self.record(file) {
            Ok(()) => {
                unrecorded().remove(&file);
                self.shared.health.restore(CATALOG_PART);
            }
            Err(CatalogError::Conflict { .. } | CatalogError::Invalid(_) | CatalogError::Corrupt(_))
                if self.shared.catalog.clear().is_ok() =>
            {
                tracing::warn!(file, "the catalog does not agree with the journal and is filled anew");
                let all: Vec<u64> = self.shared.read().sealed.iter().map(|file| file.file_id).collect();
                unrecorded().extend(all);
                // Not at once: if it does not agree with itself, this must not become a loop.
                self.catalog_failed = true;
            }
            Err(error) => {
                self.catalog_failed = true;
                let reason = format!("journal file {file} cannot be entered: {error}");
                self.shared.health.degrade(CATALOG_PART, reason);
            }
        }
        true
    }

    fn record(&self, file: u64) -> Result<(), CatalogError> {
        let shared = &self.shared;
        let read = shared.handles.table(file).and_then(|table| {
            let summaries =
                summaries(&table, |device, epoch| shared.read().head(device.as_str(), epoch).ok())?;
            Ok((table.header().facts, summaries))
        });
        let (facts, devices) = read.map_err(|error| {
            let reason = shared.index_error(file, error).to_string();
            CatalogError::Unavailable { reason, retry_after: RETRY }
        })?;
        shared.catalog.record(facts, devices)
    }

    fn check(&mut self, check: &Check) {
        let metrics = self.shared.metrics.clone();
        let verdict = match verify(&self.shared, &mut self.fetch, check) {
            Ok(verdict) => verdict,
            Err(error) => {
                metrics.unchecked.inc_by(check.repeated);
                tracing::warn!(part = PART, device = %check.device, %error, "a resend could not be compared");
                return;
            }
        };
        metrics.duplicates.inc_by(verdict.duplicates);
        metrics.conflicts.inc_by(verdict.conflicts);
        metrics.unchecked.inc_by(verdict.unchecked);
        let Some(first) = verdict.first_conflict else { return };
        if self.may_log() {
            let run = &check.run.run;
            tracing::warn!(
                device = %check.device, epoch = %run.epoch, seq = %first, conflicts = verdict.conflicts,
                sent_again = span(run.first, run.last()),
                "a device sent other content under a number that was stored: the first content stays; \
                 look for two devices with one token, or one that lost its memory and kept its epoch"
            );
        }
    }

    /// Whether another conflict may be logged in this second.
    fn may_log(&mut self) -> bool {
        let now = self.shared.clock.now();
        if now.saturating_sub(self.logged.0) >= micros(Duration::from_secs(1)) {
            self.logged = (now, 0);
        }
        self.logged.1 += 1;
        if self.logged.1 == LOGGED_MAX + 1 {
            tracing::warn!("further conflicts of this second are only counted");
        }
        self.logged.1 <= LOGGED_MAX
    }
}
