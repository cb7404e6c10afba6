//! What live tails are made of, wherever a journal keeps its bytes.

use std::sync::Arc;

use bytes::Bytes;
use trough_protocol::DeviceId;
use trough_store::BoxFuture;
use trough_store::object_catalog::Incarnation;

use super::commit::{Commit, LiveRun};
use super::vector::Vector;
use crate::journal::ReadError;

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

/// A journal of either kind, to be followed. Nothing of it blocks.
pub trait Source: Send + Sync + 'static {
    /// All that is durable now. Where several eaters commit at once, journals are looked at one after the other, so that
    /// it may have what one of them committed, and not what came before in another: a step of a walk from there on sees
    /// to that.
    fn end(&self) -> BoxFuture<'_, Result<Vector, LiveError>>;

    /// The same vector, which names the journals that have begun since: one that it does not name is done then.
    fn named(&self, vector: Vector) -> BoxFuture<'_, Result<Vector, LiveError>>;

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
