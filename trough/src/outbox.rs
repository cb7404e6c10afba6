//! What commands about subscriptions and deliveries work on.

use std::sync::Arc;

use anyhow::Result;
use trough_runtime::health::Health;
use trough_store::{Outbox, Registry, Subscriptions};

use crate::registry::{self, Missing, OpenRegistry, Place};

/// Who may see what, who wants to be told, and what is told.
pub struct Stores {
    /// Who may see what.
    pub registry: Arc<dyn Registry>,
    /// Who wants to be told.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// What happened, and what became of telling.
    pub outbox: Arc<dyn Outbox>,
}

/// Opens them for a command. Those in a database are not connected to before they are used.
///
/// # Errors
/// They cannot be opened, or there are none.
pub fn open(place: Place) -> Result<Stores> {
    let OpenRegistry { registry, subscriptions } = registry::open_both(place.clone(), Missing::Refuse)?;
    let outbox = registry::open_outbox(place, Health::new())?;
    Ok(Stores { registry, subscriptions, outbox })
}
