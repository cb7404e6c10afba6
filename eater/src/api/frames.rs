//! `GET /v1/devices/{id}/frames` and `GET /v1/frames`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::future::try_join_all;
use http::Method;
use http::header::ACCEPT;
use http::request::Parts;
use trough_store::Scope;
use utoipa::{IntoParams, ToSchema};

use super::answer::Head;
use super::auth::Caller;
use super::encode::{Format, FrameFormat};
use super::etag::ETag;
use super::frames_query::FramesQuery;
use super::media::{FRAME_OFFERS, Offer, negotiate};
use super::openapi::schemas::{self, DevicePath};
use super::paged::paged;
use super::refusal::Refusal;
use super::roster::Roster;
use super::routes::DeviceName;
use super::state::Api;
use super::streamed::streamed;

/// Most devices of an answer that has a tag: each must be asked about.
const TAGGED_DEVICES_MAX: usize = 64;

/// Which frames, and what of them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: FramesQuery reads it")]
struct FramesParameters {
    /// Only frames with `ts` at or after this instant: RFC 3339 with an offset, or microseconds since 1970; from 1970 to
    /// 2255. Without it, from the beginning.
    #[param(inline, example = "2017-03-21T05:00:00Z")]
    from: Option<schemas::Instant>,
    /// Only frames with `ts` before this instant, which is not before `from`; the same forms. Without it, to the end.
    #[param(inline, example = "2017-03-22T05:00:00Z")]
    to: Option<schemas::Instant>,
    /// Only frames of these channels, each 1 to 64 of `A–Z a–z 0–9 . _ - : ~ + @ = /`; several by repeating the parameter
    /// or with commas, 64 at most. Without it, those of all.
    #[param(inline, example = json!(["position"]))]
    channel: Option<schemas::Channels>,
    /// By epoch and seq: `asc` has the oldest frame first, `desc` the newest.
    #[param(inline)]
    order: Option<schemas::Order>,
    /// How many frames or buckets at most. Without it a page of JSON has 1000, and any other format streams all there are.
    #[param(inline, example = 100)]
    limit: Option<schemas::FramesLimit>,
    /// The `next_cursor` or `resume_cursor` of an earlier page; all else but `limit` and `fields` must be the same.
    #[param(inline)]
    cursor: Option<schemas::Cursor>,
    /// Only these of each JSON payload: JSON pointers (RFC 6901), 32 at most, each of at most 256 bytes; several by
    /// repeating the parameter or with commas. Not with `every`.
    #[param(inline, example = json!(["/lat", "/lon"]))]
    fields: Option<schemas::Fields>,
    /// One row for each so long stretch of time that has frames: a whole number and `ms`, `s`, `m`, `h` or `d`, from `1ms`
    /// to `3652d`. With `agg`; not with `fields`, `after` or `order=desc`.
    #[param(inline)]
    every: Option<schemas::Every>,
    /// What is made of the values of a bucket. With `every`, and with `value` unless it is `count`.
    #[param(inline)]
    agg: Option<schemas::Aggregate>,
    /// Where in a payload the value is: a JSON pointer. With `every`.
    #[param(inline)]
    value: Option<schemas::Pointer>,
}

/// Where to go on, of one device.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: FramesQuery reads it")]
struct PlaceParameter {
    /// `epoch:seq` of a frame: go on behind it, in the given order. In place of `cursor`, never with it.
    #[param(inline)]
    after: Option<schemas::Place>,
}

/// Whose frames.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: FramesQuery reads it")]
struct WhoseParameters {
    /// Only frames of these devices; several by repeating the parameter or with commas, 1000 at most. Without it, those of
    /// all that the reader may see.
    #[param(inline, example = json!(["bus-2301"]))]
    device: Option<schemas::Devices>,
    /// Only frames of devices in this group.
    #[param(inline)]
    group: Option<schemas::GroupName>,
    /// `device:epoch:seq` of a frame: go on behind it, in the given order. In place of `cursor`, never with it.
    #[param(inline)]
    after: Option<schemas::PlaceOfMany>,
}

/// A page of frames. It may have fewer than `limit`, even none, and still a next one: go by `next_cursor`.
#[derive(ToSchema)]
#[schema(as = FramesPage)]
#[expect(dead_code, reason = "it is only described: pages are written by hand")]
struct FramesJson {
    /// The device's id; absent where frames are those of many.
    #[schema(nullable = false)]
    device: Option<String>,
    /// In the order that was asked for.
    frames: Vec<schemas::Frame>,
    /// Where the next page begins; `null` if there is nothing more just now.
    #[schema(required)]
    next_cursor: Option<String>,
    /// Where whatever is added later begins; only of one device, with `order=asc`.
    #[schema(nullable = false)]
    resume_cursor: Option<String>,
}

/// A page of buckets.
#[derive(ToSchema)]
#[schema(as = BucketsPage)]
#[expect(dead_code, reason = "it is only described: pages are written by hand")]
struct BucketsJson {
    /// The device's id; absent where buckets are those of many.
    #[schema(nullable = false)]
    device: Option<String>,
    /// Those with frames, by time; of many devices, one device after another.
    buckets: Vec<schemas::Bucket>,
    /// Where the next page begins; `null` if there is none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Frames, or buckets if `every` is given.
#[derive(ToSchema)]
#[schema(as = FramesOrBucketsPage)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is only described: pages are written by hand")]
enum PageJson {
    Frames(FramesJson),
    Buckets(BucketsJson),
}

/// The frames of a device.
///
/// JSON comes in pages. All other formats do too, if there is a `limit`; without one they stream everything that is
/// durable: NDJSON (one frame a line), CSV (RFC 4180, with a header line), Parquet and Arrow's IPC stream (the columns of
/// segments). A stream that cannot be finished is broken off without the final chunk; go on with `after`.
#[utoipa::path(
    get, path = "/v1/devices/{id}/frames", operation_id = "list_frames", tag = "frames",
    security(("reader" = ["frames:read"])),
    params(DevicePath, FramesParameters, PlaceParameter),
    responses(
        (status = 200, description = "Frames, or buckets", content(
            (PageJson = "application/json"), (Vec<schemas::Line> = "application/x-ndjson"), (String = "text/csv"),
            (Vec<schemas::Line> = "application/ndjson"), (Vec<schemas::Line> = "application/jsonl"),
            (String = "application/vnd.apache.parquet"), (String = "application/vnd.apache.arrow.stream"),
        ), headers(("Link" = String, description = "With `rel=\"next\"`: the next page, if there is one"))),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn frames(
    State(api): State<Arc<Api>>,
    caller: Caller,
    DeviceName(device): DeviceName,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::FramesRead)?;
    let device = api.auth.device(&caller, &device).await?.id;
    let query = FramesQuery::parse(device, request.uri.query())?;
    answer(&api, caller, query, &request).await
}

/// Frames of many devices.
///
/// One device after another in the order of their ids, and the frames of each by epoch and seq, with `device` in each. As
/// those of one device in all else, but answers of more than 64 devices have no `ETag`.
#[utoipa::path(
    get, path = "/v1/frames", operation_id = "list_frames_of_many", tag = "frames",
    security(("reader" = ["frames:read"])),
    params(FramesParameters, WhoseParameters),
    responses(
        (status = 200, description = "Frames, or buckets", content(
            (PageJson = "application/json"), (Vec<schemas::Line> = "application/x-ndjson"), (String = "text/csv"),
            (Vec<schemas::Line> = "application/ndjson"), (Vec<schemas::Line> = "application/jsonl"),
            (String = "application/vnd.apache.parquet"), (String = "application/vnd.apache.arrow.stream"),
        ), headers(("Link" = String, description = "With `rel=\"next\"`: the next page, if there is one"))),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn frames_of_many(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::FramesRead)?;
    let query = FramesQuery::parse_many(request.uri.query())?;
    answer(&api, caller, query, &request).await
}

/// Answers a page; or, in a format without an envelope and with no limit given, everything there is.
async fn answer(
    api: &Arc<Api>,
    caller: Caller,
    query: FramesQuery,
    request: &Parts,
) -> Result<Response, Refusal> {
    let offer = negotiate(&request.headers, FRAME_OFFERS)
        .ok_or_else(|| Refusal::not_acceptable(request.headers.get(ACCEPT), FRAME_OFFERS))?;
    let roster = Roster::begin(api.auth.clone(), caller.clone(), &query).await?;
    let head = Head { offer, tag: tag(api, &query, &roster, offer).await? };
    if let Some(unchanged) = head.unchanged(&request.headers) {
        return Ok(unchanged);
    }
    if query.limit.is_some() || offer.format == Format::Text(FrameFormat::Json) {
        paged(api, query, roster, &head, request.uri.query().unwrap_or_default()).await
    } else if request.method == Method::HEAD {
        Ok(head.with(Body::empty()))
    } else {
        streamed(api, caller, query, roster, &head).await
    }
}

/// Asked for before anything is read, so that the tag is never newer than the frames. An answer of more devices than
/// [`TAGGED_DEVICES_MAX`] has none.
async fn tag(
    api: &Api,
    query: &FramesQuery,
    roster: &Roster,
    offer: &Offer,
) -> Result<Option<ETag>, Refusal> {
    let Some(devices) = roster.all(TAGGED_DEVICES_MAX) else { return Ok(None) };
    let devices: Vec<_> = devices.collect();
    let generations = try_join_all(devices.iter().map(|device| api.generation(device))).await?;
    let mut identity = query.identity().text(offer.content_type);
    for (device, generation) in devices.iter().zip(generations) {
        identity = identity.text(device.as_str()).number(generation);
    }
    Ok(Some(identity.etag()))
}
