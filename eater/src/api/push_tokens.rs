//! `/v1/push-tokens`: on which phones a reader is told.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use trough_store::phone::{AppName, DeviceToken};
use trough_store::subscription::{PushEnvironment, PushToken};
use utoipa::{IntoParams, ToSchema};

use super::answer::{JsonAnswer, created, json, nothing};
use super::body::{self, BODY_BYTES_MAX, Sent};
use super::encode::time_text;
use super::id_page::IdPage;
use super::no_parameters::NoParameters;
use super::notice_refusal::{NoticeRefusal, shown};
use super::notices::{ItemName, Owner};
use super::openapi::schemas;
use super::patience::within;
use super::refusal::Refusal;
use super::state::Api;
use super::subscriptions::PageParameters;

/// A phone, as its app knows it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPushToken, example = json!({
    "token": "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0", "app": "com.example.app",
    "server": "production",
}))]
pub(super) struct NewJson {
    /// What Apple has given to the app, in hex digits.
    #[schema(pattern = "^([0-9A-Fa-f]{2}){1,128}$")]
    token: String,
    /// The app's bundle id.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,255}$")]
    app: String,
    /// Which of Apple's servers knows the token: `sandbox` for apps run from Xcode.
    #[serde(default = "production")]
    #[schema(value_type = schemas::PushServer, inline)]
    server: PushEnvironment,
}

fn production() -> PushEnvironment {
    PushEnvironment::Production
}

/// A phone. The token itself is not shown.
#[derive(Serialize, ToSchema)]
#[schema(as = PushToken)]
struct PushTokenJson {
    /// It follows from the token, so that a phone that registers twice is one.
    #[schema(pattern = "^psh_[0-9a-f]{32}$")]
    id: String,
    /// The app's bundle id.
    app: String,
    /// Which of Apple's servers knows the token.
    #[schema(value_type = schemas::PushServer, inline)]
    server: PushEnvironment,
    /// When it was last registered.
    #[schema(format = DateTime)]
    registered_at: String,
}

impl PushTokenJson {
    fn of(phone: &PushToken) -> Self {
        Self {
            id: phone.id.to_string(),
            app: phone.topic.clone(),
            server: phone.environment,
            registered_at: time_text(phone.registered_at),
        }
    }
}

/// A page of phones.
#[derive(Serialize, ToSchema)]
#[schema(as = PushTokensPage)]
struct PushTokensJson {
    /// By id.
    push_tokens: Vec<PushTokenJson>,
    /// Where the next page begins; `null` if there is none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// The phone in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is only described")]
struct PushTokenPath {
    /// The phone's id.
    #[param(inline, example = "psh_00000000000000000000000000000000")]
    push_token: schemas::PushTokenName,
}

async fn phone(api: &Api, owner: &Owner, id: &str) -> Result<PushToken, Refusal> {
    let all = owner.phones(&api.notices).await?;
    let found = all.into_iter().find(|phone| phone.id.to_string() == id);
    found.ok_or_else(|| NoticeRefusal::NoSuchPushToken(shown(id)).into())
}

/// Register a phone, or the same one again.
///
/// An app does so whenever Apple gives it a token, at each start. All your subscriptions with `push` are told there. Of more
/// than 100 phones of a reader the one that was registered longest ago goes; a phone that another reader had is yours then.
#[utoipa::path(
    post, path = "/v1/push-tokens", operation_id = "register_push_token", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    request_body(content = NewJson, content_type = "application/json"),
    responses((status = 201, description = "The phone, which is registered", body = PushTokenJson))
)]
pub(super) async fn register(
    State(api): State<Arc<Api>>,
    owner: Owner,
    _: NoParameters,
    answer: JsonAnswer,
    sent: Sent,
) -> Result<Response, Refusal> {
    let asked: NewJson = sent.object(BODY_BYTES_MAX).await?;
    let token = DeviceToken::parse(&asked.token).map_err(body::bad)?;
    let app = AppName::parse(&asked.app).map_err(body::bad)?;
    // Clocks of machines differ a little: never before its reader.
    let now = api.clock.now().max(owner.since);
    let phone = token.register(owner.name().clone(), app, asked.server, api.notices.seal()?, now);
    let shown = PushTokenJson::of(&phone);
    within(api.notices.subscriptions.set_push_token(phone)).await?;
    tracing::info!(phone = %shown.id, reader = %owner.name(), "phone registered");
    let location = format!("/v1/push-tokens/{}", shown.id);
    Ok(created(answer.untagged(json(&shown)), &location))
}

/// Your phones.
#[utoipa::path(
    get, path = "/v1/push-tokens", operation_id = "list_push_tokens", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(PageParameters),
    responses(
        (status = 200, description = "A page of phones", body = PushTokensJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    owner: Owner,
    request: Parts,
) -> Result<Response, Refusal> {
    let page = IdPage::of(request.uri.query(), format!("push-tokens|{}", owner.name()))?;
    let answer = JsonAnswer::to(request.headers)?;
    let mut all = owner.phones(&api.notices).await?;
    let next_cursor = page.cut(&mut all, |phone| phone.id.0);
    let page = PushTokensJson { next_cursor, push_tokens: all.iter().map(PushTokenJson::of).collect() };
    Ok(answer.tagged(json(&page)))
}

/// One of your phones.
#[utoipa::path(
    get, path = "/v1/push-tokens/{push_token}", operation_id = "get_push_token", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(PushTokenPath),
    responses(
        (status = 200, description = "The phone", body = PushTokenJson),
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
    let found = phone(&api, &owner, &id).await?;
    Ok(answer.tagged(json(&PushTokenJson::of(&found))))
}

/// Forget a phone.
///
/// What waits for it is dropped.
#[utoipa::path(
    delete, path = "/v1/push-tokens/{push_token}", operation_id = "remove_push_token", tag = "notifications",
    security(("reader" = ["notifications:manage"])),
    params(PushTokenPath),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    owner: Owner,
    ItemName(id): ItemName,
    _: NoParameters,
) -> Result<Response, Refusal> {
    let found = phone(&api, &owner, &id).await?;
    // Not if somebody registers it just now.
    let removing = api.notices.subscriptions.remove_push_token(found.id, Some(found.registered_at));
    within(removing).await?;
    tracing::info!(phone = %id, reader = %owner.name(), "phone removed");
    Ok(nothing())
}
