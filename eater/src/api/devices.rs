//! `GET /v1/devices` and `GET /v1/devices/{id}`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use serde::Serialize;
use serde_json::value::RawValue;
use trough_protocol::DeviceId;
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::FRAME_BYTES_MAX;
use trough_store::{DeviceFilter, DeviceRecord, DeviceState, Group, GroupAccess, Scope};
use utoipa::{IntoParams, ToSchema};

use super::answer::{Head, json_offer};
use super::auth::Caller;
use super::encode::{FrameEncoder, FrameFormat, time_text};
use super::etag::Fingerprint;
use super::fault::ReadFault;
use super::openapi::schemas::{self, DevicePath, Frame};
use super::params::Params;
use super::query::DevicesQuery;
use super::reads::Held;
use super::refusal::Refusal;
use super::routes::DeviceName;
use super::run::BadRun;
use super::state::Api;
use crate::frames::Frames;
use crate::journal::Order;

/// A page of devices.
#[derive(Serialize, ToSchema)]
#[schema(as = DevicesPage)]
struct DevicesJson {
    /// In the order of their ids' bytes.
    devices: Vec<DeviceJson>,
    /// Where the next page begins; `null` if there is none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A device.
#[derive(Serialize, ToSchema)]
#[schema(as = Device)]
struct DeviceJson {
    /// Its id.
    id: String,
    /// Those of its groups that the reader has access to.
    groups: Vec<String>,
    /// Whether it may not connect any more. Its frames stay.
    revoked: bool,
    /// The newest epoch that has frames; 0 if none has.
    epoch: u64,
    /// The highest seq in it that is durable together with all before it.
    head: u64,
    /// How many frames were stored, including those that have expired since.
    frames: u64,
    /// When the server last received a frame of it; `null` if it never has.
    #[schema(required, format = DateTime)]
    last_seen: Option<String>,
    /// The device's own time of its last frame, in microseconds since 1970.
    #[schema(required)]
    last_ts: Option<u64>,
    /// The last frame of each channel, by channel. Absent in lists, and for readers without `frames:read`; `null` if a
    /// frame is damaged.
    #[schema(value_type = Option<Vec<Frame>>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Option<Box<RawValue>>>,
}

impl DeviceJson {
    fn new(record: &DeviceRecord, state: Option<&DeviceState>, access: &GroupAccess) -> Self {
        let head = state.and_then(|state| state.heads.last());
        // Groups that the reader has no access to are none of its business.
        let shown = |group: &&Group| match access {
            GroupAccess::All => true,
            GroupAccess::Only(mine) => mine.contains(*group),
        };
        Self {
            id: record.id.to_string(),
            groups: record.groups.iter().filter(shown).map(ToString::to_string).collect(),
            revoked: record.revoked_at.is_some(),
            epoch: head.map_or(0, |(epoch, _)| epoch.0),
            head: head.map_or(0, |(_, seq)| seq.0),
            frames: state.map_or(0, |state| state.frames),
            last_seen: state.map(|state| time_text(state.last_received)),
            last_ts: state.map(|state| state.last_ts),
            channels: None,
        }
    }
}

/// Which devices there are.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: DevicesQuery reads it")]
struct ListParameters {
    /// Only the devices of one group: its name, 1 to 64 of `A–Z a–z 0–9 . _ - : @`. Without it, those of all your groups.
    #[param(inline)]
    group: Option<schemas::GroupName>,
    /// How many devices at most.
    #[param(inline)]
    limit: Option<schemas::DevicesLimit>,
    /// The `next_cursor` of the page before; the rest of the query must be the same, but for `limit`.
    #[param(inline)]
    cursor: Option<schemas::Cursor>,
}

/// The devices that you may see.
///
/// They come in pages, in the order of their ids' bytes.
#[utoipa::path(
    get, path = "/v1/devices", operation_id = "list_devices", tag = "devices",
    security(("reader" = ["devices:read"])),
    params(ListParameters),
    responses(
        (status = 200, description = "A page of devices", body = DevicesJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::DevicesRead)?;
    let query = DevicesQuery::parse(request.uri.query())?;
    let offer = json_offer(&request.headers)?;
    let access = caller.grant.groups.clone();
    let mut records = match groups_to_list(&access, query.group.as_ref()) {
        Some(groups) if groups.is_empty() => Vec::new(),
        // One more than asked for tells whether there is a next page.
        groups => {
            let filter = DeviceFilter { groups, after: query.after.clone(), limit: query.limit + 1 };
            api.auth.devices(filter).await?
        }
    };
    let more = records.len() > query.limit;
    records.truncate(query.limit);
    let next_cursor = records.last().filter(|_| more).map(|last| query.cursor_after(last.id.clone()));
    let permit = api.pages.permit()?;
    let journal = api.journal.clone();
    let read = api.query(move || {
        let ids: Vec<DeviceId> = records.iter().map(|record| record.id.clone()).collect();
        let states = journal.device_states(&ids).map_err(|error| ReadFault::from(error).states_refusal())?;
        let json = |(record, state): (_, &Option<_>)| DeviceJson::new(record, state.as_ref(), &access);
        let devices = records.iter().zip(&states).map(json).collect();
        let body = DevicesJson { devices, next_cursor };
        Ok::<_, Refusal>((serde_json::to_string(&body).expect("all of it always serialises"), permit))
    });
    let (body, permit) = read.await??;
    let head = Head { offer, tag: Some(Fingerprint::default().text(&body).etag()) };
    Ok(head.unchanged(&request.headers).unwrap_or_else(|| head.with(Held::body(body, permit))))
}

/// The groups whose devices are listed; `None` for all devices. A group that the reader has no access to is as
/// empty as one that does not exist.
fn groups_to_list(access: &GroupAccess, chosen: Option<&Group>) -> Option<BTreeSet<Group>> {
    match (access, chosen) {
        (_, None) => access.as_filter(),
        (GroupAccess::Only(mine), Some(group)) if !mine.contains(group) => Some(BTreeSet::new()),
        (_, Some(group)) => Some(BTreeSet::from([group.clone()])),
    }
}

/// One device, and the last frame of each of its channels.
///
/// A reader without `frames:read` gets no `channels`.
#[utoipa::path(
    get, path = "/v1/devices/{id}", operation_id = "get_device", tag = "devices",
    security(("reader" = ["devices:read"])),
    params(DevicePath),
    responses(
        (status = 200, description = "The device", body = DeviceJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn device(
    State(api): State<Arc<Api>>,
    caller: Caller,
    DeviceName(device): DeviceName,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::DevicesRead)?;
    let record = api.auth.device(&caller, &device).await?;
    Params::parse(request.uri.query(), &[])?;
    let offer = json_offer(&request.headers)?;
    let with_frames = caller.require(Scope::FramesRead).is_ok();
    let permit = api.pages.permit()?;
    let journal = api.journal.clone();
    let read = api.query(move || {
        let states = journal.device_states(std::slice::from_ref(&record.id));
        let states = states.map_err(|error| ReadFault::from(error).states_refusal())?;
        let state = states.first().and_then(Option::as_ref);
        let mut json = DeviceJson::new(&record, state, &caller.grant.groups);
        if with_frames {
            json.channels = Some(last_frames(&*journal, &record.id)?);
        }
        Ok::<_, Refusal>((serde_json::to_string(&json).expect("all of it always serialises"), permit))
    });
    let (body, permit) = read.await??;
    let head = Head { offer, tag: Some(Fingerprint::default().text(&body).etag()) };
    Ok(head.unchanged(&request.headers).unwrap_or_else(|| head.with(Held::body(body, permit))))
}

/// The last frame of each channel, as a JSON array by channel; `None` if one of them is damaged: the rest of the
/// device can be shown all the same.
fn last_frames(journal: &dyn Frames, device: &DeviceId) -> Result<Option<Box<RawValue>>, Refusal> {
    let fault = match encode_last_frames(journal, device) {
        Ok(channels) => return Ok(Some(channels)),
        Err(fault) => fault,
    };
    fault.log(device);
    match fault.refusal(Order::Asc) {
        Refusal::Damaged { .. } => Ok(None),
        refusal => Err(refusal),
    }
}

fn encode_last_frames(journal: &dyn Frames, device: &DeviceId) -> Result<Box<RawValue>, ReadFault> {
    let mut encoder = FrameEncoder::new(FrameFormat::Json, 4096);
    encoder.push_raw(b"[");
    for last in journal.last_per_channel(device)? {
        let frame = FrameRef::decode(&mut &last.bytes[..], FRAME_BYTES_MAX)
            .map_err(|error| BadRun::one(last.epoch, last.seq, error.to_string()))?;
        encoder.begin_run(last.epoch, last.received_at);
        encoder.push(last.seq, &frame);
    }
    encoder.push_raw(b"]");
    let text = String::from_utf8(encoder.take()).expect("the encoder checks that payloads are UTF-8");
    Ok(RawValue::from_string(text).expect("the encoder checks that payloads are JSON"))
}
