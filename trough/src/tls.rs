//! Certificates and keys: the options, and what is made of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use trough_protocol::link::{KEY_BYTES_MIN, LinkKey};
use trough_runtime::tls::reloading::{self, Reloading};
use trough_runtime::tls::{ClientTls, Files, Part, Purpose, ServerTls, TlsError, TlsMetrics, watch};

use crate::faults::Faults;
use crate::opt::{self, Opt};
use crate::service::Chassis;

/// How often is looked whether certificates have changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: usize = 4096;

/// TLS for devices and readers.
#[derive(Debug, Clone, Args)]
pub struct TlsArgs {
    /// Certificate of the HTTP port, with its chain, in PEM; read again when it changes [default: none, plain HTTP]
    #[arg(long, env = opt::TLS_CERT.env, hide_env_values = true, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, in PEM [default: none]
    #[arg(long, env = opt::TLS_KEY.env, hide_env_values = true, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

/// What links are secured with; the same on feeder and eater.
#[derive(Debug, Clone, Args)]
pub struct LinkArgs {
    /// This side's certificate for links, with its chain, in PEM; read again when it changes [default: none, plain
    /// TCP]
    #[arg(long, env = opt::LINK_TLS_CERT.env, hide_env_values = true, value_name = "FILE")]
    pub link_tls_cert: Option<PathBuf>,
    /// Its private key, in PEM [default: none]
    #[arg(long, env = opt::LINK_TLS_KEY.env, hide_env_values = true, value_name = "FILE")]
    pub link_tls_key: Option<PathBuf>,
    /// The authorities of the other side's certificate, in PEM [default: none]
    #[arg(long, env = opt::LINK_TLS_CA.env, hide_env_values = true, value_name = "FILE")]
    pub link_tls_ca: Option<PathBuf>,
    /// A key that feeders and eaters share, 32 characters or more; neither side takes links without [default: none]
    #[arg(long, env = opt::LINK_KEY_FILE.env, hide_env_values = true, value_name = "FILE")]
    pub link_key_file: Option<PathBuf>,
}

/// Whom a client trusts.
#[derive(Debug, Clone, Args)]
pub struct CaArgs {
    /// The authority of the server's certificate, in PEM, if it is a private one [default: the public ones]
    #[arg(long, env = opt::CA.env, hide_env_values = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl TlsArgs {
    /// Reads the files.
    pub fn check(&self, faults: &mut Faults) -> Option<ServerTls> {
        let given = [(opt::TLS_CERT, &self.tls_cert), (opt::TLS_KEY, &self.tls_key)];
        let [certificate, key] = all_or_none(faults, given)?;
        let files = Files { certificate, key, authority: None };
        taken(faults, [opt::TLS_CERT, opt::TLS_KEY, opt::TLS_CERT], reloading::http_server(files))
    }
}

impl LinkArgs {
    /// Reads the files of an eater.
    pub fn check_eater(&self, faults: &mut Faults) -> trough_eater::LinkSecurity {
        let tls = self.files(faults).and_then(|files| link(faults, reloading::link_server(files)));
        trough_eater::LinkSecurity { tls, key: self.key(faults) }
    }

    /// Reads the files of a feeder.
    pub fn check_feeder(&self, faults: &mut Faults) -> trough_feeder::LinkSecurity {
        let tls: Option<ClientTls> =
            self.files(faults).and_then(|files| link(faults, reloading::link_client(files)));
        trough_feeder::LinkSecurity { tls, key: self.key(faults) }
    }

    fn files(&self, faults: &mut Faults) -> Option<Files> {
        let given = [
            (opt::LINK_TLS_CERT, &self.link_tls_cert),
            (opt::LINK_TLS_KEY, &self.link_tls_key),
            (opt::LINK_TLS_CA, &self.link_tls_ca),
        ];
        let [certificate, key, authority] = all_or_none(faults, given)?;
        Some(Files { certificate, key, authority: Some(authority) })
    }

    fn key(&self, faults: &mut Faults) -> Option<LinkKey> {
        let file = self.link_key_file.as_deref()?;
        let value = file.display().to_string();
        let remedy = format!(
            "put {KEY_BYTES_MIN} characters or more there, the same on both sides: openssl rand -hex 32 makes some"
        );
        let key = match std::fs::read(file) {
            Ok(bytes) if bytes.len() > KEY_FILE_BYTES_MAX => Err("it is too long for a key".to_owned()),
            // An editor's line feed at the end must not make it another key.
            Ok(bytes) => LinkKey::new(bytes.trim_ascii()).ok_or_else(|| "it is too short".to_owned()),
            Err(error) => Err(format!("it cannot be read ({error})")),
        };
        key.map_err(|reason| faults.add(opt::LINK_KEY_FILE, value, reason, remedy)).ok()
    }
}

impl CaArgs {
    /// Reads the file, if there is one.
    pub fn check(&self, faults: &mut Faults) -> Option<Vec<u8>> {
        let file = self.ca.as_deref()?;
        let read = std::fs::read(file).map_err(|error| format!("it cannot be read ({error})"));
        let checked = read.and_then(|pem| {
            trough_device::Tls::with_roots_pem(&pem).map_err(|error| error.to_string())?;
            Ok(pem)
        });
        let remedy = "put the certificate of the authority there, in PEM";
        checked.map_err(|reason| faults.add(opt::CA, file.display().to_string(), reason, remedy)).ok()
    }
}

/// The files, if all are named; a fault for each that is missing beside others.
fn all_or_none<const N: usize>(
    faults: &mut Faults,
    given: [(Opt, &Option<PathBuf>); N],
) -> Option<[PathBuf; N]> {
    if given.iter().all(|(_, file)| file.is_none()) {
        return None;
    }
    for (option, file) in given {
        if file.is_none() {
            let flags: Vec<&str> = given.iter().map(|(option, _)| option.flag).collect();
            faults.add(option, "", "it is missing", format!("give all of {}, or none", flags.join(", ")));
        }
    }
    let files: Option<Vec<PathBuf>> = given.into_iter().map(|(_, file)| file.clone()).collect();
    files?.try_into().ok()
}

fn link<C>(faults: &mut Faults, loaded: Result<C, TlsError>) -> Option<C> {
    taken(faults, [opt::LINK_TLS_CERT, opt::LINK_TLS_KEY, opt::LINK_TLS_CA], loaded)
}

fn taken<C>(
    faults: &mut Faults,
    [certificate, key, authority]: [Opt; 3],
    loaded: Result<C, TlsError>,
) -> Option<C> {
    let add = |error: TlsError| {
        let option = match error.part {
            Part::Certificate => certificate,
            Part::Key => key,
            Part::Authority => authority,
        };
        faults.add(option, text(&error.file), error.fault, error.remedy);
    };
    loaded.map_err(add).ok()
}

fn text(file: &Path) -> String {
    file.display().to_string()
}

/// Looks after certificates while the service runs.
pub struct Watcher(TlsMetrics);

impl Watcher {
    /// Registers the metrics, before they are served.
    pub fn new(chassis: &mut Chassis) -> Self {
        Self(TlsMetrics::register(&mut chassis.metrics))
    }

    /// Looks after one certificate, if there is one.
    pub fn watch<C: Send + Sync + 'static>(
        &self,
        tls: Option<&std::sync::Arc<Reloading<C>>>,
        purpose: Purpose,
        chassis: &Chassis,
    ) {
        let Some(tls) = tls.cloned() else { return };
        let around =
            (chassis.clock.clone(), chassis.health.clone(), self.0.clone(), chassis.shutdown.clone());
        tokio::spawn(watch(tls, purpose, LOOK_EVERY, around));
    }
}
