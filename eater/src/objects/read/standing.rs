//! Where a device stands: its heads, and what can be said of it without reading an object.

use std::collections::BTreeMap;

use trough_protocol::{DeviceId, Epoch, Micros, Seq};
use trough_store::DeviceState;

use super::Reader;
use super::pieces::{Bounds, Piece, Place};
use crate::journal::ReadError;

/// Pieces asked for at once, and how often at most: heads are noted within seconds, so that there are few.
const PIECES: usize = 1024;
const QUESTIONS_MAX: usize = 64;
/// Epochs before the newest whose rows are looked at as well: frames of an older epoch may be entered behind those of a
/// newer one, above all those of raw sessions.
const OLDER_EPOCHS: usize = 3;

/// What is known of a device.
#[derive(Debug, Default)]
struct Standing {
    heads: BTreeMap<Epoch, Seq>,
    last_received: Micros,
    last_ts: Micros,
}

impl Standing {
    fn note(&mut self, piece: &Piece) {
        let head = self.heads.entry(piece.span.epoch).or_default();
        if piece.span.first.0 <= head.0 + 1 {
            *head = piece.span.last.max(*head);
        }
        if piece.received_at >= self.last_received {
            self.last_received = piece.received_at;
            if piece.span.frames > 0 {
                self.last_ts = piece.span.ts.1;
            }
        }
    }
}

impl Reader {
    /// The head of one epoch: what is noted, and what was entered since. An object has the numbers between its first and
    /// its last of an epoch, or another one has had them before: what is durable of an epoch is always a prefix.
    ///
    /// It is what devices wait for when they come: what was received before the noted head was is part of it, and no
    /// damage of that is in their way.
    pub(in crate::objects) async fn head(&self, device: &DeviceId, epoch: Epoch) -> Result<Seq, ReadError> {
        let noted = self.catalog.heads(device).await?;
        let noted = noted.iter().find(|head| head.epoch == epoch);
        let (noted, known_at) = noted.map_or((Seq::ZERO, 0), |noted| (noted.head, noted.received_at));
        let mut standing = Standing { heads: BTreeMap::from([(epoch, noted)]), ..Standing::default() };
        let (after, before) = (Some((epoch, noted)), Some((Epoch(epoch.0 + 1), Seq::FIRST)));
        let bounds = Bounds { after, before, known_at };
        self.follow(device, bounds, &mut standing).await?;
        Ok(standing.heads.get(&epoch).copied().unwrap_or_default())
    }

    /// What a device's pages show of it; `None` if it was never heard. The number of its frames is that of its numbers:
    /// declared losses are counted too, which only reading everything could tell apart.
    pub(in crate::objects) async fn state(
        &self,
        device: &DeviceId,
    ) -> Result<Option<DeviceState>, ReadError> {
        let standing = self.standing(device).await?;
        if standing.heads.is_empty() {
            return Ok(None);
        }
        Ok(Some(DeviceState {
            device: device.clone(),
            frames: standing.heads.values().map(|seq| seq.0).sum(),
            heads: standing.heads.into_iter().collect(),
            last_received: standing.last_received,
            last_ts: standing.last_ts,
        }))
    }

    /// A number that changes with the heads of a device.
    pub(in crate::objects) async fn generation(&self, device: &DeviceId) -> Result<u64, ReadError> {
        let mut standing = self.standing(device).await?;
        let known: Vec<Place> = standing.heads.iter().map(|(epoch, seq)| (*epoch, *seq)).collect();
        for place in known.iter().rev().skip(1).take(OLDER_EPOCHS) {
            let before = Some((Epoch(place.0.0 + 1), Seq::FIRST));
            self.follow(device, Bounds { after: Some(*place), before, known_at: 0 }, &mut standing).await?;
        }
        // FNV-1a: it tells changes apart, and is 0 for nothing.
        let mut hash = 0_u64;
        for (epoch, seq) in &standing.heads {
            for word in [epoch.0, seq.0] {
                let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                hash = word.to_le_bytes().iter().fold(hash ^ 0xcbf2_9ce4_8422_2325, fold);
            }
        }
        Ok(hash)
    }

    /// All noted heads, and what was entered since the newest of them.
    async fn standing(&self, device: &DeviceId) -> Result<Standing, ReadError> {
        let noted = self.catalog.heads(device).await?;
        let heads: BTreeMap<Epoch, Seq> = noted.iter().map(|head| (head.epoch, head.head)).collect();
        // From before the newest head on: the object that holds it tells when it came.
        let after = heads.last_key_value().map(|(epoch, seq)| (*epoch, Seq(seq.0.saturating_sub(1))));
        // Its frames may have been compacted since, and then no row tells when they came.
        let last_received = noted.iter().map(|head| head.received_at).max().unwrap_or(0);
        let mut standing = Standing { heads, last_received, last_ts: 0 };
        self.follow(device, Bounds { after, ..Bounds::default() }, &mut standing).await?;
        Ok(standing)
    }

    async fn follow(
        &self,
        device: &DeviceId,
        mut bounds: Bounds,
        standing: &mut Standing,
    ) -> Result<(), ReadError> {
        for _ in 0..QUESTIONS_MAX {
            let found = self.pieces(device, bounds, PIECES).await?;
            found.pieces.iter().for_each(|piece| standing.note(piece));
            match found.known_to {
                Some((epoch, seq)) => bounds.after = Some((epoch, Seq(seq.0 - 1))),
                None => return Ok(()),
            }
        }
        Err(ReadError::TooManyObjects { objects: QUESTIONS_MAX * PIECES })
    }
}
