//! `/v1/subscriptions`: what a reader wants to be told of, and where.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use serde::Serialize;
use trough_runtime::random::random_bytes;
use trough_store::subscription::{NewSubscription, Target};
use trough_store::webhook::secret_of;
use trough_store::{RegistryError, Subscription, SubscriptionId};
use utoipa::{IntoParams, ToSchema};

use super::answer::{JsonAnswer, created, json, nothing, unkept};
use super::body::{BODY_BYTES_MAX, Sent};
use super::commands::KeyHeader;
use super::id_page::IdPage;
use super::no_parameters::NoParameters;
use super::notice_refusal::NoticeRefusal;
use super::notices::{ItemName, NoticeDesk, Owner};
use super::openapi::schemas;
use super::patience::{within, within_as};
use super::refusal::Refusal;
use super::state::Api;
use super::subscription_body::{ChangesJson, NewJson, SubscriptionJson};

/// Most subscriptions that one reader makes here.
pub(super) const OF_READER_MAX: usize = 100;
/// How often a subscription is looked at again that somebody else changes at the same moment.
const TRIES: usize = 5;
/// After so many.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// For so long after it was made a repeated request is answered with the secret, too; in µs.
const SECRET_AGAIN: u64 = 24 * 60 * 60 * 1_000_000;

/// A page of subscriptions.
#[derive(Serialize, ToSchema)]
#[schema(as = SubscriptionsPage)]
struct SubscriptionsJson {
    /// By id.
    subscriptions: Vec<SubscriptionJson>,
    /// Where the next page begins; `null` if there is none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which page.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: Params reads it")]
pub(super) struct PageParameters {
    /// How many at most.
    #[param(inline)]
    limit: Option<schemas::ItemsLimit>,
    /// The `next_cursor` of the page before.
    #[param(inline)]
    cursor: Option<schemas::Cursor>,
}

/// The subscription in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is only described")]
pub(super) struct SubscriptionPath {
    /// The subscription's id.
    #[param(inline, example = "sub_00000000000000000000000000000000")]
    subscription: schemas::SubscriptionName,
}

/// Your subscriptions.
#[utoipa::path(
    get, path = "/v1/subscriptions", operation_id = "list_subscriptions", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(PageParameters),
    responses(
        (status = 200, description = "A page of subscriptions", body = SubscriptionsJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    owner: Owner,
    request: Parts,
) -> Result<Response, Refusal> {
    let page = IdPage::of(request.uri.query(), format!("subscriptions|{}", owner.name()))?;
    let answer = JsonAnswer::to(request.headers)?;
    let mut all = owner.subscriptions(&api.notices).await?;
    let next_cursor = page.cut(&mut all, |one| one.wanted.id.0);
    let page =
        SubscriptionsJson { next_cursor, subscriptions: all.iter().map(SubscriptionJson::of).collect() };
    Ok(answer.tagged(json(&page)))
}

/// One of your subscriptions.
#[utoipa::path(
    get, path = "/v1/subscriptions/{subscription}", operation_id = "get_subscription", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(SubscriptionPath),
    responses(
        (status = 200, description = "The subscription", body = SubscriptionJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    owner: Owner,
    ItemName(id): ItemName,
    _: NoParameters,
    answer: JsonAnswer,
) -> Result<Response, Refusal> {
    let found = owner.subscription(&api.notices, &id).await?;
    Ok(answer.tagged(json(&SubscriptionJson::of(&found))))
}

/// Be told of events.
///
/// As a webhook (`url`), or on all phones that you have registered (`push`). The answer has the secret that a webhook's
/// requests are signed with, which is not shown again.
#[utoipa::path(
    post, path = "/v1/subscriptions", operation_id = "create_subscription", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(KeyHeader),
    request_body(content = NewJson, content_type = "application/json"),
    responses(
        (status = 201, description = "The subscription, which was made", body = SubscriptionJson),
        (status = 200, description = "The subscription, which was made by an earlier request with this key; with its \
            secret for a day, unless that was replaced", body = SubscriptionJson),
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    owner: Owner,
    _: NoParameters,
    answer: JsonAnswer,
    sent: Sent,
) -> Result<Response, Refusal> {
    let key = sent.key()?;
    let asked: NewJson = sent.object(BODY_BYTES_MAX).await?;
    let desk = &api.notices;
    let id = key.as_ref().map_or_else(|| SubscriptionId(random_bytes()), |key| id_of(&owner, key));
    let wanted = asked.read(id, owner.name(), desk.reach, || desk.seal().cloned())?;
    owner.sight(&api).check_named(&wanted.scope).await?;
    let mine = owner.subscriptions(desk).await?;
    let answer = |subscription: &Subscription, secret| {
        unkept(answer.untagged(json(&SubscriptionJson::of(subscription).with_secret(secret))))
    };
    let location = format!("/v1/subscriptions/{id}");
    let again = |found: &Subscription| match is_same(&found.wanted, &wanted) {
        true => Ok(answer(found, secret_again(&api, found))),
        false => Err(Refusal::from(NoticeRefusal::KeyUsed(id.to_string()))),
    };
    if let Some(found) = mine.iter().find(|found| found.wanted.id == id) {
        return again(found);
    }
    if mine.len() >= OF_READER_MAX {
        let why = format!("you have {OF_READER_MAX} subscriptions, which is the most: remove one");
        return Err(NoticeRefusal::TooManySubscriptions(why).into());
    }
    let added = within(async { Ok::<_, Refusal>(desk.subscriptions.add_subscription(wanted.clone()).await) });
    match added.await? {
        Ok(added) => {
            tracing::info!(subscription = %id, reader = %owner.name(), "subscription added");
            Ok(created(answer(&added, newest_secret(desk, &added)?), &location))
        }
        // Another request with the same key was as quick.
        Err(RegistryError::AlreadyExists { .. }) => again(&owner.subscription(desk, &id.to_string()).await?),
        Err(error) => Err(NoticeRefusal::of_subscription(error)),
    }
}

/// Of a key follows an id, so that the same key is the same subscription.
fn id_of(owner: &Owner, key: &str) -> SubscriptionId {
    let name = owner.name().as_str().as_bytes();
    SubscriptionId::of(&[b"api", name, &owner.since.to_le_bytes(), key.as_bytes()])
}

/// Whether two are wished the same, but for their secrets.
fn is_same(found: &NewSubscription, wanted: &NewSubscription) -> bool {
    let mut found = found.clone();
    if let (
        Target::Webhook { keys, old_key_until, .. },
        Target::Webhook { keys: new, old_key_until: new_until, .. },
    ) = (&mut found.target, &wanted.target)
    {
        keys.clone_from(new);
        *old_key_until = *new_until;
    }
    found == *wanted
}

/// The secret for whoever did not hear the first answer, as long as it is the first one.
fn secret_again(api: &Api, found: &Subscription) -> Option<String> {
    let Target::Webhook { old_key_until: None, .. } = &found.wanted.target else { return None };
    let is_fresh = api.clock.now().saturating_sub(found.created_at) < SECRET_AGAIN;
    is_fresh.then(|| newest_secret(&api.notices, found).ok().flatten()).flatten()
}

/// The newest secret of a webhook.
fn newest_secret(desk: &NoticeDesk, subscription: &Subscription) -> Result<Option<String>, Refusal> {
    let Target::Webhook { keys, .. } = &subscription.wanted.target else { return Ok(None) };
    let Some(newest) = keys.first() else { return Ok(None) };
    let key = desk.seal()?.open(newest, &subscription.wanted.id.to_string()).map_err(|error| {
        tracing::error!(%error, "a signing key that was made just now cannot be opened");
        Refusal::Broken("the secret cannot be shown; the server's log says why".to_owned())
    })?;
    Ok(Some(secret_of(&key).into_exposed()))
}

/// Be told of something else.
///
/// What is not named stays as it is: a webhook its secret, and a disabled subscription disabled. A webhook and pushes do not
/// become each other.
#[utoipa::path(
    patch, path = "/v1/subscriptions/{subscription}", operation_id = "change_subscription", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(SubscriptionPath),
    request_body(content = ChangesJson, content_type = "application/json"),
    responses((status = 200, description = "The subscription as it is now", body = SubscriptionJson))
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    owner: Owner,
    ItemName(id): ItemName,
    _: NoParameters,
    answer: JsonAnswer,
    sent: Sent,
) -> Result<Response, Refusal> {
    let desk = &api.notices;
    let found = owner.subscription(desk, &id).await?.wanted;
    let asked: ChangesJson = sent.object(BODY_BYTES_MAX).await?;
    if let Some(scope) = asked.scope().filter(|scope| **scope != found.scope) {
        owner.sight(&api).check_named(scope).await?;
    }
    let (changed, ()) = changed(&owner, desk, &id, |wanted| asked.apply(wanted, desk.reach)).await?;
    tracing::info!(subscription = %id, reader = %owner.name(), "subscription changed");
    Ok(answer.untagged(json(&SubscriptionJson::of(&changed))))
}

/// Changes one of an owner's, as it is now: of two who do so at once neither takes back what the other did.
pub(super) async fn changed<T>(
    owner: &Owner,
    desk: &NoticeDesk,
    id: &str,
    change: impl Fn(&mut NewSubscription) -> Result<T, Refusal>,
) -> Result<(Subscription, T), Refusal> {
    for _ in 0..TRIES {
        let before = owner.subscription(desk, id).await?.wanted;
        let mut wanted = before.clone();
        let made = change(&mut wanted)?;
        let replacing = desk.subscriptions.replace_subscription(before, wanted);
        let replaced = within_as(replacing, NoticeRefusal::of_subscription).await?;
        if let Some(changed) = replaced {
            return Ok((changed, made));
        }
    }
    let what = format!("others are changing subscription {id} all the time");
    Err(Refusal::Busy { what, retry_after: RETRY_AFTER })
}

/// Be told no more.
///
/// What was not delivered yet never is.
#[utoipa::path(
    delete, path = "/v1/subscriptions/{subscription}", operation_id = "remove_subscription", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(SubscriptionPath),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    owner: Owner,
    ItemName(id): ItemName,
    _: NoParameters,
) -> Result<Response, Refusal> {
    let desk = &api.notices;
    let found = owner.subscription(desk, &id).await?.wanted.id;
    let removing = desk.subscriptions.remove_subscription(found);
    within_as(removing, NoticeRefusal::of_subscription).await?;
    tracing::info!(subscription = %id, reader = %owner.name(), "subscription removed");
    Ok(nothing())
}
