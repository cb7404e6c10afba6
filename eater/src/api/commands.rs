//! `/v1/devices/{id}/commands`: what devices are asked to do.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::header::LOCATION;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use trough_bus::Deployment;
use trough_bus::devices::{TOPIC_COMMANDS, ring};
use trough_protocol::device::CommandId;
use trough_protocol::device::json::payload_members;
use trough_protocol::{ContentType, DeviceId};
use trough_store::commands::{CommandPayload, CommandPlace, CommandRecord, NewCommand};
use trough_store::{CommandError, Commands, Scope};
use utoipa::{IntoParams, ToSchema};

use super::answer::JsonAnswer;
use super::auth::Caller;
use super::body::{BODY_BYTES_MAX, Sent};
use super::commands_body;
use super::commands_query::CommandsQuery;
use super::encode::time_text;
use super::openapi::schemas::{self, DevicePath};
use super::params::Params;
use super::patience::within;
use super::refusal::Refusal;
use super::routes::{CommandName, DeviceName};
use super::state::Api;

/// Where commands are made, and who is told.
#[derive(Clone)]
pub struct CommandDesk {
    /// Where they are kept.
    pub store: Arc<dyn Commands>,
    /// Where those who send them hear of new ones; without it they look, now and then.
    pub bus: Option<Deployment>,
}

impl CommandDesk {
    /// Tells whoever has the device's session. Nobody waits for it: it is a doorbell.
    fn ring(&self, device: DeviceId) {
        let Some(bus) = self.bus.clone() else { return };
        tokio::spawn(async move {
            if let Err(error) = ring(&bus, TOPIC_COMMANDS, &[device]).await {
                tracing::debug!(%error, "a command is found a little later");
            }
        });
    }
}

/// A payload: exactly one of `json`, `text`, or `b64` with `content_type`.
#[derive(ToSchema)]
#[schema(as = CommandPayload)]
#[expect(dead_code, reason = "it is only described: payloads are written by hand")]
struct PayloadJson {
    /// `application/json`, byte for byte as it was sent.
    json: Option<serde_json::Value>,
    /// `text/plain; charset=utf-8`.
    #[schema(nullable = false)]
    text: Option<String>,
    /// What `b64` is.
    #[schema(nullable = false)]
    content_type: Option<String>,
    /// Anything else, in base64 (RFC 4648, with padding).
    #[schema(nullable = false)]
    b64: Option<String>,
}

/// A command, and what became of it. The payload is in exactly one of `json`, `text`, or `b64` with `content_type`.
#[derive(ToSchema)]
#[schema(as = Command)]
#[expect(dead_code, reason = "it is only described: commands are written by hand")]
struct CommandJson {
    /// A UUID of version 7.
    id: String,
    /// To whom.
    device: String,
    /// `queued`: no session was given it. `sent`: a session was; the device may have it. `acknowledged`: the device did it.
    /// `rejected`: the device did not. `expired`, `cancelled`: it is not sent any more.
    #[schema(pattern = "^(queued|sent|acknowledged|rejected|expired|cancelled)$")]
    state: String,
    /// The payload, if it is `application/json`.
    json: Option<serde_json::Value>,
    /// The payload, if it is `text/plain; charset=utf-8`.
    #[schema(nullable = false)]
    text: Option<String>,
    /// What the payload in `b64` is.
    #[schema(nullable = false)]
    content_type: Option<String>,
    /// Any other payload, in base64 (RFC 4648, with padding).
    #[schema(nullable = false)]
    b64: Option<String>,
    /// Who made it.
    made_by: String,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
    /// It is not sent after this time.
    #[schema(format = DateTime)]
    expires_at: String,
    /// How often a session was given it.
    sends: u32,
    /// When last.
    #[schema(required, format = DateTime)]
    sent_at: Option<String>,
    /// Since when nothing more is sent.
    #[schema(required, format = DateTime)]
    finished_at: Option<String>,
    /// What the device said of it.
    #[schema(required)]
    result: Option<PayloadJson>,
}

/// A page of commands.
#[derive(ToSchema)]
#[schema(as = CommandsPage)]
#[expect(dead_code, reason = "it is only described: commands are written by hand")]
struct CommandsJson {
    /// The newest first.
    commands: Vec<CommandJson>,
    /// Where the next page begins; `null` if there is none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// What a device is asked to do: exactly one of `json`, `text`, and `b64` that may have a `content_type`; at most 16 KiB.
#[derive(ToSchema)]
#[schema(as = NewCommand, example = json!({"json": {"lock": true}, "expires_in": 600}))]
#[expect(dead_code, reason = "it is only described: commands_body reads it")]
struct NewCommandJson {
    /// Any JSON value. The device gets it byte for byte.
    json: Option<serde_json::Value>,
    /// Text.
    #[schema(nullable = false)]
    text: Option<String>,
    /// Bytes, in base64 (RFC 4648, with padding).
    #[schema(nullable = false)]
    b64: Option<String>,
    /// What `b64` is; `application/octet-stream` unless it is said.
    #[schema(nullable = false)]
    content_type: Option<String>,
    /// For how many seconds it is good; an hour unless it is said.
    #[schema(nullable = false, minimum = 1, maximum = 2_592_000)]
    expires_in: Option<u64>,
    /// Until when instead: RFC 3339, or microseconds since 1970.
    #[schema(nullable = false, value_type = Option<schemas::Instant>)]
    expires_at: Option<String>,
}

/// Which commands.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: CommandsQuery reads it")]
struct ListParameters {
    /// Only those in this state.
    #[param(inline)]
    state: Option<schemas::CommandState>,
    /// How many commands at most.
    #[param(inline)]
    limit: Option<schemas::CommandsLimit>,
    /// The `next_cursor` of the page before; `state` must be the same.
    #[param(inline)]
    cursor: Option<schemas::Cursor>,
}

/// The command in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is only described")]
struct CommandPath {
    /// The command's id.
    #[param(inline, example = "018bcfe5-6800-7000-8000-000000000000")]
    command: schemas::Command,
}

/// How often a request may be repeated.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is only described: body reads it")]
pub(super) struct KeyHeader {
    /// A request with the key of an earlier one, to the same device and with the same content, gets what was made then.
    /// 1 to 64 visible ASCII characters.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 64,
        pattern = "^[!-~]+$"
    )]
    idempotency_key: Option<String>,
}

/// Ask a device to do something.
///
/// It is sent when the device is connected, and again until the device has answered, or its time is over: at least once,
/// with the same id. A device whose program takes no commands, or that streams in raw mode, gets none.
#[utoipa::path(
    post, path = "/v1/devices/{id}/commands", operation_id = "send_command", tag = "commands",
    security(("reader" = ["commands:send"])),
    params(DevicePath, KeyHeader),
    request_body(content = NewCommandJson, content_type = "application/json"),
    responses(
        (status = 201, description = "The command, which was made", body = CommandJson),
        (status = 200, description = "The command, which was made by an earlier request with this key",
            body = CommandJson),
    )
)]
pub(super) async fn send(
    State(api): State<Arc<Api>>,
    caller: Caller,
    DeviceName(device): DeviceName,
    request: Parts,
    sent: Sent,
) -> Result<Response, Refusal> {
    caller.require(Scope::CommandsSend)?;
    let device = api.auth.device(&caller, &device).await?.id;
    Params::parse(request.uri.query(), &[])?;
    let answer = JsonAnswer::to(request.headers)?;
    let key = sent.key()?;
    let body = sent.bytes(BODY_BYTES_MAX).await?;
    let asked = commands_body::parse(&body, api.clock.now())?;
    let command = NewCommand {
        device: device.clone(),
        payload: asked.payload,
        expires_at: asked.expires_at,
        key,
        made_by: format!("reader {}", caller.grant.name),
    };
    let added = within(api.commands.store.add_command(command)).await?;
    let mut response = answer.untagged(command_json(&added.record));
    if added.is_new {
        api.commands.ring(device.clone());
        *response.status_mut() = StatusCode::CREATED;
    }
    let location = format!("/v1/devices/{device}/commands/{}", added.record.id);
    let location = HeaderValue::try_from(location).expect("ids of devices and commands are visible ASCII");
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// What a device was asked to do, the newest first.
///
/// Finished commands are remembered for 7 days.
#[utoipa::path(
    get, path = "/v1/devices/{id}/commands", operation_id = "list_commands", tag = "commands",
    security(("reader" = ["devices:read"])),
    params(DevicePath, ListParameters),
    responses(
        (status = 200, description = "A page of commands", body = CommandsJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    DeviceName(device): DeviceName,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::DevicesRead)?;
    let device = api.auth.device(&caller, &device).await?.id;
    let query = CommandsQuery::parse(device, request.uri.query())?;
    let answer = JsonAnswer::to(request.headers)?;
    let found = api.commands.store.list_commands(query.filter());
    let mut found = within(found).await?;
    let more = found.len() > query.limit;
    found.truncate(query.limit);
    let cursor = found.last().filter(|_| more).map(|last| query.cursor_after(last.id));
    let cursor = cursor.map_or("null".to_owned(), |cursor| format!("\"{cursor}\""));
    let commands: Vec<String> = found.iter().map(command_json).collect();
    let body = format!("{{\"commands\":[{}],\"next_cursor\":{cursor}}}", commands.join(","));
    Ok(answer.tagged(body))
}

/// One command, and what became of it.
#[utoipa::path(
    get, path = "/v1/devices/{id}/commands/{command}", operation_id = "get_command", tag = "commands",
    security(("reader" = ["devices:read"])),
    params(DevicePath, CommandPath),
    responses(
        (status = 200, description = "The command", body = CommandJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: CommandName,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::DevicesRead)?;
    let (place, answer) = named(&api, &caller, name, request).await?;
    let record = within(api.commands.store.get_command(&place)).await?;
    Ok(answer.tagged(command_json(&record)))
}

/// Take a command back.
///
/// It is not sent any more. One that was sent already may be done all the same, and says so then.
#[utoipa::path(
    delete, path = "/v1/devices/{id}/commands/{command}", operation_id = "cancel_command", tag = "commands",
    security(("reader" = ["commands:send"])),
    params(DevicePath, CommandPath),
    responses((status = 200, description = "The command, which is cancelled", body = CommandJson))
)]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: CommandName,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::CommandsSend)?;
    let (place, answer) = named(&api, &caller, name, request).await?;
    let record = within(api.commands.store.cancel_command(&place)).await?;
    tracing::info!(
        command = %record.id,
        device = %record.device,
        made_by = %record.made_by,
        state = record.state.as_str(),
        sends = record.sends,
        reader = %caller.grant.name,
        "command ended"
    );
    Ok(answer.untagged(command_json(&record)))
}

/// The command in a path, of a device that the caller sees; and how a request is answered that takes nothing else.
async fn named(
    api: &Api,
    caller: &Caller,
    CommandName(device, command): CommandName,
    request: Parts,
) -> Result<(CommandPlace, JsonAnswer), Refusal> {
    let device = api.auth.device(caller, &device).await?.id;
    Params::parse(request.uri.query(), &[])?;
    let answer = JsonAnswer::to(request.headers)?;
    Ok((CommandPlace { device, id: command_id(&command)? }, answer))
}

/// What is no id is no command's either.
fn command_id(text: &str) -> Result<CommandId, Refusal> {
    let none = CommandId([0; 16]);
    text.parse().map_err(|_| Refusal::Command(CommandError::NotFound(none)))
}

/// A command as a JSON object.
fn command_json(record: &CommandRecord) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string is always JSON");
    let time = |at: Option<u64>| at.map_or("null".to_owned(), |at| quoted(&time_text(at)));
    let result = match &record.result {
        None => "null".to_owned(),
        Some(result) => format!("{{{}}}", members(result)),
    };
    format!(
        "{{\"id\":\"{}\",\"device\":{},\"state\":\"{}\",{},\"made_by\":{},\"created_at\":{},\"expires_at\":{},\
         \"sends\":{},\"sent_at\":{},\"finished_at\":{},\"result\":{result}}}",
        record.id,
        quoted(record.device.as_str()),
        record.state,
        members(&record.payload),
        quoted(&record.made_by),
        time(Some(record.created_at)),
        time(Some(record.expires_at)),
        record.sends,
        time(record.sent_at),
        time(record.finished_at),
    )
}

fn members(payload: &CommandPayload) -> String {
    let content_type = ContentType::parse(&payload.content_type).unwrap_or(ContentType::Bytes);
    payload_members(content_type, &payload.bytes)
}
