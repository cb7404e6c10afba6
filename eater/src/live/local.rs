//! The local journal, followed: it is one order, so there is nothing to be put in order.

use std::sync::Arc;

use bytes::Bytes;
use trough_protocol::{DeviceId, Micros};
use trough_store::BoxFuture;
use trough_store::object_catalog::Incarnation;

use super::commit::{Commit, Content, LiveRun};
use super::source::{Done, Found, LiveError, Source, Walk};
use super::vector::{Place, Vector};
use crate::journal::run::Run;
use crate::journal::{Arrivals, Heads, Journal, Lot, ReadError};

impl Source for Journal {
    fn end(&self) -> BoxFuture<'_, Result<Vector, LiveError>> {
        let (n, offset) = Self::end(self);
        let mut vector = Vector::default();
        vector.advance(Incarnation::LOCAL, Place { n, offset, seq: 0 });
        Box::pin(async move { Ok(vector) })
    }

    fn done(&self, vector: Vector) -> BoxFuture<'_, Result<Done, LiveError>> {
        Box::pin(async move {
            let Place { n, offset, .. } = vector.place(Incarnation::LOCAL);
            let (journal, mut from) = (self.clone(), (n, offset));
            // Each group was received later than the one before.
            let look = move || {
                loop {
                    match journal.arrivals(from, None, FIRST, &mut Heads::default())? {
                        Arrivals::Gone => return Ok(0),
                        Arrivals::Runs { runs, next, .. } => match runs.first() {
                            Some(first) => return Ok(first.run.received_at),
                            None if next == from => return Ok(Micros::MAX),
                            None => from = next,
                        },
                    }
                }
            };
            let local_before = blocking(look).await?.map_err(LiveError::Read)?;
            Ok(Done { vector, local_before })
        })
    }

    fn walk(&self, from: Vector, only: Option<DeviceId>) -> Box<dyn Walk> {
        Box::new(LocalWalk::new(self.clone(), from, only, RUNS))
    }

    fn runs<'a>(
        &'a self,
        commit: &'a Commit,
        devices: &'a [DeviceId],
        from: u32,
    ) -> BoxFuture<'a, Result<Vec<LiveRun>, LiveError>> {
        let Content::Local(runs) = &commit.content else { return Box::pin(async { Ok(Vec::new()) }) };
        let runs = &runs[runs.partition_point(|arrival| arrival.run.offset < from)..];
        let wanted = runs.iter().filter(|arrival| devices.binary_search(&arrival.device).is_ok());
        let live = wanted.cloned().map(|arrival| LiveRun {
            device: arrival.device,
            run: arrival.run,
            fresh: arrival.fresh,
        });
        let live = live.collect();
        Box::pin(async move { Ok(live) })
    }

    fn data<'a>(
        &'a self,
        commit: &'a Commit,
        runs: &'a [LiveRun],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, LiveError>> {
        let (journal, file) = (self.clone(), commit.id.n);
        let runs: Vec<Run> = runs.iter().map(|live| live.run).collect();
        Box::pin(async move { Ok(blocking(move || journal.data_of(file, &runs)).await??) })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ReadError::Broken(error.to_string()))
}

/// The first run behind a place.
const FIRST: Lot = Lot { open: 1, sealed: 1 };
/// Runs that are looked for at a time. In a file that is sealed each look goes through its whole index.
const RUNS: Lot = Lot { open: 1024, sealed: 16 * 1024 };

pub(super) struct LocalWalk {
    journal: Journal,
    vector: Vector,
    only: Option<DeviceId>,
    runs: Lot,
    heads: Heads,
}

impl LocalWalk {
    pub fn new(journal: Journal, vector: Vector, only: Option<DeviceId>, runs: Lot) -> Self {
        Self { journal, vector, only, runs, heads: Heads::default() }
    }
}

impl Walk for LocalWalk {
    fn vector(&self) -> &Vector {
        &self.vector
    }

    fn step(&mut self, _: Option<Incarnation>) -> BoxFuture<'_, Result<Found, LiveError>> {
        Box::pin(async move {
            loop {
                let place = self.vector.place(Incarnation::LOCAL);
                let (journal, only, runs) = (self.journal.clone(), self.only.clone(), self.runs);
                let from = (place.n, place.offset);
                // A look into memory as a rule, but a sealed file's index is on the disk.
                let mut heads = std::mem::take(&mut self.heads);
                let (found, heads) =
                    blocking(move || (journal.arrivals(from, only.as_ref(), runs, &mut heads), heads))
                        .await?;
                self.heads = heads;
                let found = found?;
                let Arrivals::Runs { file, mut runs, next } = found else { return Err(LiveError::Expired) };
                // Of the first run a part may be done.
                runs.retain(|arrival| (file, arrival.run.offset) != from || arrival.run.last().0 > place.seq);
                self.vector.advance(Incarnation::LOCAL, Place { n: next.0, offset: next.1, seq: 0 });
                if !runs.is_empty() {
                    let commit = Arc::new(Commit::local(file, runs, next));
                    return Ok(Found { commits: vec![commit], more: true });
                }
                if next == from {
                    return Ok(Found::default());
                }
            }
        })
    }
}
