//! Rows that were read, checked against what the index says of them.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, BinaryArray, RecordBatch, StringArray};
use trough_protocol::frame::FrameRef;
use trough_protocol::limits::{FRAME_BYTES_MAX, INT_MAX};
use trough_protocol::{Channel, ContentType, DeviceId, Epoch, Micros, Seq};
use trough_store::object_catalog::{Incarnation, ObjectId};

use super::Row;
use super::schema::{LOCAL, at};
use super::walk::Span;

/// What all readers need of a row; device, epoch and seq are in the index.
pub(super) const FRAME_COLUMNS: [usize; 7] =
    [at::TS, at::RECEIVED_AT, at::CHANNEL, at::CONTENT_TYPE, at::PAYLOAD, at::JOURNAL, at::JOURNAL_N];
/// Everything, for who makes new segments from old ones.
pub(super) const ALL_COLUMNS: [usize; 10] = [
    at::DEVICE,
    at::EPOCH,
    at::SEQ,
    at::TS,
    at::RECEIVED_AT,
    at::CHANNEL,
    at::CONTENT_TYPE,
    at::PAYLOAD,
    at::JOURNAL,
    at::JOURNAL_N,
];

/// Some rows of a segment, which lie together.
#[derive(Debug)]
pub struct Rows {
    spans: Vec<(DeviceId, Span)>,
    batches: Vec<Batch>,
}

/// What the decoder gives at once.
#[derive(Debug)]
struct Batch {
    heads: Vec<Head>,
    channel: StringArray,
    content_type: StringArray,
    payload: BinaryArray,
}

/// The numbers of a row.
#[derive(Debug, Clone, Copy)]
struct Head {
    ts: Micros,
    received_at: Micros,
    source: ObjectId,
}

impl Rows {
    /// Takes what the decoder gave for these spans.
    ///
    /// # Errors
    /// What is wrong: it is not what a segment's writer writes.
    pub(super) fn new(spans: Vec<(DeviceId, Span)>, batches: &[RecordBatch]) -> Result<Self, String> {
        let wanted: usize = spans.iter().map(|(_, span)| span.count as usize).sum();
        let had: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if wanted != had {
            return Err(format!("{had} rows came where {wanted} were asked for"));
        }
        let rows = Self { spans, batches: batches.iter().map(Batch::new).collect::<Result<_, _>>()? };
        rows.check_keys(batches)?;
        Ok(rows)
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        let keys = self.spans.iter().flat_map(|(device, span)| {
            (0..u64::from(span.count)).map(move |at| (device.as_str(), span.epoch, Seq(span.first.0 + at)))
        });
        let rows = self.batches.iter().flat_map(|batch| (0..batch.heads.len()).map(move |at| (batch, at)));
        keys.zip(rows).map(|(key, (batch, at))| batch.row(at, key))
    }

    /// The row at a place; `None` if there is none any more.
    pub(super) fn get(&self, at: &Place) -> Option<Row<'_>> {
        let (device, span) = self.spans.get(at.span)?;
        let batch = self.batches.get(at.batch)?;
        let seq = Seq(span.first.0 + u64::from(at.in_span));
        Some(batch.row(at.in_batch, (device.as_str(), span.epoch, seq)))
    }

    /// Goes to the next place. Whether there is a row.
    pub(super) fn step(&self, at: &mut Place) -> bool {
        at.in_span += 1;
        if self.spans.get(at.span).is_some_and(|(_, span)| at.in_span >= span.count) {
            (at.span, at.in_span) = (at.span + 1, 0);
        }
        at.in_batch += 1;
        while self.batches.get(at.batch).is_some_and(|batch| at.in_batch >= batch.heads.len()) {
            (at.batch, at.in_batch) = (at.batch + 1, 0);
        }
        at.span < self.spans.len()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.batches.iter().map(|batch| batch.heads.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// If the keys were read, they are those of the index.
    fn check_keys(&self, batches: &[RecordBatch]) -> Result<(), String> {
        let mut rows = self.iter();
        for batch in batches {
            let (Some(device), Some(epoch), Some(seq)) =
                (batch.column_by_name("device"), batch.column_by_name("epoch"), batch.column_by_name("seq"))
            else {
                return Ok(());
            };
            let (device, epoch, seq) = (
                device.as_string_opt::<i32>().ok_or("device is not a text")?,
                epoch.as_primitive_opt::<Int64Type>().ok_or("epoch is not an integer")?,
                seq.as_primitive_opt::<Int64Type>().ok_or("seq is not an integer")?,
            );
            for (at, row) in (0..batch.num_rows()).zip(&mut rows) {
                let key = (device.value(at), epoch.value(at) as u64, seq.value(at) as u64);
                if key != (row.device, row.epoch.0, row.seq.0) {
                    return Err(format!(
                        "a row is {key:?} where the index has {:?}",
                        (row.device, row.epoch.0, row.seq.0)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Where one is in some rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    span: usize,
    in_span: u32,
    batch: usize,
    in_batch: usize,
}

impl Batch {
    fn row<'a>(&'a self, at: usize, (device, epoch, seq): (&'a str, Epoch, Seq)) -> Row<'a> {
        let Head { ts, received_at, source } = self.heads[at];
        let content_type = ContentType::parse(self.content_type.value(at));
        let frame = FrameRef {
            ts,
            channel: self.channel.value(at),
            content_type: content_type.expect("it was parsed when the rows were taken"),
            payload: self.payload.value(at),
        };
        Row { device, epoch, seq, received_at, source, frame }
    }

    fn new(batch: &RecordBatch) -> Result<Self, String> {
        let column = |name: &str| {
            let column = batch.column_by_name(name).ok_or_else(|| format!("column {name} is missing"))?;
            if column.null_count() > 0 { Err(format!("column {name} has a null")) } else { Ok(column) }
        };
        let text = |name: &str| {
            let text = column(name)?.as_string_opt::<i32>().cloned();
            text.ok_or_else(|| format!("column {name} is not a text"))
        };
        let time = |name: &str| {
            let time = column(name)?.as_primitive_opt::<TimestampMicrosecondType>().cloned();
            time.ok_or_else(|| format!("column {name} is not a time"))
        };
        let (channel, content_type, journal) = (text("channel")?, text("content_type")?, text("journal")?);
        let (ts, received_at) = (time("ts")?, time("received_at")?);
        let journal_n = column("journal_n")?.as_primitive_opt::<Int64Type>();
        let journal_n = journal_n.ok_or("column journal_n is not an integer")?;
        let payload = column("payload")?.as_binary_opt::<i32>().cloned();
        let payload = payload.ok_or("column payload is not binary")?;
        check_all(&channel, |name| Channel::check(name.as_bytes()).map(|_| ()))?;
        check_all(&content_type, |name| ContentType::parse(name).map(|_| ()))?;
        let sources = incarnations(&journal)?;
        let head = |(at, incarnation): (usize, Incarnation)| {
            Ok(Head {
                ts: int("ts", ts.value(at), 1)?,
                received_at: int("received_at", received_at.value(at), 0)?,
                source: ObjectId { incarnation, n: int("journal_n", journal_n.value(at), 0)? },
            })
        };
        let heads = sources.into_iter().enumerate().map(head).collect::<Result<_, String>>()?;
        if let Some(at) = (0..payload.len()).find(|at| payload.value(*at).len() > FRAME_BYTES_MAX) {
            return Err(format!("a payload has {} bytes", payload.value(at).len()));
        }
        Ok(Self { heads, channel, content_type, payload })
    }
}

fn int(what: &str, value: i64, min: u64) -> Result<u64, String> {
    let known = u64::try_from(value).ok().filter(|value| (min..=INT_MAX).contains(value));
    known.ok_or_else(|| format!("{what} is {value}"))
}

/// Checks every word; of neighbours that are the same, one.
fn check_all<E: ToString>(words: &StringArray, check: impl Fn(&str) -> Result<(), E>) -> Result<(), String> {
    let mut before = None;
    for at in 0..words.len() {
        let word = words.value(at);
        if before != Some(word) {
            check(word).map_err(|error| error.to_string())?;
            before = Some(word);
        }
    }
    Ok(())
}

fn incarnations(journals: &StringArray) -> Result<Vec<Incarnation>, String> {
    let mut incarnations = Vec::with_capacity(journals.len());
    let mut before: Option<(&str, Incarnation)> = None;
    for at in 0..journals.len() {
        let name = journals.value(at);
        let incarnation = match before {
            Some((known, incarnation)) if known == name => incarnation,
            _ => incarnation(name).ok_or_else(|| format!("journal {name:?} is not one"))?,
        };
        before = Some((name, incarnation));
        incarnations.push(incarnation);
    }
    Ok(incarnations)
}

fn incarnation(name: &str) -> Option<Incarnation> {
    if name == LOCAL {
        return Some(Incarnation::LOCAL);
    }
    let canonical = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if name.len() != 32 || !name.bytes().all(canonical) {
        return None;
    }
    u128::from_str_radix(name, 16).ok().map(|value| Incarnation(value.to_be_bytes()))
}

/// The rows of spans that lie together.
pub(super) fn rows_of(spans: &[Span]) -> Range<u32> {
    let start = spans.first().map_or(0, |span| span.row);
    start..spans.last().map_or(start, |span| span.rows().end)
}
