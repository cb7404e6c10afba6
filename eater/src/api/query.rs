//! What a request for gaps or devices asks for. Frames: [`super::frames_query`].

use trough_protocol::{DeviceId, Epoch, Seq};
use trough_store::Group;

use super::cursor::Cursor;
use super::etag::Fingerprint;
use super::params::{BadParameter, Params};
use super::refusal::Refusal;

/// Most frames or gaps of one page.
pub const PAGE_MAX: usize = 10_000;
/// Frames or gaps of a JSON page that names no limit.
pub const PAGE_DEFAULT: usize = 1000;
/// Most devices of one page.
pub const DEVICES_MAX: usize = 1000;
/// Devices of a page that names no limit.
pub const DEVICES_DEFAULT: usize = 100;

/// Which gaps of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapsQuery {
    /// Whose.
    pub device: DeviceId,
    /// How many at most.
    pub limit: usize,
    /// Only those that begin behind this place.
    pub after: Option<(Epoch, Seq)>,
    /// What a cursor must belong to.
    pub fingerprint: u32,
}

impl GapsQuery {
    /// Reads the query string.
    ///
    /// # Errors
    /// [`Refusal::BadParameter`], [`Refusal::BadCursor`].
    pub fn parse(device: DeviceId, query: Option<&str>) -> Result<Self, Refusal> {
        let params = Params::parse(query, &["limit", "cursor"])?;
        let limit = params.count("limit", PAGE_MAX)?.unwrap_or(PAGE_DEFAULT);
        let fingerprint = crc32c::crc32c(format!("gaps|{device}").as_bytes());
        let cursor = params.one("cursor")?.map(|text| Cursor::decode(text, fingerprint)).transpose()?;
        Ok(Self { device, limit, after: cursor.map(|c| (c.epoch, c.seq)), fingerprint })
    }

    /// The cursor that goes on behind a gap that begins at this place.
    pub fn cursor_after(&self, (epoch, seq): (Epoch, Seq)) -> String {
        Cursor { query: self.fingerprint, epoch, seq, device: self.device.clone() }.encode()
    }

    /// All that an answer depends on besides the gaps themselves.
    pub fn identity(&self) -> Fingerprint {
        let (epoch, seq) = self.after.map_or((u64::MAX, u64::MAX), |(epoch, seq)| (epoch.0, seq.0));
        let place = Fingerprint::default().text("gaps").text(self.device.as_str()).number(self.limit as u64);
        place.number(epoch).number(seq)
    }
}

/// The group of the parameter `group`.
///
/// # Errors
/// [`BadParameter`].
pub(super) fn group(params: &Params) -> Result<Option<Group>, BadParameter> {
    let Some(name) = params.one("group")? else { return Ok(None) };
    let accepted = "one group: 1 to 64 of A–Z a–z 0–9 . _ - : @";
    Group::new(name).map(Some).map_err(|_| BadParameter::value("group", name, accepted))
}

/// Which devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicesQuery {
    /// Only those in this group.
    pub group: Option<Group>,
    /// How many at most.
    pub limit: usize,
    /// Only those with a greater id.
    pub after: Option<DeviceId>,
    fingerprint: u32,
}

impl DevicesQuery {
    /// Reads the query string.
    ///
    /// # Errors
    /// [`Refusal::BadParameter`], [`Refusal::BadCursor`].
    pub fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let params = Params::parse(query, &["group", "limit", "cursor"])?;
        let group = group(&params)?;
        let limit = params.count("limit", DEVICES_MAX)?.unwrap_or(DEVICES_DEFAULT);
        let fingerprint = crc32c::crc32c(format!("devices|{group:?}").as_bytes());
        let cursor = params.one("cursor")?.map(|text| Cursor::decode(text, fingerprint)).transpose()?;
        Ok(Self { group, limit, after: cursor.map(|cursor| cursor.device), fingerprint })
    }

    /// The cursor that goes on behind a device.
    pub fn cursor_after(&self, device: DeviceId) -> String {
        Cursor { query: self.fingerprint, epoch: Epoch::NONE, seq: Seq::ZERO, device }.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceId {
        DeviceId::new("bus-1").unwrap()
    }

    #[test]
    fn devices_go_on_behind_the_last_one() {
        let query = DevicesQuery::parse(Some("group=north&limit=2")).unwrap();
        let cursor = query.cursor_after(device());
        let next = DevicesQuery::parse(Some(&format!("group=north&cursor={cursor}"))).unwrap();
        assert_eq!((next.after, next.limit), (Some(device()), DEVICES_DEFAULT));
        assert!(DevicesQuery::parse(Some(&format!("group=south&cursor={cursor}"))).is_err());
        assert!(DevicesQuery::parse(Some("group=a%20b")).is_err());
        assert!(DevicesQuery::parse(Some("limit=1001")).is_err());
    }
}
