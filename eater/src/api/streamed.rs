//! An answer that is a stream: everything there is, in flat memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::answer::Head;
use super::auth::Caller;
use super::encode::{Format, FrameWriter, RowWriter};
use super::frames_query::{FramesQuery, Whose};
use super::metrics::ApiMetrics;
use super::page::FaultOf;
use super::refusal::Refusal;
use super::roster::Roster;
use super::rows::Source;
use super::state::Api;
use super::stream::{Ended, StreamWriter, stream};
use super::walk::Walk;
use super::watch::{Watched, watch as watch_rights};
use crate::frames::AnyJournal;

/// How long an answer waits for its first frames, to say with a status that they cannot be read.
const BEGIN_WAIT: Duration = Duration::from_secs(2);

/// Answers with all frames, or all rows.
pub(super) async fn streamed(
    api: &Arc<Api>,
    caller: Caller,
    query: FramesQuery,
    mut roster: Roster,
    head: &Head,
) -> Result<Response, Refusal> {
    let permit = api.streams.permit()?;
    let (revoked, watch) = (CancellationToken::new(), CancellationToken::new());
    let (writer, mut body) = stream(api.limits.chunk_bytes, revoked.clone(), watch.clone(), permit);
    let watched = match &query.whose {
        Whose::Device(device) => Watched::Device(device.clone()),
        Whose::Devices { .. } => {
            let (reading, watched) = watch::channel(None);
            roster.watched(reading);
            Watched::Reading(watched)
        }
    };
    let watching = watch_rights(api.auth.clone(), caller, watched, revoked);
    tokio::spawn(async move { watch.run_until_cancelled(watching).await }.in_current_span());
    let (journal, metrics) = (api.journal.clone(), api.metrics.clone());
    let (format, passes_max) = (head.offer.format, api.limits.passes_max);
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || {
        let _request = span.entered();
        match run(journal, &query, roster, writer, format, passes_max, &metrics) {
            Ok(Ended::Complete | Ended::ClientGone) => {}
            Err((fault, device)) => fault.log_of(device.as_ref()),
        }
    });
    body.begin(BEGIN_WAIT).await?;
    Ok(head.with(Body::new(body)))
}

/// Reads and sends, on a thread that may block.
fn run(
    journal: AnyJournal,
    query: &FramesQuery,
    mut roster: Roster,
    out: StreamWriter,
    format: Format,
    passes_max: usize,
    metrics: &ApiMetrics,
) -> Result<Ended, FaultOf> {
    if let Some(downsample) = &query.downsample {
        let rows = RowWriter::new(format, downsample.aggregate.kind(), query.is_of_many());
        return Source::new(&*journal, query, downsample, passes_max).stream(&mut roster, rows, &out);
    }
    // A little more than a chunk, so that the frame that completes it rarely makes the buffer grow.
    let capacity = out.chunk_bytes() + out.chunk_bytes() / 8;
    let frames = FrameWriter::new(format, capacity, query.shape());
    out.run(Walk::new(journal, roster, query), query, frames, &metrics.frames)
}
