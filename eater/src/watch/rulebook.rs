//! Looking what rules there are.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use trough_store::PositionSchema;
use trough_store::rule::Rule;

use super::Shared;
use super::chosen::Chooser;
use super::compiled::Rules;
use crate::directory::Directory;

/// Rules are not looked at more often, however often the registry changes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After a look that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The registry must answer within this.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Only what fails for so long is told: a database may come up after its services.
const QUIET_FOR: Duration = Duration::from_secs(30);

/// How often is looked whether the rules are still the same, whether anything seems to have changed or not: whoever goes on
/// from a place looks back to when the rules were last known.
const CONFIRM_EVERY: Duration = Duration::from_secs(30);

/// What the registry says.
#[derive(PartialEq)]
struct Read {
    rules: Vec<Rule>,
    schemas: Vec<PositionSchema>,
}

/// Looks now and whenever the registry has changed.
pub(super) fn start(shared: Arc<Shared>, stopped: CancellationToken) -> watch::Receiver<Arc<Chooser>> {
    let directory = Arc::new(Directory::new(shared.parts.registry.clone()));
    let none = Chooser::new(Arc::new(Rules::default()), directory.clone());
    let (sender, receiver) = watch::channel(Arc::new(none));
    tokio::spawn(async move { stopped.run_until_cancelled(look(&shared, &directory, sender)).await });
    receiver
}

async fn look(shared: &Shared, directory: &Arc<Directory>, sender: watch::Sender<Arc<Chooser>>) {
    let mut changes = shared.parts.registry.changes();
    let mut known: Option<(Read, Arc<Rules>)> = None;
    let mut failing: Option<(Instant, bool)> = None;
    let mut has_changed = true;
    loop {
        changes.borrow_and_update();
        match timeout(REGISTRY_TIMEOUT, read(shared))
            .await
            .unwrap_or_else(|_| Err("it does not answer".into()))
        {
            Ok((at, found)) => {
                failing = None;
                let rules = match &known {
                    Some((before, rules)) if *before == found => {
                        rules.are_still(at);
                        rules.clone()
                    }
                    _ => {
                        let rules = Arc::new(Rules::new(at, &found.rules, &found.schemas));
                        tracing::info!(rules = rules.len(), "rules are watched");
                        shared.parts.metrics.rules.set(i64::try_from(rules.len()).unwrap_or(i64::MAX));
                        has_changed = true;
                        known.insert((found, rules)).1.clone()
                    }
                };
                // Devices may be in other groups, too; but not if nothing has changed.
                if std::mem::replace(&mut has_changed, true) {
                    sender.send_replace(Arc::new(Chooser::new(rules, directory.clone())));
                }
                sleep(LOOK_EVERY).await;
                match timeout(CONFIRM_EVERY, changes.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return std::future::pending().await,
                    Err(_) => has_changed = false,
                }
            }
            Err(reason) => {
                let (since, told) = failing.get_or_insert((Instant::now(), false));
                if since.elapsed() > QUIET_FOR && !std::mem::replace(told, true) {
                    tracing::warn!(reason, "what rules there are cannot be told just now: those known count");
                }
                sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// The rules and when they were asked for. Presence is decided elsewhere.
async fn read(shared: &Shared) -> Result<(u64, Read), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let at = shared.parts.outbox.now().await.map_err(|error| text(&error))?;
    let rules = shared.parts.subscriptions.list_rules().await.map_err(|error| text(&error))?;
    let schemas = match rules.is_empty() {
        true => Vec::new(),
        false => shared.parts.registry.list_position_schemas().await.map_err(|error| text(&error))?,
    };
    Ok((at, Read { rules, schemas }))
}
