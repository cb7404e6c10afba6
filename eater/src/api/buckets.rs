//! The buckets of one device: in memory, as device time does not rise with the numbers.

use std::collections::BTreeMap;

use trough_protocol::frame::FrameRef;
use trough_protocol::{DeviceId, Micros};

use super::downsample::{Aggregate, Downsample};
use super::encode::{Payload, Row, RowValue};

/// Sums are kept this much smaller, so that no sum of numbers that fit is one that does not. A power of two: nothing is
/// lost but of numbers next to zero.
const SCALE: f64 = 1.0 / 18_446_744_073_709_551_616.0;

/// The first buckets of a device, as many as there is room for: whole ones, whatever the order of frames.
pub(super) struct Buckets<'q> {
    downsample: &'q Downsample,
    max: usize,
    bytes_max: usize,
    buckets: BTreeMap<Micros, Bucket>,
    /// Of JSON texts in them.
    bytes: usize,
    /// Buckets from this one on were left out.
    left_out: Option<Micros>,
}

#[derive(Debug, Default)]
struct Bucket {
    count: u64,
    skipped: u64,
    held: Held,
}

/// What is known of the values so far.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    /// The least, the greatest, or the sum of all, [`SCALE`]d.
    Number(f64),
    Json(Box<str>),
}

impl Held {
    fn bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::Nothing | Self::Number(_) => 0,
        }
    }
}

/// What a payload has for a bucket.
enum Found<'a> {
    Frame,
    Number(f64),
    Json(&'a str),
}

impl<'q> Buckets<'q> {
    /// Room for `max` buckets, at least one, with JSON texts of `bytes_max` in them, or one.
    pub(super) fn new(downsample: &'q Downsample, max: usize, bytes_max: usize) -> Self {
        Self { downsample, max, bytes_max, buckets: BTreeMap::new(), bytes: 0, left_out: None }
    }

    /// Takes a frame. They come in rising order of epoch and seq.
    pub(super) fn add(&mut self, frame: &FrameRef<'_>) {
        let at = self.downsample.bucket(frame.ts);
        if self.left_out.is_some_and(|left_out| at >= left_out) {
            return;
        }
        let found = find(self.downsample, frame);
        let bucket = self.buckets.entry(at).or_default();
        let Some(found) = found else {
            bucket.skipped += 1;
            self.make_room();
            return;
        };
        bucket.count += 1;
        let before = bucket.held.bytes();
        match (self.downsample.aggregate, found, &mut bucket.held) {
            (Aggregate::Min, Found::Number(number), Held::Number(least)) => *least = least.min(number),
            (Aggregate::Max, Found::Number(number), Held::Number(greatest)) => {
                *greatest = greatest.max(number);
            }
            (Aggregate::Mean, Found::Number(number), Held::Number(sum)) => *sum += number * SCALE,
            (Aggregate::Mean, Found::Number(number), held) => *held = Held::Number(number * SCALE),
            (_, Found::Number(number), held) => *held = Held::Number(number),
            (_, Found::Json(json), held) => *held = Held::Json(json.into()),
            (_, Found::Frame, _) => {}
        }
        self.bytes = self.bytes - before + bucket.held.bytes();
        self.make_room();
    }

    /// Leaves the last ones out. None of them comes back, or it would lack frames.
    fn make_room(&mut self) {
        while self.buckets.len() > self.max || self.bytes > self.bytes_max && self.buckets.len() > 1 {
            let Some((at, bucket)) = self.buckets.pop_last() else { return };
            self.bytes -= bucket.held.bytes();
            self.left_out = Some(at);
        }
    }

    /// When the first bucket begins that was left out.
    pub(super) fn left_out(&self) -> Option<Micros> {
        self.left_out
    }

    /// The buckets, rising.
    pub(super) fn rows<'a>(&'a self, device: &'a DeviceId) -> impl Iterator<Item = Row<'a>> {
        self.buckets.iter().map(move |(ts, bucket)| Row {
            device,
            ts: *ts,
            count: bucket.count,
            skipped: bucket.skipped,
            value: self.value(bucket),
        })
    }

    fn value<'a>(&self, bucket: &'a Bucket) -> Option<RowValue<'a>> {
        match (self.downsample.aggregate, &bucket.held) {
            (Aggregate::Count, _) => Some(RowValue::Count(bucket.count)),
            (Aggregate::Mean, Held::Number(sum)) => {
                // Rounding may not make it greater than any of the numbers.
                let mean = (sum / bucket.count as f64 / SCALE).clamp(f64::MIN, f64::MAX);
                Some(RowValue::Float(mean))
            }
            (_, Held::Number(number)) => Some(RowValue::Float(*number)),
            (_, Held::Json(json)) => Some(RowValue::Json(json)),
            (_, Held::Nothing) => None,
        }
    }
}

/// `None` if the frame has no value that counts.
fn find<'a>(downsample: &Downsample, frame: &FrameRef<'a>) -> Option<Found<'a>> {
    let Some(pointer) = &downsample.value else { return Some(Found::Frame) };
    let json = std::str::from_utf8(pointer.find(Payload::json(frame)?)?).ok()?;
    match downsample.aggregate {
        Aggregate::Last => Some(Found::Json(json)),
        Aggregate::Count => Some(Found::Frame),
        Aggregate::Min | Aggregate::Max | Aggregate::Mean => {
            let is_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
            let number = json.parse::<f64>().ok().filter(|_| is_number)?;
            // Minus zero is a zero.
            Some(Found::Number(number + 0.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use trough_protocol::ContentType;

    use crate::api::params::Params;

    fn downsample(agg: &str) -> Downsample {
        let query = format!("every=10ms&agg={agg}&value=/v");
        Downsample::parse(&Params::parse(Some(&query), &["every", "agg", "value"]).unwrap()).unwrap().unwrap()
    }

    fn json(ts: Micros, payload: &str) -> FrameRef<'_> {
        FrameRef { ts, channel: "c", content_type: ContentType::Json, payload: payload.as_bytes() }
    }

    /// (ts, count, skipped, value as JSON)
    type Plain = (Micros, u64, u64, Value);

    fn plain(buckets: &Buckets<'_>) -> Vec<Plain> {
        let device = DeviceId::new("d").unwrap();
        let rows = buckets.rows(&device).map(|row| {
            let value = match row.value {
                None => Value::Null,
                Some(RowValue::Count(count)) => count.into(),
                Some(RowValue::Float(number)) => number.into(),
                Some(RowValue::Json(json)) => serde_json::from_str(json).unwrap(),
            };
            (row.ts, row.count, row.skipped, value)
        });
        rows.collect()
    }

    fn run(agg: &str, frames: &[(Micros, &str)], max: usize) -> Vec<Plain> {
        let downsample = downsample(agg);
        let mut buckets = Buckets::new(&downsample, max, usize::MAX);
        frames.iter().for_each(|(ts, payload)| buckets.add(&json(*ts, payload)));
        plain(&buckets)
    }

    #[test]
    fn each_aggregate_is_what_it_says() {
        let frames = [
            (10_000, r#"{"v":4}"#),
            (19_999, r#"{"v":1.5}"#),
            (3, r#"{"v":"x"}"#),
            (10_001, r#"{"v":null}"#),
            (12_000, r#"{"w":1}"#),
            (11_000, r#"{"v":2}"#),
        ];
        for (agg, first, second) in [
            ("last", (0, 1, 0, Value::from("x")), (10_000, 4, 1, Value::from(2))),
            ("min", (0, 0, 1, Value::Null), (10_000, 3, 2, Value::from(1.5))),
            ("max", (0, 0, 1, Value::Null), (10_000, 3, 2, Value::from(4.0))),
            ("mean", (0, 0, 1, Value::Null), (10_000, 3, 2, Value::from(2.5))),
            ("count", (0, 1, 0, Value::from(1)), (10_000, 4, 1, Value::from(4))),
        ] {
            assert_eq!(run(agg, &frames, 9), [first, second], "{agg}");
        }
    }

    #[test]
    fn payloads_that_are_no_json_are_skipped() {
        let downsample = downsample("count");
        let mut buckets = Buckets::new(&downsample, 9, 9);
        buckets.add(&FrameRef {
            ts: 1,
            channel: "c",
            content_type: ContentType::Text,
            payload: b"{\"v\":1}",
        });
        buckets.add(&json(1, "{\"v\":"));
        assert_eq!(plain(&buckets), [(0, 0, 2, Value::from(0))]);
    }

    #[test]
    fn the_greatest_numbers_have_a_mean() {
        let greatest = format!("{{\"v\":{:e}}}", f64::MAX);
        let frames: Vec<(Micros, &str)> = (0..1000).map(|_| (1, greatest.as_str())).collect();
        assert_eq!(run("mean", &frames, 1)[0].3, Value::from(f64::MAX));
    }

    #[test]
    fn json_texts_have_a_bound_too() {
        let downsample = downsample("last");
        let long = format!("{{\"v\":\"{}\"}}", "x".repeat(98));
        let mut buckets = Buckets::new(&downsample, 100, 250);
        for ts in [50_000, 10_000, 20_000, 30_000, 10_000] {
            buckets.add(&json(ts, &long));
        }
        assert_eq!(buckets.left_out(), Some(30_000));
        assert_eq!(plain(&buckets).iter().map(|row| row.0).collect::<Vec<_>>(), [10_000, 20_000]);
        let mut one = Buckets::new(&downsample, 100, 1);
        one.add(&json(1, &long));
        assert_eq!(plain(&one).len(), 1, "one is always given");
    }

    /// What it must be, of frames in order.
    fn model(agg: &str, frames: &[(Micros, Option<i32>)]) -> Vec<Plain> {
        let mut all: BTreeMap<Micros, Vec<Option<i32>>> = BTreeMap::new();
        frames.iter().for_each(|(ts, value)| all.entry(ts / 10_000 * 10_000).or_default().push(*value));
        let row = |(ts, values): (Micros, Vec<Option<i32>>)| {
            let numbers: Vec<f64> = values.iter().flatten().map(|n| f64::from(*n)).collect();
            let some = |number: Option<f64>| number.map_or(Value::Null, Value::from);
            let value = match agg {
                "last" => values.iter().flatten().next_back().map_or(Value::Null, |n| Value::from(*n)),
                "min" => some(numbers.iter().copied().reduce(f64::min)),
                "max" => some(numbers.iter().copied().reduce(f64::max)),
                "mean" => {
                    some((!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64))
                }
                _ => Value::from(numbers.len()),
            };
            (ts, numbers.len() as u64, (values.len() - numbers.len()) as u64, value)
        };
        all.into_iter().map(row).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_the_model_whatever_the_order_and_the_room(
            frames in prop::collection::vec((1..200_000_u64, prop::option::weighted(0.8, any::<i32>())), 0..60),
            agg in prop::sample::select(vec!["last", "min", "max", "mean", "count"]),
            room in 1..30_usize,
        ) {
            let texts: Vec<String> = frames.iter()
                .map(|(_, value)| value.map_or("{}".to_owned(), |value| format!("{{\"v\":{value}}}"))).collect();
            let downsample = downsample(agg);
            let mut buckets = Buckets::new(&downsample, room, usize::MAX);
            for ((ts, _), text) in frames.iter().zip(&texts) {
                buckets.add(&json(*ts, text));
            }
            let mut expected = model(agg, &frames);
            let left_out = expected.get(room).map(|row| row.0);
            expected.truncate(room);
            prop_assert_eq!(plain(&buckets), expected);
            prop_assert_eq!(buckets.left_out(), left_out);
        }
    }
}
