//! Copies of frames that are left out, because another counts.

use trough_protocol::{Epoch, Seq};

/// Most conflicts of a step that are logged; all are counted.
const LOGGED_MAX: u64 = 20;

/// How many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Copies {
    /// Left out.
    pub repeated: u64,
    /// Of these, those that differ from the one that counts.
    pub conflicts: u64,
}

impl Copies {
    /// Takes note of a copy: whether it is the `same` as the one that counts.
    pub(super) fn note(&mut self, same: bool, device: &str, epoch: Epoch, seq: Seq) {
        self.repeated += 1;
        if same {
            return;
        }
        self.conflicts += 1;
        if self.conflicts <= LOGGED_MAX {
            tracing::warn!(
                device, %epoch, %seq,
                "a frame was sent twice with different content: the copy that came first is shown"
            );
        }
    }
}
