//! Removing rows of journal objects whose frames are in segments.

use mongodb::Database;
use mongodb::bson::{Document, doc};
use serde::Deserialize;

use super::failure::Failure;
use super::object_rows::{End, end, key, objects, parsed_key, rows_through};
use crate::object_catalog::ObjectId;
use crate::segment_catalog::Through;

#[derive(Debug, Deserialize)]
struct Named {
    #[serde(rename = "_id")]
    id: String,
}

/// What [`ObjectCatalog::remove_through`](crate::ObjectCatalog::remove_through) does.
///
/// Only an incarnation's last number is ever wanted again, by an eater that did not hear the answer: it goes on to the
/// next one only when it has. So every row below the last may go, and the last one leaves a stub: the unique key is
/// what keeps a number from being entered twice. Should an insert arrive that was on its way all the while, its row is
/// passed over by everybody who says which journals are in segments, and is removed with the next ones.
pub(super) async fn remove(database: &Database, through: Through, limit: usize) -> Result<u64, Failure> {
    let (End::Open(last) | End::Closed(last)) = end(database, through.incarnation).await?;
    // To the server no limit is 0.
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    if last == 0 || limit == 0 {
        return Ok(0);
    }
    let found = list(database, Through { n: through.n.min(last), ..through }, limit).await?;
    let Some(highest) = found.last() else { return Ok(0) };
    let last = key(ObjectId { incarnation: through.incarnation, n: last });
    // With an older stub, which stands below them all.
    let mut gone = rows_through(&Through { n: parsed_key(highest)?.n, ..through });
    gone.insert("$nor", vec![doc! { "_id": &last }]);
    objects::<Document>(database).delete_many(gone).await?;
    if *highest == last {
        let stub = doc! { "$set": { "g": true, "s": [] }, "$unset": { "w": "" } };
        objects::<Document>(database).update_one(doc! { "_id": last }, stub).await?;
    }
    Ok(found.len() as u64)
}

/// The lowest rows that can be removed.
async fn list(database: &Database, through: Through, limit: i64) -> Result<Vec<String>, Failure> {
    let mut rows = rows_through(&through);
    rows.extend(doc! { "x": { "$exists": false }, "g": { "$exists": false } });
    let all = objects::<Named>(database);
    let mut page = all.find(rows).projection(doc! { "_id": 1 }).sort(doc! { "_id": 1 }).limit(limit).await?;
    let mut found = Vec::new();
    while page.advance().await? {
        found.push(page.deserialize_current()?.id);
    }
    Ok(found)
}
