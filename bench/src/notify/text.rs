//! The same for people.

use std::fmt::{self, Display, Formatter};

use super::{Part, WorkFigures};
use crate::text::grouped;

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(told, count) => {
                writeln!(f, "from a frame's time at its device to its webhook at the receiver")?;
                let ms = |us: f64| us / 1000.0;
                let (p50, p99) = (ms(told.p50_us), ms(told.p99_us));
                writeln!(f, "  {p50:.1} ms (p50), {p99:.1} ms (p99), of {} webhooks", grouped(*count as f64))
            }
            Self::Work(work) => work.fmt(f),
        }
    }
}

impl Display for WorkFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { deliveries, seconds, cpu_seconds } = self;
        let [count, rate, per_core] =
            [*deliveries as f64, *deliveries as f64 / seconds, self.per_core_second()].map(grouped);
        writeln!(f, "a notifier with {count} deliveries that wait")?;
        writeln!(
            f,
            "  {rate} deliveries/s, {per_core} for each second of one core ({cpu_seconds:.2} s of CPU)"
        )
    }
}
