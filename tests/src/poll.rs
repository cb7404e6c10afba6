//! Waiting for something to become true, with a deadline that only a fault reaches.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Deadline of what takes milliseconds when all is well.
pub const SOON: Duration = Duration::from_secs(30);
/// Deadline of what takes seconds when all is well.
pub const LATER: Duration = Duration::from_secs(120);

const EVERY: Duration = Duration::from_millis(10);

/// Asks until there is an answer, and gives it.
///
/// # Panics
/// If there is none `within` the time.
pub async fn until<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain until {what}");
        sleep(EVERY).await;
    }
}

/// Awaits a future that ends soon unless something is wrong.
///
/// # Panics
/// If it does not end `within` the time.
pub async fn ends<T>(what: &str, within: Duration, future: impl Future<Output = T>) -> T {
    timeout(within, future).await.unwrap_or_else(|_| panic!("waited {within:?} in vain until {what}"))
}
