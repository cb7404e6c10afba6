//! Where the feeder is, and how a connection to it is made.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use http::Uri;
use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use trough_protocol::device::PATH_STREAM;

use crate::error::ConfigError;
use crate::tls::Tls;

/// A connection that a WebSocket can be spoken over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Dialed = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Makes connections in another way than TCP and TLS to the host of the url.
#[derive(Clone)]
pub struct Dialer(Arc<dyn Fn() -> Dialed + Send + Sync>);

impl Dialer {
    /// Calls `dial` for every connection. The future is dropped when it takes longer than
    /// [`Config::connect_timeout`](crate::Config::connect_timeout).
    pub fn new<F, Fut>(dial: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Box<dyn Stream>>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(dial())))
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialer")
    }
}

/// A checked url.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// With scheme `ws` or `wss` and a path.
    pub uri: Uri,
    pub host: String,
    port: u16,
    tls: bool,
}

impl Target {
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let invalid = |problem| ConfigError::Url { url: url.to_owned(), problem };
        let uri: Uri = url.trim().parse().map_err(|_| invalid("it is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            Some(_) => return Err(invalid("its scheme is none of ws, wss, http and https")),
            None => return Err(invalid("it has no scheme")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("it has no host"))?.clone();
        if authority.as_str().contains('@') {
            // Not shown: it may be a secret.
            let problem = "it holds a user name or password, for which there is no use";
            return Err(ConfigError::Url { url: "***".into(), problem });
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(invalid("it has no host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = match uri.path_and_query() {
            Some(path) if path.as_str() != "/" => path.clone(),
            _ => PathAndQuery::from_static(PATH_STREAM),
        };
        let uri = Uri::builder()
            .scheme(if tls { "wss" } else { "ws" })
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|_| invalid("it is not a URL"))?;
        Ok(Self { uri, host, port, tls })
    }

    /// The value of the `Host` header.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Connects, with TLS where the url asks for it. No deadline of its own.
    pub async fn dial(&self, tls: &Tls, dialer: Option<&Dialer>) -> io::Result<Box<dyn Stream>> {
        if let Some(dialer) = dialer {
            return (dialer.0)().await;
        }
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // Messages are complete when they are written; waiting for more only delays them.
        tcp.set_nodelay(true)?;
        if !self.tls {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = TlsConnector::from(tls.0.clone()).connect(name, tcp).await?;
        Ok(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_targets() {
        let cases = [
            ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/stream", "127.0.0.1", 8080, false),
            ("http://trough/", "ws://trough/v1/stream", "trough", 80, false),
            ("https://a.example/fleet/v1/stream", "wss://a.example/fleet/v1/stream", "a.example", 443, true),
            ("wss://[::1]:9", "wss://[::1]:9/v1/stream", "::1", 9, true),
        ];
        for (url, uri, host, port, tls) in cases {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.uri.to_string().as_str(), &*target.host), (uri, host), "{url}");
            assert_eq!((target.port, target.tls), (port, tls), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_a_remedy() {
        for url in ["", "trough.example.org", "ftp://a", "ws://", "ws://user:secret@a", "ws://a b"] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains("write it like wss://"), "{error}");
        }
    }
}
