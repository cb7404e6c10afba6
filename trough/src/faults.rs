//! What is wrong with the configuration: all of it at once, so that nobody mends one option only to hear of
//! the next.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use trough_runtime::secret::Secret;
use trough_runtime::telemetry::{Format, TelemetryError};
use trough_store::TokenKind;
use trough_store::mongo::{MongoUrl, MongoUrlError};

use crate::opt::{self, Opt};

/// One option that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    option: Opt,
    value: String,
    reason: String,
    remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, value, reason, remedy } = self;
        f.write_str(option.flag)?;
        if !option.env.is_empty() {
            write!(f, " ({})", option.env)?;
        }
        write!(f, " is {value:?}: {reason}; {remedy}")
    }
}

/// The faults found so far. Check everything, then call [`Faults::into_result`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().enumerate().try_for_each(|(n, line)| {
            let separator = if n > 0 { "\n" } else { "" };
            write!(f, "{separator}{line}")
        })
    }
}

/// An address to bind or to connect to, with a port. The host is resolved when it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort(String);

impl HostPort {
    /// As `host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostPort {
    type Err = &'static str;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (host, port) = s.rsplit_once(':').ok_or("it has no port")?;
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        match (host, port.parse::<u16>()) {
            ("", _) => Err("it has no host"),
            _ if bare_v6 => Err("an IPv6 address must stand in brackets"),
            (_, Err(_)) => Err("the port is not a number from 0 to 65535"),
            (_, Ok(_)) => Ok(Self(s.to_owned())),
        }
    }
}

impl Faults {
    /// Adds one.
    pub fn add(
        &mut self,
        option: Opt,
        value: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Fault { option, value: value.into(), reason: reason.into(), remedy: remedy.into() });
    }

    /// One line for each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Fault::to_string)
    }

    /// The value, if nothing was wrong.
    ///
    /// # Errors
    /// The faults, if there is one.
    pub fn into_result<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    /// A `HOST:PORT`.
    pub fn host_port(&mut self, option: Opt, value: &str) -> Option<HostPort> {
        let remedy = "use HOST:PORT, such as 127.0.0.1:8080";
        self.parsed(option, value, remedy)
    }

    /// Anything that parses, with what to write instead if it does not.
    pub fn parsed<T: FromStr>(&mut self, option: Opt, value: &str, remedy: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        value.parse().map_err(|error: T::Err| self.add(option, value, error.to_string(), remedy)).ok()
    }

    /// A whole number within bounds, in `unit`.
    pub fn number(
        &mut self,
        option: Opt,
        value: &str,
        unit: &str,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let remedy = format!("use a whole number of {unit} from {} to {}", bounds.start(), bounds.end());
        match value.parse::<u64>() {
            Ok(number) if bounds.contains(&number) => return Some(number),
            Ok(_) => self.add(option, value, "it is out of range", remedy),
            Err(_) => self.add(option, value, "it is not a whole number", remedy),
        }
        None
    }

    /// Whole seconds within bounds.
    pub fn seconds(
        &mut self,
        option: Opt,
        value: &str,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Option<Duration> {
        self.number(option, value, "seconds", bounds).map(Duration::from_secs)
    }

    /// A URL of one of these schemes, without its trailing slash.
    pub fn url(&mut self, option: Opt, value: &str, schemes: &[&str], example: &str) -> Option<reqwest::Url> {
        let remedy = format!("use a URL such as {example}");
        let url: reqwest::Url = self.parsed(option, value, &remedy)?;
        if !schemes.contains(&url.scheme()) {
            let reason = format!("its scheme is {}, not {}", url.scheme(), schemes.join(" or "));
            self.add(option, value, reason, remedy);
            return None;
        }
        if url.query().is_some() || url.fragment().is_some() {
            self.add(option, value, "a query or fragment has no meaning here", remedy);
            return None;
        }
        Some(url)
    }

    /// A database. Its URL may hold a password, so it stays out of the message.
    pub fn database(&mut self, option: Opt, value: &str) -> Option<MongoUrl> {
        let remedy = "use mongodb://HOST:PORT/NAME, with USER:PASSWORD@ before the host if it has users";
        value.parse().map_err(|error: MongoUrlError| self.add(option, "***", error.to_string(), remedy)).ok()
    }

    /// A token, from the command line or the environment.
    pub fn token(&mut self, option: Opt, kind: TokenKind, value: &str) -> Option<Secret<String>> {
        let (whose, other) = match kind {
            TokenKind::Device => ("a device's", "a reader's"),
            TokenKind::Reader => ("a reader's", "a device's"),
        };
        let value = value.trim();
        let remedy = format!("pass {whose} token as it was shown, {}…", kind.prefix());
        let reason = if value.is_empty() {
            "it is empty".to_owned()
        } else if !value.bytes().all(|b| b.is_ascii_graphic()) {
            "it has characters that no token has".to_owned()
        } else if [TokenKind::Device, TokenKind::Reader]
            .iter()
            .any(|k| *k != kind && value.starts_with(k.prefix()))
        {
            format!("it is {other} token")
        } else {
            return Some(value.to_owned().into());
        };
        // The value stays out of the message: a token that was mistyped is still nearly a token.
        self.add(option, "***", reason, remedy);
        None
    }

    /// The log format and filter, applied at once if they are in order.
    pub fn start_logging(&mut self, format: &str, filter: &str) -> Option<()> {
        let format = match format.parse::<Format>() {
            Ok(format) => Some(format),
            Err(_) => {
                self.add(opt::LOG_FORMAT, format, "it is not known", "use text or json");
                None
            }
        };
        // The filter is looked at even if the format is wrong.
        match trough_runtime::telemetry::init(format.unwrap_or_default(), filter) {
            Ok(()) => format.map(|_| ()),
            Err(error) => {
                let remedy = "use directives such as info or warn,trough_feeder=debug";
                let reason = match error {
                    TelemetryError::Filter { reason, .. } => reason,
                    other => other.to_string(),
                };
                self.add(opt::LOG, filter, format!("it cannot be read ({reason})"), remedy);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_kept_and_names_option_value_and_remedy() {
        let mut faults = Faults::default();
        assert!(faults.host_port(opt::LISTEN, "127.0.0.1").is_none());
        assert!(faults.number(opt::FRAME_BYTES_MAX, "2M", "bytes", 1..=9).is_none());
        assert!(faults.seconds(opt::GRACE, "0", 1..=600).is_none());
        let error = faults.into_result(Some(())).unwrap_err();
        assert_eq!(
            error.lines().collect::<Vec<_>>(),
            [
                "--listen (TROUGH_LISTEN) is \"127.0.0.1\": it has no port; use HOST:PORT, such as 127.0.0.1:8080",
                "--frame-bytes-max (TROUGH_FRAME_BYTES_MAX) is \"2M\": it is not a whole number; use a whole number of bytes from 1 to 9",
                "--grace (TROUGH_GRACE) is \"0\": it is out of range; use a whole number of seconds from 1 to 600",
            ]
        );
    }

    #[test]
    fn addresses() {
        for good in ["127.0.0.1:0", "[::1]:8080", "eater.internal:8082"] {
            assert_eq!(good.parse::<HostPort>().unwrap().as_str(), good);
        }
        for bad in ["", "8080", ":8080", "::1:8080", "host:", "host:70000", "host:http"] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_never_repeated() {
        let mut faults = Faults::default();
        assert!(faults.token(opt::DEVICE_TOKEN, TokenKind::Device, "se cret").is_none());
        assert!(faults.token(opt::DEVICE_TOKEN, TokenKind::Device, "trdr_secret").is_none());
        let text = faults.to_string();
        assert!(!text.contains("cret") && text.contains("it is a reader's token"), "{text}");
    }

    #[test]
    fn a_password_is_never_repeated() {
        let mut faults = Faults::default();
        assert!(faults.database(opt::DATABASE, "mongodb://user:hunter2@host").is_none());
        assert!(faults.database(opt::DATABASE, "postgres://user:hunter2@host/name").is_none());
        let text = faults.to_string();
        assert!(!text.contains("hunter2") && text.contains("it names no database"), "{text}");
    }
}
