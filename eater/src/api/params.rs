//! Parameters of a query string, strictly: what is not understood is refused, so that a typing error does not
//! silently ask for something else.

use trough_protocol::limits::INT_MAX;
use trough_protocol::{Channel, Epoch, Micros, Seq};

use super::openapi::schemas;

/// A parameter that cannot be accepted. The message names it, its value and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadParameter {
    /// There is no such parameter here. Its value is not shown: people put tokens there.
    #[error("there is no parameter {name:?} here: use {known}")]
    Unknown {
        /// The name, shortened.
        name: String,
        /// The names that are known.
        known: String,
    },
    /// Given more often than once.
    #[error("parameter {name} is given {times} times: give it once")]
    Repeated {
        /// The name.
        name: &'static str,
        /// How often.
        times: usize,
    },
    /// Two that exclude each other.
    #[error("parameters {first} and {second} are both given: give one of them")]
    Exclusive {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// One that needs another.
    #[error("parameter {given} is given without {needs}: give both")]
    Needs {
        /// The one.
        given: &'static str,
        /// The other.
        needs: &'static str,
    },
    /// A value that is not accepted.
    #[error("parameter {name} is {value:?}: use {accepted}")]
    Value {
        /// The name.
        name: &'static str,
        /// What was given, shortened.
        value: String,
        /// What is accepted.
        accepted: String,
    },
    /// Everything is well formed, and there is too much of it.
    #[error("{what}: use {remedy}")]
    TooMuch {
        /// What there is too much of.
        what: String,
        /// What to ask for.
        remedy: &'static str,
    },
    /// The query string itself.
    #[error("the query string has {what}: encode it as RFC 3986 says, in UTF-8")]
    Encoding {
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Longest name or value repeated in an error, in characters.
const SHOWN_CHARS: usize = 80;

fn shorten(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

impl BadParameter {
    /// A value that is not accepted.
    pub fn value(name: &'static str, value: &str, accepted: impl Into<String>) -> Self {
        Self::Value { name, value: shorten(value), accepted: accepted.into() }
    }
}

/// The parameters of one request, decoded.
#[derive(Debug, Clone, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    known: &'static [&'static str],
}

impl Params {
    /// Takes a query string apart; only the parameters in `known` may occur.
    ///
    /// `+` stays a plus sign: no value here has a space, but channels and time offsets have plus signs, and
    /// common clients (Foundation's `URLComponents` among them) do not encode those.
    ///
    /// # Errors
    /// [`BadParameter::Unknown`], [`BadParameter::Encoding`].
    pub fn parse(query: Option<&str>, known: &'static [&'static str]) -> Result<Self, BadParameter> {
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(BadParameter::Unknown { name: shorten(&name), known });
            }
            pairs.push((name, decode(value)?));
        }
        Ok(Self { pairs, known })
    }

    /// Every value of a parameter, in the order given.
    pub fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        debug_assert!(self.known.contains(&name), "{name} is not among the known ones");
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that may be given once.
    ///
    /// # Errors
    /// [`BadParameter::Repeated`].
    pub fn one(&self, name: &'static str) -> Result<Option<&str>, BadParameter> {
        let first = self.all(name).next();
        match self.all(name).count() {
            0 | 1 => Ok(first),
            times => Err(BadParameter::Repeated { name, times }),
        }
    }

    /// A whole number from 1 to `max`.
    ///
    /// # Errors
    /// [`BadParameter`].
    pub fn count(&self, name: &'static str, max: usize) -> Result<Option<usize>, BadParameter> {
        let Some(value) = self.one(name)? else { return Ok(None) };
        match parse_int(value) {
            Some(count) if (1..=max as u64).contains(&count) => Ok(Some(count as usize)),
            _ => Err(BadParameter::value(name, value, format!("a whole number from 1 to {max}"))),
        }
    }

    /// How many items a page of a list has: `limit`, or what it is without.
    ///
    /// # Errors
    /// [`BadParameter`].
    pub fn items(&self) -> Result<usize, BadParameter> {
        Ok(self.count("limit", schemas::ITEMS_MAX)?.unwrap_or(schemas::ITEMS_DEFAULT))
    }

    /// An instant: RFC 3339 with any offset, or whole microseconds since 1970. A fraction finer than a
    /// microsecond is rounded up, which is exact for both ends of a half-open range.
    ///
    /// # Errors
    /// [`BadParameter`].
    pub fn instant(&self, name: &'static str) -> Result<Option<Micros>, BadParameter> {
        let Some(value) = self.one(name)? else { return Ok(None) };
        let at =
            if value.bytes().all(|b| b.is_ascii_digit()) { parse_int(value) } else { parse_rfc3339(value) };
        match at {
            Some(at) if at <= INT_MAX => Ok(Some(at)),
            _ => Err(BadParameter::value(
                name,
                value,
                "RFC 3339 with an offset, such as 2017-03-21T05:00:02.5Z, or whole microseconds since 1970, \
                 such as 1490072402500000; from 1970 to 2255",
            )),
        }
    }

    /// Channel names, each parameter one of them or several with commas between.
    ///
    /// # Errors
    /// [`BadParameter`].
    pub fn channels(&self, name: &'static str, max: usize) -> Result<Vec<Channel>, BadParameter> {
        let mut channels = Vec::new();
        for (before, value) in self.all(name).flat_map(|value| value.split(',')).enumerate() {
            let Ok(channel) = Channel::new(value) else {
                let accepted = "1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ = /, several with commas between them";
                return Err(BadParameter::value(name, value, accepted));
            };
            if !channels.contains(&channel) {
                channels.push(channel);
            }
            if before == max {
                let value = format!("more than {max} channels");
                return Err(BadParameter::value(name, &value, format!("at most {max}, or none for all")));
            }
        }
        channels.sort_unstable();
        Ok(channels)
    }

    /// A place among a device's frames: epoch and seq with a colon between.
    ///
    /// # Errors
    /// [`BadParameter`].
    pub fn place(&self, name: &'static str) -> Result<Option<(Epoch, Seq)>, BadParameter> {
        let Some(value) = self.one(name)? else { return Ok(None) };
        let bad = || BadParameter::value(name, value, "epoch and seq of a frame, such as 1:4711");
        parse_place(value).map(Some).ok_or_else(bad)
    }
}

/// Epoch and seq with a colon between.
pub(super) fn parse_place(text: &str) -> Option<(Epoch, Seq)> {
    let (epoch, seq) = text.split_once(':')?;
    let (epoch, seq) = (parse_int(epoch)?, parse_int(seq)?);
    (epoch <= INT_MAX && seq <= INT_MAX).then_some((Epoch(epoch), Seq(seq)))
}

/// Digits only: no sign, no space.
fn parse_int(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

pub(super) fn parse_rfc3339(text: &str) -> Option<Micros> {
    // jiff also reads a time zone's name in brackets after the offset, which RFC 3339 does not have.
    let timestamp: jiff::Timestamp = text.parse().ok().filter(|_| !text.contains('['))?;
    let (micros, nanos) = (timestamp.as_microsecond(), timestamp.as_nanosecond());
    let exact = i128::from(micros) * 1000 >= nanos;
    u64::try_from(if exact { micros } else { micros + 1 }).ok()
}

/// Undoes percent encoding.
fn decode(text: &str) -> Result<String, BadParameter> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(BadParameter::Encoding { what: "a % that two hexadecimal digits do not follow" });
        };
        bytes.push(u8::try_from(high << 4 | low).expect("two hexadecimal digits are one byte"));
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| BadParameter::Encoding { what: "bytes that are not UTF-8" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["from", "limit", "channel", "after"];

    fn params(query: &str) -> Params {
        Params::parse(Some(query), KNOWN).unwrap()
    }

    #[test]
    fn takes_instants_in_both_forms() {
        let from = |value: &str| params(&format!("from={value}")).instant("from");
        for (value, expected) in [
            ("0", 0),
            ("1490072402000000", 1_490_072_402_000_000),
            ("2017-03-21T05:00:02Z", 1_490_072_402_000_000),
            ("2017-03-21t05:00:02z", 1_490_072_402_000_000),
            ("2017-03-21T06:30:02.25+01:30", 1_490_072_402_250_000),
            ("2017-03-21T06%3A30%3A02.25%2B01%3A30", 1_490_072_402_250_000),
            ("2017-03-21T05:00:02.000000001Z", 1_490_072_402_000_001),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(from(value), Ok(Some(expected)), "{value}");
        }
        for value in [
            "",
            "now",
            "-1",
            "+1",
            "1e3",
            "2017-03-21",
            "2017-03-21T05:00:02",
            "1969-12-31T23:59:59Z",
            "1.5",
            "2017-13-21T05:00:02Z",
            "9007199254740992",
            "99999999999999999999",
            "2300-01-01T00:00:00Z",
            "2017-03-21T05:00:02Z[UTC]",
        ] {
            let text = from(value).unwrap_err().to_string();
            assert!(text.contains("from") && text.contains(value) && text.contains("RFC 3339"), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let unknown = Params::parse(Some("limit=1&access_token=trdr_secret"), KNOWN).unwrap_err().to_string();
        assert_eq!(unknown, "there is no parameter \"access_token\" here: use from, limit, channel, after");
        let repeated = params("limit=1&limit=2").count("limit", 9).unwrap_err().to_string();
        assert_eq!(repeated, "parameter limit is given 2 times: give it once");
        for value in ["0", "10", "", "x", "1.0", "+1", " 1", "99999999999999999999999"] {
            let text = params(&format!("limit={value}")).count("limit", 9).unwrap_err().to_string();
            assert!(text.ends_with("use a whole number from 1 to 9"), "{text}");
        }
        assert_eq!(params("limit").count("limit", 9).map_err(|_| ()), Err(()));
        assert_eq!(params("&limit=9&").count("limit", 9), Ok(Some(9)));
        assert_eq!(params("").count("limit", 9), Ok(None));
        for bad in ["from=%", "from=%2", "from=%zz", "%ff=1", "from=%c3"] {
            assert!(matches!(Params::parse(Some(bad), KNOWN), Err(BadParameter::Encoding { .. })), "{bad}");
        }
        assert_eq!(Params::parse(None, &["from"]).unwrap().one("from"), Ok(None));
    }

    #[test]
    fn takes_channels_once_each_and_places() {
        let names = |query: &str| -> Vec<String> {
            params(query).channels("channel", 4).unwrap().iter().map(ToString::to_string).collect()
        };
        assert_eq!(names("channel=b,a&channel=b&channel=c%2Fd+e"), ["a", "b", "c/d+e"]);
        assert!(names("").is_empty());
        for bad in ["channel=", "channel=a,,b", "channel=a%20b", "channel=a,b,c,d,d"] {
            assert!(params(bad).channels("channel", 4).is_err(), "{bad}");
        }
        assert_eq!(params("after=1:4711").place("after"), Ok(Some((Epoch(1), Seq(4711)))));
        for bad in ["1", "1:", ":1", "1:-1", "1:9007199254740992", "a:1", "1:1:1"] {
            assert!(params(&format!("after={bad}")).place("after").is_err(), "{bad}");
        }
    }
}
