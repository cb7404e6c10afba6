//! Reading rows, a few MiB at a time, and going on behind what is damaged.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{RowGroupSelection, RowSelection, RowSelector};
use parquet::arrow::push_decoder::ParquetPushDecoderBuilder;
use parquet::errors::ParquetError;
use trough_protocol::DeviceId;

use super::SegmentCache;
use super::ahead::Ahead;
use super::blocks::BlockError;
use super::loaded::{ALL_COLUMNS, FRAME_COLUMNS, Rows, rows_of};
use super::opened::Opened;
use super::schema::at;
use super::walk::{Span, Walk};
use crate::journal::{Order, ReadError};

/// What a step of a read gives.
#[derive(Debug)]
pub(super) enum Step {
    /// Rows, rising.
    Rows(Rows),
    /// Frames that are damaged.
    Lost(ReadError),
}

/// What is to be done next.
enum Todo {
    /// Read these, which lie together and are rising.
    Read(Vec<Span>),
    /// Say that these are lost, because of what lies there.
    Lose(Span, u64),
}

/// Rows cannot be had.
enum Fault {
    Damaged { block: Range<u64>, found: String },
    Read(ReadError),
}

impl From<BlockError> for Fault {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Damaged { block, found } => Self::Damaged { block, found },
            BlockError::Store(error) => Self::Read(error.into()),
        }
    }
}

/// Which columns are read, and whether the blocks are kept for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// What readers ask for, who often ask again.
    Frames,
    /// All of it, once, from the front to the end.
    Everything,
}

impl Want {
    fn columns(self) -> &'static [usize] {
        match self {
            Self::Frames => &FRAME_COLUMNS,
            Self::Everything => &ALL_COLUMNS,
        }
    }
}

/// A read through one segment.
pub(super) struct Steps {
    cache: Arc<SegmentCache>,
    opened: Arc<Opened>,
    walk: Walk,
    order: Order,
    want: Want,
    /// What comes before the rest of the walk; the last is next.
    todo: Vec<Todo>,
    ahead: Ahead,
}

impl Steps {
    pub(super) fn new(
        cache: Arc<SegmentCache>,
        opened: Arc<Opened>,
        walk: Walk,
        order: Order,
        want: Want,
    ) -> Self {
        Self { cache, opened, walk, order, want, todo: Vec::new(), ahead: Ahead::default() }
    }

    /// The next step in the read's order. After an error it would try the same again.
    ///
    /// Cancel-safe: what it was about stays the next step until it is done.
    pub(super) async fn next(&mut self) -> Result<Option<Step>, ReadError> {
        loop {
            if self.todo.is_empty() {
                let spans = self.walk.step();
                if spans.is_empty() {
                    return Ok(None);
                }
                self.todo.push(Todo::Read(spans));
            }
            match self.todo.last() {
                Some(Todo::Lose(span, offset)) => {
                    let lost = self.lost(span, *offset);
                    self.todo.pop();
                    return Ok(Some(Step::Lost(lost)));
                }
                Some(Todo::Read(spans)) => {
                    let loaded = load(&self.cache, &self.opened, spans, self.want, &mut self.ahead);
                    match loaded.await {
                        Ok(rows) => {
                            self.todo.pop();
                            return Ok(Some(Step::Rows(rows)));
                        }
                        Err(Fault::Read(error)) => return Err(error),
                        Err(Fault::Damaged { block, found }) => self.split(&block, &found),
                    }
                }
                None => {}
            }
        }
    }

    /// Divides the next step into what is lost with a block, and what lies before and behind it.
    fn split(&mut self, block: &Range<u64>, found: &str) {
        let Some(Todo::Read(spans)) = self.todo.pop() else { return };
        self.cache.metrics.damaged.inc();
        tracing::error!(
            segment = %self.opened.key, offset = block.start, found, "a segment is damaged"
        );
        let all = rows_of(&spans);
        let (group, _) = self.opened.group_of(all.start);
        let lost = self.opened.rows_in(group, block, self.want.columns());
        let lost = lost.map(|rows| rows.start.clamp(all.start, all.end)..rows.end.clamp(all.start, all.end));
        // If it cannot be told which rows they are, they are all.
        let lost = lost.filter(|rows| !rows.is_empty()).unwrap_or(all.clone());
        let part =
            |rows: Range<u32>| spans.iter().filter_map(|span| span.within(&rows)).collect::<Vec<Span>>();
        let mut todo = vec![Todo::Read(part(all.start..lost.start))];
        todo.extend(part(lost.clone()).into_iter().map(|span| Todo::Lose(span, block.start)));
        todo.push(Todo::Read(part(lost.end..all.end)));
        todo.retain(|todo| !matches!(todo, Todo::Read(spans) if spans.is_empty()));
        if self.order == Order::Asc {
            todo.reverse();
        }
        self.todo.append(&mut todo);
    }

    fn lost(&self, span: &Span, offset: u64) -> ReadError {
        ReadError::DamagedSegment {
            object: self.opened.key.clone(),
            offset,
            device: self.opened.index.device(span.device).id(),
            epoch: span.epoch,
            first: span.first,
            last: span.last(),
        }
    }
}

/// Reads rows that lie together in one row group.
async fn load(
    cache: &SegmentCache,
    opened: &Opened,
    spans: &[Span],
    want: Want,
    ahead: &mut Ahead,
) -> Result<Rows, Fault> {
    let rows = rows_of(spans);
    let (group, of_group) = opened.group_of(rows.start);
    // The bytes are those that were written: whoever wrote them is to blame, and no copy helps.
    let place = opened.parquet.metadata().row_group(group).column(at::PAYLOAD).byte_range();
    let wrong = |found: String| Fault::Damaged { block: place.0..place.0 + place.1, found };
    let undecodable = |error: ParquetError| wrong(error.to_string());

    let (skipped, selected) = ((rows.start - of_group.start) as usize, rows.len());
    let selection = RowSelection::from(vec![RowSelector::skip(skipped), RowSelector::select(selected)]);
    let mask = ProjectionMask::leaves(opened.parquet.parquet_schema(), want.columns().iter().copied());
    let mut decoder = ParquetPushDecoderBuilder::new_with_metadata(opened.parquet.clone())
        .with_projection(mask)
        .with_batch_size(selected)
        .with_row_group_selections(vec![RowGroupSelection::new(group, Some(selection))])
        .build()
        .map_err(undecodable)?;
    let mut batches: Vec<RecordBatch> = Vec::new();
    loop {
        match decoder.try_decode().map_err(undecodable)? {
            DecodeResult::NeedsData(ranges) => {
                let pieces = match want {
                    Want::Frames => cache.read(opened.object(), &ranges, true).await?,
                    Want::Everything => {
                        let columns = opened.columns(group, want.columns());
                        ahead.read(cache, opened.object(), &ranges, &columns).await?
                    }
                };
                decoder.push_ranges(ranges, pieces).map_err(undecodable)?;
            }
            DecodeResult::Data(batch) => batches.push(batch),
            DecodeResult::Finished => break,
        }
    }
    let mut named: Vec<(DeviceId, Span)> = Vec::with_capacity(spans.len());
    for span in spans {
        let device = match named.last() {
            Some((device, before)) if before.device == span.device => device.clone(),
            _ => opened.index.device(span.device).id(),
        };
        named.push((device, *span));
    }
    Rows::new(named, &batches).map_err(wrong)
}
