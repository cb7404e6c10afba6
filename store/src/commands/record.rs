//! Commands: to be made, made, listed, ended, and answered.

use std::fmt;

use trough_protocol::device::{CommandId, CommandStatus};
use trough_protocol::{DeviceId, Micros};

use super::CommandState;

/// A payload and what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandPayload {
    /// A media type, as [`ContentType::as_str`](trough_protocol::ContentType::as_str) writes it.
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
    /// What to do; at most [`COMMAND_BYTES_MAX`](trough_protocol::limits::COMMAND_BYTES_MAX).
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
    /// How many at most, up to [`LIST_COMMANDS_MAX`](super::LIST_COMMANDS_MAX).
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

/// What one [`Commands::sweep_commands`](super::Commands::sweep_commands) has done.
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
    /// What there is to say; at most [`COMMAND_RESULT_BYTES_MAX`](trough_protocol::limits::COMMAND_RESULT_BYTES_MAX).
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
