//! What journal objects hold of a device.

use mongodb::Database;
use mongodb::bson::{Document, doc};
use serde::Deserialize;
use trough_protocol::limits::INT_MAX;
use trough_protocol::{Epoch, Micros, Seq};

use super::failure::Failure;
use super::object_rows::{SpanDocument, objects, parsed_key};
use crate::object_catalog::{Found, SPANS_MAX, SpanQuery};

#[derive(Debug, Deserialize)]
struct FoundDocument {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "b")]
    bytes: u64,
    #[serde(rename = "r")]
    received_at: Micros,
    /// Missing if the row is wide.
    #[serde(rename = "s")]
    span: Option<SpanDocument>,
}

impl FoundDocument {
    fn into_found(self) -> Result<Found, Failure> {
        let span = self.span.map(SpanDocument::into_span).transpose()?;
        let Self { bytes, received_at, .. } = self;
        Ok(Found { id: parsed_key(&self.id)?, bytes, received_at, span })
    }
}

/// The index that finds a device's rows, and the one of wide rows.
///
/// The first has a key for each span, as they lie in an array. `$elemMatch` is what lets the server use all three
/// fields as bounds of one scan: conditions on separate fields of an array could be met by separate elements. So the
/// scan starts at the wanted epoch and number and does not see what lies before.
pub(super) fn indexes() -> Vec<mongodb::IndexModel> {
    let spans = mongodb::IndexModel::builder().keys(doc! { "s.d": 1, "s.e": 1, "s.l": 1 }).build();
    let sparse = mongodb::options::IndexOptions::builder().sparse(true).build();
    let wide = mongodb::IndexModel::builder().keys(doc! { "w": 1, "r": 1 }).options(sparse).build();
    vec![spans, wide]
}

/// What [`ObjectCatalog::spans`](crate::ObjectCatalog::spans) answers. Three questions, each with an index of its
/// own: wide rows, the rest of the epoch that `after` names, and later epochs.
pub(super) async fn find(database: &Database, query: &SpanQuery) -> Result<Vec<Found>, Failure> {
    let limit = query.limit.min(SPANS_MAX);
    if limit == 0 {
        return Ok(Vec::new());
    }
    let fits = |(epoch, seq): (Epoch, Seq)| (integer(epoch.0), integer(seq.0));
    let (epoch, seq) = query.after.map_or((0, 0), fits);
    let before = query.before.map_or((integer(u64::MAX), 0), fits);
    let rest = async {
        // There is no epoch 0, so nothing is left of it.
        if epoch == 0 {
            return Ok(Vec::new());
        }
        let behind = doc! { "e": epoch, "l": { "$gt": seq } };
        ask(database, listed(query, behind, before, limit)).await
    };
    let later = ask(database, listed(query, behind_epoch(epoch), before, limit));
    let (mut found, rest, later) = tokio::try_join!(ask(database, wide(limit)), rest, later)?;
    found.extend(rest);
    found.extend(later);
    found.truncate(limit);
    Ok(found)
}

/// All of the answer comes in one batch, so that all of it is what the primary made sure of.
async fn ask(database: &Database, pipeline: Vec<Document>) -> Result<Vec<Found>, Failure> {
    let batch = u32::try_from(SPANS_MAX + 1).unwrap_or(u32::MAX);
    let rows = objects::<Document>(database);
    let asked = rows.aggregate(pipeline).with_type::<FoundDocument>();
    let mut answer = asked.batch_size(batch).await?;
    let mut found = Vec::new();
    while answer.advance().await? {
        found.push(answer.deserialize_current()?.into_found()?);
    }
    Ok(found)
}

fn wide(limit: usize) -> Vec<Document> {
    vec![
        doc! { "$match": { "w": true } },
        doc! { "$project": { "b": 1, "r": 1 } },
        doc! { "$sort": { "r": 1, "_id": 1 } },
        doc! { "$limit": integer(limit as u64) },
    ]
}

/// Spans of the device that are `behind` where it starts and begin before `before`.
fn listed(query: &SpanQuery, behind: Document, before: (i64, i64), limit: usize) -> Vec<Document> {
    let device = query.device.as_str();
    let mut element = doc! { "d": device };
    element.extend(behind);
    // The same for each field by itself: less than `$elemMatch` says, so it takes nothing away. A server that uses
    // no index for `$elemMatch` uses it for these; MongoDB puts both stages together and takes the better bounds.
    let fields = |path: &str| -> Document {
        element.iter().map(|(field, value)| (format!("{path}.{field}"), value.clone())).collect()
    };
    let (epoch, seq) = before;
    let starts_before = [doc! { "s.e": { "$lt": epoch } }, doc! { "s.e": epoch, "s.f": { "$lt": seq } }];
    let mut wanted = fields("s");
    wanted.insert("$or", starts_before.to_vec());
    let rows = doc! { "s": { "$elemMatch": element.clone() }, "w": { "$exists": false } };
    vec![
        doc! { "$match": fields("s") },
        doc! { "$match": rows },
        // An object has thousands of spans and few of the device: the others go before anything is sorted.
        doc! { "$project": { "b": 1, "r": 1, "s": { "$filter": {
            "input": "$s", "cond": { "$eq": ["$$this.d", { "$literal": device }] },
        } } } },
        doc! { "$unwind": "$s" },
        doc! { "$match": wanted },
        doc! { "$sort": { "s.e": 1, "s.f": 1, "r": 1, "_id": 1 } },
        doc! { "$limit": integer(limit as u64) },
    ]
}

/// Later epochs. Not "above this one": a server may go through all that has this epoch to find what is above it, and that
/// is all that the device has.
fn behind_epoch(epoch: i64) -> Document {
    doc! { "e": { "$gte": epoch + 1 } }
}

/// A number as the database has it: what cannot occur there becomes the first that is above all.
fn integer(value: u64) -> i64 {
    i64::try_from(value.min(INT_MAX + 1)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_protocol::DeviceId;

    #[test]
    fn later_epochs_are_looked_for_from_the_next_one_on() {
        let device = DeviceId::new("bus").unwrap();
        let query = SpanQuery { device, after: Some((Epoch(7), Seq(3))), before: None, limit: 1 };
        let listed = listed(&query, behind_epoch(7), (integer(u64::MAX), 0), 1);
        // Whatever a server takes for the bounds of its scan, epoch 7 is not within them.
        let bounds = listed[0].get_document("$match").unwrap();
        assert_eq!(*bounds, doc! { "s.d": "bus", "s.e": { "$gte": 8_i64 } });
    }
}
