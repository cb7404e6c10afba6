//! When to connect again.

use std::time::Duration;

use rand::Rng;

/// Exponential back-off with jitter. A fleet that lost its feeder at one moment does not come back at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

/// Server-paced delays are stretched by up to this share.
const STRETCH: f64 = 0.2;

impl Backoff {
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// The delay after one more failure: uniform from `min` to a bound that doubles from `2 × min` to `max`.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doubled = 1_u32.checked_shl(self.failures).and_then(|factor| self.min.checked_mul(factor));
        let bound = doubled.map_or(self.max, |bound| bound.min(self.max)).max(self.min);
        rng.random_range(self.min..=bound)
    }

    /// The session was a good one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// A delay that the feeder asked for, plus up to 20 %: never earlier than it said.
    pub fn paced(delay: Duration, rng: &mut impl Rng) -> Duration {
        delay.mul_f64(1.0 + rng.random_range(0.0..=STRETCH))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn delays_grow_to_the_bound_and_start_again() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(30));
        let mut rng = StdRng::seed_from_u64(7);
        let mut backoff = Backoff::new(min, max);
        for failure in 1..100_u32 {
            let bound = min.saturating_mul(1 << failure.min(10)).min(max);
            let delay = backoff.next(&mut rng);
            assert!((min..=bound).contains(&delay), "failure {failure}: {delay:?}");
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= 2 * min);
    }

    #[test]
    fn a_paced_delay_is_never_shorter_than_asked() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..100 {
            let delay = Backoff::paced(Duration::from_secs(10), &mut rng);
            assert!((Duration::from_secs(10)..=Duration::from_secs(12)).contains(&delay));
        }
    }
}
