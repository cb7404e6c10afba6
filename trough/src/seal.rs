//! What secrets that must be had back are sealed with, as an option says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use trough_runtime::random::random_bytes;
use trough_store::SealKey;
use trough_store::sealed::SEAL_KEY_BYTES;

use crate::faults::Faults;
use crate::opt;
use crate::registry::Place;

/// The key's name in a data directory.
const SEAL_KEY: &str = "seal.key";
const FORM: &str =
    "give a file of 32 random bytes, or of their 64 hexadecimal digits or base64: openssl rand -hex 32";

/// With what secrets are sealed.
#[derive(Debug, Clone, Args)]
pub struct SealArgs {
    /// A file of 32 random bytes (or their hexadecimal digits, or base64), the same for every process: seals the keys of
    /// webhooks and the tokens of phones [default: seal.key in the data directory, made at first use; none with --database]
    #[arg(long, env = opt::SEAL_KEY_FILE.env, hide_env_values = true, value_name = "FILE")]
    seal_key_file: Option<PathBuf>,
}

/// What was chosen.
#[derive(Debug, Clone)]
pub enum SealChoice {
    /// This key.
    Key(SealKey),
    /// That of a data directory.
    DataDir(PathBuf),
    /// None: secrets can neither be stored nor read.
    None,
}

impl SealArgs {
    /// Checks the option, and reads the key that it names.
    pub fn check(&self, place: &Place, faults: &mut Faults) -> Option<SealChoice> {
        let Some(path) = &self.seal_key_file else {
            return Some(match place {
                Place::DataDir(dir) => SealChoice::DataDir(dir.clone()),
                Place::Database(_) => SealChoice::None,
            });
        };
        let found = read(path).map_err(|error| {
            faults.add(opt::SEAL_KEY_FILE, path.display().to_string(), error, FORM);
        });
        found.ok().map(SealChoice::Key)
    }
}

impl SealChoice {
    /// The key.
    ///
    /// # Errors
    /// It cannot be read or made, or none was named.
    pub fn needed(self) -> Result<SealKey> {
        self.open()?.with_context(|| format!("{} is needed with --database: {FORM}", opt::SEAL_KEY_FILE.flag))
    }

    /// The key; that of a data directory, which must exist, is made if it is missing.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn open(self) -> Result<Option<SealKey>> {
        match self {
            Self::Key(key) => Ok(Some(key)),
            Self::None => Ok(None),
            Self::DataDir(dir) => {
                let path = dir.join(SEAL_KEY);
                if !path.exists() {
                    create(&dir, &path).with_context(|| format!("cannot make {}", path.display()))?;
                }
                read(&path).map(Some).map_err(|error| anyhow!("{}: {error}; {FORM}", path.display()))
            }
        }
    }
}

/// Reads a key. What is wrong with a file never shows what is in it.
fn read(path: &Path) -> Result<SealKey, String> {
    let bytes = fs::read(path).map_err(|error| format!("it cannot be read ({error})"))?;
    let key = parse(&bytes).ok_or_else(|| format!("it has {} bytes that are no key", bytes.len()))?;
    Ok(SealKey::new(&key))
}

fn parse(bytes: &[u8]) -> Option<[u8; SEAL_KEY_BYTES]> {
    if let Ok(key) = bytes.try_into() {
        return Some(key);
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    if text.len() == 2 * SEAL_KEY_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let mut key = [0; SEAL_KEY_BYTES];
        for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        return Some(key);
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Makes a key, whole and for its owner only, unless somebody else was as quick: then theirs counts.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    let key: [u8; SEAL_KEY_BYTES] = random_bytes();
    let suffix: [u8; 8] = random_bytes();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let unfinished = dir.join(format!("{SEAL_KEY}.{}", hex(&suffix)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{}", hex(&key))?;
    file.sync_all()?;
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(dir)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn check(file: &Path) -> Result<SealChoice, String> {
        let mut faults = Faults::default();
        let args = SealArgs { seal_key_file: Some(file.to_owned()) };
        let chosen = args.check(&Place::of("unused", None), &mut faults);
        faults.into_result(chosen).map_err(|faults| faults.lines().collect())
    }

    #[test]
    fn a_key_is_bytes_or_digits_or_base64() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let key = SealKey::new(&[0xab; 32]);
        let sealed = key.seal(b"secret", "here");
        for content in
            [vec![0xab; 32], format!("{}\n", "aB".repeat(32)).into(), STANDARD.encode([0xab; 32]).into()]
        {
            fs::write(&file, content).unwrap();
            let found = check(&file).unwrap().open().unwrap().unwrap();
            assert_eq!(found.open(&sealed, "here").unwrap(), b"secret");
        }
        for wrong in ["", "secret", &"ab".repeat(31), &"xy".repeat(32), &STANDARD.encode([1; 31])] {
            fs::write(&file, wrong).unwrap();
            let told = check(&file).unwrap_err();
            assert!(told.contains("--seal-key-file") && told.contains("openssl rand -hex 32"), "{told}");
            assert!(wrong.is_empty() || !told.contains(wrong), "{told}");
        }
        assert!(check(&dir.path().join("missing")).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_data_directory_has_its_own_key_from_its_first_use_on() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::of(dir.path(), None);
        let open = || {
            let chosen = SealArgs { seal_key_file: None }.check(&place, &mut Faults::default()).unwrap();
            chosen.open().unwrap().unwrap()
        };
        let keys: Vec<_> = std::thread::scope(|scope| {
            let opening: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            opening.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let sealed = keys[0].seal(b"secret", "here");
        assert!(keys.iter().chain([&open()]).all(|key| key.open(&sealed, "here").unwrap() == b"secret"));
        let found: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(dir.path().join(SEAL_KEY), "damaged").unwrap();
        let refused = SealChoice::DataDir(dir.path().to_owned()).open().unwrap_err().to_string();
        assert!(refused.contains("seal.key") && !refused.contains("damaged"), "{refused}");
    }

    #[test]
    fn a_database_has_none() {
        let place = Place::Database("mongodb://127.0.0.1/trough".parse().unwrap());
        let chosen = SealArgs { seal_key_file: None }.check(&place, &mut Faults::default()).unwrap();
        assert!(chosen.open().unwrap().is_none());
    }
}
