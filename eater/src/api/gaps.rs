//! `GET /v1/devices/{id}/gaps`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::header::ACCEPT;
use http::request::Parts;
use serde::Serialize;
use trough_protocol::device::SkipReason;
use trough_store::Scope;

use super::answer::Head;
use super::auth::Caller;
use super::encode::time_text;
use super::fault::ReadFault;
use super::media::{JSON_OFFERS, negotiate};
use super::query::GapsQuery;
use super::reads::{Held, on_thread};
use super::refusal::Refusal;
use super::routes::DeviceName;
use super::state::Api;
use crate::journal::{Gap, GapKind, Order};

#[derive(Serialize)]
struct GapsJson<'a> {
    device: &'a str,
    gaps: Vec<GapJson>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct GapJson {
    epoch: u64,
    first: u64,
    last: u64,
    count: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    received_at: String,
}

impl From<&Gap> for GapJson {
    fn from(gap: &Gap) -> Self {
        let (kind, reason) = match gap.kind {
            GapKind::Skipped { reason } => ("skipped", Some(SkipReason(reason).name())),
            GapKind::Damaged => ("damaged", None),
            GapKind::Expired => ("expired", None),
        };
        Self {
            epoch: gap.epoch.0,
            first: gap.first.0,
            last: gap.last.0,
            count: gap.last.0 - gap.first.0 + 1,
            kind,
            reason,
            received_at: time_text(gap.received_at),
        }
    }
}

/// Answers a page of the numbers that have no frames, and why.
pub(super) async fn gaps(
    State(api): State<Arc<Api>>,
    caller: Caller,
    DeviceName(device): DeviceName,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::FramesRead)?;
    let device = api.auth.device(&caller, &device).await?.id;
    let query = GapsQuery::parse(device, request.uri.query())?;
    let offer = negotiate(&request.headers, JSON_OFFERS)
        .ok_or_else(|| Refusal::not_acceptable(request.headers.get(ACCEPT), JSON_OFFERS))?;
    let generation = api.generation(&query.device).await?;
    let head = Head { offer, tag: query.identity().number(generation).etag() };
    if let Some(unchanged) = head.unchanged(&request.headers) {
        return Ok(unchanged);
    }
    let permit = api.pages.permit()?;
    let journal = api.journal.clone();
    let body = on_thread(move || {
        // One more than asked for tells whether there is a next page.
        let found = journal.gaps(&query.device, query.after, query.limit + 1);
        let mut found = found.map_err(|error| {
            let fault = ReadFault::from(error);
            fault.log(&query.device);
            fault.refusal(Order::Asc)
        })?;
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let last = found.last().filter(|_| more);
        let next_cursor = last.map(|gap| query.cursor_after((gap.epoch, gap.first)));
        let gaps = found.iter().map(GapJson::from).collect();
        let json = GapsJson { device: query.device.as_str(), gaps, next_cursor };
        let bytes = serde_json::to_vec(&json).expect("strings and numbers always serialise");
        Ok::<_, Refusal>(Held::body(bytes, permit))
    });
    Ok(head.with(body.await??))
}
