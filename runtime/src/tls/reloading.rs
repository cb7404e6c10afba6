//! What new connections are made with. Those that are open keep what they began with.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};

use super::files::{Contents, Files, Material, Part, TlsError};

/// A configuration that follows its files.
pub struct Reloading<C> {
    files: Files,
    build: fn(&Files, Material) -> Result<C, TlsError>,
    state: RwLock<State<C>>,
}

struct State<C> {
    config: Arc<C>,
    expires_s: u64,
    /// What was read last, good or bad: a bad file is complained of once.
    seen: Option<Contents>,
}

/// This side accepts. Cloning is cheap, and clones change together.
pub type ServerTls = Arc<Reloading<ServerConfig>>;
/// This side connects, and shows a certificate of its own.
pub type ClientTls = Arc<Reloading<ClientConfig>>;

impl<C> fmt::Debug for Reloading<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}

/// For an HTTP port: clients show no certificate.
///
/// # Errors
/// The files cannot be used.
pub fn http_server(files: Files) -> Result<ServerTls, TlsError> {
    Reloading::load(files, |files, material| {
        let mut config =
            server_builder().with_no_client_auth().with_single_cert(material.chain, material.key);
        if let Ok(config) = &mut config {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        config.map_err(|error| unusable(files, &error))
    })
}

/// For links: feeders must show a certificate of the authority.
///
/// # Errors
/// The files cannot be used, or none names the authority.
pub fn link_server(files: Files) -> Result<ServerTls, TlsError> {
    Reloading::load(files, |files, material| {
        let roots = material.roots.ok_or_else(|| no_authority(files))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| {
            files.error(
                Part::Authority,
                error.to_string(),
                "put the certificates of the authority there, in PEM",
            )
        })?;
        let config = server_builder().with_client_cert_verifier(verifier);
        config.with_single_cert(material.chain, material.key).map_err(|error| unusable(files, &error))
    })
}

/// For links: the eater must show a certificate of the authority, and so do we.
///
/// # Errors
/// The files cannot be used, or none names the authority.
pub fn link_client(files: Files) -> Result<ClientTls, TlsError> {
    Reloading::load(files, |files, material| {
        let roots = material.roots.ok_or_else(|| no_authority(files))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| {
            files.error(
                Part::Authority,
                error.to_string(),
                "put the certificates of the authority there, in PEM",
            )
        })?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of TLS 1.2 and 1.3")
            .with_webpki_verifier(verifier);
        config.with_client_auth_cert(material.chain, material.key).map_err(|error| unusable(files, &error))
    })
}

fn provider() -> Arc<CryptoProvider> {
    // Named here, so that it does not depend on what else the process links.
    Arc::new(ring::default_provider())
}

fn server_builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of TLS 1.2 and 1.3")
}

fn no_authority(files: &Files) -> TlsError {
    files.error(
        Part::Authority,
        "no authority is named",
        "name the file of the authority that both sides trust",
    )
}

fn unusable(files: &Files, error: &rustls::Error) -> TlsError {
    let fault = match error {
        rustls::Error::InconsistentKeys(_) => "it is not the key of the certificate".to_owned(),
        other => format!("it cannot be used with the certificate ({other})"),
    };
    files.error(Part::Key, fault, "put the key there that the certificate was issued for")
}

impl<C> Reloading<C> {
    /// Reads the files for the first time. Blocks.
    fn load(files: Files, build: fn(&Files, Material) -> Result<C, TlsError>) -> Result<Arc<Self>, TlsError> {
        let contents = files.read()?;
        let material = files.parse(&contents)?;
        let expires_s = material.expires_s;
        let config = Arc::new(build(&files, material)?);
        let state = RwLock::new(State { config, expires_s, seen: Some(contents) });
        Ok(Arc::new(Self { files, build, state }))
    }

    /// What a new connection is made with.
    pub fn config(&self) -> Arc<C> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    /// When what is in use expires, in seconds since 1970.
    pub fn expires_s(&self) -> u64 {
        self.state.read().unwrap_or_else(PoisonError::into_inner).expires_s
    }

    /// The files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Reads the files and takes what is new; `None` if they are as they were at the last look. Blocks.
    ///
    /// # Errors
    /// The files cannot be used: what was in use stays in use.
    pub fn reload(&self) -> Option<Result<(), TlsError>> {
        let read = self.files.read();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let seen = read.as_ref().ok().cloned();
        if seen == state.seen {
            return None;
        }
        state.seen = seen;
        let taken = read.and_then(|contents| {
            let material = self.files.parse(&contents)?;
            let expires_s = material.expires_s;
            Ok((Arc::new((self.build)(&self.files, material)?), expires_s))
        });
        Some(taken.map(|(config, expires_s)| {
            state.config = config;
            state.expires_s = expires_s;
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/device/tests/driver/data");

    fn copy(from: &str, to: &Path) {
        fs::copy(Path::new(DATA).join(from), to).unwrap();
    }

    #[test]
    fn what_is_new_is_taken_and_what_is_broken_is_refused_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files {
            certificate: dir.path().join("tls.crt"),
            key: dir.path().join("tls.key"),
            authority: Some(dir.path().join("ca.crt")),
        };
        let missing = http_server(files.clone()).unwrap_err();
        assert_eq!(missing.part, Part::Certificate);
        assert!(missing.to_string().contains("tls.crt: it cannot be read"), "{missing}");

        copy("server.pem", &files.certificate);
        copy("server.key", &files.key);
        copy("ca.pem", &dir.path().join("ca.crt"));
        let tls = http_server(files.clone()).unwrap();
        link_server(files.clone()).unwrap();
        link_client(files.clone()).unwrap();
        let first = tls.config();
        assert!(tls.expires_s() > 1_700_000_000);
        assert!(tls.reload().is_none(), "nothing has changed");

        copy("ca.pem", &files.certificate);
        let mismatch = tls.reload().unwrap().unwrap_err();
        assert_eq!(mismatch.part, Part::Key);
        assert!(mismatch.to_string().contains("not the key of the certificate"), "{mismatch}");
        assert!(tls.reload().is_none(), "it is complained of once");
        for (bytes, fault) in [("", "no certificate"), ("-----BEGIN CERTIFICATE-----\n", "not PEM")] {
            fs::write(&files.certificate, bytes).unwrap();
            let error = tls.reload().unwrap().unwrap_err();
            assert!(error.to_string().contains(fault), "{error}");
        }
        fs::remove_file(&files.certificate).unwrap();
        assert!(tls.reload().unwrap().is_err());
        assert!(tls.reload().is_none());
        assert!(Arc::ptr_eq(&first, &tls.config()), "the one before stays in use");

        copy("server.pem", &files.certificate);
        tls.reload().unwrap().unwrap();
        assert!(!Arc::ptr_eq(&first, &tls.config()));
    }

    #[test]
    fn links_need_an_authority() {
        let dir = Path::new(DATA);
        let files =
            Files { certificate: dir.join("server.pem"), key: dir.join("server.key"), authority: None };
        assert_eq!(link_server(files).unwrap_err().part, Part::Authority);
    }
}
