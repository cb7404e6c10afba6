//! What a request for frames, gaps or devices asks for.

use std::ops::RangeInclusive;

use trough_protocol::frame::FrameRef;
use trough_protocol::{Channel, DeviceId, Epoch, Micros, Seq};
use trough_store::Group;

use super::cursor::Cursor;
use super::etag::Fingerprint;
use super::params::{BadParameter, Params};
use super::refusal::Refusal;
use crate::journal::{Order, ScanRange};

/// Most frames or gaps of one page.
pub const PAGE_MAX: usize = 10_000;
/// Frames or gaps of a JSON page that names no limit.
pub const PAGE_DEFAULT: usize = 1000;
/// Most devices of one page.
pub const DEVICES_MAX: usize = 1000;
/// Devices of a page that names no limit.
pub const DEVICES_DEFAULT: usize = 100;
/// Most channels that one request may choose.
pub const CHANNELS_MAX: usize = 64;

/// Which frames of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FramesQuery {
    /// Whose.
    pub device: DeviceId,
    /// The device's time stamps, both ends included; `None` if no frame can match.
    pub ts: Option<RangeInclusive<Micros>>,
    /// Sorted; empty for all.
    pub channels: Vec<Channel>,
    /// Which come first.
    pub order: Order,
    /// How many at most; `None` if the request does not say.
    pub limit: Option<usize>,
    /// Only those behind this one in the order; [`Epoch::NONE`] and [`Seq::ZERO`] stand before the first.
    pub after: Option<(Epoch, Seq)>,
    /// What a cursor must belong to.
    pub fingerprint: u32,
}

impl FramesQuery {
    const KNOWN: &'static [&'static str] = &["from", "to", "channel", "order", "limit", "cursor", "after"];

    /// Reads the query string.
    ///
    /// # Errors
    /// [`Refusal::BadParameter`], [`Refusal::BadCursor`].
    pub fn parse(device: DeviceId, query: Option<&str>) -> Result<Self, Refusal> {
        let params = Params::parse(query, Self::KNOWN)?;
        let (from, to) = (params.instant("from")?, params.instant("to")?);
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            let value = params.one("to")?.unwrap_or_default();
            return Err(BadParameter::value("to", value, "an instant that is not before from").into());
        }
        let channels = params.channels("channel", CHANNELS_MAX)?;
        let order = match params.one("order")? {
            None | Some("asc") => Order::Asc,
            Some("desc") => Order::Desc,
            Some(other) => return Err(BadParameter::value("order", other, "asc or desc").into()),
        };
        let limit = params.count("limit", PAGE_MAX)?;
        let mut query = Self {
            device,
            ts: match to {
                None => Some(from.unwrap_or(0)..=Micros::MAX),
                // The end is excluded; nothing lies before the beginning of time.
                Some(to) => to.checked_sub(1).map(|last| from.unwrap_or(0)..=last).filter(|r| !r.is_empty()),
            },
            channels,
            order,
            limit,
            after: None,
            fingerprint: 0,
        };
        query.fingerprint = query.fingerprint_of(from, to);
        query.after = match (params.one("cursor")?, params.place("after")?) {
            (Some(_), Some(_)) => {
                return Err(BadParameter::Exclusive { first: "cursor", second: "after" }.into());
            }
            (Some(text), None) => {
                Some(Cursor::decode(text, query.fingerprint)).transpose()?.map(|c| (c.epoch, c.seq))
            }
            (None, after) => after,
        };
        Ok(query)
    }

    /// Everything that changes which frames there are and in which order, but not how many at a time or in
    /// which format.
    fn fingerprint_of(&self, from: Option<Micros>, to: Option<Micros>) -> u32 {
        let order = if self.order == Order::Asc { "asc" } else { "desc" };
        let channels: Vec<&str> = self.channels.iter().map(Channel::as_str).collect();
        let channels = channels.join(",");
        crc32c::crc32c(format!("frames|{}|{from:?}|{to:?}|{order}|{channels}", self.device).as_bytes())
    }

    /// Whether a frame is asked for, by its time stamp and channel.
    pub fn wants(&self, frame: &FrameRef<'_>) -> bool {
        self.ts.as_ref().is_some_and(|ts| ts.contains(&frame.ts)) && self.wants_channel(frame.channel)
    }

    fn wants_channel(&self, channel: &str) -> bool {
        self.channels.is_empty()
            || self.channels.binary_search_by(|known| known.as_str().cmp(channel)).is_ok()
    }

    /// What the journal is asked for; `None` if no frame can match.
    pub fn scan_range(&self) -> Option<ScanRange> {
        let ts = self.ts.clone()?;
        let all = ts == (0..=Micros::MAX);
        Some(ScanRange { after: self.after, ts: (!all).then_some(ts), order: self.order })
    }

    /// The cursor that goes on behind a frame.
    pub fn cursor_after(&self, (epoch, seq): (Epoch, Seq)) -> String {
        Cursor { query: self.fingerprint, epoch, seq, device: self.device.clone() }.encode()
    }

    /// All that an answer depends on besides the frames themselves.
    pub fn identity(&self) -> Fingerprint {
        let (epoch, seq) = self.after.map_or((u64::MAX, u64::MAX), |(epoch, seq)| (epoch.0, seq.0));
        let limit = self.limit.map_or(u64::MAX, |limit| limit as u64);
        let place = Fingerprint::default().text("frames").number(u64::from(self.fingerprint)).number(limit);
        place.number(epoch).number(seq)
    }
}

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
        let group = match params.one("group")? {
            None => None,
            Some(name) => Some(Group::new(name).map_err(|_| {
                BadParameter::value("group", name, "one group: 1 to 64 of A–Z a–z 0–9 . _ - : @")
            })?),
        };
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
    use trough_protocol::ContentType;

    fn device() -> DeviceId {
        DeviceId::new("bus-1").unwrap()
    }

    fn frames(query: &str) -> Result<FramesQuery, String> {
        FramesQuery::parse(device(), Some(query)).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn ranges_are_half_open() {
        assert_eq!(frames("").unwrap().ts, Some(0..=u64::MAX));
        assert_eq!(frames("from=5&to=9").unwrap().ts, Some(5..=8));
        assert_eq!(frames("from=5&to=6").unwrap().ts, Some(5..=5));
        assert_eq!(frames("from=5&to=5").unwrap().ts, None);
        assert_eq!(frames("to=0").unwrap().ts, None);
        assert_eq!(
            frames("from=6&to=5").unwrap_err(),
            "parameter to is \"5\": use an instant that is not before from"
        );
    }

    #[test]
    fn a_cursor_goes_with_its_query_only() {
        let query = frames("from=5&channel=b,a&order=desc&limit=3").unwrap();
        let cursor = query.cursor_after((Epoch(2), Seq(9)));
        let again =
            frames(&format!("channel=a&limit=7&channel=b&order=desc&cursor={cursor}&from=5")).unwrap();
        assert_eq!(again.after, Some((Epoch(2), Seq(9))));
        assert_eq!(again.limit, Some(7));
        for other in [
            "from=5&channel=b,a&order=asc",
            "from=6&channel=b,a&order=desc",
            "from=5&channel=b&order=desc",
            "from=5&channel=b,a&order=desc&to=9",
            "channel=a,b&order=desc",
        ] {
            let error = frames(&format!("{other}&cursor={cursor}")).unwrap_err();
            assert!(error.contains("another query"), "{error}");
        }
        let neighbour = FramesQuery::parse(
            DeviceId::new("bus-2").unwrap(),
            Some(&format!("from=5&channel=b,a&order=desc&cursor={cursor}")),
        );
        assert!(neighbour.unwrap_err().to_string().contains("another query"));
        assert!(GapsQuery::parse(device(), Some(&format!("cursor={cursor}"))).is_err());
        assert!(DevicesQuery::parse(Some(&format!("cursor={cursor}"))).is_err());
        assert!(frames("cursor=&order=asc").unwrap_err().contains("not one that this server gave"));
        assert!(frames(&format!("cursor={cursor}&after=1:1")).unwrap_err().contains("give one of them"));
    }

    #[test]
    fn frames_are_chosen_exactly() {
        let query = frames("channel=position,b&from=5&to=7").unwrap();
        let wants = |query: &FramesQuery, channel, ts| {
            query.wants(&FrameRef { ts, channel, content_type: ContentType::Bytes, payload: b"" })
        };
        assert!(wants(&query, "position", 5) && wants(&query, "b", 6));
        assert!(!wants(&query, "b", 4) && !wants(&query, "b", 7));
        assert!(!wants(&query, "pos", 5) && !wants(&query, "position2", 5) && !wants(&query, "a", 5));
        assert!(wants(&frames("").unwrap(), "anything", 1));
        assert!(!wants(&frames("to=0").unwrap(), "anything", 1));
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
