//! What a request for a live stream asks for.

use std::ops::RangeInclusive;

use http::HeaderMap;
use trough_protocol::frame::FrameRef;
use trough_protocol::{Channel, DeviceId, Epoch, Micros, Seq};
use trough_store::Group;

use super::cursor::{BadEventId, LiveCursor};
use crate::api::frames_query::{CHANNELS_MAX, FramesQuery};
use crate::api::params::Params;
use crate::api::query::group;
use crate::api::refusal::Refusal;

const LAST_EVENT_ID: &str = "last-event-id";

/// Which frames, and from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LiveQuery {
    /// Which of them.
    pub filter: Filter,
    /// Where it begins.
    pub begin: Begin,
    /// What an event id must belong to.
    pub fingerprint: u32,
}

/// Where a stream begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Begin {
    /// With what becomes durable from now on.
    Now,
    /// With history, behind this frame or from the first on.
    History(Option<(Epoch, Seq)>),
    /// Behind an event.
    Event(LiveCursor),
}

/// Which frames of the devices that are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    /// The device's time stamps.
    pub ts: RangeInclusive<Micros>,
    /// Sorted; empty for all.
    pub channels: Vec<Channel>,
}

impl Filter {
    /// Whether a frame is asked for.
    pub fn wants(&self, frame: &FrameRef<'_>) -> bool {
        let any = self.channels.is_empty();
        let wanted =
            |channel: &str| self.channels.binary_search_by(|known| known.as_str().cmp(channel)).is_ok();
        self.ts.contains(&frame.ts) && (any || wanted(frame.channel))
    }
}

impl LiveQuery {
    /// Reads the query string and the head of a request for one device.
    ///
    /// # Errors
    /// [`Refusal::BadParameter`], [`Refusal::BadCursor`], [`Refusal::BadEventId`].
    pub fn device(device: DeviceId, query: Option<&str>, headers: &HeaderMap) -> Result<Self, Refusal> {
        let params = Params::parse(query, &["from", "channel", "cursor", "after"])?;
        let from = params.instant("from")?;
        // The same parameters as those of frames, which cursors of frames belong to.
        let frames = FramesQuery::parse(device.clone(), query)?;
        let ts = from.unwrap_or(0)..=Micros::MAX;
        let names: Vec<&str> = frames.channels.iter().map(Channel::as_str).collect();
        let text = format!("live|device|{device}|{from:?}|{}", names.join(","));
        let fingerprint = crc32c::crc32c(text.as_bytes());
        let begin = match (event_id(headers, fingerprint)?, frames.after) {
            (Some(cursor), _) => Begin::Event(cursor),
            (None, Some(after)) => Begin::History(Some((after.epoch, after.seq))),
            (None, None) if from.is_some() => Begin::History(None),
            (None, None) => Begin::Now,
        };
        Ok(Self { filter: Filter { ts, channels: frames.channels }, begin, fingerprint })
    }

    /// Reads those of a request for many devices; and the group that is asked for.
    ///
    /// # Errors
    /// [`Refusal::BadParameter`], [`Refusal::BadEventId`].
    pub fn devices(query: Option<&str>, headers: &HeaderMap) -> Result<(Self, Option<Group>), Refusal> {
        let params = Params::parse(query, &["group", "channel"])?;
        let channels = params.channels("channel", CHANNELS_MAX)?;
        let group = group(&params)?;
        let names: Vec<&str> = channels.iter().map(Channel::as_str).collect();
        let fingerprint = crc32c::crc32c(format!("live|devices|{group:?}|{}", names.join(",")).as_bytes());
        let cursor = event_id(headers, fingerprint)?;
        // History and numbers are of one device.
        if cursor.as_ref().is_some_and(|cursor| cursor.in_history || cursor.given.place().is_some()) {
            return Err(BadEventId::Malformed.into());
        }
        let begin = cursor.map_or(Begin::Now, Begin::Event);
        Ok((Self { filter: Filter { ts: 0..=Micros::MAX, channels }, begin, fingerprint }, group))
    }
}

fn event_id(headers: &HeaderMap, fingerprint: u32) -> Result<Option<LiveCursor>, BadEventId> {
    let id = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    id.map(|id| LiveCursor::decode(id.as_bytes(), fingerprint)).transpose()
}

#[cfg(test)]
mod tests {
    use super::super::given::Given;
    use super::*;
    use crate::live::Vector;
    use http::HeaderValue;

    fn device(query: &str, id: &str) -> Result<LiveQuery, String> {
        let mut headers = HeaderMap::new();
        headers.insert(LAST_EVENT_ID, HeaderValue::from_str(id).unwrap());
        let device = DeviceId::new("bus-1").unwrap();
        LiveQuery::device(device, Some(query), &headers).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn an_event_id_wins_and_goes_with_its_stream_only() {
        assert_eq!(device("", "").unwrap().begin, Begin::Now);
        assert_eq!(device("from=5", "").unwrap().begin, Begin::History(None));
        let query = device("channel=b,a&after=1:3", "").unwrap();
        assert_eq!(query.begin, Begin::History(Some((Epoch(1), Seq(3)))));
        let (fingerprint, given) = (query.fingerprint, Given::from_place([(Epoch(1), Seq(4))]));
        let cursor = LiveCursor { query: fingerprint, given, in_history: true, vector: Vector::default() };
        let again = device("channel=a&channel=b&after=1:3", &cursor.encode()).unwrap();
        assert_eq!(again.begin, Begin::Event(cursor.clone()));
        for other in ["channel=a", "channel=a,b&from=5", ""] {
            assert!(device(other, &cursor.encode()).unwrap_err().contains("another stream"), "{other}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(LAST_EVENT_ID, cursor.encode().parse().unwrap());
        assert!(LiveQuery::devices(None, &headers).is_err());
        assert!(device("", "nonsense").unwrap_err().contains("Last-Event-ID"));
    }

    /// Ids are no secrets, and whoever likes makes one.
    #[test]
    fn an_id_of_many_devices_has_nothing_that_is_of_one() {
        let query = LiveQuery::devices(None, &HeaderMap::new()).unwrap().0.fingerprint;
        let none = Given::default();
        for (given, in_history) in
            [(none.clone(), true), (Given::from_place([(Epoch(1), Seq(4))]), false), (none, false)]
        {
            let is_made_up = in_history || given.place().is_some();
            let cursor = LiveCursor { query, given, in_history, vector: Vector::default() };
            let mut headers = HeaderMap::new();
            headers.insert(LAST_EVENT_ID, cursor.encode().parse().unwrap());
            assert_eq!(LiveQuery::devices(None, &headers).is_err(), is_made_up);
        }
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        for bad in ["limit=1", "order=desc", "to=5", "from=x", "after=1", "cursor=x", "group=a"] {
            assert!(device(bad, "").is_err(), "{bad}");
        }
        let devices = |query| LiveQuery::devices(Some(query), &HeaderMap::new());
        for bad in ["after=1:1", "group=a%20b", "group=a&group=b", "from=5"] {
            assert!(devices(bad).is_err(), "{bad}");
        }
        let (north, group) = devices("group=north&channel=a").unwrap();
        assert_eq!(group, Some(Group::new("north").unwrap()));
        assert_ne!(north.fingerprint, devices("channel=a").unwrap().0.fingerprint);
    }
}
