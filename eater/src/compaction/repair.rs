//! Giving up what journal objects have lost, because an operator says so: never by itself, as a copy may be found.
//!
//! It is compaction of journals and nothing else, under the same claim; what cannot be read of an object becomes a loss of
//! the kind `damaged`, which readers see as a gap.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use trough_store::ObjectKey;
use trough_store::object_catalog::ObjectRow;
use trough_store::segment_catalog::CommitError;

use super::{CompactError, CompactionConfig, CompactionParts, Compactor};
use crate::fsck::LostFrames;

/// How long it is waited until nobody else compacts, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What is lost of a journal object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Its key.
    pub object: ObjectKey,
    /// What is wrong with it.
    pub found: String,
    /// The numbers that become gaps, unless another object has frames of them.
    pub lost: Vec<LostFrames>,
    /// It had more devices than its row lists: what is lost of the others cannot be told.
    pub more: bool,
}

impl GivenUp {
    /// A whole object, by its row.
    pub(super) fn whole(object: ObjectKey, found: String, row: &ObjectRow) -> Self {
        let lost = row.spans.iter().map(|span| LostFrames {
            device: span.device.clone(),
            epoch: span.epoch,
            first: span.first,
            last: span.last,
        });
        Self { object, found, lost: lost.collect(), more: row.wide }
    }
}

/// Compacts what journal objects there are, past what is damaged of them, and tells what was given up once that is
/// committed. How many steps it took. Blocks; eaters may run.
///
/// # Errors
/// [`CompactError`]; what was told of is given up all the same.
pub fn repair(
    config: CompactionConfig,
    parts: CompactionParts,
    handle: Handle,
    told: &mut dyn FnMut(GivenUp),
) -> Result<u64, CompactError> {
    Compactor::new(config, parts, handle, CancellationToken::new()).repair(told)
}

impl Compactor {
    pub(super) fn repair(&mut self, told: &mut dyn FnMut(GivenUp)) -> Result<u64, CompactError> {
        self.given_up = Some(Vec::new());
        let token = self.claim_in_time()?;
        let done = self.past_damage(token, told);
        // Another takes it over in time, if this is not heard.
        if let Err(error) = self.wait(self.parts.segments.release(token)) {
            tracing::debug!(%error, "the claim on compaction could not be given back");
        }
        done
    }

    fn claim_in_time(&self) -> Result<u64, CompactError> {
        let deadline = Instant::now() + PATIENCE;
        self.wait(async {
            loop {
                if let Some(token) = self.parts.segments.claim(self.config.claim_ttl).await? {
                    return Ok(token);
                }
                if Instant::now() >= deadline {
                    return Err(CompactError::Claimed { waited: PATIENCE });
                }
                sleep(ASK_EVERY).await;
            }
        })
    }

    fn past_damage(&mut self, token: u64, told: &mut dyn FnMut(GivenUp)) -> Result<u64, CompactError> {
        self.sure_manifest()?;
        let mut steps = 0;
        while self.renew(token)? {
            let manifest = self.manifest()?;
            if !self.step_of_journals(&manifest, token)? {
                return Ok(steps);
            }
            steps += 1;
            self.given_up.iter_mut().flat_map(std::mem::take).for_each(&mut *told);
        }
        Err(CommitError::Fenced { token }.into())
    }
}
