//! `GET /v1/devices/{id}/frames`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{ACCEPT, LINK};
use http::request::Parts;
use http::{HeaderValue, Method};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use trough_protocol::{Epoch, Seq};
use trough_store::Scope;
use utoipa::{IntoParams, ToSchema};

use super::answer::Head;
use super::auth::Caller;
use super::encode::{FrameEncoder, FrameFormat, push_json_string};
use super::media::{FRAME_OFFERS, negotiate};
use super::openapi::schemas::{self, DevicePath};
use super::page::{Page, PageBounds, read_page};
use super::query::{FramesQuery, PAGE_DEFAULT};
use super::reads::{Held, on_thread};
use super::refusal::Refusal;
use super::routes::DeviceName;
use super::state::Api;
use super::stream::{Ended, stream};
use super::watch::watch_rights;
use crate::frames::{Chunks, Frames};
use crate::journal::Order;

/// How long an answer waits for its first frames, to say with a status that they cannot be read.
const BEGIN_WAIT: Duration = Duration::from_secs(2);

/// Which frames of a device, and how many.
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
    /// How many frames at most. Without it a page of JSON has 1000, and any other format streams all there are.
    #[param(inline, example = 100)]
    limit: Option<schemas::FramesLimit>,
    /// The `next_cursor` or `resume_cursor` of an earlier page; `from`, `to`, `channel` and `order` must be the same.
    #[param(inline)]
    cursor: Option<schemas::Cursor>,
    /// `epoch:seq` of a frame: go on behind it, in the given order. In place of `cursor`, never with it.
    #[param(inline)]
    after: Option<schemas::Place>,
}

/// A page of frames. It may have fewer than `limit`, even none, and still a next one: go by `next_cursor`.
#[derive(ToSchema)]
#[schema(as = FramesPage)]
#[expect(dead_code, reason = "it is only described: pages are written by hand")]
struct FramesJson {
    /// The device's id.
    device: String,
    /// In the order that was asked for.
    frames: Vec<schemas::Frame>,
    /// Where the next page begins; `null` if there is nothing more just now.
    #[schema(required)]
    next_cursor: Option<String>,
    /// Where whatever is added later begins; only with `order=asc`.
    #[schema(nullable = false)]
    resume_cursor: Option<String>,
}

/// The frames of a device.
///
/// JSON comes in pages. NDJSON (one frame a line) and CSV (RFC 4180, with a header line) do too, if there is a `limit`;
/// without one they stream everything that is durable. A stream that cannot be finished is broken off without the final
/// chunk; go on with `after`.
#[utoipa::path(
    get, path = "/v1/devices/{id}/frames", operation_id = "list_frames", tag = "frames",
    security(("reader" = ["frames:read"])),
    params(DevicePath, FramesParameters),
    responses(
        (status = 200, description = "Frames", content(
            (FramesJson = "application/json"), (Vec<schemas::Frame> = "application/x-ndjson"), (String = "text/csv"),
            (Vec<schemas::Frame> = "application/ndjson"), (Vec<schemas::Frame> = "application/jsonl"),
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
    let offer = negotiate(&request.headers, FRAME_OFFERS)
        .ok_or_else(|| Refusal::not_acceptable(request.headers.get(ACCEPT), FRAME_OFFERS))?;
    // Asked before anything is read, so that the tag is never newer than the frames.
    let generation = api.generation(&query.device).await?;
    let tag = query.identity().text(offer.content_type).number(generation).etag();
    let head = Head { offer, tag };
    if let Some(unchanged) = head.unchanged(&request.headers) {
        return Ok(unchanged);
    }
    if query.limit.is_some() || offer.format == FrameFormat::Json {
        paged(&api, query, &head, request.uri.query().unwrap_or_default()).await
    } else if request.method == Method::HEAD {
        Ok(head.with(Body::empty()))
    } else {
        streamed(&api, caller, query, &head).await
    }
}

fn scan(journal: &dyn Frames, query: &FramesQuery) -> std::iter::Flatten<std::option::IntoIter<Chunks>> {
    let range = query.scan_range();
    range.map(|range| journal.scan(&query.device, range)).into_iter().flatten()
}

async fn paged(
    api: &Arc<Api>,
    query: FramesQuery,
    head: &Head,
    query_string: &str,
) -> Result<Response, Refusal> {
    let permit = api.pages.permit()?;
    let bounds = PageBounds {
        frames: query.limit.unwrap_or(PAGE_DEFAULT),
        page_bytes: api.limits.page_bytes,
        read_bytes: api.limits.page_read_bytes,
        peek_bytes: api.limits.page_read_bytes / 64,
    };
    let (journal, format) = (api.journal.clone(), head.offer.format);
    let read = move || {
        let mut encoder = FrameEncoder::new(format, 4096);
        begin_envelope(&mut encoder, &query, format);
        let page = read_page(scan(&*journal, &query), &query, &mut encoder, bounds);
        let page = page.inspect_err(|fault| fault.log(&query.device)).map_err(|f| f.refusal(query.order))?;
        end_envelope(&mut encoder, &page, &query, format);
        Ok::<_, Refusal>((page, encoder.take(), query, permit))
    };
    let (page, bytes, query, permit) = on_thread(read).await??;
    api.metrics.frames.inc_by(page.frames);
    let mut response = head.with(Held::body(bytes, permit));
    if let Some(next) = next_cursor(&page, &query) {
        let link = link_to_next(&query, query_string, &next);
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

/// `{"device":"bus-1","frames":[`
fn begin_envelope(encoder: &mut FrameEncoder, query: &FramesQuery, format: FrameFormat) {
    if format != FrameFormat::Json {
        return;
    }
    let mut text = b"{\"device\":".to_vec();
    push_json_string(&mut text, query.device.as_str());
    text.extend_from_slice(b",\"frames\":[\n");
    encoder.push_raw(&text);
}

/// `],"next_cursor":"…","resume_cursor":"…"}`
fn end_envelope(encoder: &mut FrameEncoder, page: &Page, query: &FramesQuery, format: FrameFormat) {
    if format != FrameFormat::Json {
        return;
    }
    // Cursors are base64url: nothing to escape.
    let quoted = |cursor: Option<String>| cursor.map_or("null".to_owned(), |cursor| format!("\"{cursor}\""));
    let mut text = format!("\n],\"next_cursor\":{}", quoted(next_cursor(page, query)));
    if query.order == Order::Asc {
        let end = page.end.unwrap_or((Epoch::NONE, Seq::ZERO));
        text.push_str(&format!(",\"resume_cursor\":\"{}\"", query.cursor_after(end)));
    }
    text.push_str("}\n");
    encoder.push_raw(text.as_bytes());
}

fn next_cursor(page: &Page, query: &FramesQuery) -> Option<String> {
    page.end.filter(|_| page.more).map(|end| query.cursor_after(end))
}

/// The same request with the next cursor (RFC 8288).
fn link_to_next(query: &FramesQuery, query_string: &str, cursor: &str) -> HeaderValue {
    let kept = query_string.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !matches!(name, "" | "cursor" | "after")
    });
    let kept: String = kept.flat_map(|pair| [pair, "&"]).collect();
    let link = format!("</v1/devices/{}/frames?{kept}cursor={cursor}>; rel=\"next\"", query.device);
    HeaderValue::try_from(link).expect("a query string that hyper accepted is visible ASCII")
}

async fn streamed(
    api: &Arc<Api>,
    caller: Caller,
    query: FramesQuery,
    head: &Head,
) -> Result<Response, Refusal> {
    let permit = api.streams.permit()?;
    let (revoked, watch) = (CancellationToken::new(), CancellationToken::new());
    let (writer, mut body) = stream(api.limits.chunk_bytes, revoked.clone(), watch.clone(), permit);
    let watched = watch_rights(api.auth.clone(), caller, query.device.clone(), revoked);
    tokio::spawn(async move { watch.run_until_cancelled(watched).await }.in_current_span());
    let (journal, metrics, format) = (api.journal.clone(), api.metrics.clone(), head.offer.format);
    let (chunk_bytes, span) = (api.limits.chunk_bytes, tracing::Span::current());
    tokio::task::spawn_blocking(move || {
        let _request = span.entered();
        // A little more than a chunk, so that the frame that completes it rarely makes the buffer grow.
        let encoder = FrameEncoder::new(format, chunk_bytes + chunk_bytes / 8);
        match writer.run(scan(&*journal, &query), &query, encoder, &metrics.frames) {
            Ok(Ended::Complete | Ended::ClientGone) => {}
            Err(fault) => fault.log(&query.device),
        }
    });
    body.begin(BEGIN_WAIT).await?;
    Ok(head.with(Body::new(body)))
}
