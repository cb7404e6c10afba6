//! An eater is new: the sessions that belong to it move there, a few at a time.

use std::rc::Rc;

use super::Uplink;

/// The spread is walked in so many steps.
const STEPS: u32 = 50;

impl Uplink {
    /// Moves sessions to new eaters until it is dropped.
    pub(super) async fn rebalance(self: Rc<Self>) {
        loop {
            self.new_eater.notified().await;
            // Those that open meanwhile are placed with the new eater in mind.
            let keys: Vec<usize> = self.flows.borrow().iter().map(|(key, _)| key).collect();
            let mut moved = 0;
            for part in keys.chunks(keys.len().div_ceil(STEPS as usize).max(1)) {
                tokio::time::sleep(self.context.config.move_spread / STEPS).await;
                let moves = part.iter().filter(|key| self.reconsider(**key)).count();
                self.context.metrics.sessions_moved("new_eater", moves);
                moved += moves;
            }
            tracing::info!(sessions = keys.len(), moved, "sessions moved to a new eater");
        }
    }

    /// Moves the session if it belongs to another eater now.
    fn reconsider(&self, key: usize) -> bool {
        let Some(flow) = self.flows.borrow().get(key).cloned() else { return false };
        let (Some(used), Some(best)) = (flow.link(), self.choose(&flow.device)) else { return false };
        let moves = used.eater != best.eater;
        if moves {
            self.relocate(&flow, &used);
        }
        moves
    }
}
