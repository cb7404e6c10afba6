//! Reading what any eater has stored: the catalog says which objects have a device's numbers, each object's index where
//! they lie in it.
//!
//! [`Reader::pieces`] asks the catalog, [`Walk`] divides a device's numbers into lots of which all copies are known,
//! [`Lot`] opens their objects ([`cache`]) and chooses between copies; [`scan`], [`gaps`] and [`lasts`] stand on it.
//! Every read asks the catalog, so that what was acknowledged is visible to the very next request, on any eater.

mod cache;
mod gaps;
mod lasts;
mod lot;
mod pieces;
mod scan;
mod standing;
mod walk;

use std::sync::Arc;

use trough_store::{ObjectCatalog, ObjectStore};

use super::metrics::ObjectMetrics;
pub(super) use crate::journal::Rank;
use cache::Cache;

pub(super) use scan::Scan;

/// What reads share.
pub(super) struct Reader {
    store: Arc<dyn ObjectStore>,
    catalog: Arc<dyn ObjectCatalog>,
    metrics: ObjectMetrics,
    cache: Cache,
    /// Most objects that one request may touch.
    objects_max: usize,
}

impl Reader {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        catalog: Arc<dyn ObjectCatalog>,
        metrics: ObjectMetrics,
        (objects_max, cache_bytes_max): (usize, usize),
    ) -> Arc<Self> {
        Arc::new(Self { store, catalog, metrics, cache: Cache::new(cache_bytes_max), objects_max })
    }
}
