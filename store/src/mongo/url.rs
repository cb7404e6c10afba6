//! Where the database is.

use std::fmt;
use std::str::FromStr;

use mongodb::options::{ConnectionString, HostInfo};

/// The address of a database: `mongodb://HOST:PORT,…/NAME?options`. It may hold a password, so it prints as hosts and
/// name only, and no error of its own repeats it.
#[derive(Clone)]
pub struct MongoUrl {
    parsed: Box<ConnectionString>,
    hosts: String,
    name: String,
}

/// Not the address of a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MongoUrlError(String);

impl MongoUrl {
    /// The hosts, as they may be shown.
    pub fn hosts(&self) -> &str {
        &self.hosts
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn parsed(&self) -> &ConnectionString {
        &self.parsed
    }
}

impl FromStr for MongoUrl {
    type Err = MongoUrlError;
    fn from_str(s: &str) -> Result<Self, MongoUrlError> {
        let wrong = |reason: &str| Err(MongoUrlError(reason.to_owned()));
        if !s.starts_with("mongodb://") {
            return wrong("it does not begin with mongodb://");
        }
        let parsed = match ConnectionString::parse(s) {
            Ok(parsed) => parsed,
            // The driver's own words may repeat a part of the password that was not escaped.
            Err(_) if s.contains('@') => {
                return wrong("it cannot be read; are user and password percent-encoded?");
            }
            Err(error) => return wrong(&error.kind.to_string()),
        };
        let HostInfo::HostIdentifiers(hosts) = &parsed.host_info else {
            return wrong("it names no hosts");
        };
        let hosts = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match &parsed.default_database {
            Some(name) if !name.is_empty() => {
                Ok(Self { hosts, name: name.clone(), parsed: Box::new(parsed) })
            }
            _ => wrong("it names no database"),
        }
    }
}

impl fmt::Display for MongoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mongodb://{}/{}", self.hosts, self.name)
    }
}

impl fmt::Debug for MongoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_hosts_and_name_and_no_password() {
        let url: MongoUrl = "mongodb://user:hunter2@a:1,b:2/trough?authSource=admin".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "mongodb://a:1,b:2/trough mongodb://a:1,b:2/trough");
        assert_eq!((url.hosts(), url.name()), ("a:1,b:2", "trough"));
    }

    #[test]
    fn refuses_what_is_no_database_and_repeats_no_password() {
        for bad in [
            "",
            "localhost/trough",
            "postgres://localhost/trough",
            "mongodb+srv://cluster.example/trough",
            "mongodb://localhost",
            "mongodb://localhost/",
            "mongodb://localhost:port/trough",
            "mongodb://localhost/trough?w=x&journal=maybe",
            "mongodb://user:hunter2/x@localhost/trough",
            "mongodb://user:hun@ter2@localhost/trough",
            "mongodb://user:hunter2@localhost:bad/trough",
        ] {
            let error = bad.parse::<MongoUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains("ter2"), "{bad}: {error}");
        }
    }
}
