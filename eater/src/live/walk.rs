//! The journals of all eaters, gone through in an order in which every device's numbers rise, however far behind.
//!
//! Of each journal a page waits, and no more is fetched before that has had its turn. What the objects at the front go on
//! from is done as a rule, or waits in another journal. It is not known of devices that were silent for long, and then the
//! rows of all that comes are looked through once, of which only each device's lowest number is kept: what is below was
//! done before.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use trough_protocol::Seq;
use trough_store::BoxFuture;
use trough_store::object_catalog::{Incarnation, IncarnationState, ObjectId, ObjectRow, ROWS_MAX, SpanQuery};

use super::commit::Commit;
use super::objects::{Shared, is_over};
use super::order::{Entered, Lowest, Queues, Turn};
use super::source::{Found, LiveError, Walk};
use super::vector::{Place, Vector};
use crate::journal::ReadError;

/// Copies of one number that are looked at, behind rows that do not tell.
const COPIES_MAX: usize = 1000;
/// So many objects before a walk's beginning are looked at, to tell what they have from what is new.
const BEFORE: u64 = ROWS_MAX as u64;

/// How much is done at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lots {
    /// Rows of a journal that are fetched, each of which may list thousands of devices.
    pub rows: usize,
    /// A step ends when it has found so much, in spans.
    pub spans: usize,
}

impl Default for Lots {
    fn default() -> Self {
        Self { rows: 32, spans: 50_000 }
    }
}

/// A walk through all journals.
pub(super) struct ObjectsWalk {
    shared: Arc<Shared>,
    /// What is done of what was given.
    vector: Vector,
    /// The same with what had its turn.
    ahead: Vector,
    queues: Queues,
    /// All journals that there were at the last look, also those that are done for good.
    listed: HashSet<Incarnation>,
    /// What comes before the beginning was looked at.
    primed: bool,
    survey: Survey,
    /// What had its turn before a step failed.
    ready: Vec<Arc<Commit>>,
}

/// Looking through the rows of all that comes.
#[derive(Default)]
struct Survey {
    /// Up to where, in each journal.
    places: BTreeMap<Incarnation, u64>,
    /// What was found; `None` before it has begun.
    lowest: Option<Lowest>,
    is_done: bool,
}

/// What a look at all journals has found.
struct Look {
    /// More objects wait than before.
    fetched: bool,
    /// There are more than wait.
    left: bool,
}

impl ObjectsWalk {
    pub fn new(shared: Arc<Shared>, from: Vector) -> Self {
        let (ahead, queues, ready) = (from.clone(), Queues::new(), Vec::new());
        let (listed, survey) = (HashSet::new(), Survey::default());
        Self { shared, vector: from, ahead, queues, listed, primed: false, survey, ready }
    }

    /// How many objects wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.queues.len()
    }

    /// Takes note of what the objects before the beginning have: frames that are sent again come soon after.
    async fn prime(&mut self) -> Result<(), LiveError> {
        for (incarnation, place) in &self.ahead.places {
            let done = place.whole();
            if done == 0 {
                continue;
            }
            let from = done.saturating_sub(BEFORE);
            let rows = self.shared.catalog.rows(*incarnation, from, ROWS_MAX).await;
            for row in rows.map_err(ReadError::from)?.into_iter().filter(|row| row.id.n <= done) {
                row.spans.iter().for_each(|span| self.queues.note(&span.device, span.epoch, span.last));
            }
        }
        self.primed = true;
        Ok(())
    }

    /// Up to where a journal waits, or is done.
    fn known(&self, incarnation: Incarnation) -> u64 {
        self.queues.end_of(incarnation).unwrap_or(self.ahead.place(incarnation).whole())
    }

    /// The rows behind one of a journal, each with what its object has.
    async fn page(&self, of: Incarnation, mut last: u64) -> Result<Vec<(u64, ObjectRow)>, LiveError> {
        let rows =
            self.shared.catalog.rows(of, last, self.shared.lots.rows).await.map_err(ReadError::from)?;
        let mut page = Vec::with_capacity(rows.len());
        for row in rows {
            if row.id.n != last + 1 {
                // Those between were compacted and removed.
                return Err(LiveError::Expired);
            }
            last = row.id.n;
            page.push((last, row));
        }
        Ok(page)
    }

    /// Fetches the next rows of a journal: how many.
    async fn fetch(&mut self, of: Incarnation) -> Result<usize, LiveError> {
        let page = self.page(of, self.known(of)).await?;
        let count = page.len();
        for (n, row) in page {
            let (received_at, spans) = (row.received_at, self.shared.spans(row).await?);
            self.queues.push(of, Entered { n, received_at, spans });
        }
        Ok(count)
    }

    /// All journals, as far as they are not done for good.
    async fn journals(&mut self) -> Result<Vec<IncarnationState>, LiveError> {
        let mut states = self.shared.catalog.incarnations().await.map_err(ReadError::from)?;
        self.listed = states.iter().map(|state| state.incarnation).collect();
        states.retain(|state| {
            self.ahead.places.contains_key(&state.incarnation) || !is_over(state, &self.ahead)
        });
        for state in &states {
            self.ahead.advance(state.incarnation, Place::behind(0));
        }
        Ok(states)
    }

    /// Looks at every journal, and fetches a page of those of which nothing waits; with `further`, of all.
    async fn look(&mut self, further: bool) -> Result<Look, LiveError> {
        let states = self.journals().await?;
        let mut look = Look { fetched: false, left: false };
        for state in &states {
            let of = state.incarnation;
            if state.last > self.known(of) && (further || self.queues.end_of(of).is_none()) {
                // None though there was one: it was removed.
                if self.fetch(of).await? == 0 {
                    return Err(LiveError::Expired);
                }
                look.fetched = true;
            }
            look.left |= state.last > self.known(of);
        }
        self.forget_ended(&states);
        Ok(look)
    }

    /// Looks through a page of each journal for the lowest numbers of devices. Whether there may be more.
    async fn survey(&mut self) -> Result<bool, LiveError> {
        // What has begun since has nothing that objects at the front go on from.
        let journals: Vec<Incarnation> = self.ahead.places.keys().copied().collect();
        let mut lowest = self.survey.lowest.take().unwrap_or_else(|| self.queues.lowest(Lowest::new()));
        let mut more = Ok(false);
        for of in journals {
            match self.survey_page(of, &mut lowest).await {
                Ok(some) => more = more.map(|more| more || some),
                Err(error) => {
                    more = Err(error);
                    break;
                }
            }
        }
        if let Ok(false) = more {
            // What was fetched since it began waits, and was not looked through. What is below all of that is in no object
            // that comes, so that it was done before.
            for ((device, epoch), first) in self.queues.lowest(lowest) {
                self.queues.note(&device, epoch, Seq(first.0 - 1));
            }
            self.survey.is_done = true;
        } else {
            self.survey.lowest = Some(lowest);
        }
        more
    }

    async fn survey_page(&mut self, of: Incarnation, lowest: &mut Lowest) -> Result<bool, LiveError> {
        let place = self.survey.places.get(&of).copied().unwrap_or(0).max(self.known(of));
        let page = self.page(of, place).await?;
        let some = !page.is_empty();
        for (n, row) in page {
            let spans = self.shared.spans(row).await?;
            spans.iter().for_each(|span| self.queues.lower(lowest, span));
            self.survey.places.insert(of, n);
        }
        Ok(some)
    }

    /// Asks the catalog whether what waiting objects go on from was done long ago. Whether something was.
    async fn find_missing(&mut self) -> Result<bool, LiveError> {
        let mut found = false;
        for (device, epoch, seq) in self.queues.missing() {
            let (after, before) = (Some((epoch, Seq(seq.0 - 1))), Some((epoch, seq.next())));
            let query = SpanQuery { device: device.clone(), after, before, limit: COPIES_MAX };
            let copies = self.shared.catalog.spans(&query).await.map_err(ReadError::from)?;
            // One that began since all were listed is not done.
            let is_done = |id: ObjectId| match self.ahead.places.contains_key(&id.incarnation) {
                true => self.ahead.has(id),
                false => self.listed.contains(&id.incarnation),
            };
            if copies.iter().any(|copy| copy.span.is_some() && is_done(copy.id)) {
                self.queues.note(&device, epoch, seq);
                found = true;
            }
        }
        Ok(found)
    }

    /// Names journals no more that have ended and are done.
    fn forget_ended(&mut self, states: &[IncarnationState]) {
        let Some(time) = states.iter().map(|state| state.now).min() else { return };
        self.ahead.time = self.ahead.time.max(time);
        for state in states {
            let done = self.ahead.place(state.incarnation).whole() >= state.last;
            if done && is_over(state, &self.ahead) {
                self.ahead.places.remove(&state.incarnation);
            }
        }
    }

    /// Takes what has its turn, as much as a step gives. Whether there may be more; `left` says so of what does not wait.
    async fn take(&mut self, mut left: bool) -> Result<bool, LiveError> {
        let (mut weight, mut all_wait) = (0, false);
        while !self.queues.is_empty() {
            // There may be many, and others follow on this thread.
            tokio::task::yield_now().await;
            let mut next = self.queues.pop(Turn::Follows);
            if next.is_none() && !all_wait {
                let look = self.look(false).await?;
                (left, all_wait) = (look.left, !look.fetched && !look.left);
                if !look.fetched && look.left && !self.find_turn().await? {
                    return Ok(true);
                }
            } else if next.is_none() {
                next = self.queues.pop(Turn::Free);
                if next.is_none() && !self.find_missing().await? {
                    next = self.queues.split();
                }
            }
            let Some(commit) = next else { continue };
            weight += commit.weight();
            if !commit.is_part {
                self.ahead.advance(commit.id.incarnation, commit.through);
            }
            self.ready.push(Arc::new(commit));
            if weight >= self.shared.lots.spans {
                return Ok(true);
            }
        }
        Ok(left)
    }

    /// Finds out whose turn it is when there is more than waits. Whether to try again at once: else it may take long, and
    /// whoever walks shows meanwhile that it lives.
    async fn find_turn(&mut self) -> Result<bool, LiveError> {
        if !self.survey.is_done {
            return Ok(!self.survey().await?);
        }
        if !self.find_missing().await? {
            // One of those that wait had its turn long ago and came again: all must be there to see which.
            self.look(true).await?;
        }
        Ok(true)
    }
}

impl Walk for ObjectsWalk {
    fn vector(&self) -> &Vector {
        &self.vector
    }

    fn step(&mut self, of: Option<Incarnation>) -> BoxFuture<'_, Result<Found, LiveError>> {
        Box::pin(async move {
            if !self.primed {
                self.prime().await?;
            }
            let known = of.filter(|of| self.ahead.places.contains_key(of));
            let left = match known {
                // What waits from the step before goes first.
                _ if !self.queues.is_empty() => true,
                Some(of) => self.fetch(of).await? >= self.shared.lots.rows,
                None => self.look(false).await?.left,
            };
            let more = self.take(left).await?;
            self.vector = self.ahead.clone();
            Ok(Found { commits: std::mem::take(&mut self.ready), more })
        })
    }
}
