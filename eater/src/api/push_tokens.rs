//! `/v1/push-tokens`: on which phones a reader is told.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use trough_store::phone::{AppName, DeviceToken};
use trough_store::subscription::{PushEnvironment, PushToken};
use utoipa::{IntoParams, ToSchema};

use super::answer::{Head, created, json, json_offer, nothing, tagged};
use super::auth::Caller;
use super::body::{self, BODY_BYTES_MAX};
use super::encode::time_text;
use super::id_page::IdPage;
use super::notice_refusal::{NoticeRefusal, shown};
use super::notices::{ItemName, Owner};
use super::openapi::schemas;
use super::params::Params;
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

async fn phones(api: &Api, owner: &Owner) -> Result<Vec<PushToken>, Refusal> {
    let mut all = within(api.notices.subscriptions.list_push_tokens(Some(&owner.name))).await?;
    // What an earlier reader of the name has registered is somebody else's.
    all.retain(|phone| phone.registered_at >= owner.since);
    Ok(all)
}

async fn phone(api: &Api, owner: &Owner, id: &str) -> Result<PushToken, Refusal> {
    let found = phones(api, owner).await?.into_iter().find(|phone| phone.id.to_string() == id);
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
    caller: Caller,
    request: Request,
) -> Result<Response, Refusal> {
    let owner = Owner::of(&api, &caller).await?;
    let (request, sent) = request.into_parts();
    Params::parse(request.uri.query(), &[])?;
    let offer = json_offer(&request)?;
    let sent = body::read(&request.headers, sent, BODY_BYTES_MAX, api.limits.head_timeout).await?;
    let asked: NewJson = body::object(&sent)?;
    let token = DeviceToken::parse(&asked.token).map_err(body::bad)?;
    let app = AppName::parse(&asked.app).map_err(body::bad)?;
    // Clocks of machines differ a little: never before its reader.
    let now = api.clock.now().max(owner.since);
    let phone = token.register(owner.name.clone(), app, asked.server, api.notices.seal()?, now);
    let shown = PushTokenJson::of(&phone);
    within(api.notices.subscriptions.set_push_token(phone)).await?;
    tracing::info!(phone = %shown.id, reader = %owner.name, "phone registered");
    let location = format!("/v1/push-tokens/{}", shown.id);
    Ok(created(Head { offer, tag: None }.with(json(&shown).into()), &location))
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
    caller: Caller,
    request: Parts,
) -> Result<Response, Refusal> {
    let owner = Owner::of(&api, &caller).await?;
    let params = Params::parse(request.uri.query(), &["limit", "cursor"])?;
    let page = IdPage::of(&params, format!("push-tokens|{}", owner.name))?;
    let offer = json_offer(&request)?;
    let mut all = phones(&api, &owner).await?;
    let next_cursor = page.cut(&mut all, |phone| phone.id.0);
    let page = PushTokensJson { next_cursor, push_tokens: all.iter().map(PushTokenJson::of).collect() };
    Ok(tagged(offer, &request, json(&page)))
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
    caller: Caller,
    ItemName(id): ItemName,
    request: Parts,
) -> Result<Response, Refusal> {
    let owner = Owner::of(&api, &caller).await?;
    Params::parse(request.uri.query(), &[])?;
    let offer = json_offer(&request)?;
    let found = phone(&api, &owner, &id).await?;
    Ok(tagged(offer, &request, json(&PushTokenJson::of(&found))))
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
    caller: Caller,
    ItemName(id): ItemName,
    request: Parts,
) -> Result<Response, Refusal> {
    let owner = Owner::of(&api, &caller).await?;
    Params::parse(request.uri.query(), &[])?;
    let found = phone(&api, &owner, &id).await?;
    // Not if somebody registers it just now.
    let removing = api.notices.subscriptions.remove_push_token(found.id, Some(found.registered_at));
    within(removing).await?;
    tracing::info!(phone = %id, reader = %owner.name, "phone removed");
    Ok(nothing())
}
