//! What the services remember besides frames: who may connect ([`Registry`]) and what the journal holds
//! ([`Catalog`]). Both are traits with several implementations, which all pass one conformance suite: [`sqlite`] is
//! for a deployment of one machine, [`mongo`] for one of many.

use std::future::Future;
use std::pin::Pin;

pub mod area;
pub mod catalog;
mod checks;
pub mod commands;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod error;
pub mod event;
pub mod format_level;
mod hashed_id;
pub mod mongo;
pub mod names;
pub mod object_catalog;
pub mod objects;
pub mod outbox;
pub mod phone;
pub mod position_schema;
pub mod presence;
pub mod registry;
pub mod retention;
pub mod rule;
pub mod sealed;
pub mod segment_catalog;
pub mod sqlite;
pub mod subscription;
pub mod token;
pub mod webhook;
pub mod when;

pub use catalog::{Catalog, ChannelLast, DeviceState, DeviceSummary, SealedFile};
pub use commands::{CommandError, CommandRecord, CommandState, Commands};
pub use error::{AuthError, CatalogError, RegistryError};
pub use event::{Event, EventId, EventKind};
pub use format_level::FormatLevel;
pub use names::{Group, ReaderName, RuleName};
pub use object_catalog::ObjectCatalog;
pub use objects::{ObjectKey, ObjectStore};
pub use outbox::{Outbox, OutboxError};
pub use position_schema::PositionSchema;
pub use presence::Presence;
pub use registry::{
    DeviceFilter, DeviceGrant, DeviceRecord, GroupAccess, NewDevice, NewReader, ReaderGrant, ReaderRecord,
    Registry, Scope,
};
pub use retention::{RetentionCount, RetentionNote, RetentionPolicy, RetentionRecord};
pub use sealed::{SealKey, Sealed};
pub use segment_catalog::SegmentCatalog;
pub use subscription::{Subscription, SubscriptionId, Subscriptions};
pub use token::{Token, TokenId, TokenKind};

/// What the methods of [`Registry`] and [`Catalog`] return: a future in a box, so that services hold an
/// `Arc<dyn Registry>` and do not care which it is. One allocation a call; none of them is on the path of a
/// frame.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
