//! Figures for people.

use std::fmt::{self, Display, Formatter};

use crate::idle::IdleFigures;
use crate::load::Arrivals;
use crate::machine::{DiskProbe, Machine};
use crate::measure::{Latencies, LoadFigures, Shape};
use crate::read::ReadFigures;
use crate::report::{Ratio, Report, Run};

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

impl Display for Run {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(figures) => figures.fmt(f),
            Self::Compacting(figures) => figures.fmt(f),
            Self::Idle(figures) => figures.fmt(f),
            Self::Read(figures) => figures.fmt(f),
        }
    }
}

/// What the runs show together; they themselves were shown when they ended.
impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.ratios.is_empty() {
            writeln!(f, "CPU time against the durable floor of the same run")?;
        }
        self.ratios.iter().try_for_each(|ratio| ratio.fmt(f))
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { trough, rustc, build, cores, processor, memory_bytes, kernel, filesystem, disk } = self;
        let memory = *memory_bytes as f64 / MIB / 1024.0;
        writeln!(f, "{cores} cores ({processor}), {memory:.0} GiB, Linux {kernel}, data on {filesystem}")?;
        if let Some(DiskProbe { fdatasync_p50_us, fdatasync_p99_us }) = disk {
            let [p50, p99] = [fdatasync_p50_us, fdatasync_p99_us].map(|us| us / 1000.0);
            writeln!(f, "an append of 4 KiB and its fdatasync: p50 {p50:.2} ms, p99 {p99:.2} ms")?;
        }
        write!(f, "trough {trough}, {build} build, {rustc}")
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} sessions, {} bytes, ", self.sessions, self.payload_bytes)?;
        match (self.window, self.rate) {
            (Some(window), _) => {
                let messages = if self.frames_per_message == 1 { "frame" } else { "frames" };
                write!(f, "window {window}, {} {messages} a message", self.frames_per_message)
            }
            (None, rate) => {
                let arrivals = match self.arrivals {
                    Some(Arrivals::Even) => "evenly",
                    _ => "Poisson arrivals",
                };
                write!(f, "{} frames/s in an open loop, {arrivals}", grouped(rate.unwrap_or_default()))
            }
        }
    }
}

impl Display for Latencies {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999, max] =
            [self.p50_us, self.p99_us, self.p999_us, self.max_us].map(|us| us / 1000.0);
        write!(f, "p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {max:.2} ms")
    }
}

impl Display for LoadFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}, {:.1} s", self.subject.title(), self.shape, self.seconds)?;
        if let Some(storage) = &self.storage {
            writeln!(f, "  storage         {storage}")?;
        }
        writeln!(f, "  acked           {} frames/s", grouped(self.frames_per_second))?;
        writeln!(f, "  ack             {}", self.ack)?;
        if let Some(late) = &self.late {
            writeln!(f, "    of which late {late}")?;
        }
        write!(f, "  server CPU      {:.2} µs a frame", self.server_cpu_us_per_frame_sum)?;
        if self.server_cpu_us_per_frame.len() > 1 {
            let parts = self.server_cpu_us_per_frame.iter().map(|(name, us)| format!("{name} {us:.2}"));
            write!(f, " ({})", parts.collect::<Vec<_>>().join(", "))?;
        }
        writeln!(f, "\n  load generator  {:.2} µs a frame", self.client_cpu_us_per_frame)?;
        if self.reconnects > 0 {
            writeln!(f, "  reconnects      {}", self.reconnects)?;
        }
        match &self.stored {
            None => writeln!(f, "  stored          nothing, by design"),
            Some(stored) => {
                let verdict = if stored.is_equal() { "equal" } else { "NOT EQUAL" };
                let [acked, found] = [stored.acked, stored.found].map(|count| grouped(count as f64));
                let each = match stored.devices {
                    0 => String::new(),
                    devices => format!(", for each of {devices} devices"),
                };
                let how = stored.how;
                writeln!(f, "  stored          {verdict}: {acked} acked, {found} found{each} ({how})")?;
                stored.mismatches.iter().try_for_each(|mismatch| writeln!(f, "                  {mismatch}"))
            }
        }
    }
}

impl Display for IdleFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { subject, sessions, connect_seconds, resident_before, resident_after, .. } = self;
        let sessions = grouped(*sessions as f64);
        writeln!(f, "{}: {sessions} idle sessions, opened in {connect_seconds:.1} s", subject.title())?;
        let [before, after] = [resident_before, resident_after].map(|bytes| *bytes as f64 / MIB);
        writeln!(f, "  resident        {before:.1} MiB without, {after:.1} MiB with them and their pings")?;
        writeln!(f, "  each            {:.2} KiB", self.bytes_per_session / 1024.0)
    }
}

impl Display for ReadFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = format!("{:?}", self.payload).to_lowercase();
        let Self { subject, devices, payload_bytes, .. } = self;
        let devices = if *devices == 1 { "one device".into() } else { format!("{devices} devices mixed") };
        let frames = grouped(self.frames as f64);
        writeln!(
            f,
            "{}: reading {frames} frames of {devices}, {kind}, {payload_bytes} bytes",
            subject.title()
        )?;
        let (rate, bytes) = (grouped(self.frames_per_second), self.bytes_per_second / MIB);
        writeln!(f, "  NDJSON          {rate} frames/s, {bytes:.0} MiB/s")?;
        writeln!(f, "  server CPU      {:.2} µs a frame", self.server_cpu_us_per_frame)?;
        let [before, peak] = [self.resident_before, self.resident_peak].map(|bytes| bytes as f64 / MIB);
        writeln!(f, "  resident        {before:.1} MiB before, {peak:.1} MiB at most while reading")?;
        writeln!(f, "  complete        {}", if self.complete { "yes, in every pass" } else { "NO" })
    }
}

impl Display for Ratio {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = match self.rate {
            Some(rate) => format!("{} frames/s", grouped(rate)),
            None => format!("{} a message", self.frames_per_message),
        };
        let Self { cpu_us_per_frame, floor_cpu_us_per_frame, ratio, .. } = self;
        let title = self.subject.title();
        writeln!(
            f,
            "  {title}, {what}: {cpu_us_per_frame:.2} µs to {floor_cpu_us_per_frame:.2} µs a frame, {ratio:.2} ×"
        )
    }
}

/// 812345.6 as `812,346`.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let numbers = [0.0, 999.4, 999.5, 1_234_567.8].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,568"]);
    }
}
