//! Who may connect and read: devices, their groups, tokens and epochs, and readers.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::sync::watch;
use trough_protocol::{Channel, DeviceId, Epoch, Micros};

use crate::BoxFuture;
use crate::error::{AuthError, RegistryError};
use crate::names::{Group, ReaderName};
use crate::position_schema::PositionSchema;
use crate::retention::{RetentionNote, RetentionPolicy, RetentionRecord};
use crate::token::{Token, TokenId};

/// Most devices one [`Registry::import_devices`] takes.
pub const IMPORT_DEVICES_MAX: usize = 100_000;
/// Most devices one [`Registry::list_devices`] returns, whatever its filter says.
pub const LIST_DEVICES_MAX: usize = 10_000;
/// Most groups a device may be in, or a reader may be given.
pub const GROUPS_MAX: usize = 64;
/// Most token ids one [`Registry::tokens_revoked`] takes.
pub const TOKENS_CHECKED_MAX: usize = 100_000;

/// A device to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// Its id, for ever.
    pub id: DeviceId,
    /// The groups it is in.
    pub groups: BTreeSet<Group>,
    /// Whether its token may travel in the URL (`access_token`), where proxies may log it. Off unless the
    /// device can neither set headers nor fetch a ticket.
    pub query_token: bool,
}

impl NewDevice {
    /// A device in no group, whose token travels in a header.
    pub fn new(id: DeviceId) -> Self {
        Self { id, groups: BTreeSet::new(), query_token: false }
    }
}

/// What is known of a device's right to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Its id.
    pub id: DeviceId,
    /// The groups it is in.
    pub groups: BTreeSet<Group>,
    /// Whether its token may travel in the URL.
    pub query_token: bool,
    /// When it was added.
    pub created_at: Micros,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Micros>,
    /// The last epoch granted; [`Epoch::NONE`] before the first.
    pub epoch: Epoch,
}

/// Which devices to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Only those in at least one of these groups; `None` for all devices.
    pub groups: Option<BTreeSet<Group>>,
    /// Only those with a greater id: the last one of the page before.
    pub after: Option<DeviceId>,
    /// How many at most, up to [`LIST_DEVICES_MAX`].
    pub limit: usize,
}

impl Default for DeviceFilter {
    fn default() -> Self {
        Self { groups: None, after: None, limit: LIST_DEVICES_MAX }
    }
}

/// A device whose token was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceGrant {
    /// Which device it is.
    pub device: DeviceId,
    /// By which token: what [`Registry::tokens_revoked`] is asked about later.
    pub token_id: TokenId,
    /// Whether the token may come in the URL. Refuse it there otherwise.
    pub query_token: bool,
    /// When the token ends by itself. A rotation may move this while the session lives; it is then announced
    /// by [`Registry::changes`] when the time has come.
    pub expires_at: Option<Micros>,
}

/// What a reader may do. A closed set: an unknown one is refused where it is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// List devices, see when they were last heard.
    DevicesRead,
    /// Read frames and gaps.
    FramesRead,
    /// Ask devices to do something.
    CommandsSend,
    /// Say what it wants to be told of, and on which phones; see what it was told.
    NotificationsManage,
    /// Set rules for the devices it sees.
    RulesManage,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::DevicesRead,
        Self::FramesRead,
        Self::CommandsSend,
        Self::NotificationsManage,
        Self::RulesManage,
    ];
    /// Those that change nothing: what a reader has unless somebody says more.
    pub const READING: [Self; 2] = [Self::DevicesRead, Self::FramesRead];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DevicesRead => "devices:read",
            Self::FramesRead => "frames:read",
            Self::CommandsSend => "commands:send",
            Self::NotificationsManage => "notifications:manage",
            Self::RulesManage => "rules:manage",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = RegistryError;
    fn from_str(s: &str) -> Result<Self, RegistryError> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == s).ok_or_else(|| {
            let shown: String = s.chars().take(80).collect();
            let known = Self::ALL.map(Self::as_str).join(", ");
            RegistryError::Invalid(format!("scope {shown:?} is not known: use {known}"))
        })
    }
}

/// Which devices a reader sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupAccess {
    /// Every device, also those in no group.
    All,
    /// Devices in at least one of these.
    Only(BTreeSet<Group>),
}

impl GroupAccess {
    /// Whether a device in these groups is seen.
    pub fn allows(&self, groups: &BTreeSet<Group>) -> bool {
        match self {
            Self::All => true,
            Self::Only(mine) => !mine.is_disjoint(groups),
        }
    }

    /// As a device filter's `groups`.
    pub fn as_filter(&self) -> Option<BTreeSet<Group>> {
        match self {
            Self::All => None,
            Self::Only(mine) => Some(mine.clone()),
        }
    }
}

/// A reader to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReader {
    /// Its name.
    pub name: ReaderName,
    /// What it may do; at least one.
    pub scopes: BTreeSet<Scope>,
    /// Which devices it sees.
    pub groups: GroupAccess,
}

/// What is known of a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderRecord {
    /// Its name.
    pub name: ReaderName,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// Which devices it sees.
    pub groups: GroupAccess,
    /// When it was (last) added.
    pub created_at: Micros,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Micros>,
}

/// A reader whose token was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderGrant {
    /// Which reader it is.
    pub name: ReaderName,
    /// By which token.
    pub token_id: TokenId,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// Which devices it sees.
    pub groups: GroupAccess,
}

/// The registry. What a method returns is durable, and seen by every later call, in this process or another.
///
/// Cancel safety: dropping a future that only reads is harmless. One that changes something may or may not
/// have its effect then; a token it made is lost, which `rotate_device` mends.
pub trait Registry: Send + Sync + 'static {
    /// Adds a device and makes its first token.
    fn add_device(&self, device: NewDevice) -> BoxFuture<'_, Result<Token, RegistryError>>;

    /// Adds many devices, at most [`IMPORT_DEVICES_MAX`], all or none: if one exists, the error names the first
    /// such and nothing changes. Other writers wait meanwhile.
    fn import_devices(
        &self,
        devices: Vec<NewDevice>,
    ) -> BoxFuture<'_, Result<Vec<(DeviceId, Token)>, RegistryError>>;

    /// A page of devices in the order of their ids' bytes, revoked ones included.
    fn list_devices(&self, filter: DeviceFilter) -> BoxFuture<'_, Result<Vec<DeviceRecord>, RegistryError>>;

    /// One device, revoked or not.
    fn get_device<'a>(&'a self, id: &'a DeviceId) -> BoxFuture<'a, Result<DeviceRecord, RegistryError>>;

    /// Makes a new token. The older ones end at once, or, so that a device can be told in time, after
    /// `keep_old`; those that end sooner anyway keep their end.
    fn rotate_device<'a>(
        &'a self,
        id: &'a DeviceId,
        keep_old: Option<Duration>,
    ) -> BoxFuture<'a, Result<Token, RegistryError>>;

    /// Ends all tokens of a device, for good. The id stays taken, and its frames stay. Twice is once.
    fn revoke_device<'a>(&'a self, id: &'a DeviceId) -> BoxFuture<'a, Result<(), RegistryError>>;

    /// Puts a device in these groups and no others.
    fn set_groups<'a>(
        &'a self,
        id: &'a DeviceId,
        groups: BTreeSet<Group>,
    ) -> BoxFuture<'a, Result<(), RegistryError>>;

    /// Says whose token this is.
    fn authenticate_device<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<DeviceGrant, AuthError>>;

    /// Which of these tokens, of devices or readers, are not valid any more: revoked, expired or gone. At most
    /// [`TOKENS_CHECKED_MAX`]. To be asked about the tokens of live sessions whenever [`Registry::changes`]
    /// moves.
    fn tokens_revoked<'a>(&'a self, ids: &'a [TokenId])
    -> BoxFuture<'a, Result<Vec<TokenId>, RegistryError>>;

    /// Grants a device its next epoch: greater than every one before, and durable before it is returned.
    /// Grants that wait at the same time share one commit.
    fn grant_epoch<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Epoch, RegistryError>>;

    /// The last epoch granted; [`Epoch::NONE`] if none was.
    fn current_epoch<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Epoch, RegistryError>>;

    /// Adds a reader and makes its token. A revoked reader's name may be used again, with a new token.
    fn add_reader(&self, reader: NewReader) -> BoxFuture<'_, Result<Token, RegistryError>>;

    /// All readers by name, revoked ones included.
    fn list_readers(&self) -> BoxFuture<'_, Result<Vec<ReaderRecord>, RegistryError>>;

    /// One reader, revoked or not.
    fn get_reader<'a>(&'a self, name: &'a ReaderName) -> BoxFuture<'a, Result<ReaderRecord, RegistryError>>;

    /// Ends all tokens of a reader. Twice is once.
    fn revoke_reader<'a>(&'a self, name: &'a ReaderName) -> BoxFuture<'a, Result<(), RegistryError>>;

    /// Says whose token this is.
    fn authenticate_reader<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ReaderGrant, AuthError>>;

    /// Sets how long frames of a group's devices are kept, in place of what was set before. It removes nothing before
    /// it is enforced. As a longer policy keeps what a shorter one would remove, policies of groups that share devices with
    /// this one are to be counted and enforced anew if it takes the place of one with days.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] if it has no limit, or one that is out of range.
    fn set_retention(&self, policy: RetentionPolicy) -> BoxFuture<'_, Result<(), RegistryError>>;

    /// All policies, by group.
    fn list_retention(&self) -> BoxFuture<'_, Result<Vec<RetentionRecord>, RegistryError>>;

    /// Has the policy that was set at `set_at` enforced. Twice is once.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] if nobody has counted yet what it would remove.
    fn enforce_retention<'a>(
        &'a self,
        group: &'a Group,
        set_at: Micros,
    ) -> BoxFuture<'a, Result<(), RegistryError>>;

    /// Removes a group's policy: what is stored now stays, and policies of groups that share devices with it are to be
    /// counted and enforced anew if it had days.
    fn remove_retention<'a>(&'a self, group: &'a Group) -> BoxFuture<'a, Result<(), RegistryError>>;

    /// Notes what was found, and what of it was removed, under the policy that was set at `set_at`. If that is not
    /// there any more, nothing is noted.
    fn note_retention<'a>(
        &'a self,
        group: &'a Group,
        set_at: Micros,
        note: RetentionNote,
    ) -> BoxFuture<'a, Result<(), RegistryError>>;

    /// Says that a channel carries positions, in place of what was said of it before.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] if there are [`POSITION_SCHEMAS_MAX`](crate::position_schema::POSITION_SCHEMAS_MAX)
    /// others.
    fn set_position_schema(&self, schema: PositionSchema) -> BoxFuture<'_, Result<(), RegistryError>>;

    /// Which channels carry positions, by channel.
    fn list_position_schemas(&self) -> BoxFuture<'_, Result<Vec<PositionSchema>, RegistryError>>;

    /// Says that a channel carries none.
    fn remove_position_schema<'a>(&'a self, channel: &'a Channel)
    -> BoxFuture<'a, Result<(), RegistryError>>;

    /// A number that rises within 500 ms after anybody, in this process or another, changed who may do what,
    /// or a token expired. Epoch grants do not move it. It starts anywhere, and its steps mean nothing. A registry
    /// that connects when it is needed begins to look with the first other call: before that it has granted
    /// nothing that could end.
    fn changes(&self) -> watch::Receiver<u64>;
}
