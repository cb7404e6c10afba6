//! The claim, while something goes on under it that may take long.

use tokio::time::Instant;
use trough_store::segment_catalog::CommitError;

use super::{CompactError, Compactor};

/// How often a claim is renewed within its life: a store or a database that hangs for a while costs no step.
const RENEWALS: u32 = 5;

impl Compactor {
    /// Renews the claim. Whether nobody else has taken it over.
    pub(super) fn renew(&self, token: u64) -> Result<bool, CompactError> {
        self.renewed.set(Instant::now());
        Ok(self.wait(self.parts.segments.renew(token, self.config.claim_ttl))?)
    }

    /// That this process goes on, and nobody else has taken the claim over, which is renewed when it is time to. To be
    /// called between any two things that wait for a store.
    ///
    /// It is not cancelled halfway: what a renewal changes is harmless.
    pub(super) async fn keep_claim(&self, token: u64) -> Result<(), CompactError> {
        if self.stop.is_cancelled() {
            return Err(CompactError::Stopping);
        }
        if self.renewed.get().elapsed() < self.config.claim_ttl / RENEWALS {
            return Ok(());
        }
        self.renewed.set(Instant::now());
        match self.parts.segments.renew(token, self.config.claim_ttl).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(CommitError::Fenced { token }.into()),
            Err(error) => {
                // What is at stake is double work, so it is tried again a little later; the commit decides.
                tracing::debug!(%error, "the claim on compaction could not be renewed");
                Ok(())
            }
        }
    }

    /// [`Compactor::keep_claim`], waited for.
    pub(super) fn keep(&self, token: u64) -> Result<(), CompactError> {
        self.wait(self.keep_claim(token))
    }
}
