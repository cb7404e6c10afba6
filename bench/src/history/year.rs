//! A year of frames: who made which frame when, known without making any.

use std::io::{Cursor, Write as _};
use std::ops::Range;

use bytes::Bytes;
use trough_protocol::batch::BatchBuilder;
use trough_protocol::frame::{FrameRef, FramesSummary};
use trough_protocol::{ContentType, DeviceId, Epoch, Micros, Seq};

/// A year, in µs.
pub const YEAR: Micros = 365 * 24 * HOUR;
/// An hour, in µs.
pub const HOUR: Micros = 3_600_000_000;
/// A device's frames of an hour are cut into runs of about this size, in bytes.
const RUN_BYTES: usize = 256 * 1024;
/// Micro-degrees in a degree.
const DEGREE: u64 = 1_000_000;

/// Frames at equal distances over a year, of one device after another. Each device delivers once an hour what it has made.
#[derive(Debug, Clone)]
pub struct Year {
    /// Whose.
    pub devices: Vec<DeviceId>,
    /// How many.
    pub frames: u64,
    /// When it ends; a whole hour.
    pub end: Micros,
}

/// What became durable at the end of an hour.
pub struct Hour {
    /// When, in µs since 1970; still of the same day.
    pub received_at: Micros,
    /// In batches as feeders make them.
    pub batches: Vec<Bytes>,
    /// How many they are.
    pub frames: u64,
}

impl Year {
    /// The year that ends with the last full hour before `now`.
    pub fn before(now: Micros, devices: Vec<DeviceId>, frames: u64) -> Self {
        Self { devices, frames, end: now / HOUR * HOUR }
    }

    /// When it begins.
    pub fn start(&self) -> Micros {
        self.end - YEAR
    }

    /// All of it.
    pub fn whole(&self) -> Range<Micros> {
        self.start()..self.end
    }

    /// Its last hour.
    pub fn last_hour(&self) -> Range<Micros> {
        self.end - HOUR..self.end
    }

    /// An hour in its middle.
    pub fn middle_hour(&self) -> Range<Micros> {
        let start = self.start() + YEAR / 2 / HOUR * HOUR;
        start..start + HOUR
    }

    /// How many frames have a time stamp in this span.
    pub fn frames_in(&self, span: &Range<Micros>) -> u64 {
        let numbers = self.numbers(span);
        numbers.end - numbers.start
    }

    /// How many of them are of the device at this place.
    pub fn frames_of(&self, device: usize, span: &Range<Micros>) -> u64 {
        let turns = self.turns(device, &self.numbers(span));
        turns.end - turns.start
    }

    /// Its hours, made one by one.
    pub fn hours(&self) -> impl Iterator<Item = Hour> {
        (0..YEAR / HOUR).map(|hour| {
            let start = self.start() + hour * HOUR;
            self.hour(&(start..start + HOUR))
        })
    }

    fn hour(&self, span: &Range<Micros>) -> Hour {
        let numbers = self.numbers(span);
        let (mut batches, mut builder, mut data) = (Vec::new(), BatchBuilder::new(), Vec::new());
        for (at, device) in self.devices.iter().enumerate() {
            let mut turns = self.turns(at, &numbers);
            while !turns.is_empty() {
                data.clear();
                let first = turns.start;
                while data.len() < RUN_BYTES && !turns.is_empty() {
                    self.frame(at, turns.start, &mut data);
                    turns.start += 1;
                }
                if !builder.fits(device, data.len()) {
                    batches.push(finish(&mut builder));
                }
                let (min_ts, max_ts) = (self.ts(at, first), self.ts(at, turns.start - 1));
                let summary = FramesSummary { count: turns.start - first, min_ts, max_ts };
                builder.push_frames(device, Epoch(1), Seq(first + 1), summary, &data);
            }
        }
        if !builder.is_empty() {
            batches.push(finish(&mut builder));
        }
        Hour { received_at: span.end - 1, batches, frames: numbers.end - numbers.start }
    }

    /// Frames with a time stamp in this span, numbered over all devices.
    fn numbers(&self, span: &Range<Micros>) -> Range<u64> {
        self.earlier_than(span.start)..self.earlier_than(span.end)
    }

    fn earlier_than(&self, at: Micros) -> u64 {
        let since = u128::from(at.saturating_sub(self.start()).min(YEAR));
        u64::try_from((since * u128::from(self.frames)).div_ceil(u128::from(YEAR))).unwrap_or(u64::MAX)
    }

    /// Which of a device's frames are among these.
    fn turns(&self, device: usize, numbers: &Range<u64>) -> Range<u64> {
        let before = |number: u64| number.saturating_sub(device as u64).div_ceil(self.devices.len() as u64);
        before(numbers.start)..before(numbers.end)
    }

    fn ts(&self, device: usize, turn: u64) -> Micros {
        let number = u128::from(turn) * self.devices.len() as u128 + device as u128;
        let since = number * u128::from(YEAR) / u128::from(self.frames);
        self.start() + u64::try_from(since).unwrap_or(YEAR)
    }

    /// Appends a position: near the one before, with some noise, as a receiver gives them.
    fn frame(&self, device: usize, turn: u64, out: &mut Vec<u8>) {
        let noise = mix(turn ^ (device as u64) << 40);
        let lat = (device as u64 * 7919 + turn * 37 + (noise & 0xff)) % DEGREE;
        let lon = (device as u64 * 104_729 + turn * 53 + ((noise >> 8) & 0xff)) % DEGREE;
        let (speed, heading) = (noise >> 16 & 0x3ff, (noise >> 32) % 360);
        let mut payload = Cursor::new([0; 128]);
        let position = write!(
            payload,
            "{{\"lat\":30.{lat:06},\"lon\":-97.{lon:06},\"speed_kmh\":{}.{},\"heading\":{heading}}}",
            speed / 10,
            speed % 10
        );
        position.expect("a position has less than 128 bytes");
        let len = payload.position() as usize;
        let frame = FrameRef {
            ts: self.ts(device, turn),
            channel: "position",
            content_type: ContentType::Json,
            payload: &payload.get_ref()[..len],
        };
        frame.encode(out).expect("its words and numbers are ours");
    }
}

fn finish(builder: &mut BatchBuilder) -> Bytes {
    let (head, data) = builder.finish();
    let batch = [head, data].concat().into();
    builder.clear(usize::MAX);
    batch
}

/// SplitMix64 (Steele, Lea, Flood 2014), as a function of the number.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use trough_protocol::batch::Batch;
    use trough_protocol::frame::check_frames;
    use trough_protocol::limits::FRAME_BYTES_MAX;

    use super::*;

    const NOW: Micros = 1_790_000_000_000_000;

    fn year(devices: usize, frames: u64) -> Year {
        let devices = (0..devices).map(|n| DeviceId::new(&format!("d-{n:03}")).unwrap()).collect();
        Year::before(NOW, devices, frames)
    }

    #[test]
    fn what_is_counted_is_what_is_made() {
        for (devices, frames) in [(1, 10_000), (7, 20_003), (50, 9_000), (300, 100)] {
            let year = year(devices, frames);
            let (mut all, mut next) = (0, BTreeMap::<String, u64>::new());
            let mut counts = [0; 3];
            let (whole, last, middle) = (year.whole(), year.last_hour(), year.middle_hour());
            for hour in year.hours() {
                let mut of_hour = 0;
                for batch in &hour.batches {
                    let batch = Batch::check(batch).unwrap();
                    for run in batch.runs() {
                        let seq = next.entry(run.device.to_owned()).or_insert(1);
                        assert_eq!(run.first.0, *seq);
                        *seq += run.count;
                        let summary = check_frames(batch.data(&run), FRAME_BYTES_MAX).unwrap();
                        assert_eq!((summary.min_ts, summary.max_ts), (run.min_ts, run.max_ts));
                        let start = hour.received_at + 1 - HOUR;
                        assert!(start <= summary.min_ts && summary.max_ts <= hour.received_at);
                        of_hour += run.count;
                        for (count, span) in counts.iter_mut().zip([&whole, &last, &middle]) {
                            *count += if span.contains(&start) { run.count } else { 0 };
                        }
                    }
                }
                assert_eq!(of_hour, hour.frames);
                all += of_hour;
            }
            assert_eq!(all, frames);
            let spans = [&whole, &last, &middle];
            assert_eq!(counts, spans.map(|span| year.frames_in(span)));
            for span in spans {
                let sum: u64 = (0..devices).map(|device| year.frames_of(device, span)).sum();
                assert_eq!(sum, year.frames_in(span));
            }
            for (at, device) in year.devices.iter().enumerate() {
                let sent = next.get(device.as_str()).map_or(0, |next| next - 1);
                assert_eq!(year.frames_of(at, &whole), sent);
            }
        }
    }

    #[test]
    fn it_lies_in_the_past() {
        let year = year(2, 1000);
        assert!(year.end <= NOW && NOW - year.end < HOUR);
        let hours: Vec<Hour> = year.hours().collect();
        assert!(hours.is_sorted_by_key(|hour| hour.received_at));
        assert!(hours.last().unwrap().received_at < NOW && hours.len() == 8760);
    }
}
