//! Going through a device's numbers, lot by lot: of the numbers of a lot, every copy is known.

use std::collections::VecDeque;
use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Seq};

use super::Reader;
use super::pieces::{Bounds, Piece, Pieces, Place, by_epoch};
use crate::journal::{Order, ReadError};

/// Pieces asked for at once by a rising walk, at first: someone who wants ten frames should not wait for sixty objects.
const PIECES_FIRST: usize = 8;
/// So many times more are asked for each time. For every question the catalog goes through all that the device has behind
/// the place, to give the first of it: with as many pieces each time, a read would cost the square of what it reads.
const PIECES_GROWTH: usize = 8;
/// Most pieces asked for at once.
const PIECES_MAX: usize = 4096;
/// Pieces of a lot, unless more have a number in common: their objects are in memory together.
const LOT_PIECES: usize = 64;
/// Pieces that a falling walk asks for at once.
const PIECES_FALLING: usize = 256;
/// Most pieces that one walk looks at, whether it opens them or not.
const LOOKED_MAX: usize = 1_000_000;
/// How many numbers a falling walk looks at first.
const WINDOW_FIRST: u64 = 128;
/// A falling walk looks at more numbers next time if it found fewer pieces than this, and at fewer if it found more.
const PIECES_FEW: usize = 16;
const PIECES_MANY: usize = 128;

/// Numbers of one epoch, and all pieces that have any of them.
pub(super) struct Numbers {
    pub epoch: Epoch,
    pub first: Seq,
    pub last: Seq,
    /// Rising.
    pub pieces: Vec<Piece>,
}

/// A walk, in either direction.
///
/// The catalog gives rows in rising order only. A falling walk therefore guesses where the next few begin, from the
/// heads that are noted, and looks at everything between there and where it stands: a bad guess costs a question more,
/// and never a number.
pub(super) struct Walk {
    reader: Arc<Reader>,
    device: DeviceId,
    order: Order,
    /// Rising: all up to this number is done. Falling: all from this number on is done.
    at: Option<Place>,
    ready: VecDeque<Numbers>,
    done: bool,
    pieces: usize,
    window: u64,
    /// Noted heads, by epoch; asked for once.
    heads: Option<Vec<Place>>,
    /// Pieces looked at so far, and those whose objects were to be opened.
    looked: usize,
    opened: usize,
}

impl Walk {
    /// A walk that begins behind `after`, in the direction of `order`.
    pub(super) fn new(reader: Arc<Reader>, device: DeviceId, order: Order, after: Option<Place>) -> Self {
        Self {
            reader,
            device,
            order,
            at: after,
            ready: VecDeque::new(),
            done: false,
            pieces: PIECES_FIRST,
            window: WINDOW_FIRST,
            heads: None,
            looked: 0,
            opened: 0,
        }
    }

    /// Takes note of how many objects of the last numbers are opened.
    ///
    /// # Errors
    /// [`ReadError::TooManyObjects`].
    pub(super) fn opens(&mut self, objects: usize) -> Result<(), ReadError> {
        self.opened += objects;
        if self.opened > self.reader.objects_max {
            return Err(ReadError::TooManyObjects { objects: self.opened });
        }
        Ok(())
    }

    /// The next numbers; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Numbers>, ReadError> {
        while self.ready.is_empty() && !self.done {
            match self.order {
                Order::Asc => self.rise().await?,
                Order::Desc => self.fall().await?,
            }
        }
        let next = self.ready.pop_front();
        self.looked += next.as_ref().map_or(0, |numbers| numbers.pieces.len());
        if self.looked > LOOKED_MAX {
            return Err(ReadError::TooManyObjects { objects: self.looked });
        }
        Ok(next)
    }

    async fn rise(&mut self) -> Result<(), ReadError> {
        let bounds = Bounds { after: self.at, ..Bounds::default() };
        let Pieces { pieces, known_to } = self.reader.pieces(&self.device, bounds, self.pieces).await?;
        self.pieces = (self.pieces * PIECES_GROWTH).min(PIECES_MAX);
        let from = self.at.map_or((Epoch(0), Seq::FIRST), |(epoch, seq)| (epoch, seq.next()));
        self.ready.extend(numbers(pieces, from, known_to));
        match known_to {
            Some((epoch, seq)) => self.at = Some((epoch, Seq(seq.0 - 1))),
            None => self.done = true,
        }
        Ok(())
    }

    async fn fall(&mut self) -> Result<(), ReadError> {
        let mut floor = self.guess().await?;
        let pieces = loop {
            let bounds = Bounds { after: floor, before: self.at, ..Bounds::default() };
            let Pieces { pieces, known_to } =
                self.reader.pieces(&self.device, bounds, PIECES_FALLING).await?;
            match known_to {
                // More than expected: go on from where the highest of them begin.
                Some((epoch, seq)) => floor = Some((epoch, Seq(seq.0 - 1))),
                None => break pieces,
            }
        };
        match pieces.len() {
            0..PIECES_FEW => self.window = self.window.saturating_mul(4),
            PIECES_MANY.. => self.window = (self.window / 2).max(1),
            _ => {}
        }
        let from = floor.map_or((Epoch(0), Seq::FIRST), |(epoch, seq)| (epoch, seq.next()));
        let mut found = numbers(pieces, from, self.at);
        found.reverse();
        self.ready.extend(found);
        self.at = Some(from);
        self.done = floor.is_none();
        Ok(())
    }

    /// Behind which number a falling walk should look next; `None` for all of them.
    async fn guess(&mut self) -> Result<Option<Place>, ReadError> {
        if self.heads.is_none() {
            let heads = self.reader.catalog.heads(&self.device).await?;
            self.heads = Some(heads.iter().map(|head| (head.epoch, head.head)).collect());
        }
        let below = |window: u64, (epoch, seq): Place| Some((epoch, Seq(seq.0.saturating_sub(window))));
        if let Some((epoch, seq)) = self.at
            && seq > Seq::FIRST
        {
            return Ok(below(self.window, (epoch, Seq(seq.0 - 1))));
        }
        let heads = self.heads.as_deref().unwrap_or_default();
        let next = heads.iter().rev().find(|(epoch, _)| self.at.is_none_or(|at| *epoch < at.0));
        Ok(next.and_then(|head| below(self.window, *head)))
    }
}

/// Divides pieces by epoch and into lots, rising; only numbers from `from` on and before `to`.
fn numbers(pieces: Vec<Piece>, from: Place, to: Option<Place>) -> Vec<Numbers> {
    let mut all = Vec::new();
    for (epoch, mut pieces) in by_epoch(pieces) {
        let first = if epoch == from.0 { from.1.max(Seq::FIRST) } else { Seq::FIRST };
        let last = match to {
            Some((end, _)) if epoch > end => continue,
            Some((end, seq)) if epoch == end => Seq(seq.0.saturating_sub(1)),
            _ => Seq(u64::MAX),
        };
        pieces.retain(|piece| piece.span.first <= last && piece.span.last >= first);
        if epoch >= from.0 && first <= last && !pieces.is_empty() {
            all.extend(lots(Numbers { epoch, first, last, pieces }));
        }
    }
    all
}

/// Divides numbers into lots of few pieces. A piece that has numbers of several is in each of them.
fn lots(mut rest: Numbers) -> Vec<Numbers> {
    let mut lots = Vec::new();
    // A lot ends where a piece begins, behind the beginning of the lot's own first one.
    let begins =
        |rest: &Numbers| rest.pieces.first().map_or(rest.first, |piece| piece.span.first.max(rest.first));
    // What reaches over from the lot before counts there: many such would make as many lots, all with all of them.
    let carried = |rest: &Numbers| rest.pieces.iter().filter(|piece| piece.span.first < rest.first).count();
    while let (begin, full) = (begins(&rest), LOT_PIECES + carried(&rest))
        && let Some(next) = rest.pieces.iter().skip(full).find(|piece| piece.span.first > begin)
    {
        let cut = next.span.first;
        let pieces = rest.pieces.iter().take_while(|piece| piece.span.first < cut).cloned().collect();
        lots.push(Numbers { epoch: rest.epoch, first: rest.first, last: Seq(cut.0 - 1), pieces });
        rest.pieces.retain(|piece| piece.span.last >= cut);
        rest.first = cut;
    }
    lots.push(rest);
    lots
}
