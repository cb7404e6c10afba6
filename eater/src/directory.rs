//! Which device is in which groups, for whoever looks at the frames of many devices: kept for all of them, as each commit
//! is looked at.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{Instant, timeout};
use trough_protocol::DeviceId;
use trough_store::{DeviceFilter, Group, Registry, RegistryError};

/// The registry must answer within this.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);
/// After a registry that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What it said before counts for so long after it did not answer; then each device is asked for by itself.
const OLD_FOR: Duration = Duration::from_secs(30);

/// Why nobody can tell, if there was no answer in time.
const SILENT: &str = "the registry does not answer";

type Groups = Arc<BTreeSet<Group>>;

/// What the registry says of devices, read anew whenever it has changed. While it does not answer, what it said last
/// counts for a while: rights are watched elsewhere.
pub(crate) struct Directory {
    registry: Arc<dyn Registry>,
    changes: watch::Receiver<u64>,
    known: Mutex<Known>,
    /// Held while the registry is read.
    reading: AsyncMutex<()>,
}

#[derive(Default)]
struct Known {
    /// What [`Registry::changes`] showed before it was read; `None` before the first time.
    version: Option<u64>,
    groups: HashMap<DeviceId, Groups>,
    /// Devices that were asked for one by one since: new ones, or none at all.
    since: HashMap<DeviceId, Option<Groups>>,
    /// Not read again before.
    retry_at: Option<Instant>,
    /// Since when reading fails.
    failing_since: Option<Instant>,
}

impl Directory {
    /// Nothing is read yet.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        let changes = registry.changes();
        Self { registry, changes, known: Mutex::default(), reading: AsyncMutex::default() }
    }

    /// The groups of a device; `None` if there is no such device.
    ///
    /// # Errors
    /// Why nobody can tell just now: try again.
    pub async fn groups_of(&self, device: &DeviceId) -> Result<Option<Groups>, String> {
        if !self.is_current() {
            self.read().await;
        }
        if let Some(found) = self.found(device) {
            return Ok(found);
        }
        // Added a moment ago, and the change has not been announced yet; or what is known is too old.
        let record = timeout(REGISTRY_TIMEOUT, self.registry.get_device(device)).await;
        let groups = match record.map_err(|_| SILENT.to_owned())? {
            Ok(record) => Some(Arc::new(record.groups)),
            Err(RegistryError::NotFound { .. }) => None,
            Err(error) => return Err(error.to_string()),
        };
        self.known().since.insert(device.clone(), groups.clone());
        Ok(groups)
    }

    fn found(&self, device: &DeviceId) -> Option<Option<Groups>> {
        let known = self.known();
        if known.failing_since.is_some_and(|since| since.elapsed() > OLD_FOR) {
            return None;
        }
        let listed = known.groups.get(device).map(|groups| Some(groups.clone()));
        listed.or_else(|| known.since.get(device).cloned())
    }

    fn is_current(&self) -> bool {
        let (known, now) = (self.known(), Instant::now());
        known.version == Some(*self.changes.borrow()) || known.retry_at.is_some_and(|at| now < at)
    }

    /// Reads all devices, once for all who wait for it.
    async fn read(&self) {
        let _reading = self.reading.lock().await;
        if self.is_current() {
            return;
        }
        let version = *self.changes.borrow();
        match self.list().await {
            Ok(groups) => {
                *self.known() = Known { version: Some(version), groups, ..Known::default() };
            }
            Err(reason) => {
                tracing::warn!(reason, "the groups of devices cannot be read just now: those known count");
                let (mut known, now) = (self.known(), Instant::now());
                known.retry_at = Some(now + RETRY_AFTER);
                known.failing_since.get_or_insert(now);
            }
        }
    }

    async fn list(&self) -> Result<HashMap<DeviceId, Groups>, String> {
        let mut groups = HashMap::new();
        // Most devices share their groups with many others.
        let mut same: HashMap<BTreeSet<Group>, Groups> = HashMap::new();
        let mut filter = DeviceFilter::default();
        loop {
            let page = timeout(REGISTRY_TIMEOUT, self.registry.list_devices(filter.clone())).await;
            let page = page.map_err(|_| SILENT.to_owned())?.map_err(|error| error.to_string())?;
            let Some(last) = page.last() else { return Ok(groups) };
            filter.after = Some(last.id.clone());
            for record in page {
                let shared = same.entry(record.groups).or_insert_with_key(|groups| Arc::new(groups.clone()));
                groups.insert(record.id, shared.clone());
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // It is replaced whole, or one entry is added.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
