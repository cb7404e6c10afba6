//! Which channels the registry says carry positions: one document for each.

use mongodb::bson::{Document, doc};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};
use trough_protocol::Channel;

use super::failure::Failure;
use crate::position_schema::PositionSchema;

type Result<T> = std::result::Result<T, Failure>;

#[derive(Debug, Serialize, Deserialize)]
struct SchemaDocument {
    #[serde(rename = "_id")]
    channel: String,
    lat: String,
    lon: String,
}

fn schemas<T: Send + Sync>(database: &Database) -> Collection<T> {
    database.collection("position_schemas")
}

impl TryFrom<SchemaDocument> for PositionSchema {
    type Error = Failure;
    fn try_from(SchemaDocument { channel, lat, lon }: SchemaDocument) -> Result<Self> {
        let channel = Channel::new(&channel).map_err(|error| Failure::Corrupt(error.to_string()))?;
        Self::new(channel, &lat, &lon).map_err(|error| Failure::Corrupt(error.to_string()))
    }
}

/// How many other channels carry positions.
pub(super) async fn others(database: &Database, channel: &Channel) -> Result<u64> {
    Ok(schemas::<Document>(database).count_documents(doc! { "_id": { "$ne": channel.as_str() } }).await?)
}

/// Says that a channel carries positions.
pub(super) async fn set(database: &Database, schema: &PositionSchema) -> Result<()> {
    let channel = schema.channel().as_str();
    let (lat, lon) = (schema.lat().to_owned(), schema.lon().to_owned());
    let document = SchemaDocument { channel: channel.to_owned(), lat, lon };
    schemas(database).replace_one(doc! { "_id": channel }, document).upsert(true).await?;
    Ok(())
}

/// All of them, by channel.
pub(super) async fn list(database: &Database) -> Result<Vec<PositionSchema>> {
    let mut found = schemas::<SchemaDocument>(database).find(doc! {}).sort(doc! { "_id": 1 }).await?;
    let mut all = Vec::new();
    while found.advance().await? {
        all.push(found.deserialize_current()?.try_into()?);
    }
    Ok(all)
}

/// Says that a channel carries none: whether it did.
pub(super) async fn remove(database: &Database, channel: &Channel) -> Result<bool> {
    let done = schemas::<Document>(database).delete_one(doc! { "_id": channel.as_str() }).await?;
    Ok(done.deleted_count == 1)
}
