//! What live tails are made of, wherever a journal keeps its bytes.

use std::sync::Arc;

use bytes::Bytes;
use trough_protocol::{DeviceId, Micros};
use trough_store::BoxFuture;
use trough_store::object_catalog::Incarnation;

use super::commit::{Commit, LiveRun};
use super::vector::Vector;
use crate::journal::{Chunk, ReadError};

/// Following cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The journal does not have any more what comes next: begin with history.
    #[error("what comes next was compacted, and has left the journal")]
    Expired,
    /// Try again.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What has been found.
#[derive(Debug, Default)]
pub struct Found {
    /// In an order in which every device's numbers rise. There may be none though there is more: a walk that is far
    /// behind must look through much.
    pub commits: Vec<Arc<Commit>>,
    /// There may be more already.
    pub more: bool,
}

/// What is done of what history has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Names all journals that are not done for good.
    pub vector: Vector,
    /// What the local journal had received before is done, also of the file where the vector stands.
    pub local_before: Micros,
}

impl Done {
    /// Whether frames are done: surely, if they are.
    pub fn has(&self, chunk: &Chunk) -> bool {
        let is_local = chunk.source.incarnation == Incarnation::LOCAL;
        self.vector.has_named(chunk.source) || (is_local && chunk.received_at < self.local_before)
    }
}

/// A journal of either kind, to be followed. Nothing of it blocks.
pub trait Source: Send + Sync + 'static {
    /// All that is durable now. Where several eaters commit at once, journals are looked at one after the other, so that
    /// it may have what one of them committed, and not what came before in another: a step of a walk from there on sees
    /// to that.
    fn end(&self) -> BoxFuture<'_, Result<Vector, LiveError>>;

    /// What a vector says is done of what history has.
    fn done(&self, vector: Vector) -> BoxFuture<'_, Result<Done, LiveError>>;

    /// A walk that begins behind `from`. With `only`, at least what is this device's is given.
    fn walk(&self, from: Vector, only: Option<DeviceId>) -> Box<dyn Walk>;

    /// The runs that these devices have in a commit, in the order of arrival. Those that lie before `from` may be left out.
    fn runs<'a>(
        &'a self,
        commit: &'a Commit,
        devices: &'a [DeviceId],
        from: u32,
    ) -> BoxFuture<'a, Result<Vec<LiveRun>, LiveError>>;

    /// The frames of runs of a commit, each verified: `None` for one that is damaged.
    fn data<'a>(
        &'a self,
        commit: &'a Commit,
        runs: &'a [LiveRun],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, LiveError>>;
}

/// A walk through everything that is committed, by whomever.
///
/// Each device's numbers come in order, however many eaters commit at once; what came before is not given again as far
/// as the walk can know.
pub trait Walk: Send {
    /// What is done: everything that was given.
    fn vector(&self) -> &Vector;

    /// What is new, in the journal of this incarnation, or anywhere.
    ///
    /// Not cancel-safe in effect: drop the walk if the future was dropped.
    fn step(&mut self, of: Option<Incarnation>) -> BoxFuture<'_, Result<Found, LiveError>>;
}
