//! Files and indexes that readers have open, bounded.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use prometheus_client::metrics::counter::Counter;

use super::disk::{CountedFile, Disk, DiskFile};
use super::names;
use super::table::{Table, TableError};

/// Most files of each kind kept open.
const OPEN_MAX: NonZeroUsize = NonZeroUsize::new(128).expect("128 is not 0");

/// Open journal files and their indexes, those used last.
pub(super) struct Handles {
    disk: Arc<dyn Disk>,
    journals: Mutex<LruCache<u64, Arc<dyn DiskFile>>>,
    tables: Mutex<Tables>,
    table_bytes_max: usize,
    read_bytes: Counter,
}

struct Tables {
    open: LruCache<u64, Arc<Table>>,
    bytes: usize,
}

impl Handles {
    /// Bytes that are read of the files are counted in `read_bytes`.
    pub(super) fn new(disk: Arc<dyn Disk>, table_bytes_max: usize, read_bytes: Counter) -> Self {
        Self {
            disk,
            journals: Mutex::new(LruCache::new(OPEN_MAX)),
            tables: Mutex::new(Tables { open: LruCache::new(OPEN_MAX), bytes: 0 }),
            table_bytes_max,
            read_bytes,
        }
    }

    /// A journal file. Its durable part does not change, so an old handle is as good as a new one.
    pub(super) fn journal(&self, id: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = journals.get(&id) {
            return Ok(file.clone());
        }
        let file = self.open(&names::journal(id))?;
        journals.put(id, file.clone());
        Ok(file)
    }

    /// A sealed file's index.
    pub(super) fn table(&self, id: u64) -> Result<Arc<Table>, TableError> {
        if let Some(table) = self.lock().open.get(&id) {
            return Ok(table.clone());
        }
        // Not under the lock: another reader may open the same one meanwhile, which does no harm.
        let table = Arc::new(Table::open(self.open(&names::index(id))?)?);
        let mut tables = self.lock();
        tables.bytes += table.memory();
        if let Some((_, gone)) = tables.open.push(id, table.clone()) {
            tables.bytes -= gone.memory();
        }
        while tables.bytes > self.table_bytes_max && tables.open.len() > 1 {
            if let Some((_, gone)) = tables.open.pop_lru() {
                tables.bytes -= gone.memory();
            }
        }
        Ok(table)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(CountedFile::around(self.disk.open(name)?, self.read_bytes.clone()))
    }

    /// Closes what is open of a file that is removed.
    pub(super) fn forget(&self, id: u64) {
        self.journals.lock().unwrap_or_else(PoisonError::into_inner).pop(&id);
        let mut tables = self.lock();
        if let Some(gone) = tables.open.pop(&id) {
            tables.bytes -= gone.memory();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
