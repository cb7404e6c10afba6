//! Whom to tell when an object is durable.

use std::sync::Arc;

use crate::journal::CommitSink;

/// Each link once, with its highest batch.
#[derive(Default)]
pub(super) struct Acks(Vec<(Arc<dyn CommitSink>, u64)>);

impl Acks {
    /// Batch `number` of a link is in the object. A link's numbers rise.
    pub(super) fn note(&mut self, sink: Arc<dyn CommitSink>, number: u64) {
        let same = |(known, _): &(Arc<dyn CommitSink>, u64)| {
            std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(&sink))
        };
        // A link's batches come one after another more often than not.
        match self.0.iter().rposition(same) {
            Some(at) => self.0[at].1 = self.0[at].1.max(number),
            None => self.0.push((sink, number)),
        }
    }

    /// Tells them all.
    pub(super) fn tell(self) {
        for (sink, number) in self.0 {
            sink.committed(number);
        }
    }
}
