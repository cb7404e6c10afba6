//! The figures for people.

use std::fmt::{self, Display, Formatter};

use super::figures::{PhaseFigures, QueryFigures, SizeFigures};
use crate::text::{MIB, grouped};

impl Display for SizeFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { frames, fill_seconds, journal_bytes, compaction_seconds, compacted, before, after } = self;
        writeln!(f, "{} frames over a year", grouped(*frames as f64))?;
        let (journal, segments) = (*journal_bytes as f64 / MIB, compacted.bytes as f64 / MIB);
        writeln!(f, "  journal   {} MiB, written in {fill_seconds:.0} s", grouped(journal))?;
        let rate = grouped(*frames as f64 / compaction_seconds);
        let count = grouped(compacted.segments as f64);
        writeln!(
            f,
            "  compacted {count} segments, {} MiB, in {compaction_seconds:.0} s: {rate} frames/s, merges included",
            grouped(segments)
        )?;
        writeln!(
            f,
            "  {:<22} {:>9} {:>12} {:>12} {:>12} {:>12}",
            "", "frames", "cold", "read", "warm", "read"
        )?;
        for (when, phase) in [("before compaction", before), ("after compaction", after)] {
            writeln!(f, "  {when}")?;
            phase.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for PhaseFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|query| query.fmt(f))
    }
}

impl Display for QueryFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { query, frames, cold_ms, cold_read, warm_ms, warm_read, .. } = self;
        let [cold_read, warm_read] = [cold_read, warm_read].map(|read| read.bytes() as f64 / MIB);
        let (title, frames) = (query.title(), grouped(*frames as f64));
        writeln!(
            f,
            "    {title:<20} {frames:>9} {cold_ms:>9.1} ms {cold_read:>8.2} MiB {warm_ms:>9.1} ms {warm_read:>8.2} MiB"
        )
    }
}
