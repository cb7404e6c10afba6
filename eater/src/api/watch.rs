//! A long answer ends when its reader's rights do.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trough_protocol::DeviceId;
use trough_store::Scope;

use super::auth::{Authenticator, Caller};
use super::refusal::Refusal;

/// How long to wait before a registry that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often it is asked before nobody can say any more that the reader still has the right.
const ASK_TIMES: u32 = 20;

/// Waits until the caller may no longer read the device, cancels `revoked`, and returns.
///
/// Cancel-safe: dropping it only ends the watching.
pub(super) async fn watch_rights(
    auth: Arc<Authenticator>,
    caller: Caller,
    device: DeviceId,
    revoked: CancellationToken,
) {
    // The rights are looked at once at the beginning: they may have changed since the caller was admitted.
    let mut changes = auth.changes();
    changes.mark_changed();
    // An error means that the registry is being closed: the process ends, and with it the answer.
    while changes.changed().await.is_ok() {
        if !still_allowed(&auth, &caller, &device).await {
            tracing::info!(reader = %caller.grant.name, %device, "rights withdrawn, breaking off an answer");
            revoked.cancel();
            return;
        }
    }
}

async fn still_allowed(auth: &Authenticator, caller: &Caller, device: &DeviceId) -> bool {
    for _ in 0..ASK_TIMES {
        match allowed(auth, caller, device).await {
            Ok(()) => return true,
            Err(Refusal::Busy { .. } | Refusal::Broken(_)) => tokio::time::sleep(ASK_AGAIN).await,
            Err(_) => return false,
        }
    }
    false
}

async fn allowed(auth: &Authenticator, caller: &Caller, device: &DeviceId) -> Result<(), Refusal> {
    let caller = auth.again(caller).await?;
    caller.require(Scope::FramesRead)?;
    auth.device(&caller, device.as_str()).await.map(drop)
}
