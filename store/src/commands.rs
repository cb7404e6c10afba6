//! Commands to devices: what a reader asks a device to do, until the device has answered, or it is too late.
//!
//! A command is `queued`, then `sent` (at least once handed to a session), then one of the others, for good but for one
//! thing: what the device itself says is the truth, so an answer to a command that has expired or was cancelled
//! after it was sent still counts.

use std::time::Duration;

use tokio::sync::watch;
use trough_protocol::DeviceId;

use crate::BoxFuture;
use crate::error::RegistryError;

mod check;
mod error;
mod record;
mod state;

pub(crate) use check::check_answer;
pub use check::is_key;
pub use error::CommandError;
pub use record::{
    AddedCommand, CommandAnswer, CommandFilter, CommandPayload, CommandPlace, CommandRecord, ExpiredCommand,
    NewCommand, SweptCommands,
};
pub use state::CommandState;

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
