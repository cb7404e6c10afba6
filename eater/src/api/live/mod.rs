//! Live streams: `GET /v1/devices/{id}/live` and `GET /v1/live`.
//!
//! [`query`] reads the request, [`scope`] says whose frames are shown, [`follow`] is the task of a stream ([`history`]
//! while it reads that, [`show`] for what is committed), [`events`] writes, [`body`] is what the connection sends. An event's
//! id is a [`cursor`]; [`given`] is what a device's stream remembers.

mod body;
mod cursor;
mod events;
mod follow;
mod given;
mod history;
mod query;
mod scope;
mod show;

use std::collections::HashMap;
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
use trough_protocol::DeviceId;
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
use cursor::LiveCursor;
use follow::{At, FIRST_LOOK, Stream};
use given::Given;
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
    /// What is done.
    vector: Vector,
    given: Given,
    in_history: bool,
    /// Of one that comes back to history: where it goes on behind that.
    ahead: Option<Vector>,
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
    let LiveQuery { filter, begin, fingerprint } = query;
    let start = start(api, &live, &mut follower, begin, scope.device()).await?;
    let Start { vector, given, in_history, ahead, at } = start;
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
        given,
        recent: HashMap::new(),
        walks: false,
        in_history,
        ahead,
        reading,
        draining,
        heartbeat_at: Instant::now(),
        told_at: Instant::now(),
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
) -> Result<Start, Refusal> {
    let by = Instant::now() + FIRST_LOOK;
    match begin {
        Begin::Now => {
            // Of many devices all that is durable is done.
            let end = if device.is_some() { follower.end(by).await } else { follower.now(by).await };
            let (end, vector) = end.ok_or_else(|| unavailable("yet"))?;
            // Of one, what is durable now: what is committed meanwhile is told by its numbers.
            let given = match device {
                Some(device) => heads(api, device).await?,
                None => Given::default(),
            };
            Ok(Start { vector, given, in_history: false, ahead: None, at: At::List(end) })
        }
        Begin::History(after) => {
            let (end, vector) = follower.now(by).await.ok_or_else(|| unavailable("yet"))?;
            let given = Given::from_place(after);
            Ok(Start { vector, given, in_history: true, ahead: None, at: At::List(end) })
        }
        Begin::Event(cursor) => {
            let (end, ahead) = follower.now(by).await.ok_or_else(|| unavailable("yet"))?;
            let LiveCursor { vector, given, in_history, .. } = cursor;
            let back = |vector, given| Start {
                vector,
                given,
                in_history: true,
                ahead: Some(ahead),
                at: At::List(end),
            };
            if in_history {
                return Ok(back(vector, given));
            }
            let mut walk = live.source().walk(vector.clone(), device.cloned());
            let first = timeout(api.limits.query_deadline, walk.step(None)).await;
            match first.map_err(|_| Refusal::Deadline { retry_after: RETRY_SLOW_AFTER })? {
                Ok(found) => {
                    let at = At::Walk(Some((walk, end, found)));
                    Ok(Start { vector, given, in_history, ahead: None, at })
                }
                Err(LiveError::Expired) if device.is_some() => Ok(back(vector, given)),
                Err(error) => Err(refusal(error)),
            }
        }
    }
}

/// Up to where a device's numbers are durable. Of older epochs that may be too low.
async fn heads(api: &Arc<Api>, device: &DeviceId) -> Result<Given, Refusal> {
    let (journal, device) = (api.journal.clone(), device.clone());
    let states = on_thread(move || journal.device_states(&[device])).await?;
    let states = states.map_err(|error| ReadFault::from(error).states_refusal())?;
    let state = states.into_iter().next().flatten();
    Ok(Given::from_place(state.into_iter().flat_map(|state| state.heads)))
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
