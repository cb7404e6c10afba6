//! A page of what has random ids and is all at hand, by id.

use super::mark;
use super::params::Params;
use super::refusal::Refusal;

/// Where the page begins, and how long it is.
#[derive(Debug)]
pub(super) struct IdPage {
    query: String,
    after: Option<[u8; 16]>,
    limit: usize,
}

impl IdPage {
    /// What `limit` and `cursor` of the query string say, and there is nothing else; the cursor is one of this query.
    ///
    /// # Errors
    /// [`Refusal::BadParameter`], [`Refusal::BadCursor`].
    pub(super) fn of(query_string: Option<&str>, query: String) -> Result<Self, Refusal> {
        let params = Params::parse(query_string, &["limit", "cursor"])?;
        let limit = params.items()?;
        let after = params.one("cursor")?.map(|cursor| mark::read_id(&query, cursor)).transpose()?;
        Ok(Self { query, after, limit })
    }

    /// Leaves the page of what is sorted by id; the cursor of the next one, if there is one.
    pub(super) fn cut<T>(&self, all: &mut Vec<T>, id: impl Fn(&T) -> [u8; 16]) -> Option<String> {
        all.retain(|one| self.after.is_none_or(|after| id(one) > after));
        let more = all.len() > self.limit;
        all.truncate(self.limit);
        all.last().filter(|_| more).map(|last| mark::write(&self.query, &id(last)))
    }
}
