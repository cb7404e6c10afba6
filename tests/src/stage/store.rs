//! What frames are stored in.

use std::net::SocketAddr;
use std::path::Path;

use crate::poll::{LATER, until};
use crate::process::Process;
use crate::servers::seaweed::{self, Seaweed};
use crate::servers::swift::{self, Swift};
use crate::servers::{Access, copy};

/// An object store.
#[derive(Debug)]
pub enum Store {
    /// SeaweedFS.
    Seaweed(Seaweed),
    /// OpenStack Swift.
    Swift(Swift),
}

impl Store {
    /// SeaweedFS, with an empty bucket.
    pub async fn seaweed() -> Self {
        Self::Seaweed(Seaweed::start().await)
    }

    /// Where its S3 API listens.
    pub fn at(&self) -> SocketAddr {
        match self {
            Self::Seaweed(server) => server.at,
            Self::Swift(server) => server.at,
        }
    }

    /// Who may use it.
    pub fn access(&self) -> &'static Access {
        match self {
            Self::Seaweed(_) => &seaweed::ACCESS,
            Self::Swift(_) => &swift::ACCESS,
        }
    }

    /// Copies what it has into a directory: what is there already stays as it is.
    pub async fn copy_to(&self, dir: &Path) {
        until("the store gives what it has", LATER, async || copy(self.at(), self.access(), dir).await).await;
    }

    pub(super) fn process(&mut self) -> &mut Process {
        match self {
            Self::Seaweed(server) => server.process(),
            Self::Swift(server) => server.process(),
        }
    }

    pub(super) fn spawn_again(&mut self) {
        match self {
            Self::Seaweed(server) => server.spawn_again(),
            Self::Swift(server) => server.spawn_again(),
        }
    }

    pub(super) async fn ready(&mut self) {
        match self {
            Self::Seaweed(server) => server.ready().await,
            Self::Swift(server) => server.ready().await,
        }
    }
}
