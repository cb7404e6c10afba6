//! The HTTP client of the commands that talk to a running deployment.

use std::sync::Once;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Response, Url};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a body may pause. There is no bound on the whole: a range can be large.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A client with deadlines, that trusts the authority in `ca` (PEM) if there is one, else those of the system.
///
/// # Errors
/// If the certificates cannot be read.
pub fn client(ca: Option<&[u8]>) -> Result<Client> {
    builder(ca)?.build().context("cannot start an HTTP client")
}

/// The same for servers that are named by an address: nothing leads it elsewhere, neither an answer nor a proxy.
///
/// # Errors
/// If the certificates cannot be read.
pub fn client_that_stays(ca: Option<&[u8]>) -> Result<Client> {
    let builder = builder(ca)?.redirect(Policy::none()).no_proxy();
    builder.build().context("cannot start an HTTP client")
}

fn builder(ca: Option<&[u8]>) -> Result<ClientBuilder> {
    install_crypto();
    let mut builder = Client::builder();
    if let Some(pem) = ca {
        builder = builder.tls_built_in_root_certs(false);
        for certificate in Certificate::from_pem_bundle(pem).context("--ca is not PEM")? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    Ok(builder
        .user_agent(concat!("trough/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT))
}

/// Says which cryptography TLS uses; rustls asks that the process decides.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails only if somebody installed another before, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// What a failed request comes down to; the layers above it say nothing that helps.
pub fn plain(error: reqwest::Error) -> anyhow::Error {
    if error.is_timeout() {
        return anyhow!("it did not answer in time");
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    anyhow!("{cause}")
}

/// A path below a base URL, which may itself have a path (behind a proxy).
pub fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// The body, if it is no longer than `bytes_max`.
///
/// # Errors
/// A longer body, or a broken connection.
pub async fn text_at_most(mut response: Response, bytes_max: usize) -> Result<String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(plain).context("the answer broke off")? {
        if body.len() + chunk.len() > bytes_max {
            bail!("the answer is longer than {bytes_max} bytes: is this a Trough port?");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_may_have_a_path() {
        for (base, joined) in [
            ("http://h:1", "http://h:1/readyz"),
            ("http://h:1/", "http://h:1/readyz"),
            ("https://h/trough/", "https://h/trough/readyz"),
        ] {
            assert_eq!(join(&base.parse().unwrap(), "/readyz").as_str(), joined);
        }
    }
}
