//! What lies in the collection `compaction`, as documents. How far journals are in segments: [`super::segment_rows`].

use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::{CollectionOptions, ReadConcern};
use mongodb::{Collection, Database};
use serde::Deserialize;

use super::failure::Failure;
use super::object_rows::parsed_hex;
use crate::error::CatalogError;
use crate::format_level::FormatLevel;
use crate::segment_catalog::{Change, CommitError};

/// What is claimed and what was made: one document, which every change and every claim writes. So of a change and a
/// claim that takes it over one is first, and the other sees it.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    /// The newest manifest's number.
    pub number: u64,
    /// The last claim's token.
    pub token: u64,
    /// When it runs out.
    pub until: DateTime,
    /// The changes that made the last manifests, in 32 hex digits each; that of the newest is the last.
    pub made: Vec<String>,
    /// The last manifest with which frames were removed for good.
    #[serde(default)]
    pub expired: u64,
    /// The server's clock. Not stored.
    pub now: Option<DateTime>,
}

impl State {
    /// The change that made a manifest, if that is still known.
    fn made(&self, number: u64) -> Option<[u8; 16]> {
        let back = usize::try_from(self.number.checked_sub(number)?).ok()?;
        parsed_hex(self.made.iter().rev().nth(back)?)
    }

    /// See [`Change::turn`].
    pub fn turn(&self, change: &Change) -> Result<Option<u64>, CommitError> {
        change.turn(self.number, self.token, self.made(change.after + 1))
    }
}

/// The state's id. Journals lie beside it, under the names of their incarnations.
pub(super) const STATE: &str = "state";

/// The collection. Reads outside of transactions are linearizable, as those of objects.
pub(super) fn compaction<T: Send + Sync>(database: &Database) -> Collection<T> {
    let options = CollectionOptions::builder().read_concern(ReadConcern::linearizable()).build();
    database.collection_with_options("compaction", options)
}

/// The state.
pub(super) fn the_state() -> Document {
    doc! { "_id": STATE }
}

/// The format level lies beside it, too.
const FORMAT: &str = "format";

/// The format level.
pub(super) fn the_format() -> Document {
    doc! { "_id": FORMAT }
}

/// All journals.
pub(super) fn journals() -> Document {
    doc! { "_id": { "$nin": [STATE, FORMAT] } }
}

/// See [`FormatLevel`].
#[derive(Debug, Deserialize)]
struct FormatDocument {
    level: u32,
    release: String,
}

/// The format level that is set.
pub(super) async fn format_level(database: &Database) -> Result<FormatLevel, Failure> {
    let found = compaction::<FormatDocument>(database).find_one(the_format()).await?;
    let FormatDocument { level, release } = found.ok_or_else(|| {
        Failure::Corrupt("the document \"format\" is gone from the database's collection compaction".into())
    })?;
    Ok(FormatLevel { level, release })
}

/// That the state is not there.
pub(super) fn gone() -> CatalogError {
    CatalogError::Corrupt("the document \"state\" is gone from the database's collection compaction".into())
}

/// The state, and the server's clock.
pub(super) async fn look(database: &Database) -> Result<State, Failure> {
    let state = [
        doc! { "$match": the_state() },
        doc! { "$project": { "number": 1, "token": 1, "until": 1, "made": 1, "expired": 1, "now": "$$NOW" } },
    ];
    let all = compaction::<Document>(database);
    let mut answer = all.aggregate(state).with_type::<State>().await?;
    if !answer.advance().await? {
        return Err(Failure::Corrupt(gone().to_string()));
    }
    Ok(answer.deserialize_current()?)
}
