//! The change of a number per second of the device's time.

use trough_protocol::Micros;

use super::compare::Compare;
use super::frame::Seen;
use super::happening::Happening;
use super::matching::Matching;

/// What is known of a number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Course {
    /// When the last frame that has it was made, and what it was.
    pub last: Option<(Micros, f64)>,
    pub matching: Matching,
}

/// A frame without the number changes nothing. From one frame to another whose time is not later there is no rate: the
/// second one is where it goes on from, as a clock may have been set back.
pub(super) fn take(rate: &Compare, course: &mut Course, seen: &Seen<'_>) -> Option<Happening> {
    let (ts, number) = (seen.frame.ts, rate.number(seen)?);
    let (then, before) = course.last.replace((ts, number))?;
    let elapsed_us = ts.checked_sub(then).filter(|elapsed| *elapsed > 0)?;
    #[expect(clippy::cast_precision_loss, reason = "a time of less than 285 years")]
    let per_second = (number - before) / (elapsed_us as f64 / 1e6);
    let change = course.matching.take(&rate.when, per_second, ts)?;
    Some(rate.happening(change, number, Some(per_second), seen))
}
