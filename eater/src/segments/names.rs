//! Where segments lie in the store.

use jiff::ToSpan;
use jiff::civil::Date;
use trough_store::ObjectKey;
use trough_store::segment_catalog::SegmentId;

/// The last day that a date is written for: 9999-12-31.
const DATE_MAX: u32 = 2_932_896;

/// The key of a segment's Parquet object. Days stand as query engines like them (`date=2026-11-25`), so that they open
/// only those that are asked for.
pub fn parquet_key(date: u32, id: SegmentId) -> ObjectKey {
    key(date, id, "parquet")
}

/// The key of a segment's index object.
pub fn index_key(date: u32, id: SegmentId) -> ObjectKey {
    key(date, id, "idx")
}

/// Which segment an object belongs to; `None` if its key is none of ours.
pub fn segment_of_key(key: &ObjectKey) -> Option<SegmentId> {
    let (_, name) = key.as_str().strip_prefix("segments/date=")?.split_once('/')?;
    let digits = name.strip_suffix(".parquet").or_else(|| name.strip_suffix(".idx"))?;
    let mut id = [0; 16];
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(SegmentId(id))
}

/// The day of a segment by its key, in days since 1970; `None` if it has none.
pub(crate) fn date_of_key(key: &ObjectKey) -> Option<u32> {
    let (date, _) = key.as_str().strip_prefix("segments/date=")?.split_once('/')?;
    let days = Date::constant(1970, 1, 1).until(date.parse::<Date>().ok()?).ok()?.get_days();
    u32::try_from(days).ok()
}

fn key(date: u32, id: SegmentId, ending: &str) -> ObjectKey {
    let key = format!("segments/date={}/{id}.{ending}", day(date));
    ObjectKey::new(&key).expect("digits, hexadecimal digits and = - . / are allowed")
}

/// A number of days since 1970 as a date. What is beyond the year 9999 is put there.
fn day(date: u32) -> Date {
    let epoch = Date::constant(1970, 1, 1);
    epoch.saturating_add(i64::from(date.min(DATE_MAX)).days())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_partitioned_by_day() {
        let id = SegmentId([0xa5; 16]);
        let key = parquet_key(20_782, id);
        assert_eq!(key.as_str(), format!("segments/date=2026-11-25/{}.parquet", "a5".repeat(16)));
        assert_eq!(segment_of_key(&parquet_key(20_782, id)), Some(id));
        assert_eq!(segment_of_key(&index_key(0, id)), Some(id));
        for date in [0, 1, 20_782, DATE_MAX] {
            assert_eq!(date_of_key(&index_key(date, id)), Some(date));
        }
        for stranger in ["segments/date=2026-11-25/x.parquet", "manifests/1.json", "segments/a"] {
            assert_eq!(segment_of_key(&ObjectKey::new(stranger).unwrap()), None);
        }
        assert_eq!(index_key(0, id).as_str(), format!("segments/date=1970-01-01/{}.idx", "a5".repeat(16)));
        for date in [DATE_MAX, u32::MAX] {
            assert!(parquet_key(date, id).as_str().starts_with("segments/date=9999-12-31/"));
        }
    }
}
