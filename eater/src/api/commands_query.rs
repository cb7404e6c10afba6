//! What a request for commands asks for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use trough_protocol::DeviceId;
use trough_protocol::device::CommandId;
use trough_store::CommandState;
use trough_store::commands::{CommandFilter, LIST_COMMANDS_MAX};

use super::cursor::BadCursor;
use super::params::{BadParameter, Params};
use super::refusal::Refusal;

/// Most commands of one page; one more is asked for, to know whether there is a next one.
pub const COMMANDS_MAX: usize = LIST_COMMANDS_MAX - 1;
/// Commands of a page that names no limit.
pub const COMMANDS_DEFAULT: usize = 20;

/// Which commands of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandsQuery {
    device: DeviceId,
    state: Option<CommandState>,
    /// How many at most.
    pub limit: usize,
    before: Option<CommandId>,
}

impl CommandsQuery {
    /// Reads the query string.
    ///
    /// # Errors
    /// [`Refusal::BadParameter`], [`Refusal::BadCursor`].
    pub fn parse(device: DeviceId, query: Option<&str>) -> Result<Self, Refusal> {
        let params = Params::parse(query, &["state", "limit", "cursor"])?;
        let state = params.one("state")?.map(|value| {
            let accepted = CommandState::ALL.map(CommandState::as_str).join(", ");
            value.parse().map_err(|_| BadParameter::value("state", value, accepted))
        });
        let state = state.transpose()?;
        let limit = params.count("limit", COMMANDS_MAX)?.unwrap_or(COMMANDS_DEFAULT);
        let mut this = Self { device, state, limit, before: None };
        this.before = params.one("cursor")?.map(|text| this.read_cursor(text)).transpose()?;
        Ok(this)
    }

    /// What to ask the store: one more than the page has.
    pub fn filter(&self) -> CommandFilter {
        let (device, state, before) = (self.device.clone(), self.state, self.before);
        CommandFilter { device, state, before, limit: self.limit + 1 }
    }

    /// The cursor that goes on behind a command: its id and the checksum of both it and the query.
    pub fn cursor_after(&self, id: CommandId) -> String {
        BASE64URL.encode([&id.0[..], &self.checksum(id).to_le_bytes()].concat())
    }

    fn read_cursor(&self, text: &str) -> Result<CommandId, BadCursor> {
        let bytes = BASE64URL.decode(text).map_err(|_| BadCursor::Malformed)?;
        let (id, checksum) = bytes.split_last_chunk::<4>().ok_or(BadCursor::Malformed)?;
        let id = CommandId(id.try_into().map_err(|_| BadCursor::Malformed)?);
        match self.checksum(id) == u32::from_le_bytes(*checksum) {
            true => Ok(id),
            false => Err(BadCursor::OtherQuery),
        }
    }

    fn checksum(&self, id: CommandId) -> u32 {
        let state = self.state.map_or("", CommandState::as_str);
        crc32c::crc32c(format!("commands|{}|{state}|{id}", self.device).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_on_behind_the_last_one() {
        let device = || DeviceId::new("bus-1").unwrap();
        let query = CommandsQuery::parse(device(), Some("state=sent&limit=2")).unwrap();
        let id = CommandId::new(1_700_000_000_000_000, [7; 8]);
        let cursor = query.cursor_after(id);
        let next = CommandsQuery::parse(device(), Some(&format!("state=sent&cursor={cursor}"))).unwrap();
        assert_eq!((next.before, next.limit, next.state), (Some(id), 20, Some(CommandState::Sent)));
        for bad in [format!("cursor={cursor}"), format!("state=sent&cursor=x{}", &cursor[1..])] {
            let refused = CommandsQuery::parse(device(), Some(&bad)).unwrap_err();
            assert!(matches!(refused, Refusal::BadCursor(BadCursor::OtherQuery)), "{bad}");
        }
        for bad in ["state=done", "limit=101", "cursor=", "cursor=AAAA"] {
            assert!(CommandsQuery::parse(device(), Some(bad)).is_err(), "{bad}");
        }
    }
}
