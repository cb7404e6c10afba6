//! Live streams: `GET /v1/devices/{id}/live` and `GET /v1/live`.
//!
//! [`query`] reads the request, [`scope`] says whose frames are shown, [`follow`] is the task of a stream ([`history`]
//! while it reads that), [`events`] writes, [`body`] is what the connection sends. An event's id is a [`cursor`].

mod body;
mod cursor;
mod events;
mod follow;
mod history;
mod query;
mod scope;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::Scope as Right;
use utoipa::IntoParams;

use super::auth::Caller;
use super::fault::{RETRY_SLOW_AFTER, ReadFault};
use super::media::{EVENT_OFFERS, negotiate};
use super::openapi::schemas::{self, DevicePath};
use super::reads::on_thread;
use super::refusal::Refusal;
use super::routes::DeviceName;
use super::state::Api;
use super::watch::{Watched, watch as watch_rights};
pub(super) use crate::directory::Directory;
use crate::ingest::LEAVE_SPREAD;
use crate::live::{Follower, Live, LiveError, Vector};
use body::live_body;
pub use cursor::BadEventId;
use follow::{At, FIRST_LOOK, Stream};
use query::{Begin, LiveQuery};
use scope::Scope;

/// NGINX passes on what it gets at once.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// When a client may come back to an eater that is emptied, unless it finds another.
const EMPTIED_RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// Where to begin. What is the same in all requests for a stream goes with its event ids.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: LiveQuery reads it")]
struct DeviceLiveParameters {
    /// Only frames of these channels, each 1 to 64 of `A–Z a–z 0–9 . _ - : ~ + @ = /`; several by repeating the parameter
    /// or with commas, 64 at most. Without it, those of all.
    #[param(inline, example = json!(["position"]))]
    channel: Option<schemas::Channels>,
    /// Only frames with `ts` at or after this instant, and those that are stored already first.
    #[param(inline)]
    from: Option<schemas::Instant>,
    /// What a page of `/frames` gave: begin behind it. `from` and `channel` must be the same.
    #[param(inline)]
    cursor: Option<schemas::Cursor>,
    /// `epoch:seq` of a frame: begin behind it. In place of `cursor`, never with it.
    #[param(inline)]
    after: Option<schemas::Place>,
}

/// Whose frames.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: LiveQuery reads it")]
struct LiveParameters {
    /// Only frames of devices in this group. Without it, those of all that the reader may see.
    #[param(inline)]
    group: Option<schemas::GroupName>,
    /// Only frames of these channels, each 1 to 64 of `A–Z a–z 0–9 . _ - : ~ + @ = /`; several by repeating the parameter
    /// or with commas, 64 at most. Without it, those of all.
    #[param(inline, example = json!(["position"]))]
    channel: Option<schemas::Channels>,
}

/// Where to go on.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is only described: LiveQuery reads it")]
struct ResumeHeader {
    /// The id of the last event that came: the stream goes on behind it. Clients of server-sent events send it by
    /// themselves.
    #[param(inline, rename = "Last-Event-ID")]
    last_event_id: Option<schemas::EventId>,
}

/// A device's frames as they become durable.
///
/// Server-sent events: `frame` (with `device`), `gap`, and `end` with a `reason` before the server closes. History comes
/// first, if `from`, `cursor` or `after` asks for it.
#[utoipa::path(
    get, path = "/v1/devices/{id}/live", operation_id = "follow_device", tag = "live",
    security(("reader" = ["frames:read"])),
    params(DevicePath, DeviceLiveParameters, ResumeHeader),
    responses((status = 200, description = "Events, for as long as the client reads", content((String = "text/event-stream"))))
)]
pub(super) async fn device(
    State(api): State<Arc<Api>>,
    caller: Caller,
    DeviceName(device): DeviceName,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Right::FramesRead)?;
    let device = api.auth.device(&caller, &device).await?.id;
    let query = LiveQuery::device(device.clone(), request.uri.query(), &request.headers)?;
    let watched = Watched::Device(device.clone());
    answer(&api, caller, request, query, Scope::Device(device), watched).await
}

/// The frames of many devices as they become durable.
///
/// Those of all devices that the reader may see, or of a group: as a device's, without history.
#[utoipa::path(
    get, path = "/v1/live", operation_id = "follow_devices", tag = "live",
    security(("reader" = ["frames:read"])),
    params(LiveParameters, ResumeHeader),
    responses((status = 200, description = "Events, for as long as the client reads", content((String = "text/event-stream"))))
)]
pub(super) async fn devices(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Right::FramesRead)?;
    let (query, group) = LiveQuery::devices(request.uri.query(), &request.headers)?;
    let (access, directory) = (caller.grant.groups.clone(), api.directory.clone());
    answer(&api, caller, request, query, Scope::Devices { access, group, directory }, Watched::Groups).await
}

async fn answer(
    api: &Arc<Api>,
    caller: Caller,
    request: Parts,
    query: LiveQuery,
    scope: Scope,
    watched: Watched,
) -> Result<Response, Refusal> {
    let offer = negotiate(&request.headers, EVENT_OFFERS)
        .ok_or_else(|| Refusal::not_acceptable(request.headers.get(ACCEPT), EVENT_OFFERS))?;
    let body = match request.method == Method::HEAD {
        true => Body::empty(),
        false => open(api, caller, query, scope, watched).await?,
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, offer.header());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept, authorization"));
    headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
    Ok(response)
}

/// Where a stream begins.
struct Start {
    vector: Vector,
    place: Option<(Epoch, Seq)>,
    in_history: bool,
    /// Everything up to the place was given.
    given: bool,
    at: At,
}

async fn open(
    api: &Arc<Api>,
    caller: Caller,
    query: LiveQuery,
    scope: Scope,
    watched: Watched,
) -> Result<Body, Refusal> {
    if api.shutdown.drain.is_on() {
        let what = "this eater is emptied: connect again, to another".to_owned();
        return Err(Refusal::Busy { what, retry_after: EMPTIED_RETRY_AFTER });
    }
    let permit = api.live_streams.permit()?;
    let live = api.live.clone();
    let mut follower = live.follow();
    let end = follower.end(Instant::now() + FIRST_LOOK).await.ok_or_else(|| unavailable("yet"))?;
    let LiveQuery { filter, begin, fingerprint } = query;
    let start = start(api, &live, &mut follower, begin, scope.device(), end).await?;
    let Start { vector, place, in_history, given, at } = start;
    let reading = in_history.then(|| api.streams.permit()).transpose()?;

    let (revoked, watch, draining) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let limits = (api.limits.live_chunk_bytes, api.limits.live_patience);
    let (writer, body) = live_body(limits, revoked.clone(), watch.clone(), permit);
    let watched = watch_rights(api.auth.clone(), caller, watched, revoked.clone());
    let (shutdown, told) = (api.shutdown.clone(), draining.clone());
    let leaving = async move {
        shutdown.told_to_leave(LEAVE_SPREAD).await;
        told.cancel();
    };
    let both = async move { tokio::join!(watched, leaving) };
    tokio::spawn(async move { watch.run_until_cancelled(both).await }.in_current_span());
    let stream = Stream {
        live,
        follower,
        scope,
        filter,
        fingerprint,
        writer,
        vector,
        place,
        given: place.filter(|_| given).into_iter().collect(),
        in_history,
        reading,
        draining,
        heartbeat_at: Instant::now(),
        api: api.clone(),
    };
    // It ends with its connection, which it notices when it has something to say, and at the next heartbeat at the latest.
    tokio::spawn(async move { revoked.run_until_cancelled(stream.run(at)).await }.in_current_span());
    Ok(Body::new(body))
}

async fn start(
    api: &Arc<Api>,
    live: &Live,
    follower: &mut Follower,
    begin: Begin,
    device: Option<&DeviceId>,
    end: u64,
) -> Result<Start, Refusal> {
    let from = |after| async move {
        let vector = live.source().end().await.map_err(refusal)?;
        Ok(Start { vector, place: after, in_history: true, given: true, at: At::List(end) })
    };
    match begin {
        Begin::Now => {
            // In this order: what it says is in the vector.
            let place = match device {
                Some(device) => newest(api, device).await?,
                None => None,
            };
            let vector = live.source().end().await.map_err(refusal)?;
            Ok(Start { vector, place, in_history: false, given: true, at: At::List(end) })
        }
        Begin::History(after) => from(after).await,
        // Its vector is older than what history gave since, of which only the last number is known: history goes on,
        // up to what is durable now.
        Begin::Event(cursor) if cursor.in_history => from(cursor.place).await,
        Begin::Event(cursor) => {
            let mut walk = live.source().walk(cursor.vector.clone(), device.cloned());
            let end = follower.end(Instant::now() + FIRST_LOOK).await.ok_or_else(|| unavailable("now"))?;
            // It looks through all that came since.
            let first = timeout(api.limits.query_deadline, walk.step(None)).await;
            match first.map_err(|_| Refusal::Deadline { retry_after: RETRY_SLOW_AFTER })? {
                Ok(found) => {
                    let at = At::Walk(Some((walk, end, found)));
                    let (vector, place) = (cursor.vector, cursor.place);
                    Ok(Start { vector, place, in_history: false, given: true, at })
                }
                Err(LiveError::Expired) if device.is_some() => from(cursor.place).await,
                Err(error) => Err(refusal(error)),
            }
        }
    }
}

/// The newest frame of a device.
async fn newest(api: &Arc<Api>, device: &DeviceId) -> Result<Option<(Epoch, Seq)>, Refusal> {
    let (journal, device) = (api.journal.clone(), device.clone());
    let states = on_thread(move || journal.device_states(&[device])).await?;
    let states = states.map_err(|error| ReadFault::from(error).states_refusal())?;
    Ok(states.first().and_then(Option::as_ref).and_then(|state| state.heads.last().copied()))
}

fn refusal(error: LiveError) -> Refusal {
    match error {
        LiveError::Expired => Refusal::CursorExpired,
        LiveError::Read(error) => ReadFault::from(error).states_refusal(),
    }
}

fn unavailable(when: &str) -> Refusal {
    let what = format!("what is new cannot be looked at {when}");
    Refusal::Busy { what, retry_after: std::time::Duration::from_secs(2) }
}
