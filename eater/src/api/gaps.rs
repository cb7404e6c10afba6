//! `GET /v1/devices/{id}/gaps`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use serde::Serialize;
use trough_protocol::device::SkipReason;
use trough_store::Scope;
use utoipa::{IntoParams, ToSchema};

use super::answer::{Head, json_offer};
use super::auth::Caller;
use super::encode::time_text;
use super::fault::ReadFault;
use super::openapi::schemas::{self, DevicePath};
use super::query::GapsQuery;
use super::reads::Held;
use super::refusal::Refusal;
use super::routes::DeviceName;
use super::state::Api;
use crate::journal::{Gap, GapKind, Order};

/// A page of gaps.
#[derive(Serialize, ToSchema)]
#[schema(as = GapsPage)]
struct GapsJson<'a> {
    /// The device's id.
    device: &'a str,
    /// By epoch and first seq.
    gaps: Vec<GapJson>,
    /// Where the next page begins; `null` if there is none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Numbers that have no frame.
#[derive(Serialize, ToSchema)]
#[schema(as = Gap)]
struct GapJson {
    /// The numbering.
    epoch: u64,
    /// The first seq.
    first: u64,
    /// The last seq.
    last: u64,
    /// How many they are.
    count: u64,
    /// `skipped`: the device declared them lost. `damaged`: they were stored, and the storage lost them. `expired`:
    /// retention removed them.
    #[schema(value_type = String, pattern = "^(skipped|damaged|expired)$")]
    kind: &'static str,
    /// Why they were skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false,
        pattern = "^(overflow|storage_lost|discarded|unspecified)$")]
    reason: Option<&'static str>,
    /// When the server learned of it.
    #[schema(format = DateTime)]
    received_at: String,
}

/// Which gaps.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: GapsQuery reads it")]
struct GapsParameters {
    /// How many gaps at most.
    #[param(inline)]
    limit: Option<schemas::PageLimit>,
    /// The `next_cursor` of the page before.
    #[param(inline)]
    cursor: Option<schemas::Cursor>,
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

/// The numbers of a device that have no frame, and why.
///
/// Numbers above the head of an epoch are no gap: they have not come yet.
#[utoipa::path(
    get, path = "/v1/devices/{id}/gaps", operation_id = "list_gaps", tag = "frames",
    security(("reader" = ["frames:read"])),
    params(DevicePath, GapsParameters),
    responses(
        (status = 200, description = "A page of gaps", body = GapsJson),
        (status = 304, description = "Nothing has changed"),
    )
)]
pub(super) async fn gaps(
    State(api): State<Arc<Api>>,
    caller: Caller,
    DeviceName(device): DeviceName,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::FramesRead)?;
    let device = api.auth.device(&caller, &device).await?.id;
    let query = GapsQuery::parse(device, request.uri.query())?;
    let offer = json_offer(&request.headers)?;
    let generation = api.generation(&query.device).await?;
    let head = Head { offer, tag: Some(query.identity().number(generation).etag()) };
    if let Some(unchanged) = head.unchanged(&request.headers) {
        return Ok(unchanged);
    }
    let permit = api.pages.permit()?;
    let journal = api.journal.clone();
    let body = api.query(move || {
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
