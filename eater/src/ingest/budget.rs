//! The bytes that feeders may have on their way: the sum of all grants never exceeds the budget, so an eater's
//! memory is bounded however slow its disk is.

use std::cell::Cell;
use std::rc::Rc;

use trough_protocol::limits::BATCH_BYTES_MAX;

/// What a link is given when there is plenty, in bytes: enough that a disk's pause does not stop its feeder.
const GRANT_BYTES_GOAL: u64 = 16 * 1024 * 1024;
/// What a link is given at the least: one largest batch. With less it could wait for ever.
const GRANT_BYTES_MIN: u64 = BATCH_BYTES_MAX as u64;

/// A link gets this part of what is left, within these bounds.
const PART: u64 = 8;

/// The budget of one eater.
#[derive(Debug)]
pub struct Budget {
    left: Cell<u64>,
}

/// A link's part; it returns when dropped.
#[derive(Debug)]
pub struct Grant {
    /// How many bytes.
    pub bytes: u64,
    budget: Rc<Budget>,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Rc<Self> {
        Rc::new(Self { left: Cell::new(bytes) })
    }

    /// A part of what is left; `None` if that is less than one largest batch. The parts shrink as the budget is
    /// used up, so that many feeders can still connect.
    pub fn grant(self: &Rc<Self>) -> Option<Grant> {
        let left = self.left.get();
        let bytes = (left / PART).clamp(GRANT_BYTES_MIN, GRANT_BYTES_GOAL);
        self.left.set(left.checked_sub(bytes)?);
        Some(Grant { bytes, budget: self.clone() })
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.left.set(self.budget.left.get() + self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_never_exceed_the_budget_and_come_back() {
        // docs/operations.md has these numbers of links.
        for (mib, links) in [(64, 13), (96, 16), (128, 18), (256, 26)] {
            let total = mib * 1024 * 1024;
            let budget = Budget::new(total);
            let grants: Vec<Grant> = std::iter::from_fn(|| budget.grant()).collect();
            assert_eq!(grants.len(), links, "links of {mib} MiB");
            assert!(grants.iter().all(|grant| grant.bytes >= GRANT_BYTES_MIN));
            let sum = grants.iter().map(|grant| grant.bytes).sum::<u64>();
            // Else some of it could never be used.
            assert!(sum <= total && total - sum < GRANT_BYTES_MIN, "{sum} of {total}");
            drop(grants);
            assert_eq!(budget.left.get(), total);
        }
    }
}
