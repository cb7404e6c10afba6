//! `/v1/events`: what happened.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use serde::Serialize;
use trough_protocol::{DeviceId, Micros};
use trough_store::outbox::{DEVICES_LISTED_MAX, EventFilter};
use trough_store::{DeviceFilter, EventId, EventKind, Group, Scope};
use utoipa::{IntoParams, ToSchema};

use super::answer::{JsonAnswer, json};
use super::auth::Caller;
use super::event_json::EnteredJson;
use super::mark;
use super::openapi::schemas;
use super::params::{BadParameter, Params};
use super::patience::within;
use super::refusal::Refusal;
use super::sight::Sight;
use super::state::Api;

/// A page of events.
#[derive(Serialize, ToSchema)]
#[schema(as = EventsPage)]
struct EventsJson {
    /// The newest first, by when they were entered.
    events: Vec<EnteredJson>,
    /// Where the next page begins; `null` if there is none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: EventsQuery reads it")]
struct ListParameters {
    /// Only of this device.
    #[param(inline)]
    device: Option<schemas::Device>,
    /// Only of devices that are in this group now. Not with `device`.
    #[param(inline)]
    group: Option<schemas::GroupName>,
    /// Only of this kind.
    #[param(inline)]
    kind: Option<schemas::EventKind>,
    /// Only those that were entered at or after this time.
    #[param(inline)]
    from: Option<schemas::Instant>,
    /// Only those that were entered before this time.
    #[param(inline)]
    to: Option<schemas::Instant>,
    /// How many at most.
    #[param(inline)]
    limit: Option<schemas::ItemsLimit>,
    /// The `next_cursor` of the page before; all else must be the same.
    #[param(inline)]
    cursor: Option<schemas::Cursor>,
}

/// What a request asks for.
#[derive(Debug)]
struct EventsQuery {
    device: Option<String>,
    group: Option<Group>,
    kind: Option<EventKind>,
    from: Option<Micros>,
    limit: usize,
    before: Option<(Micros, EventId)>,
    /// What a cursor belongs to.
    text: String,
}

impl EventsQuery {
    fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let params = Params::parse(query, &["device", "group", "kind", "from", "to", "limit", "cursor"])?;
        let (device, group) = (params.one("device")?, params.one("group")?);
        if device.is_some() && group.is_some() {
            return Err(BadParameter::Exclusive { first: "device", second: "group" }.into());
        }
        let group = group.map(|name| {
            let accepted = "a group's name: 1 to 64 of A–Z a–z 0–9 . _ - : @";
            Group::new(name).map_err(|_| BadParameter::value("group", name, accepted))
        });
        let kind = params.one("kind")?.map(|name| {
            let known = || EventKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
            name.parse::<EventKind>().map_err(|_| BadParameter::value("kind", name, known()))
        });
        let (group, kind) = (group.transpose()?, kind.transpose()?);
        let (from, to) = (params.instant("from")?, params.instant("to")?);
        let limit = params.items()?;
        let device = device.map(ToOwned::to_owned);
        let text = format!("events|{device:?}|{group:?}|{kind:?}|{from:?}|{to:?}");
        let cursor = params.one("cursor")?.map(|cursor| mark::read_timed(&text, cursor)).transpose()?;
        // No id is below this one.
        let end = to.map(|to| (to, EventId([0; 16])));
        let before = cursor.map(|(at, id)| (at, EventId(id))).or(end);
        Ok(Self { device, group, kind, from, limit, before, text })
    }
}

/// What happened, the newest first.
///
/// Of devices that you see. What is about no device (`retention.run`) is for those who see every one. Events are forgotten
/// after 7 days.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "list_events", tag = "events",
    security(("reader" = ["frames:read"])),
    params(ListParameters),
    responses(
        (status = 200, description = "A page of events", body = EventsJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::FramesRead)?;
    let query = EventsQuery::parse(request.uri.query())?;
    let answer = JsonAnswer::to(request.headers)?;
    let _permit = api.pages.permit()?;
    let devices = devices(&api, &caller, &query).await?;
    let filter = EventFilter { devices, kind: query.kind, before: query.before, limit: query.limit + 1 };
    let mut found = within(api.notices.outbox.list_events(filter)).await?;
    found.retain(|one| query.from.is_none_or(|from| one.entered_at >= from));
    let more = found.len() > query.limit;
    found.truncate(query.limit);
    let last = found.last().filter(|_| more);
    let next_cursor = last.map(|last| mark::write_timed(&query.text, last.entered_at, last.event.id.0));
    let events = found.iter().map(EnteredJson::of).collect();
    Ok(answer.tagged(json(&EventsJson { events, next_cursor })))
}

/// Whose events: `None` for those of everything.
async fn devices(api: &Api, caller: &Caller, query: &EventsQuery) -> Result<Option<Vec<DeviceId>>, Refusal> {
    if let Some(device) = &query.device {
        return Ok(Some(vec![api.auth.device(caller, device).await?.id]));
    }
    let sight = Sight::new(&api.auth, caller);
    let groups = match &query.group {
        None if sight.is_whole() => return Ok(None),
        None => caller.grant.groups.as_filter(),
        Some(group) if sight.has(group) => Some([group.clone()].into()),
        // A group that the reader has no access to is as empty as one that does not exist.
        Some(_) => return Ok(Some(Vec::new())),
    };
    let filter = DeviceFilter { groups, limit: DEVICES_LISTED_MAX + 1, ..DeviceFilter::default() };
    let found = api.auth.devices(filter).await?;
    if found.len() > DEVICES_LISTED_MAX {
        let what = format!("these are more than {DEVICES_LISTED_MAX} devices");
        return Err(BadParameter::TooMuch { what, remedy: "device, or a smaller group" }.into());
    }
    Ok(Some(found.into_iter().map(|record| record.id).collect()))
}
