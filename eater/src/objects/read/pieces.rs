//! What the catalog knows of a device's numbers.

use std::collections::BTreeMap;

use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::object_catalog::{DeviceSpan, Found, ObjectId, SPANS_MAX, SpanQuery};

use super::cache::OpenError;
use super::{Rank, Reader};
use crate::journal::ReadError;
use crate::objects::format::spans;
use crate::objects::names;

/// What one object has of a device and epoch.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub id: ObjectId,
    pub bytes: u64,
    pub received_at: Micros,
    pub span: DeviceSpan,
}

impl Piece {
    pub(super) fn rank(&self) -> Rank {
        Rank::new(self.received_at, self.id)
    }

    /// Whether all its numbers have frames.
    pub(super) fn is_full(&self) -> bool {
        self.span.last.0 - self.span.first.0 + 1 == self.span.frames
    }
}

/// A number in the order of everything that a device has.
pub(super) type Place = (Epoch, Seq);

/// Where to look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    /// Only numbers behind this one.
    pub after: Option<Place>,
    /// Only numbers before this one.
    pub before: Option<Place>,
    /// What was received up to then is known to whoever asks: an object of that time that cannot be opened, and is the
    /// only one to say whose numbers it has, is passed over.
    pub known_at: Micros,
}

/// Pieces, rising.
#[derive(Debug)]
pub(super) struct Pieces {
    pub pieces: Vec<Piece>,
    /// There are more: only numbers before this one are known completely.
    pub known_to: Option<Place>,
}

impl Reader {
    /// A device's pieces within bounds, about `limit` of them, and more if nothing could be told otherwise.
    pub(super) async fn pieces(
        &self,
        device: &DeviceId,
        bounds: Bounds,
        mut limit: usize,
    ) -> Result<Pieces, ReadError> {
        loop {
            limit = limit.min(SPANS_MAX);
            let Bounds { after, before, .. } = bounds;
            let query = SpanQuery { device: device.clone(), after, before, limit };
            let found = self.catalog.spans(&query).await?;
            let more = found.len() >= limit;
            // They come by (epoch, first): what begins before the last one is complete.
            let last = found.iter().rev().find_map(|found| found.span.as_ref());
            let known_to = last.map(|span| (span.epoch, span.first)).filter(|_| more);
            let progress =
                known_to.is_some_and(|known| after.is_none_or(|(epoch, seq)| known > (epoch, seq.next())));
            if !more || progress {
                let pieces = self.resolve_wide(device, bounds, found).await?;
                return Ok(Pieces { pieces, known_to });
            }
            if limit == SPANS_MAX {
                return Err(ReadError::TooManyObjects { objects: limit });
            }
            limit *= 4;
        }
    }

    /// Asks the objects that hold too many devices for a row.
    async fn resolve_wide(
        &self,
        device: &DeviceId,
        bounds: Bounds,
        found: Vec<Found>,
    ) -> Result<Vec<Piece>, ReadError> {
        let mut pieces = Vec::with_capacity(found.len());
        let wide = found.iter().any(|found| found.span.is_none());
        for Found { id, bytes, received_at, span } in found {
            if let Some(span) = span {
                pieces.push(Piece { id, bytes, received_at, span });
                continue;
            }
            let runs = match self.open(id, bytes, received_at).await {
                Ok(opened) => opened.runs(device.as_str()),
                Err(OpenError::Store(error)) => return Err(error.into()),
                Err(OpenError::Damaged { .. }) if received_at <= bounds.known_at => continue,
                // Whose numbers it had is not known any more: of no device can it be said that all are there.
                Err(OpenError::Damaged { offset, found }) => {
                    return Err(ReadError::Object { object: names::key(id), offset, found });
                }
            };
            let inside = |span: &DeviceSpan| {
                bounds.after.is_none_or(|after| (span.epoch, span.last) > after)
                    && bounds.before.is_none_or(|before| (span.epoch, span.first) < before)
            };
            let spans = spans(std::iter::once((device, &runs[..])).filter(|(_, runs)| !runs.is_empty()));
            pieces.extend(spans.into_iter().filter(inside).map(|span| Piece {
                id,
                bytes,
                received_at,
                span,
            }));
        }
        if wide {
            pieces.sort_by_key(|piece| (piece.span.epoch, piece.span.first, piece.rank()));
        }
        Ok(pieces)
    }
}

/// Pieces by epoch.
pub(super) fn by_epoch(pieces: Vec<Piece>) -> BTreeMap<Epoch, Vec<Piece>> {
    let mut epochs: BTreeMap<Epoch, Vec<Piece>> = BTreeMap::new();
    for piece in pieces {
        epochs.entry(piece.span.epoch).or_default().push(piece);
    }
    epochs
}
