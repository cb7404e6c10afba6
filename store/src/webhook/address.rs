//! The URL of a webhook: what may stand in it, and what of it may be shown.

use std::net::IpAddr;

use url::{Host, Url};

use super::network::{NotPublic, is_public};

/// Where webhooks may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// To `http://` too.
    pub http: bool,
    /// To addresses that are not of the public internet too.
    pub private_networks: bool,
}

/// A URL that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is none.
    #[error("the url cannot be read ({0}): use one such as https://example.com/hook")]
    Unreadable(String),
    /// Not this way.
    #[error("the url begins with {0}: use https://")]
    Scheme(String),
    /// In clear, where that is not allowed.
    #[error("the url begins with http: use https://, or allow http for all webhooks (--webhook-http)")]
    Http,
    /// Nowhere.
    #[error("the url has no host: use one such as https://example.com/hook")]
    NoHost,
    /// Not there.
    #[error(transparent)]
    NotPublic(#[from] NotPublic),
}

impl Reach {
    /// Reads a URL and checks what can be checked without looking its name up; that is done, and checked, whenever a
    /// connection is made.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn check(self, url: &str) -> Result<Url, AddressError> {
        let url = Url::parse(url).map_err(|error| AddressError::Unreadable(error.to_string()))?;
        match url.scheme() {
            "https" => {}
            "http" if self.http => {}
            "http" => return Err(AddressError::Http),
            other => return Err(AddressError::Scheme(other.to_owned())),
        }
        let address = match url.host() {
            None => return Err(AddressError::NoHost),
            Some(Host::Domain(_)) => None,
            // No name is looked up for these, so they would pass by the resolver.
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        };
        match address {
            Some(address) if !self.private_networks && !is_public(address) => {
                Err(NotPublic { host: address.to_string(), address }.into())
            }
            _ => Ok(url),
        }
    }
}

/// Host and port: all of a URL that logs and metrics may have, and what an endpoint is.
pub fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_https_unless_more_is_allowed() {
        let strict = Reach::default();
        assert!(strict.check("https://example.com/hook?key=1").is_ok());
        for (url, needle) in [
            ("http://example.com/", "--webhook-http"),
            ("ftp://example.com/", "begins with ftp"),
            ("example.com/hook", "cannot be read"),
            ("data:text/plain,x", "begins with data"),
            ("https://", "cannot be read"),
            ("https://127.0.0.1/", "127.0.0.1"),
            ("https://2130706433/", "127.0.0.1"),
            ("https://0x7f.1/", "127.0.0.1"),
            ("https://169.254.169.254/latest", "169.254.169.254"),
            ("https://[::ffff:10.0.0.1]/", "private-networks"),
            ("https://[fe80::1]/", "private-networks"),
        ] {
            let refused = strict.check(url).unwrap_err().to_string();
            assert!(refused.contains(needle), "{url}: {refused}");
        }
        let open = Reach { http: true, private_networks: true };
        assert!(open.check("http://127.0.0.1:8000/").is_ok());
    }

    #[test]
    fn nothing_but_host_and_port_is_shown() {
        let url = Url::parse("https://user:secret@example.com/path?token=secret").unwrap();
        assert_eq!(host_and_port(&url), "example.com:443");
    }
}
