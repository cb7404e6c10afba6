//! Reading failed: what the log says, and what the client is told.

use std::time::Duration;

use trough_protocol::{DeviceId, Epoch, Seq};

use super::frames_query::FramesQuery;
use super::refusal::Refusal;
use super::run::BadRun;
use crate::journal::{Order, ReadError};

/// When to try again what the disk refused.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// When to try again what lies in too many objects: they are merged in the meantime.
const RETRY_MERGED_AFTER: Duration = Duration::from_secs(60);

/// When to try again what took too long.
pub(super) const RETRY_SLOW_AFTER: Duration = Duration::from_secs(10);

/// Frames cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFault {
    /// What the journal says; it names file and offset.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The journal's bytes are those that were written, but they are not frames.
    #[error("frames that were stored cannot be decoded: {0}")]
    Run(#[from] BadRun),
    /// Whose frames to read next cannot be found out, which was logged.
    #[error(transparent)]
    Refused(Refusal),
    /// It took too long.
    #[error("reading took longer than it may")]
    Deadline,
}

impl ReadFault {
    /// Logs the fault, once: whoever passes it on to a client does not.
    pub(super) fn log(&self, device: &DeviceId) {
        self.log_of(Some(device));
    }

    /// The same; `None` if no device was being read.
    pub(super) fn log_of(&self, device: Option<&DeviceId>) {
        let device = device.map(DeviceId::as_str);
        match self {
            Self::Refused(_) => {}
            Self::Deadline => tracing::warn!(device, "{self}"),
            Self::Journal(_) | Self::Run(_) => {
                tracing::error!(device, error = %self, "frames cannot be read");
            }
        }
    }

    /// What the client is told when it was not frames that it asked for.
    pub(super) fn states_refusal(&self) -> Refusal {
        tracing::error!(error = %self, "what is known of devices cannot be read");
        self.refusal(Order::Asc)
    }

    /// What the client is told. File names are not its business.
    pub(super) fn refusal(&self, order: Order) -> Refusal {
        self.refusal_with(order, |(epoch, behind)| go_on(&format!("{epoch}:{behind}")))
    }

    /// What the client is told who asked this for frames.
    pub(super) fn refusal_of(&self, query: &FramesQuery, device: Option<&DeviceId>) -> Refusal {
        self.refusal_with(query.order, |(epoch, behind)| {
            if query.downsample.is_some() {
                return "leave them out with from and to, or read frames, without every".to_owned();
            }
            match device.filter(|_| query.is_of_many()) {
                Some(device) => go_on(&format!("{device}:{epoch}:{behind}")),
                None => go_on(&format!("{epoch}:{behind}")),
            }
        })
    }

    fn refusal_with(&self, order: Order, remedy: impl Fn((Epoch, Seq)) -> String) -> Refusal {
        let damaged = |epoch, first, last| {
            let behind = if order == Order::Asc { last } else { first };
            Refusal::Damaged { epoch, first, last, remedy: remedy((epoch, behind)) }
        };
        match self {
            Self::Journal(
                ReadError::Damaged { epoch, first, last, .. }
                | ReadError::DamagedObject { epoch, first, last, .. }
                | ReadError::DamagedSegment { epoch, first, last, .. },
            ) => damaged(*epoch, *first, *last),
            Self::Journal(ReadError::Io { .. } | ReadError::Catalog(_) | ReadError::Store(_)) => {
                Refusal::Busy {
                    what: "the journal cannot be read just now".to_owned(),
                    retry_after: RETRY_AFTER,
                }
            }
            Self::Journal(error @ (ReadError::TooManyObjects { .. } | ReadError::TooManySegments { .. })) => {
                Refusal::Busy { what: error.to_string(), retry_after: RETRY_MERGED_AFTER }
            }
            Self::Journal(ReadError::Broken(_)) => {
                Refusal::Broken("reading broke off; the server's log says why".to_owned())
            }
            Self::Journal(ReadError::Index { .. }) => {
                Refusal::Broken("the journal's index is damaged; the server's log says what to do".to_owned())
            }
            Self::Journal(ReadError::Segment { .. }) => {
                Refusal::Broken("a segment is damaged; the server's log says which".to_owned())
            }
            Self::Journal(ReadError::Object { .. }) => {
                Refusal::Broken("a journal object is damaged; the server's log says which".to_owned())
            }
            Self::Run(bad) => damaged(bad.epoch, bad.first, bad.last),
            Self::Refused(refusal) => refusal.clone(),
            Self::Deadline => Refusal::Deadline { retry_after: RETRY_SLOW_AFTER },
        }
    }
}

fn go_on(place: &str) -> String {
    format!("go on behind them with after={place} in place of a cursor")
}
