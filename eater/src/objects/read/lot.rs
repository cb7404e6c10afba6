//! The runs of a lot, out of the objects that hold them.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::task::JoinSet;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use super::cache::{OpenError, Opened};
use super::pieces::Piece;
use super::walk::Numbers;
use super::{Rank, Reader};
use crate::journal::ReadError;
use crate::journal::run::{Kind, Located, Run};

/// Objects opened at a time for one read.
const OPENING_MAX: usize = 16;

/// A run and its object.
pub(super) type Placed = Located<Rank>;

/// Numbers with everything that is stored of them.
pub(super) struct Lot {
    pub epoch: Epoch,
    pub first: Seq,
    pub last: Seq,
    /// Runs of frames that have any of the numbers, by (first, offset, object).
    pub frames: Vec<Placed>,
    /// Declared losses, likewise.
    pub losses: Vec<Placed>,
    pub objects: HashMap<Rank, Arc<Opened>>,
}

impl Lot {
    /// Opens the objects of `numbers`. One that is damaged counts as a run whose bytes are damaged, so that its numbers
    /// are looked for in copies, and reported where there are none.
    pub(super) async fn load(
        reader: &Arc<Reader>,
        device: &DeviceId,
        numbers: Numbers,
    ) -> Result<Self, ReadError> {
        let Numbers { epoch, first, last, pieces } = numbers;
        let mut lot =
            Self { epoch, first, last, frames: Vec::new(), losses: Vec::new(), objects: HashMap::new() };
        let mut opening = JoinSet::new();
        let mut pieces = pieces.into_iter();
        loop {
            while opening.len() < OPENING_MAX
                && let Some(piece) = pieces.next()
            {
                let reader = reader.clone();
                opening.spawn(async move {
                    let opened = reader.open(piece.id, piece.bytes, piece.received_at).await;
                    (piece, opened)
                });
            }
            match opening.join_next().await {
                Some(Ok((piece, opened))) => lot.add(device, &piece, opened)?,
                Some(Err(error)) => return Err(ReadError::Broken(error.to_string())),
                None => break,
            }
        }
        for runs in [&mut lot.frames, &mut lot.losses] {
            runs.sort_unstable_by_key(|placed| (placed.run.key(), placed.file));
        }
        Ok(lot)
    }

    fn add(
        &mut self,
        device: &DeviceId,
        piece: &Piece,
        opened: Result<Arc<Opened>, OpenError>,
    ) -> Result<(), ReadError> {
        let file = piece.rank();
        let opened = match opened {
            Ok(opened) => opened,
            Err(OpenError::Store(error)) => return Err(error.into()),
            Err(OpenError::Damaged { found, .. }) => {
                let trough_store::object_catalog::ObjectId { incarnation, n } = piece.id;
                tracing::error!(%incarnation, n, %device, %found, "a journal object cannot be read");
                self.frames.push(Placed { file, run: unreadable(piece) });
                return Ok(());
            }
        };
        for run in opened.runs(device.as_str()) {
            if run.epoch == self.epoch && run.first <= self.last && run.last() >= self.first {
                let runs = if run.is_frames() { &mut self.frames } else { &mut self.losses };
                runs.push(Placed { file, run });
            }
        }
        self.objects.insert(file, opened);
        Ok(())
    }
}

/// A run that has the piece's numbers, and a checksum that its data does not have.
fn unreadable(piece: &Piece) -> Run {
    Run {
        epoch: piece.span.epoch,
        first: piece.span.first,
        count: piece.span.last.0 - piece.span.first.0 + 1,
        min_ts: piece.span.ts.0,
        max_ts: piece.span.ts.1,
        received_at: piece.received_at,
        offset: 0,
        len: 0,
        crc: !crc32c::crc32c(&[]),
        kind: Kind::Frames,
    }
}

/// Keeps only groups of pieces that have numbers in common and of which `keep` likes at least one: a copy that is not
/// the canonical one must not come to light because the canonical one was left out. The pieces rise.
pub(super) fn keep_groups(pieces: Vec<Piece>, keep: impl Fn(&Piece) -> bool) -> Vec<Piece> {
    let mut kept = Vec::with_capacity(pieces.len());
    let mut group: Vec<Piece> = Vec::new();
    let mut end = Seq::ZERO;
    let mut close = |group: &mut Vec<Piece>| {
        if group.iter().any(&keep) {
            kept.append(group);
        }
        group.clear();
    };
    for piece in pieces {
        if piece.span.first > end {
            close(&mut group);
        }
        end = end.max(piece.span.last);
        group.push(piece);
    }
    close(&mut group);
    kept
}

/// Whether a piece may have a frame in this span of device time.
pub(super) fn is_within(piece: &Piece, ts: &RangeInclusive<Micros>) -> bool {
    piece.span.ts.1 >= *ts.start() && piece.span.ts.0 <= *ts.end()
}
