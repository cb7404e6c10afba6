//! Journal objects as documents, one each. Field names are short, as a document may list thousands of devices.

use mongodb::bson::{Document, doc};
use mongodb::options::{CollectionOptions, ReadConcern};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::limits::INT_MAX;
use trough_protocol::{DeviceId, Epoch, Micros, Seq};

use super::failure::Failure;
use crate::object_catalog::{AppendError, DeviceSpan, Incarnation, ObjectId, ObjectRow};
use crate::segment_catalog::Through;

/// A row. Its id is the incarnation and n, so the key that must be unique is the one that every collection has by
/// itself: there is no index that could be missing or dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowDocument {
    /// `INCARNATION/N`, in 32 hex digits and 16 decimal ones, so that the order of texts is that of the numbers.
    #[serde(rename = "_id")]
    id: String,
    /// It closes the incarnation, and stands for no object.
    #[serde(rename = "x", default, skip_serializing_if = "is_false")]
    closing: bool,
    #[serde(rename = "b", default)]
    bytes: u64,
    #[serde(rename = "c", default)]
    crc: u32,
    #[serde(rename = "r", default)]
    received_at: Micros,
    /// Only there if it is true, for an index that is as small as wide rows are rare.
    #[serde(rename = "w", default, skip_serializing_if = "is_false")]
    wide: bool,
    /// It is a stub: its spans were removed, and its number stays taken.
    #[serde(rename = "g", default, skip_serializing_if = "is_false")]
    removed: bool,
    #[serde(rename = "s", default)]
    spans: Vec<SpanDocument>,
}

/// What an object has of one device and epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SpanDocument {
    #[serde(rename = "d")]
    device: String,
    #[serde(rename = "e")]
    epoch: u64,
    #[serde(rename = "f")]
    first: u64,
    #[serde(rename = "l")]
    last: u64,
    #[serde(rename = "n")]
    frames: u64,
    #[serde(rename = "t")]
    ts: (Micros, Micros),
}

fn is_false(value: &bool) -> bool {
    !value
}

impl RowDocument {
    pub fn closing(id: ObjectId) -> Self {
        let (bytes, crc, received_at, wide, removed) = (0, 0, 0, false, false);
        Self { id: key(id), closing: true, bytes, crc, received_at, wide, removed, spans: Vec::new() }
    }

    /// What is left of rows that were removed, if nothing is known of the last of them.
    pub fn stub(id: ObjectId) -> Self {
        Self { removed: true, closing: false, ..Self::closing(id) }
    }

    /// Whether this is what was entered as that row. A stub tells by what it has kept.
    fn is(&self, row: &Self) -> bool {
        let marks = |row: &Self| (row.closing, row.bytes, row.crc, row.received_at);
        self == row || (self.removed && marks(self) == marks(row))
    }

    pub fn into_row(self) -> Result<ObjectRow, Failure> {
        let spans = self.spans.into_iter().map(SpanDocument::into_span).collect::<Result<_, _>>()?;
        let Self { bytes, crc, received_at, wide, .. } = self;
        Ok(ObjectRow { id: parsed_key(&self.id)?, bytes, crc, received_at, spans, wide })
    }
}

impl From<&ObjectRow> for RowDocument {
    fn from(row: &ObjectRow) -> Self {
        let ObjectRow { id, bytes, crc, received_at, wide, .. } = *row;
        let spans = row.spans.iter().map(SpanDocument::from).collect();
        Self { id: key(id), closing: false, bytes, crc, received_at, wide, removed: false, spans }
    }
}

impl SpanDocument {
    pub fn into_span(self) -> Result<DeviceSpan, Failure> {
        let Self { epoch, first, last, frames, ts, .. } = self;
        let device = parsed_device(&self.device)?;
        Ok(DeviceSpan { device, epoch: Epoch(epoch), first: Seq(first), last: Seq(last), frames, ts })
    }
}

impl From<&DeviceSpan> for SpanDocument {
    fn from(span: &DeviceSpan) -> Self {
        let DeviceSpan { epoch, first, last, frames, ts, .. } = *span;
        let device = span.device.as_str().to_owned();
        Self { device, epoch: epoch.0, first: first.0, last: last.0, frames, ts }
    }
}

/// Where they lie. Reads are linearizable: the primary answers only when it has made sure that it still is one, and
/// that nothing in its answer can be undone. `majority` alone lets a primary answer that was cut off and has not
/// noticed, without the rows that another one has taken since.
pub(super) fn objects<T: Send + Sync>(database: &Database) -> Collection<T> {
    let options = CollectionOptions::builder().read_concern(ReadConcern::linearizable()).build();
    database.collection_with_options("objects", options)
}

/// The text that names a row.
pub(super) fn key(id: ObjectId) -> String {
    format!("{}/{:016}", id.incarnation, id.n)
}

/// What [`key`] made.
pub(super) fn parsed_key(key: &str) -> Result<ObjectId, Failure> {
    let wrong = || Failure::Corrupt(format!("{key:?} is no object's key"));
    let (incarnation, n) = key.split_once('/').ok_or_else(wrong)?;
    let n = n.parse().map_err(|_| wrong())?;
    Ok(ObjectId { incarnation: parsed_incarnation(incarnation)?, n })
}

/// 32 hex digits.
pub(super) fn parsed_incarnation(text: &str) -> Result<Incarnation, Failure> {
    let wrong = || Failure::Corrupt(format!("{text:?} is no incarnation"));
    parsed_hex(text).map(Incarnation).ok_or_else(wrong)
}

/// 16 bytes of 32 hex digits.
pub(super) fn parsed_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(u128::from_str_radix(text, 16).ok().filter(|_| digits)?.to_be_bytes())
}

/// A device's id.
pub(super) fn parsed_device(text: &str) -> Result<DeviceId, Failure> {
    DeviceId::new(text).map_err(|error| Failure::Corrupt(error.to_string()))
}

/// All rows of an incarnation, those after a number.
pub(super) fn rows_of(incarnation: Incarnation, after: u64) -> Document {
    // '0' is the character behind '/'.
    doc! { "_id": { "$gt": key(ObjectId { incarnation, n: after }), "$lt": format!("{incarnation}0") } }
}

/// All rows of an incarnation up to and including a number.
pub(super) fn rows_through(through: &Through) -> Document {
    let Through { incarnation, n } = *through;
    doc! { "_id": { "$gt": format!("{incarnation}/"), "$lte": key(ObjectId { incarnation, n: n.min(INT_MAX) }) } }
}

/// The number of an incarnation's last object, and whether anything may follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open(u64),
    Closed(u64),
}

/// As much of a row as says where it stands.
#[derive(Debug, Deserialize)]
struct LastRow {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "x", default)]
    closing: bool,
}

/// Where an incarnation stands.
pub(super) async fn end(database: &Database, incarnation: Incarnation) -> Result<End, Failure> {
    let rows = objects::<LastRow>(database);
    let last = rows.find_one(rows_of(incarnation, 0)).sort(doc! { "_id": -1 }).projection(doc! { "x": 1 });
    let Some(LastRow { id, closing }) = last.await? else { return Ok(End::Open(0)) };
    let n = parsed_key(&id)?.n;
    Ok(if closing { End::Closed(n.saturating_sub(1)) } else { End::Open(n) })
}

/// Enters a row whose predecessor is there. The unique id decides between those who want the number.
pub(super) async fn enter(database: &Database, row: &ObjectRow) -> Result<Result<(), AppendError>, Failure> {
    let document = RowDocument::from(row);
    let rows = objects::<RowDocument>(database);
    match rows.insert_one(&document).await.map_err(Failure::from) {
        Ok(_) => return Ok(Ok(())),
        Err(Failure::Duplicate(_)) => {}
        Err(failure) => return Err(failure),
    }
    // That it is there does not say that it is durable: the server refuses a second one at once. The linearizable
    // read does, as it waits for the majority.
    let stored = rows.find_one(doc! { "_id": &document.id }).await?;
    Ok(match stored {
        Some(stored) if stored.is(&document) => Ok(()),
        Some(stored) if stored.closing => Err(AppendError::Closed(row.id.incarnation)),
        Some(_) => Err(AppendError::Taken(row.id)),
        None => return Err(Failure::Unavailable("another row was entered and undone".into())),
    })
}

/// Whether the number has a row, or a stub.
pub(super) async fn is_there(database: &Database, id: ObjectId) -> Result<bool, Failure> {
    let rows = objects::<LastRow>(database);
    Ok(rows.find_one(doc! { "_id": key(id) }).projection(doc! { "x": 1 }).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_and_are_read_back() {
        let ids = [(1, 1), (1, 9), (1, 10), (1, INT_MAX), (2, 1), (0xff, 5)];
        let ids = ids.map(|(incarnation, n)| ObjectId { incarnation: Incarnation([incarnation; 16]), n });
        let keys = ids.map(key);
        assert!(keys.is_sorted());
        assert_eq!(keys.each_ref().map(|key| parsed_key(key).unwrap()), ids);
        for bad in ["", "/", "+1234567890123456789012345678901/1", "00/0000000000000001"] {
            assert!(matches!(parsed_key(bad), Err(Failure::Corrupt(_))), "{bad}");
        }
    }
}
