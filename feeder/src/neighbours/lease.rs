//! The lease of this feeder: while it lives, what the feeder has written of its sessions counts.

use std::time::Duration;

use tokio::time::sleep;
use trough_bus::{Deployment, Key};
use trough_runtime::shutdown::Shutdown;

/// How long a feeder that has died is still believed to have its sessions.
const TTL: Duration = Duration::from_secs(10);
/// After a bus that did not answer, or a lease of our own that was taken without our hearing of it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Keeps the lease until the drain begins. From then on this feeder's sessions are about to end, and are nobody's
/// reason to end another.
pub async fn keep(deployment: Deployment, name: Key, shutdown: Shutdown) {
    loop {
        let taken = shutdown.draining.run_until_cancelled(deployment.bus().acquire(&name, TTL)).await;
        match taken {
            None => return,
            Some(Ok(Some(lease))) => {
                if shutdown.draining.run_until_cancelled(lease.lost()).await.is_none() {
                    return lease.release().await;
                }
            }
            Some(Ok(None) | Err(_)) => {
                if shutdown.draining.run_until_cancelled(sleep(RETRY_AFTER)).await.is_none() {
                    return;
                }
            }
        }
    }
}
