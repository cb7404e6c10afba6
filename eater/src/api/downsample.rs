//! Downsampling: which buckets, and what is made of the values in one.

use trough_protocol::Micros;
use trough_protocol::limits::INT_MAX;

use super::encode::{POINTER_BYTES_MAX, Pointer, ValueKind};
use super::params::{BadParameter, Params};

/// What is made of the values of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// The one of the frame that comes last by epoch and seq.
    Last,
    /// The least number.
    Min,
    /// The greatest number.
    Max,
    /// The arithmetic mean of the numbers.
    Mean,
    /// How many there are.
    Count,
}

impl Aggregate {
    const ACCEPTED: &'static str = "last, min, max, mean or count";

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "last" => Self::Last,
            "min" => Self::Min,
            "max" => Self::Max,
            "mean" => Self::Mean,
            "count" => Self::Count,
            _ => return None,
        })
    }

    /// What its results are.
    pub fn kind(self) -> ValueKind {
        match self {
            Self::Last => ValueKind::Json,
            Self::Min | Self::Max | Self::Mean => ValueKind::Float,
            Self::Count => ValueKind::Count,
        }
    }
}

/// The longest bucket, in µs: ten years.
const EVERY_MAX: Micros = 3652 * 86_400_000_000;
/// What a parameter that is a JSON pointer may be.
pub(super) const POINTER_ACCEPTED: &str =
    "a JSON pointer (RFC 6901) of at most 256 bytes that begins with /, such as /speed/kmh";
const _: () = assert!(POINTER_BYTES_MAX == 256, "as the text says");

/// How frames are downsampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downsample {
    /// How long a bucket is, in µs; each begins at a multiple of this since 1970.
    pub every: Micros,
    /// What is made of its values.
    pub aggregate: Aggregate,
    /// Where in a payload the value is; without it frames themselves are counted.
    pub value: Option<Pointer>,
}

impl Downsample {
    /// Reads `every`, `agg` and `value`; `None` if none is given.
    ///
    /// # Errors
    /// [`BadParameter`].
    pub fn parse(params: &Params) -> Result<Option<Self>, BadParameter> {
        let (every, agg, value) = (params.one("every")?, params.one("agg")?, params.one("value")?);
        let (every, agg) = match (every, agg) {
            (Some(every), Some(agg)) => (every, agg),
            (Some(_), None) => return Err(BadParameter::Needs { given: "every", needs: "agg" }),
            (None, Some(_)) => return Err(BadParameter::Needs { given: "agg", needs: "every" }),
            (None, None) if value.is_some() => {
                return Err(BadParameter::Needs { given: "value", needs: "every" });
            }
            (None, None) => return Ok(None),
        };
        let accepted = "a whole number and ms, s, m, h or d, such as 500ms, 60s or 1h; from 1ms to 3652d";
        let every = parse_duration(every).ok_or_else(|| BadParameter::value("every", every, accepted))?;
        let aggregate =
            Aggregate::parse(agg).ok_or_else(|| BadParameter::value("agg", agg, Aggregate::ACCEPTED))?;
        let pointer = |text: &str| {
            Pointer::parse(text).ok_or_else(|| BadParameter::value("value", text, POINTER_ACCEPTED))
        };
        let value = value.map(pointer).transpose()?;
        if value.is_none() && aggregate != Aggregate::Count {
            return Err(BadParameter::Needs { given: "agg", needs: "value" });
        }
        Ok(Some(Self { every, aggregate, value }))
    }

    /// When the bucket of an instant begins.
    pub fn bucket(&self, ts: Micros) -> Micros {
        ts - ts % self.every
    }

    /// When the bucket behind the one that begins at `bucket` begins; `None` if no frame can be in it.
    pub fn next(&self, bucket: Micros) -> Option<Micros> {
        bucket.checked_add(self.every).filter(|next| *next <= INT_MAX)
    }

    /// As text, for fingerprints.
    pub fn identity(&self) -> String {
        let Self { every, aggregate, value } = self;
        format!("{every}|{aggregate:?}|{}", value.as_ref().map_or("", Pointer::as_str))
    }
}

/// A whole number and its unit, in µs.
pub(super) fn parse_duration(text: &str) -> Option<Micros> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: Micros = match unit {
        "ms" => 1000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    let micros = number.parse::<Micros>().ok()?.checked_mul(unit)?;
    (1..=EVERY_MAX).contains(&micros).then_some(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Option<Downsample>, String> {
        let params = Params::parse(Some(query), &["every", "agg", "value"]).unwrap();
        Downsample::parse(&params).map_err(|error| error.to_string())
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, micros) in [
            ("1ms", 1000),
            ("500ms", 500_000),
            ("60s", 60_000_000),
            ("5m", 300_000_000),
            ("1h", 3_600_000_000),
            ("3652d", 3652 * 86_400_000_000),
        ] {
            assert_eq!(parse(&format!("every={text}&agg=count")).unwrap().unwrap().every, micros);
        }
        for bad in ["", "60", "s", "0s", "-1s", "1.5s", "1 s", "1w", "3653d", "99999999999999999999s", "1S"] {
            let error = parse(&format!("every={}&agg=count", bad.replace(' ', "%20"))).unwrap_err();
            assert!(error.contains("every") && error.contains("such as 500ms"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_belongs_together_is_given_together() {
        assert_eq!(parse(""), Ok(None));
        for (query, error) in [
            ("every=1s", "parameter every is given without agg: give both"),
            ("agg=max", "parameter agg is given without every: give both"),
            ("value=/a", "parameter value is given without every: give both"),
            ("every=1s&agg=max", "parameter agg is given without value: give both"),
            ("every=1s&agg=sum&value=/a", "parameter agg is \"sum\": use last, min, max, mean or count"),
        ] {
            assert_eq!(parse(query).unwrap_err(), error);
        }
        assert!(parse("every=1s&agg=max&value=a").unwrap_err().contains("begins with /"));
        assert!(parse("every=1s&agg=count").unwrap().unwrap().value.is_none());
        assert!(parse("every=1s&agg=mean&value=/speed/kmh").unwrap().unwrap().value.is_some());
    }

    #[test]
    fn buckets_are_aligned_to_1970() {
        let minutes = parse("every=1m&agg=count").unwrap().unwrap();
        assert_eq!(
            [0, 59_999_999, 60_000_000, 119_999_999].map(|ts| minutes.bucket(ts)),
            [0, 0, 60_000_000, 60_000_000]
        );
        assert_eq!(minutes.next(60_000_000), Some(120_000_000));
        assert_eq!(minutes.next(minutes.bucket(INT_MAX)), None);
    }
}
