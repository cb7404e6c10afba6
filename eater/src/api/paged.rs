//! An answer that is a page: read whole, then sent.

use std::sync::Arc;

use axum::response::Response;
use http::HeaderValue;
use http::header::LINK;
use tokio::time::Instant;
use trough_protocol::{Epoch, Seq};

use super::answer::Head;
use super::encode::{Format, FrameFormat, FrameWriter, RowWriter, push_json_string};
use super::frames_query::{FramesQuery, Place, Whose};
use super::page::{FaultOf, PageBounds, read_page};
use super::query::PAGE_DEFAULT;
use super::reads::Held;
use super::refusal::Refusal;
use super::roster::Roster;
use super::rows::{RowBounds, Source};
use super::state::{Api, ApiLimits};
use super::walk::Walk;
use crate::frames::AnyJournal;
use crate::journal::Order;

/// What was read.
struct Read {
    bytes: Vec<u8>,
    frames: u64,
    next_cursor: Option<String>,
}

/// Answers a page of frames, or of rows.
pub(super) async fn paged(
    api: &Arc<Api>,
    query: FramesQuery,
    roster: Roster,
    head: &Head,
    query_string: &str,
) -> Result<Response, Refusal> {
    let permit = api.pages.permit()?;
    let (journal, format, limits) = (api.journal.clone(), head.offer.format, api.limits.clone());
    let read = move || {
        let read = match &query.downsample {
            None => read_frames(journal, &query, roster, format, &limits),
            Some(_) => read_rows(&journal, &query, roster, format, &limits),
        };
        let read = read.map_err(|(fault, device)| {
            fault.log_of(device.as_ref());
            fault.refusal_of(&query, device.as_ref())
        })?;
        Ok::<_, Refusal>((read, query, permit))
    };
    let (read, query, permit) = api.query(read).await??;
    api.metrics.frames.inc_by(read.frames);
    let mut response = head.with(Held::body(read.bytes, permit));
    if let Some(next) = read.next_cursor {
        response.headers_mut().insert(LINK, link_to_next(&query, query_string, &next));
    }
    Ok(response)
}

fn read_frames(
    journal: AnyJournal,
    query: &FramesQuery,
    roster: Roster,
    format: Format,
    limits: &ApiLimits,
) -> Result<Read, FaultOf> {
    let bounds = PageBounds {
        frames: query.limit.unwrap_or(PAGE_DEFAULT),
        page_bytes: limits.page_bytes,
        read_bytes: limits.page_read_bytes,
        peek_bytes: limits.page_read_bytes / 64,
        deadline: Instant::now() + limits.query_deadline,
    };
    let mut writer = FrameWriter::new(format, 4096, query.shape());
    let has_envelope = format == Format::Text(FrameFormat::Json);
    if has_envelope {
        writer.push_raw(&begin_envelope(query, "frames"));
    }
    let page = read_page(Walk::new(journal, roster, query), query, &mut writer, bounds)?;
    let next_cursor = page.end.as_ref().filter(|_| page.more).map(|end| query.cursor_after(end));
    if has_envelope {
        let resume = resume_cursor(query, page.end.as_ref());
        writer.push_raw(&end_envelope(next_cursor.as_deref(), resume.as_deref()));
    }
    writer.finish();
    Ok(Read { bytes: writer.take(), frames: page.frames, next_cursor })
}

fn read_rows(
    journal: &AnyJournal,
    query: &FramesQuery,
    mut roster: Roster,
    format: Format,
    limits: &ApiLimits,
) -> Result<Read, FaultOf> {
    let downsample = query.downsample.as_ref().expect("rows were asked for");
    let bounds = RowBounds {
        rows: query.limit.unwrap_or(PAGE_DEFAULT),
        page_bytes: limits.page_bytes,
        deadline: Instant::now() + limits.query_deadline,
    };
    let mut writer = RowWriter::new(format, downsample.aggregate.kind(), query.is_of_many());
    let has_envelope = format == Format::Text(FrameFormat::Json);
    if has_envelope {
        writer.push_raw(&begin_envelope(query, "buckets"));
    }
    let mut source = Source::new(&**journal, query, downsample, limits.passes_max);
    let page = source.page(&mut roster, &mut writer, bounds)?;
    let next_cursor = page.end.as_ref().filter(|_| page.more).map(|end| query.cursor_after(end));
    if has_envelope {
        writer.push_raw(&end_envelope(next_cursor.as_deref(), None));
    }
    writer.finish();
    Ok(Read { bytes: writer.take(), frames: 0, next_cursor })
}

/// Where to go on later, when there are more: of one device, whose frames come in this order.
fn resume_cursor(query: &FramesQuery, end: Option<&Place>) -> Option<String> {
    let Whose::Device(device) = &query.whose else { return None };
    let start = Place { device: device.clone(), epoch: Epoch::NONE, seq: Seq::ZERO };
    (query.order == Order::Asc).then(|| query.cursor_after(end.unwrap_or(&start)))
}

/// `{"device":"bus-1","frames":[`
fn begin_envelope(query: &FramesQuery, what: &str) -> Vec<u8> {
    let mut text = b"{".to_vec();
    if let Whose::Device(device) = &query.whose {
        text.extend_from_slice(b"\"device\":");
        push_json_string(&mut text, device.as_str());
        text.push(b',');
    }
    text.extend_from_slice(format!("\"{what}\":[\n").as_bytes());
    text
}

/// `],"next_cursor":"…","resume_cursor":"…"}`
fn end_envelope(next: Option<&str>, resume: Option<&str>) -> Vec<u8> {
    // Cursors are base64url: nothing to escape.
    let next = next.map_or("null".to_owned(), |cursor| format!("\"{cursor}\""));
    let resume = resume.map_or(String::new(), |cursor| format!(",\"resume_cursor\":\"{cursor}\""));
    format!("\n],\"next_cursor\":{next}{resume}}}\n").into_bytes()
}

/// The same request with the next cursor (RFC 8288).
fn link_to_next(query: &FramesQuery, query_string: &str, cursor: &str) -> HeaderValue {
    let kept = query_string.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !matches!(name, "" | "cursor" | "after")
    });
    let kept: String = kept.flat_map(|pair| [pair, "&"]).collect();
    let path = match &query.whose {
        Whose::Device(device) => format!("/v1/devices/{device}/frames"),
        Whose::Devices { .. } => "/v1/frames".to_owned(),
    };
    let link = format!("<{path}?{kept}cursor={cursor}>; rel=\"next\"");
    HeaderValue::try_from(link).expect("a query string that hyper accepted is visible ASCII")
}
