//! Objects as files under a directory: a key is a path.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use trough_protocol::Micros;
use trough_runtime::clock::{Clock, micros};
use trough_runtime::random::random_bytes;

use super::{LIST_MAX, ObjectEntry, ObjectError, ObjectKey, ObjectStore, too_short, trivial};
use crate::BoxFuture;

/// Begins the name of a file that is being written. No key has a `~`.
const UNFINISHED: &str = "tmp~";
/// A file that was unfinished for so long has lost its writer.
const LEFT_AFTER: Duration = Duration::from_secs(3600);
/// When to try again what a file system did not do.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The store. Several processes may use one directory.
#[derive(Debug, Clone)]
pub struct FileStore(Arc<Path>);

impl FileStore {
    /// Makes the directory if need be, and removes what writers that died left unfinished. Blocks.
    ///
    /// # Errors
    /// If the directory cannot be made or read.
    pub fn open(dir: &Path, clock: &Clock) -> Result<Self, ObjectError> {
        let opened = || -> std::io::Result<()> {
            fs::create_dir_all(dir)?;
            sweep(dir, clock.now().saturating_sub(micros(LEFT_AFTER)))
        };
        opened().map_err(|error| failure(&format!("{}: {error}", dir.display()), error.kind()))?;
        Ok(Self(dir.into()))
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.0.join(key.as_str())
    }

    /// Runs on a thread that may block. A call that is dropped still ends, so it is done whole.
    fn run<'a, T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ObjectError> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, ObjectError>> {
        let store = self.clone();
        Box::pin(async move {
            let ended = tokio::task::spawn_blocking(move || work(&store)).await;
            ended.unwrap_or_else(|error| Err(failure(&error.to_string(), ErrorKind::Other)))
        })
    }

    fn write(&self, key: &ObjectKey, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.path(key);
        let dir = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(dir)?;
        let unfinished = Unfinished::new(dir);
        let mut file = File::create_new(&unfinished.0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished.0, &path)?;
        // Any of the directories may be new, or made by another process that has not got so far yet.
        for dir in dir.ancestors() {
            File::open(dir)?.sync_all()?;
            if dir == &*self.0 {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, key: &ObjectKey, range: Option<&Range<u64>>) -> Result<Bytes, ObjectError> {
        let missing = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
                ObjectError::NotFound(key.clone())
            }
            kind => failure(&format!("object {key}: {error}"), kind),
        };
        let mut file = File::open(self.path(key)).map_err(missing)?;
        let about = file.metadata().map_err(missing)?;
        if !about.is_file() {
            return Err(ObjectError::NotFound(key.clone()));
        }
        let range = range.cloned().unwrap_or(0..about.len());
        if range.end > about.len() {
            return Err(too_short(key, &range));
        }
        let len = usize::try_from(range.end - range.start).map_err(|_| too_short(key, &range))?;
        let mut bytes = vec![0; len];
        file.seek(SeekFrom::Start(range.start)).map_err(missing)?;
        file.read_exact(&mut bytes).map_err(missing)?;
        Ok(bytes.into())
    }
}

impl ObjectStore for FileStore {
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> BoxFuture<'a, Result<(), ObjectError>> {
        let key = key.clone();
        self.run(move |store| {
            store
                .write(&key, &bytes)
                .map_err(|error| failure(&format!("object {key} was not stored: {error}"), error.kind()))
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        let key = key.clone();
        self.run(move |store| store.read(&key, None))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        if let Some(answer) = trivial(key, &range) {
            return Box::pin(std::future::ready(answer));
        }
        let key = key.clone();
        self.run(move |store| store.read(&key, Some(&range)))
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<(), ObjectError>> {
        let key = key.clone();
        self.run(move |store| match fs::remove_file(store.path(&key)) {
            // Its directories stay: another writer may be about to use them.
            Ok(()) => Ok(()),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => Ok(()),
                kind => Err(failure(&format!("object {key} was not removed: {error}"), kind)),
            },
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ObjectKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectEntry>, ObjectError>> {
        let mut listing = Listing {
            prefix: prefix.to_owned(),
            after: after.map_or(String::new(), |key| key.as_str().to_owned()),
            limit: limit.min(LIST_MAX),
            entries: Vec::new(),
        };
        self.run(move |store| {
            let listed = listing.walk(&store.0, "");
            listed.map_err(|error| failure(&format!("objects cannot be listed: {error}"), error.kind()))?;
            Ok(listing.entries)
        })
    }
}

/// A listing on its way through the directories.
struct Listing {
    prefix: String,
    after: String,
    limit: usize,
    entries: Vec<ObjectEntry>,
}

impl Listing {
    /// Takes what is under `dir`, whose keys begin with `base` (empty, or with a `/` at its end).
    fn walk(&mut self, dir: &Path, base: &str) -> std::io::Result<()> {
        if self.entries.len() >= self.limit {
            return Ok(());
        }
        let mut names = Vec::new();
        for entry in gone_is_none(fs::read_dir(dir))?.into_iter().flatten() {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some(kind) = gone_is_none(entry.file_type())? else { continue };
            // A directory's keys go on with a `/`: that is their place in the order.
            names.push(format!("{base}{name}{}", if kind.is_dir() { "/" } else { "" }));
        }
        names.sort_unstable();
        for name in names {
            if self.entries.len() >= self.limit {
                break;
            }
            if let Some(part) = name.strip_suffix('/') {
                let wanted = name.starts_with(&self.prefix) || self.prefix.starts_with(&name);
                let ahead = name > self.after || self.after.starts_with(&name);
                if wanted && ahead && ObjectKey::new(part).is_ok() {
                    self.walk(&dir.join(&name[base.len()..]), &name)?;
                }
            } else if name > self.after && name.starts_with(&self.prefix) {
                let Ok(key) = ObjectKey::new(&name) else { continue };
                let about = gone_is_none(fs::metadata(dir.join(&name[base.len()..])))?;
                self.entries.extend(about.map(|about| ObjectEntry { key, bytes: about.len() }));
            }
        }
        Ok(())
    }
}

/// The name of a file until it has its key; gone with this if something fails.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(dir: &Path) -> Self {
        Self(dir.join(format!("{UNFINISHED}{:032x}", u128::from_le_bytes(random_bytes()))))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After the rename there is nothing to remove; what stays in spite of this is swept later.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes files that nobody has touched since `before` and that were never finished.
fn sweep(dir: &Path, before: Micros) -> std::io::Result<()> {
    for entry in gone_is_none(fs::read_dir(dir))?.into_iter().flatten() {
        let entry = entry?;
        let Some(about) = gone_is_none(entry.metadata())? else { continue };
        if about.is_dir() {
            sweep(&entry.path(), before)?;
        } else if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let touched = about.modified()?.duration_since(UNIX_EPOCH).map_or(0, micros);
            if touched < before {
                gone_is_none(fs::remove_file(entry.path()))?;
            }
        }
    }
    Ok(())
}

/// What another process has removed in the meantime is no error.
fn gone_is_none<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn failure(reason: &str, kind: ErrorKind) -> ObjectError {
    match kind {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            ObjectError::Refused(format!("{reason}: give this process the right to read and write there"))
        }
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::InvalidFilename => {
            ObjectError::Invalid(format!("{reason}: use another key"))
        }
        _ => ObjectError::Unavailable { reason: reason.to_owned(), retry_after: RETRY_AFTER },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Fixture, START};

    fn fixture() -> Fixture<dyn ObjectStore> {
        let clock = Clock::manual(START);
        let dir = tempfile::tempdir().unwrap();
        let (path, time) = (dir.path().to_owned(), clock.clone());
        let open = Box::new(move || Arc::new(FileStore::open(&path, &time).unwrap()) as Arc<dyn ObjectStore>);
        Fixture { clock, open, keep: Box::new(dir) }
    }

    crate::objects_suite!(fixture());

    #[tokio::test]
    async fn what_was_not_finished_is_not_listed_and_swept_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        let leftover = Unfinished::new(&deep);
        fs::write(&leftover.0, "half").unwrap();
        let clock = Clock::system();
        let store = FileStore::open(dir.path(), &clock).unwrap();
        assert!(store.list("", None, 10).await.unwrap().is_empty());
        assert!(leftover.0.exists(), "its writer may still be at work");
        let later = Clock::manual(clock.now() + micros(2 * LEFT_AFTER));
        FileStore::open(dir.path(), &later).unwrap();
        assert!(!leftover.0.exists());
    }

    #[tokio::test]
    async fn a_failed_put_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::open(dir.path(), &Clock::system()).unwrap();
        // A directory where the object should be: the rename fails after everything else went well.
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        let failed = store.put(&ObjectKey::new("a/b").unwrap(), Bytes::from_static(b"x")).await;
        assert!(matches!(failed, Err(ObjectError::Invalid(_))), "{failed:?}");
        let names: Vec<_> =
            fs::read_dir(dir.path().join("a")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["b"]);
    }
}
