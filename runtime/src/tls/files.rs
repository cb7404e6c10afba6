//! The files: a certificate with its chain, its key, and the authority that vouches for the other side.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::der::Decode;

/// Larger files are not PEM, or not meant: they are not read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Which of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The certificate and its chain.
    Certificate,
    /// Its private key.
    Key,
    /// The authorities that the other side's certificate must come from.
    Authority,
}

/// A file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {fault}; {remedy}", file.display())]
pub struct TlsError {
    /// Which file.
    pub part: Part,
    /// Where it is.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Where the files are. They may be symbolic links, as Kubernetes mounts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// PEM: our certificate first, then the chain up to the authority.
    pub certificate: PathBuf,
    /// PEM: its private key (PKCS#8, PKCS#1 or SEC1), not encrypted.
    pub key: PathBuf,
    /// PEM: the authorities for the other side; with it both sides show certificates.
    pub authority: Option<PathBuf>,
}

/// What stood in the files when they were read.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Option<Vec<u8>>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One of them is a private key.
        f.write_str("***")
    }
}

/// What the files mean.
#[derive(Debug)]
pub struct Material {
    /// Our certificate and its chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Whom to trust.
    pub roots: Option<Arc<RootCertStore>>,
    /// When the first certificate of the chain expires, in seconds since 1970.
    pub expires_s: u64,
}

impl Files {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn read(&self) -> Result<Contents, TlsError> {
        Ok(Contents {
            certificate: read(Part::Certificate, &self.certificate)?,
            key: read(Part::Key, &self.key)?,
            authority: self.authority.as_deref().map(|file| read(Part::Authority, file)).transpose()?,
        })
    }

    /// Understands what was read.
    ///
    /// # Errors
    /// The first that is not what it should be. Whether key and certificate belong together is found later.
    pub fn parse(&self, contents: &Contents) -> Result<Material, TlsError> {
        let chain = certificates(Part::Certificate, &self.certificate, &contents.certificate)?;
        let expiries: Result<Vec<u64>, String> = chain.iter().map(expiry).collect();
        let expires_s = expiries
            .map_err(|fault| self.error(Part::Certificate, fault, "issue it again"))?
            .into_iter()
            .min()
            .unwrap_or_default();
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| {
            let fault = "there is no private key that can be read";
            self.error(Part::Key, fault, "put the key there in PEM, as PKCS#8, PKCS#1 or SEC1, not encrypted")
        })?;
        let roots = match (&self.authority, &contents.authority) {
            (Some(file), Some(bytes)) => Some(Arc::new(roots(file, bytes)?)),
            _ => None,
        };
        Ok(Material { chain, key, roots, expires_s })
    }

    /// A fault of one of these files.
    pub fn error(&self, part: Part, fault: impl Into<String>, remedy: &'static str) -> TlsError {
        let file = match part {
            Part::Certificate => &self.certificate,
            Part::Key => &self.key,
            Part::Authority => self.authority.as_ref().unwrap_or(&self.certificate),
        };
        TlsError { part, file: file.clone(), fault: fault.into(), remedy }
    }
}

fn read(part: Part, file: &Path) -> Result<Vec<u8>, TlsError> {
    let error = |fault, remedy| TlsError { part, file: file.to_owned(), fault, remedy };
    let cannot = |io: std::io::Error| {
        error(format!("it cannot be read ({io})"), "check the path, and whether this user may read it")
    };
    let len = std::fs::metadata(file).map_err(cannot)?.len();
    if len > FILE_BYTES_MAX {
        let fault = format!("it has {len} bytes, and {FILE_BYTES_MAX} is the limit");
        return Err(error(fault, "is it the right file?"));
    }
    std::fs::read(file).map_err(cannot)
}

fn certificates(part: Part, file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let remedy = "put certificates there in PEM, this side's own first";
    let error = |fault: String| TlsError { part, file: file.to_owned(), fault, remedy };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = read.map_err(|fault| error(format!("it is not PEM ({fault})")))?;
    if chain.is_empty() {
        return Err(error("there is no certificate in it".into()));
    }
    Ok(chain)
}

/// When a certificate expires, in seconds since 1970.
fn expiry(certificate: &CertificateDer<'_>) -> Result<u64, String> {
    let read = x509_cert::Certificate::from_der(certificate);
    let read = read.map_err(|error| format!("it has a certificate that cannot be read ({error})"))?;
    Ok(read.tbs_certificate.validity.not_after.to_unix_duration().as_secs())
}

fn roots(file: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(Part::Authority, file, pem)? {
        store.add(certificate).map_err(|fault| TlsError {
            part: Part::Authority,
            file: file.to_owned(),
            fault: format!("it has a certificate that is no authority ({fault})"),
            remedy: "put the certificates of the authority there, in PEM",
        })?;
    }
    Ok(store)
}
