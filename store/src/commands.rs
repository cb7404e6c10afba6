//! Commands to devices: what a reader asks a device to do, until the device has answered, or it is too late.
//!
//! A command is `queued`, then `sent` (at least once handed to a session), then one of the others, for good but for one
//! thing: what the device itself says is the truth, so an answer to a command that has expired or was cancelled
//! after it was sent still counts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::sync::watch;
use trough_protocol::device::{CommandId, CommandStatus};
use trough_protocol::limits::{COMMAND_BYTES_MAX, COMMAND_RESULT_BYTES_MAX};
use trough_protocol::{ContentType, DeviceId, Micros};
use trough_runtime::clock::micros;

use crate::BoxFuture;
use crate::error::RegistryError;

/// How long a command is good unless it says otherwise.
pub const EXPIRES_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// The longest.
pub const EXPIRES_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a finished one is remembered, and with it its idempotency key.
pub const FINISHED_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 64;
/// Most commands of a device that are not finished.
pub const PENDING_MAX: usize = 100;
/// Most commands that one [`Commands::list_commands`] returns, whatever its filter says.
pub const LIST_COMMANDS_MAX: usize = 101;
/// Most devices that one question is about, or returns.
pub const COMMAND_DEVICES_MAX: usize = 256;
/// Most commands that one [`Commands::send_commands`] takes: all of them are in memory.
pub const SEND_COMMANDS_MAX: usize = 64;
/// Most commands that one [`Commands::sweep_commands`] ends, and most that it removes.
pub const SWEEP_COMMANDS_MAX: usize = 50;

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CommandState {
    /// No session has been given it.
    Queued,
    /// A session has been given it; whether the device has it is not known.
    Sent,
    /// The device did it.
    Acknowledged,
    /// The device did not, and will not.
    Rejected,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Cancelled,
}

impl CommandState {
    /// All of them, by their numbers: part of what is stored, so it never changes.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Sent, Self::Acknowledged, Self::Rejected, Self::Expired, Self::Cancelled];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Acknowledged => "acknowledged",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// As it is stored.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// From how it is stored.
    pub(crate) fn of_number(number: i64) -> Option<Self> {
        usize::try_from(number).ok().and_then(|number| Self::ALL.get(number).copied())
    }

    /// Whether nothing more is sent.
    pub const fn is_finished(self) -> bool {
        !matches!(self, Self::Queued | Self::Sent)
    }

    /// Whether the device has said it.
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Rejected)
    }

    /// What a device's word makes of a command.
    pub const fn of_status(status: CommandStatus) -> Self {
        match status {
            CommandStatus::Done => Self::Acknowledged,
            CommandStatus::Rejected => Self::Rejected,
        }
    }
}

impl fmt::Display for CommandState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CommandState {
    type Err = RegistryError;
    fn from_str(s: &str) -> Result<Self, RegistryError> {
        Self::ALL.into_iter().find(|state| state.as_str() == s).ok_or_else(|| {
            let shown: String = s.chars().take(80).collect();
            let known = Self::ALL.map(Self::as_str).join(", ");
            RegistryError::Invalid(format!("command state {shown:?} is not known: use {known}"))
        })
    }
}

/// A payload and what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandPayload {
    /// A media type, as [`ContentType::as_str`] writes it.
    pub content_type: String,
    /// Opaque to Trough.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for CommandPayload {
    /// Without the content, which is no business of a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {}", self.bytes.len(), self.content_type)
    }
}

/// A command to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommand {
    /// To whom.
    pub device: DeviceId,
    /// What to do; at most [`COMMAND_BYTES_MAX`].
    pub payload: CommandPayload,
    /// It is not sent after this time.
    pub expires_at: Micros,
    /// Whoever repeats a request with the same key and the same payload gets the same command.
    pub key: Option<String>,
    /// Who asks for it, such as `reader app`.
    pub made_by: String,
}

/// A command, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRecord {
    /// Names it.
    pub id: CommandId,
    /// To whom.
    pub device: DeviceId,
    /// What to do.
    pub payload: CommandPayload,
    /// When it was made.
    pub created_at: Micros,
    /// It is not sent after this time.
    pub expires_at: Micros,
    /// Its idempotency key.
    pub key: Option<String>,
    /// Who asked for it.
    pub made_by: String,
    /// Where it stands now.
    pub state: CommandState,
    /// How often a session was given it.
    pub sends: u32,
    /// When last.
    pub sent_at: Option<Micros>,
    /// Since when it is finished.
    pub finished_at: Option<Micros>,
    /// What the device said of it.
    pub result: Option<CommandPayload>,
}

impl CommandRecord {
    /// As it stands at `now`: what nobody has marked as expired yet is so all the same.
    pub(crate) fn at(mut self, now: Micros) -> Self {
        if !self.state.is_finished() && self.expires_at <= now {
            (self.state, self.finished_at) = (CommandState::Expired, Some(self.expires_at));
        }
        self
    }
}

/// Which commands to list, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandFilter {
    /// Whose.
    pub device: DeviceId,
    /// Only those in this state.
    pub state: Option<CommandState>,
    /// Only older ones: the last of the page before.
    pub before: Option<CommandId>,
    /// How many at most, up to [`LIST_COMMANDS_MAX`].
    pub limit: usize,
}

/// Which command of which device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommandPlace {
    /// Whose.
    pub device: DeviceId,
    /// Which.
    pub id: CommandId,
}

/// A command whose time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredCommand {
    /// Which.
    pub place: CommandPlace,
    /// How often a session was given it.
    pub sends: u32,
    /// When it was made.
    pub created_at: Micros,
}

/// What one [`Commands::sweep_commands`] has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweptCommands {
    /// Those that it has ended.
    pub expired: Vec<ExpiredCommand>,
    /// Whether there may be more to be ended or forgotten.
    pub more: bool,
}

/// What a device said of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandAnswer {
    /// How it went.
    pub status: CommandStatus,
    /// What there is to say; at most [`COMMAND_RESULT_BYTES_MAX`].
    pub payload: CommandPayload,
}

/// A command that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedCommand {
    /// The command.
    pub record: CommandRecord,
    /// Whether there was none of this key before.
    pub is_new: bool,
}

/// What was asked for cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such command of this device, or not any more.
    #[error("there is no command {0} of this device: finished ones are remembered for 7 days")]
    NotFound(CommandId),
    /// The device has as many as it may have.
    #[error(
        "device {0} has {PENDING_MAX} commands that are not finished: wait until it has answered, cancel some, or let \
         them expire sooner"
    )]
    TooMany(DeviceId),
    /// The key is that of another command.
    #[error(
        "the idempotency key {key:?} is that of command {id}, which asks for something else: use another key"
    )]
    KeyUsed {
        /// The key.
        key: String,
        /// What has it.
        id: CommandId,
    },
    /// It is finished: what happened has happened.
    #[error("command {id} is {state} already")]
    Finished {
        /// Which.
        id: CommandId,
        /// How it stands.
        state: CommandState,
    },
    /// The registry's answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// What is known of commands: in the same place as the registry. What a method returns is durable, and seen by every
/// later call, in this process or another.
///
/// Cancel safety: dropping a future that only reads is harmless. One that changes something may or may not have its
/// effect then.
pub trait Commands: Send + Sync + 'static {
    /// Makes a command, or gives that with the same key and payload.
    ///
    /// # Errors
    /// [`CommandError::TooMany`], [`CommandError::KeyUsed`]; the registry's if there is no such device, if it was revoked,
    /// or if a value is out of range.
    fn add_command(&self, command: NewCommand) -> BoxFuture<'_, Result<AddedCommand, CommandError>>;

    /// One command of a device.
    ///
    /// # Errors
    /// [`CommandError::NotFound`]; the registry's.
    fn get_command<'a>(
        &'a self,
        place: &'a CommandPlace,
    ) -> BoxFuture<'a, Result<CommandRecord, CommandError>>;

    /// A page of commands, the newest first.
    fn list_commands(
        &self,
        filter: CommandFilter,
    ) -> BoxFuture<'_, Result<Vec<CommandRecord>, RegistryError>>;

    /// Takes a command back: it is not sent any more. Twice is once.
    ///
    /// # Errors
    /// [`CommandError::NotFound`], [`CommandError::Finished`]; the registry's.
    fn cancel_command<'a>(
        &'a self,
        place: &'a CommandPlace,
    ) -> BoxFuture<'a, Result<CommandRecord, CommandError>>;

    /// The commands of these devices, at most [`COMMAND_DEVICES_MAX`], that are to be sent, in the order of their ids.
    fn pending_commands(
        &self,
        devices: Vec<DeviceId>,
    ) -> BoxFuture<'_, Result<Vec<CommandPlace>, RegistryError>>;

    /// A page of the devices that have commands which are to be sent, in order: [`COMMAND_DEVICES_MAX`], fewer on the last
    /// page.
    fn devices_with_commands(
        &self,
        after: Option<DeviceId>,
    ) -> BoxFuture<'_, Result<Vec<DeviceId>, RegistryError>>;

    /// Notes that these commands, at most [`SEND_COMMANDS_MAX`], are being sent, and gives those that may be: not those
    /// that were finished or cancelled meanwhile, or have expired. Whoever asks sends them then, so that a command which is
    /// `queued` is known to no device.
    fn send_commands(
        &self,
        places: Vec<CommandPlace>,
    ) -> BoxFuture<'_, Result<Vec<CommandRecord>, RegistryError>>;

    /// Notes what a device said; `None` if it has said something before, which counts.
    ///
    /// # Errors
    /// [`CommandError::NotFound`]; the registry's.
    fn finish_command<'a>(
        &'a self,
        place: &'a CommandPlace,
        answer: CommandAnswer,
    ) -> BoxFuture<'a, Result<Option<CommandRecord>, CommandError>>;

    /// Ends commands whose time is over, and gives them, each once; forgets those that were finished long ago. Some at a
    /// time: to be called now and then by anybody, and again while there are more.
    fn sweep_commands(&self) -> BoxFuture<'_, Result<SweptCommands, RegistryError>>;

    /// A number that rises soon after somebody, in this process or another, has made a command, where the storage can
    /// tell; elsewhere it stands still, and there is a doorbell on the bus.
    fn commands_added(&self) -> watch::Receiver<u64>;
}

impl NewCommand {
    /// Checks what must hold for one made at `now`.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`], naming the value and what is accepted.
    pub(crate) fn check(&self, now: Micros) -> Result<(), RegistryError> {
        check_payload("the payload", &self.payload, COMMAND_BYTES_MAX)?;
        if self.expires_at <= now || self.expires_at > now.saturating_add(micros(EXPIRES_MAX)) {
            let expires_at = self.expires_at;
            return Err(RegistryError::Invalid(format!(
                "expires_at is {expires_at} µs, and now it is {now}: use a later time, at most 30 days from now"
            )));
        }
        match &self.key {
            Some(key) if !is_key(key) => Err(RegistryError::Invalid(format!(
                "the idempotency key {:?} cannot be one: use 1 to {KEY_BYTES_MAX} visible ASCII characters",
                key.chars().take(80).collect::<String>()
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether this can be an idempotency key.
pub fn is_key(key: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Checks what a device said.
///
/// # Errors
/// [`RegistryError::Invalid`].
pub(crate) fn check_answer(answer: &CommandAnswer) -> Result<(), RegistryError> {
    check_payload("the result", &answer.payload, COMMAND_RESULT_BYTES_MAX)
}

fn check_payload(what: &str, payload: &CommandPayload, max: usize) -> Result<(), RegistryError> {
    let invalid = |reason| Err(RegistryError::Invalid(reason));
    if payload.bytes.len() > max {
        return invalid(format!("{what} has {} bytes: use {max} at most", payload.bytes.len()));
    }
    match ContentType::parse(&payload.content_type) {
        Ok(_) => Ok(()),
        Err(error) => invalid(error.to_string()),
    }
}
