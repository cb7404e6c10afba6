//! What happens to sessions from outside: revoked tokens, and the drain when the feeder stops or is emptied by hand.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use trough_protocol::close::CloseCode;
use trough_runtime::random::random_below;
use trough_runtime::shutdown::Shutdown;

use crate::context::Context;
use crate::presence::{Ending, Presence};

/// Tokens are also checked when nothing seems to have changed: they expire, and a change may be missed.
const RECHECK_EVERY: Duration = Duration::from_secs(30);
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long devices are asked to stay away when the feeder restarts; random, so that they do not all come back
/// together.
const RESTART_DELAY: Duration = Duration::from_secs(2);
/// How often sessions are looked for that were just being opened when the drain began.
const NEWCOMERS_EVERY: Duration = Duration::from_millis(200);

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

/// Waits for the stop, then closes the sessions. Runs until killed.
pub async fn drain(context: Arc<Context>) {
    let Shutdown { draining, killed, .. } = &context.shutdown;
    draining.cancelled().await;
    context.health.set_draining();
    let closing = close_all(&context.presence, context.config.drain_spread, "this feeder stops");
    killed.run_until_cancelled(closing).await;
}

/// Closes the sessions whenever an operator wants the feeder empty, until that is undone. Runs until the stop.
pub async fn empty(context: Arc<Context>) {
    let mut orders = context.shutdown.drain.orders();
    let emptying = async {
        loop {
            let order = *orders.borrow_and_update();
            let closing = async {
                match order {
                    Some(order) => {
                        let spread = order.spread.unwrap_or(context.config.drain_spread);
                        close_all(&context.presence, spread, "this feeder is emptied").await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = closing => {}
                // The context has the sender.
                _ = orders.changed() => {}
            }
        }
    };
    context.shutdown.draining.run_until_cancelled(emptying).await;
}

/// Closes the sessions one after another over `spread`, then those that were just being opened. Runs until it is dropped.
async fn close_all(presence: &Presence, spread: Duration, text: &'static str) {
    let began = Instant::now();
    let first = presence.all();
    let count = first.len().max(1) as u32;
    for (index, control) in (0_u32..).zip(&first) {
        sleep_until(began + spread * index / count).await;
        control.end(restart(text));
    }
    loop {
        for control in presence.all() {
            control.end(restart(text));
        }
        sleep(NEWCOMERS_EVERY).await;
    }
}

fn restart(text: &'static str) -> Ending {
    let delay = Duration::from_millis(random_below(RESTART_DELAY.as_millis() as u64));
    Ending { settle: true, ..Ending::new(CloseCode::Restart, text).after(delay) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_protocol::{DeviceId, LinkId};
    use trough_store::TokenId;

    use crate::presence::Control;

    #[tokio::test(start_paused = true)]
    async fn sessions_are_closed_one_after_another_and_told_delays_that_differ() {
        const SESSIONS: usize = 300;
        const SPREAD: Duration = Duration::from_secs(15);
        let presence = Arc::new(Presence::default());
        let open = |n: usize| {
            let control = Control::new(TokenId::random(), LinkId([0; 16]));
            presence.enter(&DeviceId::new(&format!("d{n}")).unwrap(), &control, Duration::ZERO);
            control
        };
        let mut sessions: Vec<_> = (0..SESSIONS).map(open).collect();
        let closing = presence.clone();
        let task = tokio::spawn(async move { close_all(&closing, SPREAD, "x").await });
        // When each device comes back, if it does as it is told.
        let mut back = Vec::new();
        let began = Instant::now();
        while back.len() < SESSIONS {
            sleep(Duration::from_millis(10)).await;
            sessions.retain(|control| match control.requested() {
                None => true,
                Some(ending) => {
                    assert!(ending.settle && ending.code == CloseCode::Restart);
                    back.push(began.elapsed() + ending.retry_after.unwrap());
                    false
                }
            });
        }
        assert!(began.elapsed() <= SPREAD, "all are told within the spread");
        let in_second = |second: u64| back.iter().filter(|at| at.as_secs() == second).count();
        let most = (0..20).map(in_second).max().unwrap();
        println!("at most {most} of {SESSIONS} come back within one second of {SPREAD:?}");
        // Evenly, it would be 20 in a second; without a spread and delays, 300 at once.
        assert!(most <= 40, "{most} come back within one second");

        let newcomer = open(SESSIONS);
        sleep(NEWCOMERS_EVERY * 2).await;
        assert!(newcomer.requested().is_some(), "whoever was just being opened follows");
        task.abort();
    }
}
