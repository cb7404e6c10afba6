//! A disk in memory that fails, tears and forgets as its seed says.
//!
//! The model: reads see the page cache. A successful sync writes the dirty sectors. A failed one writes some
//! of them and *forgets that the others were dirty*: reads still show them, a later sync succeeds, and the
//! next power loss takes them. A power loss keeps any subset of the dirty sectors, and any subset of the
//! changes of names since the directory was synced. A kill keeps the page cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile};
use crate::journal::testing::Rng;

const SECTOR: usize = 512;

/// How likely each operation fails, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub write: u64,
    pub sync: u64,
    pub names: u64,
    /// Bytes of all files together; writes beyond fail with ENOSPC.
    pub capacity: Option<usize>,
}

#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    rng: Rng,
    faults: Faults,
    /// Operations until the machine stops; the last one is half done.
    fuse: Option<u64>,
    stopped: bool,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
}

#[derive(Default)]
struct Inode {
    cache: Vec<u8>,
    disk: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Inode {
    fn write_back(&mut self, sector: usize) {
        let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.cache.len()));
        if from < to {
            if self.disk.len() < to {
                self.disk.resize(to, 0);
            }
            self.disk[from..to].copy_from_slice(&self.cache[from..to]);
        }
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty.extend(offset / SECTOR..=(end - 1) / SECTOR);
        }
    }
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: Rng::new(seed),
            faults: Faults::default(),
            fuse: None,
            stopped: false,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Stops the machine within the operation after `operations` more.
    pub fn light_fuse(&self, operations: u64) {
        self.state().fuse = Some(operations);
    }

    pub fn stopped(&self) -> bool {
        self.state().stopped
    }

    /// The process died, the machine did not.
    pub fn kill(&self) {
        let mut state = self.state();
        (state.stopped, state.fuse) = (false, None);
    }

    /// The machine died.
    pub fn power_loss(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        (state.stopped, state.fuse) = (false, None);
        let changed: BTreeSet<String> =
            state.names.keys().chain(state.durable_names.keys()).cloned().collect();
        for name in changed {
            if state.rng.percent(50) {
                match state.names.get(&name) {
                    Some(inode) => state.durable_names.insert(name, *inode),
                    None => state.durable_names.remove(&name),
                };
            }
        }
        state.names = state.durable_names.clone();
        for inode in &mut state.inodes {
            let (old, new) = (inode.disk.len(), inode.cache.len());
            if new < old {
                if state.rng.percent(50) {
                    inode.disk.truncate(new);
                }
            } else {
                let grown = old + state.rng.below((new - old) as u64 + 1) as usize;
                let grown = if state.rng.percent(50) { new } else { grown };
                for sector in std::mem::take(&mut inode.dirty) {
                    if state.rng.percent(50) {
                        inode.write_back(sector);
                    }
                }
                inode.disk.resize(grown.max(old), 0);
            }
            inode.dirty.clear();
            inode.cache = inode.disk.clone();
        }
    }

    /// Flips one bit, in the cache and on the disk.
    pub fn flip(&self, name: &str, offset: usize, bit: u8) {
        let mut state = self.state();
        let inode = state.names[name];
        let inode = &mut state.inodes[inode];
        inode.cache[offset] ^= 1 << bit;
        inode.disk[offset] ^= 1 << bit;
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.inodes[state.names[name]].cache.clone()
    }

    /// Another disk with what this one shows now.
    pub fn fork(&self, seed: u64) -> Self {
        let fork = Self::new(seed);
        {
            let (from, mut to) = (self.state(), fork.state());
            for (name, inode) in &from.names {
                let cache = from.inodes[*inode].cache.clone();
                let number = to.inodes.len();
                to.inodes.push(Inode { disk: cache.clone(), cache, dirty: BTreeSet::new() });
                to.names.insert(name.clone(), number);
            }
            to.durable_names = to.names.clone();
        }
        fork
    }
}

impl State {
    /// Counts an operation. `Ok(true)`: it is to stop half way and fail.
    fn operation(&mut self, percent: u64) -> io::Result<bool> {
        if self.stopped {
            return Err(io::Error::other("the machine has stopped"));
        }
        if let Some(fuse) = &mut self.fuse {
            if *fuse == 0 {
                self.stopped = true;
                return Ok(true);
            }
            *fuse -= 1;
        }
        let fails = self.rng.percent(percent);
        // The moment after a failure is a good one to die in.
        self.stopped = fails && self.rng.percent(20);
        Ok(fails)
    }

    fn used(&self) -> usize {
        self.names.values().map(|inode| self.inodes[*inode].cache.len()).sum()
    }

    fn rename(&mut self, change: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let fails = self.operation(self.faults.names)?;
        // A failed operation on a name may have happened all the same.
        if !fails || self.rng.percent(50) {
            change(self)?;
        }
        if fails { Err(failure()) } else { Ok(()) }
    }
}

fn failure() -> io::Error {
    io::Error::other("simulated input/output error")
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let mut created = None;
        state.rename(|state| {
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            state.names.insert(name.to_owned(), inode);
            created = Some(inode);
            Ok(())
        })?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode: created.expect("it did not fail") }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inode = *self.state().names.get(name).ok_or_else(|| missing(name))?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let remove = |state: &mut State| state.names.remove(name).map(drop).ok_or_else(|| missing(name));
        self.state().rename(remove)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state().rename(|state| {
            let inode = state.names.remove(from).ok_or_else(|| missing(from))?;
            state.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        let percent = state.faults.sync;
        if state.operation(percent)? {
            return Err(failure());
        }
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("/simulated/journal")
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[self.inode].cache.len() as u64)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let state = self.disk.state();
        let bytes = &state.inodes[self.inode].cache;
        let from = bytes.len().min(usize::try_from(offset).unwrap());
        Ok(bytes[from..bytes.len().min(from + len)].to_vec())
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let percent = state.faults.write;
        let fails = state.operation(percent)?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let offset = usize::try_from(offset).unwrap();
        let mut result = Ok(());
        if fails {
            let written = state.rng.below(bytes.len() as u64 + 1) as usize;
            bytes.truncate(written);
            result = Err(failure());
        } else if let Some(capacity) = state.faults.capacity {
            let growth = (offset + bytes.len()).saturating_sub(state.inodes[self.inode].cache.len());
            let room = capacity.saturating_sub(state.used());
            if growth > room {
                bytes.truncate(bytes.len().saturating_sub(growth - room));
                result = Err(io::ErrorKind::StorageFull.into());
            }
        }
        state.inodes[self.inode].put(offset, &bytes);
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.disk.state();
        let state = &mut *guard;
        let fails = state.operation(state.faults.sync)?;
        let inode = &mut state.inodes[self.inode];
        let shrunk = inode.cache.len() < inode.disk.len();
        for sector in std::mem::take(&mut inode.dirty) {
            if !fails || state.rng.percent(50) {
                inode.write_back(sector);
            }
        }
        if fails {
            return Err(failure());
        }
        if shrunk {
            inode.disk.truncate(inode.cache.len());
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let percent = state.faults.write;
        if state.operation(percent)? {
            return Err(failure());
        }
        let len = usize::try_from(len).unwrap();
        let inode = &mut state.inodes[self.inode];
        inode.cache.resize(len, 0);
        inode.dirty.retain(|sector| sector * SECTOR < len);
        Ok(())
    }
}
