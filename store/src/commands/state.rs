//! Where a command stands.

use std::fmt;
use std::str::FromStr;

use trough_protocol::device::CommandStatus;

use crate::error::RegistryError;

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
