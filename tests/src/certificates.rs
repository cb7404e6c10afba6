//! Certificates of an authority that exists for one test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

/// Whoever issues certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, in PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one. Two with one name are two all the same.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names or addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 2100)
    }

    /// One that expires at the beginning of a year.
    pub fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A directory with a certificate, as Kubernetes mounts a Secret: files are links into `..data`, which is itself a
/// link, and is swapped to change all of them at once.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    versions: u32,
}

impl Mount {
    /// Makes the directory.
    pub fn new(dir: &Path, issued: &Issued, authority: &str) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mut mount = Self { dir: dir.to_owned(), versions: 0 };
        mount.swap(issued, authority);
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(Path::new("..data").join(name), dir.join(name)).unwrap();
        }
        mount
    }

    /// Puts another certificate in the place of the one that is there.
    pub fn swap(&mut self, issued: &Issued, authority: &str) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        let new = self.dir.join(&version);
        fs::create_dir(&new).unwrap();
        fs::write(new.join("tls.crt"), &issued.certificate).unwrap();
        fs::write(new.join("tls.key"), &issued.key).unwrap();
        fs::write(new.join("ca.crt"), authority).unwrap();
        symlink(&version, self.dir.join("..new")).unwrap();
        fs::rename(self.dir.join("..new"), self.dir.join("..data")).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The options of an HTTP port.
    pub fn http_args(&self) -> Vec<String> {
        vec!["--tls-cert".into(), self.file("tls.crt"), "--tls-key".into(), self.file("tls.key")]
    }

    /// The options of links.
    pub fn link_args(&self) -> Vec<String> {
        let options =
            [("--link-tls-cert", "tls.crt"), ("--link-tls-key", "tls.key"), ("--link-tls-ca", "ca.crt")];
        options.iter().flat_map(|(option, name)| [(*option).to_owned(), self.file(name)]).collect()
    }
}
