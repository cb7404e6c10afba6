//! What happens to sessions from outside: revoked tokens, and the drain when the feeder stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trough_protocol::close::CloseCode;
use trough_runtime::random::random_below;

use crate::context::Context;
use crate::presence::Ending;

/// Tokens are also checked when nothing seems to have changed: they expire, and a change may be missed.
const RECHECK_EVERY: Duration = Duration::from_secs(30);
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long devices are asked to stay away when the feeder restarts; random, so that they do not all come back
/// together.
const RESTART_DELAY: Duration = Duration::from_secs(2);

/// Ends sessions whose token is no longer good, within a second of the registry's word. Runs until killed.
pub async fn watch_tokens(context: Arc<Context>) {
    let mut changes = context.registry.changes();
    let mut pause = RECHECK_EVERY;
    loop {
        tokio::select! {
            () = context.shutdown.killed.cancelled() => return,
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
        pause = if end_revoked(&context).await { RECHECK_EVERY } else { RETRY_EVERY };
    }
}

async fn end_revoked(context: &Context) -> bool {
    let sessions = context.presence.all();
    for part in sessions.chunks(1000) {
        let tokens: Vec<_> = part.iter().map(|control| control.token).collect();
        let revoked = match context.registry.tokens_revoked(&tokens).await {
            Ok(revoked) => revoked,
            Err(error) => {
                tracing::debug!(%error, "tokens cannot be checked");
                // Anybody may read this: what exactly is wrong, and where, is for the log.
                context.health.degrade("registry", "it does not answer");
                return false;
            }
        };
        for control in part.iter().filter(|control| revoked.contains(&control.token)) {
            let text = "the token was revoked or has expired; get a new one from the operator";
            control.end(Ending::new(CloseCode::TokenRevoked, text));
        }
    }
    context.health.restore("registry");
    true
}

/// Waits for the stop, then closes the sessions one after another over `drain_spread`. Those that open while the
/// feeder still accepts are closed soon after. Runs until killed.
pub async fn drain(context: Arc<Context>) {
    context.shutdown.draining.cancelled().await;
    context.health.set_draining();
    let began = Instant::now();
    let spread = context.config.drain_spread;
    let first = context.presence.all();
    let count = first.len().max(1) as u32;
    for (index, control) in (0_u32..).zip(&first) {
        tokio::time::sleep_until(began + spread * index / count).await;
        control.end(restart());
    }
    while !context.shutdown.killed.is_cancelled() {
        for control in context.presence.all() {
            control.end(restart());
        }
        tokio::select! {
            () = context.shutdown.killed.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

fn restart() -> Ending {
    let delay = Duration::from_millis(random_below(RESTART_DELAY.as_millis() as u64));
    Ending { settle: true, ..Ending::new(CloseCode::Restart, "this feeder stops").after(delay) }
}
