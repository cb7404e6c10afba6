//! How long a store is waited for.

use std::time::Duration;

use super::refusal::Refusal;

/// A store must answer within this.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a client is told when it did not.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Waits for the registry, or for what lies beside it.
///
/// # Errors
/// What the work is refused with; [`Refusal::Busy`] if there is no answer.
pub(super) async fn within<T, E: Into<Refusal>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Refusal> {
    match tokio::time::timeout(STORE_TIMEOUT, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => {
            tracing::warn!(timeout_s = STORE_TIMEOUT.as_secs(), "the registry does not answer in time");
            Err(Refusal::Busy { what: "the registry does not answer".to_owned(), retry_after: RETRY_AFTER })
        }
    }
}

/// Waits likewise for what knows its own refusals.
///
/// # Errors
/// What `refusal` makes of an error; [`Refusal::Busy`] if there is no answer.
pub(super) async fn within_as<T, E>(
    work: impl Future<Output = Result<T, E>>,
    refusal: impl FnOnce(E) -> Refusal,
) -> Result<T, Refusal> {
    within(async { work.await.map_err(refusal) }).await
}
