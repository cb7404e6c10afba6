//! The key that secrets are sealed with which must be had back: signing keys of webhooks, push tokens of phones.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use trough_runtime::random::random_bytes;
use trough_store::SealKey;
use trough_store::sealed::SEAL_KEY_BYTES;

use crate::faults::Faults;
use crate::opt;
use crate::registry::{self, Place};

/// The key's name in a data directory.
const SEAL_KEY: &str = "seal.key";
const REMEDY: &str = "name a file of 32 random bytes: head -c 32 /dev/urandom > FILE";

/// Which key.
#[derive(Debug, Clone, Args)]
pub struct SealArgs {
    /// A file of 32 random bytes, the same for every process and command: seals signing keys and push tokens in the
    /// database [default: none with --database, else seal.key in --data-dir, made when it is needed]
    #[arg(long, env = opt::SEAL_KEY_FILE.env, hide_env_values = true, value_name = "FILE")]
    seal_key_file: Option<PathBuf>,
}

/// Where the key comes from.
#[derive(Clone)]
pub enum SealChoice {
    /// It was read.
    Key(SealKey),
    /// It lies in this directory, or is to be made there.
    DataDir(PathBuf),
}

impl SealArgs {
    /// Checks them, and reads the file.
    pub fn check(&self, place: &Place, faults: &mut Faults) -> Option<SealChoice> {
        let path = match (&self.seal_key_file, place) {
            (Some(path), _) => path,
            (None, Place::DataDir(dir)) => return Some(SealChoice::DataDir(dir.clone())),
            (None, Place::Database(_)) => {
                faults.add(opt::SEAL_KEY_FILE, "", "it is needed with --database", REMEDY);
                return None;
            }
        };
        let fault = |error: String| faults.add(opt::SEAL_KEY_FILE, path.display().to_string(), error, REMEDY);
        read(path)
            .map_err(|error| error.to_string())
            .and_then(|key| key.ok_or("it is not there".into()))
            .map_err(fault)
            .ok()
            .map(SealChoice::Key)
    }
}

impl SealChoice {
    /// The key. In a data directory it is made if it is not there.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn open(self) -> Result<SealKey> {
        let dir = match self {
            Self::Key(key) => return Ok(key),
            Self::DataDir(dir) => dir,
        };
        let path = dir.join(SEAL_KEY);
        let shown = || format!("cannot use the seal key {}", path.display());
        if let Some(key) = read(&path).with_context(shown)? {
            return Ok(key);
        }
        registry::create_data_dir(&dir)?;
        make(&dir, &path).with_context(shown)?;
        // Somebody else may have made it just before: that one counts.
        read(&path).with_context(shown)?.with_context(shown)
    }
}

/// `None` if there is no file.
fn read(path: &Path) -> io::Result<Option<SealKey>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let key: [u8; SEAL_KEY_BYTES] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| io::Error::other(format!("it has {} bytes, not {SEAL_KEY_BYTES}", bytes.len())))?;
    Ok(Some(SealKey::new(&key)))
}

/// Makes a key, whole or not at all: a half one would seal what nobody can open again.
fn make(dir: &Path, path: &Path) -> io::Result<()> {
    let draft = dir.join(format!("{SEAL_KEY}.{:016x}", u64::from_le_bytes(random_bytes())));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&random_bytes::<SEAL_KEY_BYTES>())?;
    file.sync_all()?;
    let linked = match fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    fs::remove_file(&draft)?;
    linked?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let choice = SealChoice::DataDir(dir.path().to_owned());
        let sealed = choice.clone().open().unwrap().seal(b"secret", "here");
        assert_eq!(choice.clone().open().unwrap().open(&sealed, "here").unwrap(), b"secret");
        let path = dir.path().join(SEAL_KEY);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        fs::write(&path, b"short").unwrap();
        assert!(format!("{:#}", choice.open().err().unwrap()).contains("5 bytes"));
    }
}
