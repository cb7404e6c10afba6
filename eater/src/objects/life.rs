//! What the tasks of one object journal have in common, and how it ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::config::{ObjectsConfig, ObjectsParts};
use super::heads::HeadNotes;
use super::inbox::Inbox;

/// The part of health that the journal speaks for.
const PART: &str = "journal";

/// Shared by the tasks.
pub(super) struct Life {
    pub config: ObjectsConfig,
    pub parts: ObjectsParts,
    pub inbox: Inbox,
    pub heads: HeadNotes,
    /// The incarnation is in the catalog.
    pub opened: AtomicBool,
    /// Batches that are in an object which is not entered yet.
    pub in_objects: AtomicUsize,
    /// Nothing can be stored any more, ever: every task ends where it is.
    pub dead: CancellationToken,
    why: OnceLock<String>,
    /// All that was submitted is entered.
    pub finished: CancellationToken,
    /// The journal was dropped.
    pub ended: CancellationToken,
}

impl Life {
    pub(super) fn new(config: ObjectsConfig, parts: ObjectsParts) -> Arc<Self> {
        Arc::new(Self {
            config,
            parts,
            inbox: Inbox::default(),
            heads: HeadNotes::default(),
            opened: AtomicBool::new(false),
            in_objects: AtomicUsize::new(0),
            dead: CancellationToken::new(),
            why: OnceLock::new(),
            finished: CancellationToken::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Ends this eater's life: the first reason counts.
    pub(super) fn die(&self, why: String) {
        if self.why.set(why.clone()).is_ok() {
            tracing::error!(incarnation = %self.parts.incarnation, reason = %why, "this eater stops without acknowledging");
        }
        self.inbox.close();
        self.dead.cancel();
    }

    /// Whether the catalog knows this incarnation.
    pub(super) fn is_known(&self) -> bool {
        self.opened.load(Ordering::SeqCst)
    }

    /// Why it died.
    pub(super) fn why(&self) -> String {
        self.why.get().cloned().unwrap_or_default()
    }

    /// Batches that are not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.inbox.len() + self.in_objects.load(Ordering::SeqCst)
    }

    /// A try to store or enter something failed; it is tried again.
    pub(super) fn failed(&self, doing: &str, error: &dyn std::fmt::Display) {
        self.parts.journal_metrics.failures.inc();
        self.parts.journal_metrics.degraded.set(1);
        let reason = format!(
            "nothing can be stored: cannot {doing}: {error}; what came is not acknowledged, and feeders send no more \
             than their credit; look at the object store and the database, it goes on by itself"
        );
        self.parts.health.degrade(PART, reason);
    }

    /// Something was stored and entered.
    pub(super) fn succeeded(&self) {
        self.parts.journal_metrics.degraded.set(0);
        self.parts.health.restore(PART);
    }

    /// Why nothing can be stored just now, for a message.
    pub(super) fn trouble(&self) -> String {
        let degraded = self.parts.health.degraded();
        let found = degraded.into_iter().find(|(part, _)| part == PART);
        found.map_or_else(|| "the time was up".to_owned(), |(_, why)| why)
    }
}
