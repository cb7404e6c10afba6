//! What a number must be: `/speed > 30 clear 28 for 60s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::RegistryError;
use crate::position_schema::PositionSchema;

/// Longest time that a number must stay so: a day.
const HOLD_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const FORM: &str = "write it as /speed > 30, with > >= < <= == or !=, then, if wanted, clear 28 (it ends only beyond \
                    that number) and for 60s (ms, s, m or h, at most a day)";

/// How two numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

impl Comparison {
    const ALL: [(&'static str, Self); 6] = [
        (">", Self::Above),
        (">=", Self::AtLeast),
        ("<", Self::Below),
        ("<=", Self::AtMost),
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or(">", |(name, _)| name)
    }

    /// Whether it is so.
    pub fn holds(self, number: f64, than: f64) -> bool {
        match self {
            Self::Above => number > than,
            Self::AtLeast => number >= than,
            Self::Below => number < than,
            Self::AtMost => number <= than,
            #[expect(clippy::float_cmp, reason = "whoever writes == means the very number")]
            Self::Equal => number == than,
            #[expect(clippy::float_cmp, reason = "as above")]
            Self::NotEqual => number != than,
        }
    }
}

/// What a number in a payload must be, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct When {
    /// Where it is: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: f64,
    /// Hysteresis: what has begun ends only when the number is not so against this one either.
    pub clear: Option<f64>,
    /// It must be so for this long, by the device's time, before it counts. Zero: at once.
    pub hold: Duration,
}

impl When {
    /// Whether it is so, given whether it was.
    pub fn holds(&self, number: f64, held: bool) -> bool {
        let than = if held { self.clear.unwrap_or(self.value) } else { self.value };
        self.comparison.holds(number, than)
    }
}

impl FromStr for When {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let shown: String = text.chars().take(120).collect();
        let wrong = |why: String| RegistryError::Invalid(format!("the condition {shown:?} {why}: {FORM}"));
        let mut words = text.split_whitespace();
        let pointer = words.next().ok_or_else(|| wrong("is empty".into()))?;
        PositionSchema::check(pointer)?;
        let comparison = words.next().unwrap_or_default();
        let known = Comparison::ALL.iter().find(|(name, _)| *name == comparison);
        let (_, comparison) = known.ok_or_else(|| wrong(format!("has no comparison but {comparison:?}")))?;
        let number = |word: Option<&str>| {
            let word = word.unwrap_or_default();
            let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| wrong(format!("has no number but {word:?}")))
        };
        let mut when = Self {
            pointer: pointer.to_owned(),
            comparison: *comparison,
            value: number(words.next())?,
            clear: None,
            hold: Duration::ZERO,
        };
        while let Some(word) = words.next() {
            match word {
                "clear" if when.clear.is_none() => when.clear = Some(number(words.next())?),
                "for" if when.hold.is_zero() => {
                    let word = words.next().unwrap_or_default();
                    let hold =
                        duration(word).filter(|hold| (Duration::from_millis(1)..=HOLD_MAX).contains(hold));
                    when.hold = hold.ok_or_else(|| wrong(format!("has no time but {word:?}")))?;
                }
                other => return Err(wrong(format!("goes on with {other:?}"))),
            }
        }
        let sound = when.clear.is_none_or(|clear| match when.comparison {
            Comparison::Above | Comparison::AtLeast => clear <= when.value,
            Comparison::Below | Comparison::AtMost => clear >= when.value,
            Comparison::Equal | Comparison::NotEqual => false,
        });
        if !sound {
            return Err(wrong(
                "clears on the wrong side: at most the number with >, at least with <, never with ==".into(),
            ));
        }
        Ok(when)
    }
}

fn duration(word: &str) -> Option<Duration> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = word[..digits].parse().ok()?;
    let unit = match &word[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_millis)
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.pointer, self.comparison.as_str(), self.value)?;
        if let Some(clear) = self.clear {
            write!(f, " clear {clear}")?;
        }
        match self.hold.as_millis() {
            0 => Ok(()),
            ms if ms % 1000 == 0 => write!(f, " for {}s", ms / 1000),
            ms => write!(f, " for {ms}ms"),
        }
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_written_the_same() {
        for text in [
            "/speed > 30",
            "/speed >= 30 clear 28.5 for 60s",
            "/a/0 < -1 for 1500ms",
            "/door == 1",
            "/x != 0",
        ] {
            assert_eq!(text.parse::<When>().unwrap().to_string(), text);
        }
        assert_eq!("/x > 1 for 2m".parse::<When>().unwrap().to_string(), "/x > 1 for 120s");
    }

    #[test]
    fn what_is_wrong_is_told_with_the_form() {
        for bad in [
            "",
            "/x",
            "/x >",
            "/x = 1",
            "/x > y",
            "/x > NaN",
            "/x > 1 for",
            "/x > 1 for 60",
            "/x > 1 for 25h",
            "/x > 1 clear 2",
            "/x < 1 clear 0",
            "/x == 1 clear 1",
            "/x > 1 then",
            "/x > 1 for 99999999999999999h",
        ] {
            let refused = bad.parse::<When>().unwrap_err().to_string();
            assert!(refused.contains("write it as /speed > 30"), "{refused}");
        }
        assert!("speed > 30".parse::<When>().unwrap_err().to_string().contains("RFC 6901"));
    }

    #[test]
    fn what_has_begun_ends_beyond_its_hysteresis() {
        let when: When = "/speed > 30 clear 28".parse().unwrap();
        assert!(!when.holds(29.0, false) && when.holds(30.5, false));
        assert!(when.holds(29.0, true) && !when.holds(28.0, true));
    }
}
