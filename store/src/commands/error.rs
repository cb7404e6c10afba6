//! What cannot be done about a command.

use trough_protocol::DeviceId;
use trough_protocol::device::CommandId;

use super::{CommandState, PENDING_MAX};
use crate::error::RegistryError;

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
