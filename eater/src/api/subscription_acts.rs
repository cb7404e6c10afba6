//! What is done with a subscription besides changing it: testing, disabling, and giving it a new secret.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use serde::Serialize;
use trough_runtime::secret::Secret;
use trough_store::outbox::tests_of;
use trough_store::subscription::NewSubscription;
use trough_store::webhook::secret_of;
use utoipa::{IntoParams, ToSchema};

use super::answer::{JsonAnswer, json, unkept};
use super::no_parameters::NoParameters;
use super::notice_refusal::NoticeRefusal;
use super::notices::{ItemName, Owner};
use super::openapi::schemas;
use super::params::{BadParameter, Params};
use super::patience::{within, within_as};
use super::refusal::Refusal;
use super::state::Api;
use super::subscription_body::SubscriptionJson;
use super::subscriptions::{SubscriptionPath, changed};

/// How long a secret that is replaced is used too, unless it is said: a day.
pub(super) const KEEP_OLD_DEFAULT: u64 = 24 * 60 * 60;
/// At the most: 30 days.
pub(super) const KEEP_OLD_MAX: u64 = 30 * 24 * 60 * 60;
/// What is noted of a subscription that its owner has disabled.
const DISABLED: &str = "disabled by its owner";

/// What was made for a test.
#[derive(Serialize, ToSchema)]
#[schema(as = TestDeliveries)]
struct TestsJson {
    /// One for a webhook, one for each phone: `/v1/deliveries/{delivery}` says what became of it.
    #[schema(value_type = Vec<schemas::DeliveryName>)]
    deliveries: Vec<String>,
}

/// How long both secrets are used.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: keep_old reads it")]
struct KeepOldParameter {
    /// For how many seconds requests carry a signature by the old secret too.
    #[param(inline)]
    keep_old_s: Option<schemas::KeepOld>,
}

/// Have an event sent that nobody else is told of.
///
/// A webhook gets one, and each phone that you have registered.
#[utoipa::path(
    post, path = "/v1/subscriptions/{subscription}/test", operation_id = "test_subscription", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(SubscriptionPath),
    responses((status = 200, description = "Its deliveries, which were made", body = TestsJson))
)]
pub(super) async fn test(
    State(api): State<Arc<Api>>,
    owner: Owner,
    ItemName(id): ItemName,
    _: NoParameters,
    answer: JsonAnswer,
) -> Result<Response, Refusal> {
    let desk = &api.notices;
    let found = owner.subscription(desk, &id).await?;
    if let Some(disabled) = found.disabled {
        return Err(NoticeRefusal::Disabled { id, reason: disabled.reason }.into());
    }
    let phones = owner.phones(desk).await?;
    let now = within(desk.outbox.now()).await?;
    let mut deliveries = Vec::new();
    for test in tests_of(&found, &phones, now) {
        deliveries.push(within(desk.outbox.deliver_test(test)).await?.to_string());
    }
    if deliveries.is_empty() {
        return Err(NoticeRefusal::NoPhone.into());
    }
    desk.ring();
    Ok(answer.untagged(json(&TestsJson { deliveries })))
}

/// Have a disabled subscription sent to again.
///
/// What waited is sent now, what was to be tried again later too; what happened meanwhile is not told. For a day it is not
/// disabled again as too many wait: what there is no room for is dropped, and says so.
#[utoipa::path(
    post, path = "/v1/subscriptions/{subscription}/enable", operation_id = "enable_subscription",
    tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(SubscriptionPath),
    responses((status = 200, description = "The subscription, which is enabled", body = SubscriptionJson))
)]
pub(super) async fn enable(
    State(api): State<Arc<Api>>,
    owner: Owner,
    ItemName(id): ItemName,
    _: NoParameters,
    answer: JsonAnswer,
) -> Result<Response, Refusal> {
    set_disabled(&api, &owner, &id, &answer, None).await
}

/// Have nothing sent until it is enabled.
///
/// Of several reasons the first one stays.
#[utoipa::path(
    post, path = "/v1/subscriptions/{subscription}/disable", operation_id = "disable_subscription",
    tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(SubscriptionPath),
    responses((status = 200, description = "The subscription, which is disabled", body = SubscriptionJson))
)]
pub(super) async fn disable(
    State(api): State<Arc<Api>>,
    owner: Owner,
    ItemName(id): ItemName,
    _: NoParameters,
    answer: JsonAnswer,
) -> Result<Response, Refusal> {
    set_disabled(&api, &owner, &id, &answer, Some(DISABLED)).await
}

async fn set_disabled(
    api: &Api,
    owner: &Owner,
    id: &str,
    answer: &JsonAnswer,
    reason: Option<&str>,
) -> Result<Response, Refusal> {
    let desk = &api.notices;
    let found = owner.subscription(desk, id).await?;
    if reason.is_none() && found.disabled.is_some() {
        // First, so that whoever sees that it is enabled finds what waits ready to go.
        within(desk.outbox.resume(found.wanted.id)).await?;
    }
    let found = found.wanted.id;
    let setting = desk.subscriptions.disable_subscription(found, reason);
    within_as(setting, NoticeRefusal::of_subscription).await?;
    tracing::info!(subscription = %id, reader = %owner.name(), enabled = reason.is_none(), "subscription switched");
    if reason.is_none() {
        desk.ring();
    }
    let now = owner.subscription(desk, id).await?;
    Ok(answer.untagged(json(&SubscriptionJson::of(&now))))
}

/// Give a webhook a new signing secret.
///
/// It is in the answer, and is not shown again. For a day, or as long as `keep_old_s` says, requests are signed by both.
#[utoipa::path(
    post, path = "/v1/subscriptions/{subscription}/rotate-key", operation_id = "rotate_subscription_key",
    tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(SubscriptionPath, KeepOldParameter),
    responses((status = 200, description = "The subscription, with its new secret", body = SubscriptionJson))
)]
pub(super) async fn rotate_key(
    State(api): State<Arc<Api>>,
    owner: Owner,
    ItemName(id): ItemName,
    request: Parts,
) -> Result<Response, Refusal> {
    let keep_old = keep_old(&Params::parse(request.uri.query(), &["keep_old_s"])?)?;
    let answer = JsonAnswer::to(request.headers)?;
    let desk = &api.notices;
    // Before the seal is asked for: of what is nobody's, nothing is said.
    owner.subscription(desk, &id).await?;
    let (seal, now) = (desk.seal()?, within(desk.outbox.now()).await?);
    let rotate = |wanted: &mut NewSubscription| {
        let key = wanted.rotate_key(seal, keep_old, now).map(Secret::new);
        key.ok_or_else(|| NoticeRefusal::NotAWebhook(id.clone()).into())
    };
    let (changed, key) = changed(&owner, desk, &id, rotate).await?;
    tracing::info!(subscription = %id, reader = %owner.name(), "subscription has a new secret");
    let secret = secret_of(key.expose()).into_exposed();
    let shown = SubscriptionJson::of(&changed).with_secret(Some(secret));
    Ok(unkept(answer.untagged(json(&shown))))
}

fn keep_old(params: &Params) -> Result<Duration, BadParameter> {
    let Some(text) = params.one("keep_old_s")? else { return Ok(Duration::from_secs(KEEP_OLD_DEFAULT)) };
    let seconds = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds = seconds.filter(|seconds| *seconds <= KEEP_OLD_MAX);
    let accepted = || format!("whole seconds from 0 to {KEEP_OLD_MAX}");
    seconds.map(Duration::from_secs).ok_or_else(|| BadParameter::value("keep_old_s", text, accepted()))
}
