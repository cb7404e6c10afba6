//! One try: whether it may be made at all, by which way, and what follows from it.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;
use trough_protocol::Micros;
use trough_runtime::clock::micros;
use trough_runtime::trace::TraceContext;
use trough_store::outbox::{Attempt, Delivery, Outcome};
use trough_store::subscription::{PushToken, Quiet, Target};
use trough_store::webhook::address::host_and_port;
use trough_store::{EventKind, RegistryError, Subscription};

use super::endpoint::Visit;
use super::queue::LATER;
use super::traces::Traced;
use crate::book::{Book, NotAllowed};
use crate::context::Context;
use crate::metrics::Metrics;
use crate::schedule;
use crate::tried::{Standing, Tried, Verdict};
use crate::webhook::Hook;

/// What a webhook that is not there any more leaves behind.
const GONE: &str = "the endpoint answered 410 Gone: enable the subscription if that was a mistake";

/// What one that was there, before it was replaced, does.
const MOVED: &str = "the endpoint that was there before answered 410 Gone: it is sent to the new one";
/// After a fault of our own.
const OURS_AGAIN: Duration = Duration::from_secs(30);

/// A try that is over.
#[derive(Debug)]
pub struct Done {
    /// To be noted.
    pub attempt: Attempt,
    /// What follows for those behind it.
    pub next: Next,
}

/// What follows for the deliveries behind one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// They are due.
    GoOn,
    /// They wait until it is tried again.
    Blocked(Micros),
    /// It is not sent before this time, though it is due.
    Held(Micros),
    /// The subscription is disabled.
    Disabled,
}

/// Tries to deliver.
///
/// # Errors
/// The registry does not say whether it may be delivered.
pub async fn attempt(
    context: &Context,
    book: &Book,
    subscription: &Subscription,
    delivery: &Delivery,
    visit: &Visit,
) -> Result<Done, RegistryError> {
    let groups = book.groups_of(&delivery.event).await?;
    if let Err(why) = book.check(subscription, &delivery.event, &groups) {
        if why == NotAllowed::OwnerRevoked {
            disable(context, subscription, &why.to_string()).await?;
        }
        return Ok(done(delivery, Outcome::Dropped, format!("not sent: {why}"), Next::GoOn));
    }
    if let Some(done) = keep_quiet(context, subscription, delivery) {
        return Ok(done);
    }
    let (channel, began) = (channel(&subscription.wanted.target), Instant::now());
    let on_its_way = OnItsWay::new(&context.metrics);
    let traced = Traced::begin(&context.config.tracer, delivery);
    let trace = traced.as_ref().map(Traced::context);
    let (tried, phone) = send(context, book, subscription, (delivery, trace)).await;
    drop(on_its_way);
    visit.note(tried.endpoint);
    let done = settle(context, subscription, delivery, tried.clone(), phone).await?;
    if let Some(traced) = traced {
        traced.end(&context.config.tracer, channel, delivery, &tried);
    }
    report(context, (channel, subscription), delivery, (&tried, &done), began.elapsed());
    Ok(done)
}

/// What becomes of a delivery that is due in quiet hours, however it came to be so: it was held, is tried again, or waited for
/// others or for its subscription. A test is sent whenever somebody asks for it.
fn keep_quiet(context: &Context, subscription: &Subscription, delivery: &Delivery) -> Option<Done> {
    let quiet = subscription.wanted.quiet.as_ref().filter(|_| delivery.event.kind != EventKind::Test)?;
    let ends = quiet.ends(context.clock.known()?)?;
    let said = format!("not sent: quiet hours from {} to {}", quiet.from, quiet.to);
    Some(match quiet.then {
        Quiet::Hold => done(delivery, Outcome::Held(ends), said, Next::Held(ends)),
        Quiet::Drop => done(delivery, Outcome::Dropped, said, Next::GoOn),
    })
}

/// Counts a request until its answer, or until nobody waits for that any more.
struct OnItsWay<'a>(&'a Metrics);

impl<'a> OnItsWay<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

fn channel(target: &Target) -> &'static str {
    match target {
        Target::Webhook { .. } => "webhook",
        Target::Push => "apns",
    }
}

async fn send<'a>(
    context: &Context,
    book: &'a Book,
    subscription: &Subscription,
    (delivery, trace): (&Delivery, Option<TraceContext>),
) -> (Tried, Option<&'a PushToken>) {
    match &subscription.wanted.target {
        Target::Webhook { url, keys, old_key_until } => {
            let hook = Hook { url, keys, old_key_until: *old_key_until };
            (context.webhooks.send(hook, (delivery, trace), &context.seal).await, None)
        }
        Target::Push => {
            let phone =
                book.phones(&subscription.wanted.owner).find(|phone| Some(phone.id) == delivery.phone);
            let tried = match (&context.apns, phone) {
                (_, None) => Tried::unsent(Verdict::Gone, "the phone is not registered any more"),
                (None, _) => Tried::unsent(
                    Verdict::Ours,
                    "pushes are not set up: give the notifier --apns-key-file, --apns-key-id and --apns-team-id",
                ),
                (Some(apns), Some(phone)) => apns.send(phone, delivery, &context.seal).await,
            };
            (tried, phone)
        }
    }
}

async fn settle(
    context: &Context,
    subscription: &Subscription,
    delivery: &Delivery,
    tried: Tried,
    phone: Option<&PushToken>,
) -> Result<Done, RegistryError> {
    let said = tried.said;
    Ok(match tried.verdict {
        Verdict::Delivered => done(delivery, Outcome::Delivered, said, Next::GoOn),
        Verdict::Never => done(delivery, Outcome::Dead, said, Next::GoOn),
        Verdict::Gone if subscription.wanted.target == Target::Push => {
            if let Some(phone) = phone {
                context.books.subscriptions().remove_push_token(phone.id, Some(phone.registered_at)).await?;
            }
            done(delivery, Outcome::Dropped, said, Next::GoOn)
        }
        Verdict::Ours => {
            // It stays due, so that it keeps its place.
            let again = now(context, delivery) + micros(OURS_AGAIN);
            done(delivery, Outcome::Held(delivery.next_at), said, Next::Blocked(again))
        }
        Verdict::Gone => {
            if !leads_there(context, subscription).await? {
                let again = now(context, delivery) + micros(LATER);
                return Ok(done(
                    delivery,
                    Outcome::Held(delivery.next_at),
                    MOVED.to_owned(),
                    Next::Blocked(again),
                ));
            }
            disable(context, subscription, GONE).await?;
            done(delivery, Outcome::Dead, said, Next::Disabled)
        }
        Verdict::Again(asked) => {
            let chance = rand::rng().random_range(0.0..1.0);
            let tries = delivery.attempts.saturating_sub(delivery.attempts_before_replay) + 1;
            match schedule::wait(&context.config.waits, tries, asked, chance) {
                Some(wait) => {
                    let at = now(context, delivery) + micros(wait);
                    done(delivery, Outcome::Retry(at), said, Next::Blocked(at))
                }
                None => done(delivery, Outcome::Dead, said, Next::GoOn),
            }
        }
    })
}

fn now(context: &Context, delivery: &Delivery) -> Micros {
    // Whoever has a delivery knows the time.
    context.clock.known().unwrap_or(delivery.created_at)
}

/// Whether a subscription still has the URL that was asked: its owner may have given it another meanwhile.
async fn leads_there(context: &Context, subscription: &Subscription) -> Result<bool, RegistryError> {
    let url = |target: &Target| match target {
        Target::Webhook { url, .. } => Some(url.clone()),
        Target::Push => None,
    };
    match context.books.subscriptions().get_subscription(subscription.wanted.id).await {
        Ok(found) => Ok(url(&found.wanted.target) == url(&subscription.wanted.target)),
        Err(RegistryError::NotFound { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Has nothing more sent to a subscription, and tells whoever looks at the log.
///
/// # Errors
/// The registry's.
pub async fn disable(context: &Context, subscription: &Subscription, why: &str) -> Result<(), RegistryError> {
    let (id, owner) = (subscription.wanted.id, &subscription.wanted.owner);
    match context.books.subscriptions().disable_subscription(id, Some(why)).await {
        Ok(()) => {
            tracing::warn!(subscription = %id, %owner, why, "subscription disabled");
            context.metrics.disabled.inc();
            Ok(())
        }
        Err(RegistryError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn done(delivery: &Delivery, outcome: Outcome, said: String, next: Next) -> Done {
    let attempt = Attempt { delivery: delivery.id, before: delivery.attempts, outcome, said };
    Done { attempt, next }
}

/// The one line of a try. Of the URL it has the host alone: the rest may be secret.
fn report(
    context: &Context,
    (channel, subscription): (&'static str, &Subscription),
    delivery: &Delivery,
    (tried, done): (&Tried, &Done),
    took: Duration,
) {
    let outcome = match done.attempt.outcome {
        Outcome::Delivered => "delivered",
        Outcome::Retry(_) => "retry",
        Outcome::Held(_) => "held",
        Outcome::Dead => "dead",
        Outcome::Dropped => "dropped",
    };
    context.metrics.attempted(channel, outcome, took);
    let host = match &subscription.wanted.target {
        Target::Webhook { url, .. } => {
            url::Url::parse(url).map(|url| host_and_port(&url)).unwrap_or_default()
        }
        Target::Push => String::new(),
    };
    tracing::info!(
        delivery = %delivery.id,
        subscription = %delivery.subscription,
        event = %delivery.event.id,
        kind = %delivery.event.kind,
        channel,
        host,
        attempt = delivery.attempts + 1,
        outcome,
        status = tried.status,
        // What an endpoint answers is its own, and may hold anything: it is kept with the delivery, not in the log.
        said = (tried.endpoint == Standing::Unknown || tried.status.is_none()).then_some(tried.said.as_str()),
        ms = took.as_secs_f64() * 1e3,
        "delivery attempted"
    );
}
