//! A long answer ends when its reader's rights do.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trough_protocol::DeviceId;
use trough_store::Scope;

use super::auth::{Authenticator, Caller};
use super::refusal::Refusal;

/// How long to wait before a registry that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often it is asked before nobody can say any more that the reader still has the right.
const ASK_TIMES: u32 = 20;

/// Which rights an answer needs.
#[derive(Debug, Clone)]
pub(super) enum Watched {
    /// Those to this device.
    Device(DeviceId),
    /// Those to the device that is being read at the time, if there is one.
    Reading(watch::Receiver<Option<DeviceId>>),
    /// The same groups as in the beginning.
    Groups,
}

/// Waits until the caller does not have the rights any more, cancels `revoked`, and returns.
///
/// Cancel-safe: dropping it only ends the watching.
pub(super) async fn watch(
    auth: Arc<Authenticator>,
    caller: Caller,
    watched: Watched,
    revoked: CancellationToken,
) {
    // The rights are looked at once at the beginning: they may have changed since the caller was admitted.
    let mut changes = auth.changes();
    changes.mark_changed();
    // An error means that the registry is being closed: the process ends, and with it the answer.
    while changes.changed().await.is_ok() {
        if !still_allowed(&auth, &caller, &watched).await {
            tracing::info!(reader = %caller.grant.name, ?watched, "rights withdrawn, breaking off an answer");
            revoked.cancel();
            return;
        }
    }
}

/// Whether the caller has the rights. A registry that cannot tell is asked again for a while.
pub(super) async fn still_allowed(auth: &Authenticator, caller: &Caller, watched: &Watched) -> bool {
    for _ in 0..ASK_TIMES {
        match allowed(auth, caller, watched).await {
            Ok(()) => return true,
            Err(Refusal::Busy { .. } | Refusal::Broken(_)) => tokio::time::sleep(ASK_AGAIN).await,
            Err(_) => return false,
        }
    }
    false
}

async fn allowed(auth: &Authenticator, before: &Caller, watched: &Watched) -> Result<(), Refusal> {
    let caller = auth.again(before).await?;
    caller.require(Scope::FramesRead)?;
    let device = match watched {
        Watched::Device(device) => Some(device.clone()),
        Watched::Reading(reading) => reading.borrow().clone(),
        Watched::Groups if caller.grant.groups == before.grant.groups => None,
        Watched::Groups => {
            return Err(Refusal::BadToken("the reader's groups are others now".to_owned()));
        }
    };
    match device {
        Some(device) => auth.device(&caller, device.as_str()).await.map(drop),
        None => Ok(()),
    }
}
