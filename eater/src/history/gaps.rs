//! The numbers of a device that have no frames, and why.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;
use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch, Seq};

use super::merge::Place;
use super::segments::{Live, Segments};
use crate::frames::{AnyJournal, Chunks};
use crate::journal::{Gap, ReadError, ScanRange};
use crate::segments::format::{Device, Loss};

/// Declared losses that are looked at together: a device may have a million.
const WINDOW: usize = 10_000;

/// Some numbers: an epoch, the first and the last.
type Span = (Epoch, Seq, Seq);

/// A page of gaps, rising, those that begin after `after`. A frame beats a declared loss, wherever either lies. Blocks.
pub(super) fn page(
    journal: &AnyJournal,
    segments: &Arc<Segments>,
    device: &DeviceId,
    after: Option<Place>,
    limit: usize,
) -> Result<Vec<Gap>, ReadError> {
    page_of(journal, segments, device, after, (limit, WINDOW))
}

pub(super) fn page_of(
    journal: &AnyJournal,
    segments: &Arc<Segments>,
    device: &DeviceId,
    after: Option<Place>,
    (limit, window): (usize, usize),
) -> Result<Vec<Gap>, ReadError> {
    let mut page = Page { after, limit, gaps: Vec::new(), decided: (Epoch(0), Seq::ZERO) };
    let mut in_journal = JournalSpans::new(journal, device);
    // Losses that begin before this place are done.
    let mut from: Place = (Epoch(0), Seq::ZERO);
    loop {
        let behind = if from.1 == Seq::ZERO { after } else { after.max(Some((from.0, Seq(from.1.0 - 1)))) };
        let gaps = journal.gaps(device, behind, limit)?;
        // Behind the last of a full page the journal may have more, which would come first.
        let end = gaps.last().filter(|_| gaps.len() >= limit).map(|gap| (gap.epoch, gap.first.next()));
        let mut losses = Losses { after, from, end, most: window, found: BTreeMap::new() };
        let live = segments.of(device, None)?;
        live.each(|_, entry| entry.losses().for_each(|loss| losses.take(&loss)))?;
        let declared = page.undecided(gaps, &losses);
        let stored = frames_in(&live, &declared)?;
        let mut stored = &stored[..];
        for (gap, of_journal) in declared {
            let mut frames = inside(&mut stored, (gap.epoch, gap.first, gap.last));
            if !of_journal {
                in_journal.inside((gap.epoch, gap.first, gap.last), &mut frames)?;
            }
            if page.push(&gap, frames).is_break() {
                return Ok(page.gaps);
            }
        }
        match losses.end {
            Some(end) => from = end,
            None => return Ok(page.gaps),
        }
    }
}

/// What the losses of segments are, as many as are looked at together.
struct Losses {
    after: Option<Place>,
    /// Only those that begin here or behind, and before `end`: all of these are known.
    from: Place,
    end: Option<Place>,
    most: usize,
    /// By where they begin; of those that begin at one place, the ones that are not in an earlier one.
    found: BTreeMap<Place, Vec<Gap>>,
}

impl Losses {
    fn take(&mut self, loss: &Loss) {
        let place = (loss.epoch, loss.first);
        // One that ends where the page before ended says to whom the numbers up to there belong.
        let counts = self.after.is_none_or(|after| (loss.epoch, loss.last) >= after);
        if !counts || place < self.from || self.end.is_some_and(|end| place >= end) {
            return;
        }
        let Loss { epoch, first, last, kind, received_at, .. } = *loss;
        let gap = Gap { epoch, first, last, kind, received_at };
        match self.found.entry(place) {
            Entry::Vacant(none) => drop(none.insert(vec![gap])),
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                let counts_before = |a: &Gap, b: &Gap| a.received_at <= b.received_at && a.last >= b.last;
                if !known.iter().any(|known| counts_before(known, &gap)) {
                    known.retain(|known| !counts_before(&gap, known));
                    known.push(gap);
                }
            }
        }
        if self.found.len() > self.most {
            self.end = self.found.pop_last().map(|(place, _)| place);
        }
    }
}

/// The page that is being made.
struct Page {
    after: Option<Place>,
    limit: usize,
    gaps: Vec<Gap>,
    /// Numbers up to here have been decided.
    decided: Place,
}

impl Page {
    /// What was declared lost, each number once, rising, and whether the journal says so.
    fn undecided(&mut self, in_journal: Vec<Gap>, losses: &Losses) -> Vec<(Gap, bool)> {
        let mut declared: Vec<(Gap, bool)> = in_journal.into_iter().map(|gap| (gap, true)).collect();
        declared.retain(|(gap, _)| losses.end.is_none_or(|end| (gap.epoch, gap.first) < end));
        declared.extend(losses.found.values().flatten().map(|gap| (*gap, false)));
        declared.sort_by_key(|(gap, _)| (gap.epoch, gap.first, gap.received_at));
        let decide = |(gap, of_journal): (Gap, bool)| {
            let first =
                if self.decided.0 == gap.epoch { gap.first.max(self.decided.1.next()) } else { gap.first };
            (first <= gap.last).then(|| {
                self.decided = (gap.epoch, gap.last);
                (Gap { first, ..gap }, of_journal)
            })
        };
        declared.into_iter().filter_map(decide).collect()
    }

    /// Takes the parts of a declared loss that have no frames, until the page is full.
    fn push(&mut self, gap: &Gap, frames: Vec<Span>) -> ControlFlow<()> {
        for (first, last) in without((gap.first, gap.last), frames) {
            if self.after.is_none_or(|after| (gap.epoch, first) > after) {
                self.gaps.push(Gap { first, last, ..*gap });
            }
            if self.gaps.len() >= self.limit {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

/// Numbers that segments have frames of, of those that are declared lost; rising, none twice.
fn frames_in(live: &Live, declared: &[(Gap, bool)]) -> Result<Vec<Span>, ReadError> {
    let mut stored: Vec<Span> = Vec::new();
    if declared.is_empty() {
        return Ok(stored);
    }
    live.each(|_, entry| overlaps(entry, declared, &mut stored))?;
    stored.sort_unstable();
    stored.dedup_by(|(epoch, first, last), (of, _, end)| {
        let joins = epoch == of && *first <= end.next();
        if joins {
            *end = (*last).max(*end);
        }
        joins
    });
    Ok(stored)
}

/// The stretches that have numbers which are declared lost. Both rise, and neither has a number twice.
fn overlaps(entry: &Device, declared: &[(Gap, bool)], stored: &mut Vec<Span>) {
    let (Some((first, _)), Some((last, _))) = (declared.first(), declared.last()) else { return };
    let mut declared = declared.iter().map(|(gap, _)| gap).peekable();
    for at in entry.stretches_through((first.epoch, Seq(first.first.0 - 1)))..entry.stretch_count() {
        let stretch = entry.stretch(at);
        let (begin, end) = ((stretch.epoch, stretch.first), (stretch.epoch, stretch.last()));
        if begin > (last.epoch, last.last) {
            return;
        }
        while declared.next_if(|gap| (gap.epoch, gap.last) < begin).is_some() {}
        if declared.peek().is_some_and(|gap| (gap.epoch, gap.first) <= end) {
            stored.push((stretch.epoch, stretch.first, stretch.last()));
        }
    }
}

/// Those of `stored` that have numbers of a span; what lies before it is passed for good.
fn inside(stored: &mut &[Span], (epoch, first, last): Span) -> Vec<Span> {
    let passed = stored.partition_point(|(of, _, end)| (*of, *end) < (epoch, first));
    *stored = &stored[passed..];
    stored.iter().take_while(|(of, begin, _)| (*of, *begin) <= (epoch, last)).copied().collect()
}

/// Numbers that the journal has frames of, asked for in rising order.
struct JournalSpans<'a> {
    journal: &'a AnyJournal,
    device: &'a DeviceId,
    chunks: Option<Chunks>,
    /// What it has next; `None` if that is not known.
    next: Option<Span>,
    ended: bool,
}

impl<'a> JournalSpans<'a> {
    fn new(journal: &'a AnyJournal, device: &'a DeviceId) -> Self {
        Self { journal, device, chunks: None, next: None, ended: false }
    }

    /// Adds those that have numbers of a span.
    fn inside(&mut self, (epoch, first, last): Span, found: &mut Vec<Span>) -> Result<(), ReadError> {
        while let Some(next) = self.peek((epoch, first))? {
            if (next.0, next.2) < (epoch, first) {
                // What lies between is not read.
                (self.chunks, self.next) = (None, None);
                continue;
            }
            if (next.0, next.1) > (epoch, last) {
                return Ok(());
            }
            found.push(next);
            if (next.0, next.2) >= (epoch, last) {
                return Ok(());
            }
            self.next = None;
        }
        Ok(())
    }

    fn peek(&mut self, (epoch, first): Place) -> Result<Option<Span>, ReadError> {
        while self.next.is_none() && !self.ended {
            let chunks = match &mut self.chunks {
                Some(chunks) => chunks,
                none => {
                    let after = Some((epoch, Seq(first.0 - 1)));
                    none.insert(self.journal.scan(self.device, ScanRange { after, ..ScanRange::default() }))
                }
            };
            match chunks.next() {
                None => self.ended = true,
                Some(Ok(chunk)) => self.next = Some((chunk.epoch, chunk.first, chunk.last())),
                Some(Err(error)) if error.lost().is_some() => {}
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(self.next)
    }
}

/// The parts of `first` to `last` that `stored`, which are of their epoch, do not have.
fn without((first, last): (Seq, Seq), mut stored: Vec<Span>) -> Vec<(Seq, Seq)> {
    stored.sort_unstable();
    let (mut parts, mut at) = (Vec::new(), first);
    for (_, from, to) in stored {
        if from > at {
            parts.push((at, Seq(from.0 - 1).min(last)));
        }
        at = at.max(to.next());
        if at > last {
            return parts;
        }
    }
    parts.push((at, last));
    parts
}
