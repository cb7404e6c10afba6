//! Instants as RFC 3339 text, UTC, always with six decimals: `2017-03-21T05:00:02.000000Z`.

use trough_protocol::Micros;

/// Characters of one instant.
pub const TIME_CHARS: usize = 27;
const MICROS_PER_DAY: u64 = 86_400_000_000;
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n: u8 = 0;
    while n < 100 {
        pairs[n as usize] = [b'0' + n / 10, b'0' + n % 10];
        n += 1;
    }
    pairs
};

/// Writes instants, and remembers the last day: the frames of a device mostly share it.
#[derive(Debug, Clone)]
pub struct TimeWriter {
    day: u64,
    text: [u8; TIME_CHARS],
}

impl Default for TimeWriter {
    fn default() -> Self {
        Self { day: 0, text: *b"1970-01-01T00:00:00.000000Z" }
    }
}

impl TimeWriter {
    /// The text of an instant. `at` is at most 2^53 − 1 (the year 2255); a later one, which no frame can have,
    /// shows as the last of these days.
    pub fn text(&mut self, at: Micros) -> &[u8; TIME_CHARS] {
        let at = at.min(trough_protocol::limits::INT_MAX);
        let (day, micros) = (at / MICROS_PER_DAY, at % MICROS_PER_DAY);
        if day != self.day {
            self.day = day;
            let (year, month, date) = civil(day);
            self.put(0, year / 100);
            self.put(2, year % 100);
            self.put(5, month);
            self.put(8, date);
        }
        let seconds = micros / 1_000_000;
        let fraction = micros % 1_000_000;
        self.put(11, seconds / 3600);
        self.put(14, seconds / 60 % 60);
        self.put(17, seconds % 60);
        self.put(20, fraction / 10_000);
        self.put(22, fraction / 100 % 100);
        self.put(24, fraction % 100);
        &self.text
    }

    fn put(&mut self, at: usize, pair: u64) {
        self.text[at..at + 2].copy_from_slice(&PAIRS[pair as usize]);
    }
}

/// One instant as text.
pub fn time_text(at: Micros) -> String {
    TimeWriter::default().text(at).iter().copied().map(char::from).collect()
}

/// Year, month and day of the month of a day counted from 1970-01-01, in the Gregorian calendar (the era
/// algorithm of Howard Hinnant's "chrono-compatible low-level date algorithms").
fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference(at: Micros) -> String {
        let timestamp = jiff::Timestamp::from_microsecond(at as i64).unwrap();
        format!("{timestamp:.6}")
    }

    #[test]
    fn is_right_on_every_day() {
        let mut writer = TimeWriter::default();
        for day in 0..=trough_protocol::limits::INT_MAX / MICROS_PER_DAY {
            let at = (day * MICROS_PER_DAY + 12_345_678_901).min(trough_protocol::limits::INT_MAX);
            assert_eq!(std::str::from_utf8(writer.text(at)).unwrap(), reference(at));
        }
        assert_eq!(writer.text(0), b"1970-01-01T00:00:00.000000Z");
        assert_eq!(writer.text(u64::MAX), TimeWriter::default().text(trough_protocol::limits::INT_MAX));
    }

    proptest! {
        #[test]
        fn is_right_at_any_time(times in prop::collection::vec(0..=trough_protocol::limits::INT_MAX, 1..10)) {
            let mut writer = TimeWriter::default();
            for at in times {
                prop_assert_eq!(std::str::from_utf8(writer.text(at)).unwrap(), reference(at));
            }
        }
    }
}
