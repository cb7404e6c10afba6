//! Showing subscriptions, without what is secret in them.

use serde::Serialize;
use trough_protocol::Micros;
use trough_store::rule::Scope;
use trough_store::subscription::{QuietHours, Target};
use trough_store::webhook::shown;
use trough_store::{EventKind, Subscription, SubscriptionId};

use crate::error::CliError;
use crate::output;
use crate::registry::{Missing, Place};
use crate::stores::Stores;

/// Lists all of them.
pub async fn list(place: Place, json: bool) -> Result<(), CliError> {
    let all = Stores::open(place, Missing::Refuse)?.subscriptions.list_subscriptions(None).await?;
    if json {
        return output::json(&all.iter().map(SubscriptionJson::of).collect::<Vec<_>>());
    }
    if all.is_empty() {
        output::note("no subscriptions; add one: trough subscriptions add READER --url https://…");
        return Ok(());
    }
    let row = |subscription: &Subscription| {
        let wanted = &subscription.wanted;
        let events: Vec<_> = wanted.events.iter().map(|kind| kind.as_str()).collect();
        let events = if events.is_empty() { "(all)".to_owned() } else { events.join(",") };
        let to = match &wanted.target {
            Target::Webhook { url, .. } => shown(url),
            Target::Push => "(phones)".to_owned(),
        };
        let state = subscription.disabled.as_ref();
        let state = state.map_or("enabled".to_owned(), |disabled| format!("disabled: {}", disabled.reason));
        [wanted.id.to_string(), wanted.owner.to_string(), events, to, state]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    output::line(output::table(["SUBSCRIPTION", "READER", "EVENTS", "TO", "STATE"], &rows).trim_end())
}

/// Shows one.
pub async fn show(place: Place, id: SubscriptionId) -> Result<(), CliError> {
    let subscription = Stores::open(place, Missing::Refuse)?.subscriptions.get_subscription(id).await?;
    output::json(&SubscriptionJson::of(&subscription))
}

/// A subscription as `--json` shows it. Times are in µs since 1970.
#[derive(Serialize)]
struct SubscriptionJson<'a> {
    id: SubscriptionId,
    owner: &'a str,
    events: Vec<EventKind>,
    rules: Vec<&'a str>,
    scope: &'a Scope,
    url: Option<String>,
    push: bool,
    quiet: Option<&'a QuietHours>,
    coalesce_s: u64,
    created_at: Micros,
    disabled_at: Option<Micros>,
    disabled: Option<&'a str>,
}

impl<'a> SubscriptionJson<'a> {
    fn of(subscription: &'a Subscription) -> Self {
        let wanted = &subscription.wanted;
        Self {
            id: wanted.id,
            owner: wanted.owner.as_str(),
            events: wanted.events.iter().copied().collect(),
            rules: wanted.rules.iter().map(|rule| rule.as_str()).collect(),
            scope: &wanted.scope,
            url: match &wanted.target {
                Target::Webhook { url, .. } => Some(shown(url)),
                Target::Push => None,
            },
            push: wanted.target == Target::Push,
            quiet: wanted.quiet.as_ref(),
            coalesce_s: wanted.coalesce.as_secs(),
            created_at: subscription.created_at,
            disabled_at: subscription.disabled.as_ref().map(|disabled| disabled.at),
            disabled: subscription.disabled.as_ref().map(|disabled| disabled.reason.as_str()),
        }
    }
}
