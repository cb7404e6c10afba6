//! The encryption of `wss://`: rustls with ring.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::error::ConfigError;

/// Whom a device trusts. Cloning is cheap: let all devices of a process share one.
#[derive(Clone)]
pub struct Tls(pub(crate) Arc<ClientConfig>);

impl Tls {
    /// Trusts the compiled-in root certificates, those of Mozilla.
    pub fn compiled_in_roots() -> Self {
        // Thousands of devices in one process share one copy of the 150 certificates.
        static SHARED: OnceLock<Tls> = OnceLock::new();
        let make = || Self::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
        SHARED.get_or_init(make).clone()
    }

    /// Trusts the certificates in `pem` and no other: what `SSL_CERT_FILE` names, or an installation's own CA.
    ///
    /// # Errors
    /// [`ConfigError::Roots`] if there is none, or one that cannot be read.
    pub fn with_roots_pem(pem: &[u8]) -> Result<Self, ConfigError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| ConfigError::Roots(error.to_string()))?;
            roots.add(certificate).map_err(|error| ConfigError::Roots(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(ConfigError::Roots("there is no certificate".into()));
        }
        Ok(Self::new(roots))
    }

    fn new(roots: RootCertStore) -> Self {
        // The provider is named here, so that it does not depend on what else the process links.
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
