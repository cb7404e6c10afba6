//! When what failed is tried again.

use std::time::Duration;

/// Longest wait that the other side may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Waits before the second try and those behind it, about 27 hours in all. A copy of the schedule that the Standard
/// Webhooks specification proposes.
pub const WAITS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(30 * MINUTE),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(5 * HOUR),
    Duration::from_secs(10 * HOUR),
    Duration::from_secs(10 * HOUR),
];

/// How long to wait after this many tries, all of which failed; `None`: it is not tried again. Up to a fifth is added by
/// `chance` (0 to 1), so that what failed together does not come back together; and `asked`, what the other side asked
/// for, is kept.
pub fn wait(waits: &[Duration], tries: u32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
    let wait = *waits.get((tries as usize).saturating_sub(1))?;
    let wait = wait + wait.mul_f64(0.2 * chance.clamp(0.0, 1.0));
    Some(wait.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_tries_within_a_good_day() {
        let waits: Vec<_> = (1..).map_while(|tries| wait(&WAITS, tries, None, 0.0)).collect();
        assert_eq!(waits, WAITS);
        assert!(waits.iter().sum::<Duration>() < Duration::from_secs(28 * HOUR));
        assert_eq!(wait(&WAITS, 8, Some(RETRY_AFTER_MAX), 0.0), None);
    }

    #[test]
    fn what_is_asked_for_counts_up_to_a_day() {
        let asked = |seconds| wait(&WAITS, 1, Some(Duration::from_secs(seconds)), 0.0);
        assert_eq!(asked(1), Some(WAITS[0]));
        assert_eq!(asked(60), Some(Duration::from_secs(60)));
        assert_eq!(asked(u64::MAX), Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn chance_adds_up_to_a_fifth() {
        assert_eq!(wait(&WAITS, 1, None, 0.5), Some(Duration::from_millis(5_500)));
        assert_eq!(wait(&WAITS, 1, None, 9.0), Some(Duration::from_secs(6)));
    }
}
