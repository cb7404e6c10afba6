//! Who wants to be told, and who may be: subscriptions, readers, phones and groups, kept until one of them changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;
use trough_protocol::DeviceId;
use trough_store::outbox::Delivery;
use trough_store::subscription::{PushToken, Target};
use trough_store::{
    Event, EventKind, Group, GroupAccess, ReaderName, ReaderRecord, Registry, RegistryError, Subscription,
    SubscriptionId, Subscriptions,
};

/// Most devices whose groups are remembered; then all are forgotten.
const GROUPS_MAX: usize = 100_000;

/// Gives out the [`Book`] of the time.
pub struct Books {
    registry: Arc<dyn Registry>,
    subscriptions: Arc<dyn Subscriptions>,
    current: tokio::sync::Mutex<Current>,
}

struct Current {
    changes: watch::Receiver<u64>,
    book: Option<Arc<Book>>,
}

impl Books {
    /// Of these stores; nothing is asked before it is needed.
    pub fn new(registry: Arc<dyn Registry>, subscriptions: Arc<dyn Subscriptions>) -> Self {
        let changes = registry.changes();
        Self { registry, subscriptions, current: tokio::sync::Mutex::new(Current { changes, book: None }) }
    }

    /// Moves when a new book may be due.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.registry.changes()
    }

    /// The stores themselves.
    pub fn subscriptions(&self) -> &Arc<dyn Subscriptions> {
        &self.subscriptions
    }

    /// What holds now, or half a second ago.
    ///
    /// # Errors
    /// The registry's, if something has changed and it does not answer.
    pub async fn current(&self) -> Result<Arc<Book>, RegistryError> {
        let mut current = self.current.lock().await;
        let stale = current.changes.has_changed().unwrap_or(true);
        if let Some(book) = &current.book
            && !stale
        {
            return Ok(book.clone());
        }
        self.read(&mut current).await
    }

    /// What held at this time or later: of what was seen by then, it knows to whom it goes.
    ///
    /// # Errors
    /// The registry's.
    pub async fn since(&self, at: Instant) -> Result<Arc<Book>, RegistryError> {
        let mut current = self.current.lock().await;
        // Those who waited meanwhile share what the first of them has read.
        match &current.book {
            Some(book) if book.read_at >= at => Ok(book.clone()),
            _ => self.read(&mut current).await,
        }
    }

    async fn read(&self, current: &mut Current) -> Result<Arc<Book>, RegistryError> {
        // What changes from here on counts as a change of the new book.
        current.changes.mark_unchanged();
        current.book = None;
        let read_at = Instant::now();
        let subscriptions = self.subscriptions.list_subscriptions(None).await?;
        let readers = self.registry.list_readers().await?;
        let phones = self.subscriptions.list_push_tokens(None).await?;
        let book = Book::new((read_at, self.registry.clone()), subscriptions, readers, phones);
        let book = Arc::new(book);
        current.book = Some(book.clone());
        Ok(book)
    }
}

/// Subscriptions, readers and phones at one time.
pub struct Book {
    /// What was there before is in it.
    read_at: Instant,
    registry: Arc<dyn Registry>,
    subscriptions: HashMap<SubscriptionId, Subscription>,
    /// Those that name devices, by device; and all others.
    by_device: HashMap<DeviceId, Vec<SubscriptionId>>,
    wide: Vec<SubscriptionId>,
    readers: HashMap<ReaderName, ReaderRecord>,
    phones: HashMap<ReaderName, Vec<PushToken>>,
    groups: Mutex<HashMap<DeviceId, Arc<BTreeSet<Group>>>>,
}

/// Why a subscription is not told of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The owner's access has ended; for good, as whoever has the name later is somebody else.
    #[error("its reader was revoked")]
    OwnerRevoked,
    /// The owner does not see the device.
    #[error("its reader does not see the device")]
    NotSeen,
}

impl Book {
    fn new(
        (read_at, registry): (Instant, Arc<dyn Registry>),
        subscriptions: Vec<Subscription>,
        readers: Vec<ReaderRecord>,
        phones: Vec<PushToken>,
    ) -> Self {
        let (mut by_device, mut wide) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        for subscription in &subscriptions {
            let id = subscription.wanted.id;
            match &subscription.wanted.scope {
                trough_store::rule::Scope::Devices(devices) => {
                    devices.iter().for_each(|device| by_device.entry(device.clone()).or_default().push(id));
                }
                _ => wide.push(id),
            }
        }
        let mut of_owner = HashMap::<_, Vec<_>>::new();
        for phone in phones {
            of_owner.entry(phone.owner.clone()).or_default().push(phone);
        }
        Self {
            read_at,
            registry,
            subscriptions: subscriptions.into_iter().map(|one| (one.wanted.id, one)).collect(),
            by_device,
            wide,
            readers: readers.into_iter().map(|reader| (reader.name.clone(), reader)).collect(),
            phones: of_owner,
            groups: Mutex::default(),
        }
    }

    /// One subscription.
    pub fn subscription(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.subscriptions.get(&id)
    }

    /// The phones of a reader. Those that an earlier reader of the name has registered are none of theirs.
    pub fn phones(&self, owner: &ReaderName) -> impl Iterator<Item = &PushToken> {
        let since = self.readers.get(owner).map_or(u64::MAX, |reader| reader.created_at);
        self.phones.get(owner).into_iter().flatten().filter(move |phone| phone.registered_at >= since)
    }

    /// The subscriptions that may want what is about a device, by what they name.
    pub fn candidates<'a>(&'a self, event: &Event) -> impl Iterator<Item = &'a Subscription> {
        let named = event.device.as_ref().and_then(|device| self.by_device.get(device));
        named.into_iter().flatten().chain(&self.wide).filter_map(|id| self.subscriptions.get(id))
    }

    /// The groups that an event is about: those of its device, or the one that it names.
    ///
    /// # Errors
    /// The registry's.
    pub async fn groups_of(&self, event: &Event) -> Result<Arc<BTreeSet<Group>>, RegistryError> {
        match &event.device {
            Some(device) => self.groups(device).await,
            None => Ok(Arc::new(event.group.iter().cloned().collect())),
        }
    }

    /// The groups of a device.
    ///
    /// # Errors
    /// The registry's.
    pub async fn groups(&self, device: &DeviceId) -> Result<Arc<BTreeSet<Group>>, RegistryError> {
        if let Some(known) = self.remembered().get(device) {
            return Ok(known.clone());
        }
        let groups = match self.registry.get_device(device).await {
            Ok(record) => Arc::new(record.groups),
            // Frames of a device that the registry lost: only readers of everything see it.
            Err(RegistryError::NotFound { .. }) => Arc::default(),
            Err(error) => return Err(error),
        };
        let mut remembered = self.remembered();
        if remembered.len() >= GROUPS_MAX {
            remembered.clear();
        }
        remembered.insert(device.clone(), groups.clone());
        Ok(groups)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<DeviceId, Arc<BTreeSet<Group>>>> {
        // An entry is whole or not there.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a subscription's owner may be told of an event about these groups. Asked when a delivery is made, and again
    /// when it is sent: hours may lie between the two.
    ///
    /// # Errors
    /// [`NotAllowed`].
    pub fn check(
        &self,
        subscription: &Subscription,
        event: &Event,
        groups: &BTreeSet<Group>,
    ) -> Result<(), NotAllowed> {
        let owner = self.readers.get(&subscription.wanted.owner);
        let owner = owner.filter(|owner| owner.revoked_at.is_none());
        // A name may be used again, by somebody else.
        let owner = owner.filter(|owner| owner.created_at <= subscription.created_at);
        let access = &owner.ok_or(NotAllowed::OwnerRevoked)?.groups;
        let seen = match (access, event.kind) {
            (GroupAccess::All, _) | (_, EventKind::Test) => true,
            (GroupAccess::Only(_), _) => access.allows(groups),
        };
        if seen { Ok(()) } else { Err(NotAllowed::NotSeen) }
    }

    /// Whether a delivery would not be sent at all as far as this is known here: its subscription, its phone or its owner's
    /// right is not there. An older book than the delivery says that of what it has not heard of yet.
    ///
    /// # Errors
    /// The registry's.
    pub async fn refuses(&self, delivery: &Delivery) -> Result<bool, RegistryError> {
        let Some(subscription) = self.subscription(delivery.subscription) else { return Ok(true) };
        let wanted = &subscription.wanted;
        let has_phone = || self.phones(&wanted.owner).any(|phone| Some(phone.id) == delivery.phone);
        if wanted.target == Target::Push && !has_phone() {
            return Ok(true);
        }
        let groups = self.groups_of(&delivery.event).await?;
        Ok(self.check(subscription, &delivery.event, &groups).is_err())
    }

    /// Whether a subscription names the device, or the groups, that an event is about.
    pub fn in_scope(subscription: &Subscription, event: &Event, groups: &BTreeSet<Group>) -> bool {
        use trough_store::rule::Scope;
        match (&subscription.wanted.scope, &event.device) {
            (Scope::All, _) => true,
            (scope, Some(device)) => scope.contains(device, groups),
            (Scope::Groups(mine), None) => !mine.is_disjoint(groups),
            (Scope::Devices(_), None) => false,
        }
    }
}
