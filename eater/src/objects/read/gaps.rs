//! The numbers of a device that have no frames, and why.

use std::sync::Arc;

use trough_protocol::{DeviceId, Seq};

use super::Reader;
use super::lot::{Lot, Placed, keep_groups};
use super::pieces::{Piece, Place};
use super::walk::Walk;
use crate::journal::run::Kind;
use crate::journal::scan::resolve;
use crate::journal::{Gap, GapKind, Order, ReadError};

impl Reader {
    /// A page of gaps, rising, those that begin after `after`. A frame beats a declared loss, as in the local journal.
    pub(in crate::objects) async fn gaps(
        self: &Arc<Self>,
        device: &DeviceId,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Gap>, ReadError> {
        // The number `after` itself is looked at: whether a gap begins behind it or reaches over it.
        let from = after.map(|(epoch, seq)| (epoch, Seq(seq.0.saturating_sub(1))));
        let mut walk = Walk::new(self.clone(), device.clone(), Order::Asc, from);
        let mut gaps: Vec<Gap> = Vec::new();
        while let Some(mut numbers) = walk.next().await? {
            // The catalog counts frames and numbers: only where they differ can there be a gap.
            numbers.pieces = keep_groups(numbers.pieces, |piece| !Piece::is_full(piece));
            walk.opens(numbers.pieces.len())?;
            if numbers.pieces.is_empty() {
                continue;
            }
            let lot = Lot::load(self, device, numbers).await?;
            for gap in gaps_of(&lot) {
                match gaps.last_mut() {
                    // One loss that two lots share.
                    Some(before) if continues(before, &gap) => before.last = gap.last,
                    _ => gaps.push(gap),
                }
            }
            let begins_behind = |gap: &&Gap| after.is_none_or(|after| (gap.epoch, gap.first) > after);
            // The last one may yet grow.
            if gaps.iter().filter(begins_behind).count() > limit {
                break;
            }
        }
        gaps.retain(|gap| after.is_none_or(|after| (gap.epoch, gap.first) > after));
        gaps.truncate(limit);
        Ok(gaps)
    }
}

fn continues(before: &Gap, gap: &Gap) -> bool {
    (before.epoch, before.kind, before.received_at) == (gap.epoch, gap.kind, gap.received_at)
        && gap.first == before.last.next()
}

/// The numbers of the lot that were declared lost and have no frames.
fn gaps_of(lot: &Lot) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for loss in resolve(&lot.losses, lot.first, lot.last) {
        let mut at = loss.first;
        for stored in resolve(&lot.frames, loss.first, loss.last) {
            if stored.first > at {
                gaps.push(gap(&loss.of, at, Seq(stored.first.0 - 1)));
            }
            at = stored.last.next();
        }
        if at <= loss.last {
            gaps.push(gap(&loss.of, at, loss.last));
        }
    }
    gaps
}

fn gap(of: &Placed, first: Seq, last: Seq) -> Gap {
    let kind = match of.run.kind {
        Kind::Skip(reason) => GapKind::Skipped { reason },
        Kind::Damaged | Kind::Frames => GapKind::Damaged,
    };
    Gap { epoch: of.run.epoch, first, last, kind, received_at: of.file.received_at }
}
