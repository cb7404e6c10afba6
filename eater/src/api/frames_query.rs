//! What a request for frames asks for.

use std::ops::RangeInclusive;

use trough_protocol::frame::FrameRef;
use trough_protocol::limits::INT_MAX;
use trough_protocol::{Channel, DeviceId, Epoch, Micros, Seq};
use trough_store::Group;

use super::cursor::Cursor;
use super::downsample::{Downsample, POINTER_ACCEPTED};
use super::encode::{Pointer, Shape};
use super::etag::Fingerprint;
use super::params::{BadParameter, Params};
use super::query::{PAGE_MAX, group};
use super::refusal::Refusal;
use crate::journal::{Order, ScanRange};

/// Most channels that one request may choose.
pub const CHANNELS_MAX: usize = 64;
/// Most devices that one request may name.
pub const NAMED_MAX: usize = 1000;
/// Most fields that one request may choose.
pub const FIELDS_MAX: usize = 32;

/// Whose frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// One device's; its frames do not say whose they are.
    Device(DeviceId),
    /// Those of all devices that the reader may see, one after another in the order of their ids' bytes.
    Devices {
        /// Only these, sorted; empty for all.
        named: Vec<DeviceId>,
        /// Only those in this group.
        group: Option<Group>,
    },
}

/// A place among the frames of several devices; of a downsampled query `seq` is when a bucket begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whose.
    pub device: DeviceId,
    /// In which numbering.
    pub epoch: Epoch,
    /// The frame's number.
    pub seq: Seq,
}

impl Place {
    /// Behind all that a device has, in this order.
    pub fn behind_all(device: DeviceId, order: Order) -> Self {
        match order {
            Order::Asc => Self { device, epoch: Epoch(INT_MAX), seq: Seq(INT_MAX) },
            Order::Desc => Self { device, epoch: Epoch::NONE, seq: Seq::ZERO },
        }
    }
}

/// Which frames, and what of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FramesQuery {
    /// Whose.
    pub whose: Whose,
    /// The device's time stamps, both ends included; `None` if no frame can match.
    pub ts: Option<RangeInclusive<Micros>>,
    /// Sorted; empty for all.
    pub channels: Vec<Channel>,
    /// Which come first, of each device.
    pub order: Order,
    /// How many at most; `None` if the request does not say.
    pub limit: Option<usize>,
    /// Only those behind this one in the order; [`Epoch::NONE`] and [`Seq::ZERO`] stand before the first.
    pub after: Option<Place>,
    /// Only these fields of payloads; empty for whole payloads.
    pub fields: Vec<Pointer>,
    /// Buckets in place of frames.
    pub downsample: Option<Downsample>,
    /// What a cursor must belong to.
    pub fingerprint: u32,
}

/// `from` and `to`, and the time stamps between them, both ends included; `None` if there are none.
pub(super) type Span = (Option<Micros>, Option<Micros>, Option<RangeInclusive<Micros>>);

/// Reads `from` and `to`.
///
/// # Errors
/// [`BadParameter`].
pub(super) fn span(params: &Params) -> Result<Span, BadParameter> {
    let (from, to) = (params.instant("from")?, params.instant("to")?);
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        let value = params.one("to")?.unwrap_or_default();
        return Err(BadParameter::value("to", value, "an instant that is not before from"));
    }
    let ts = match to {
        None => Some(from.unwrap_or(0)..=Micros::MAX),
        // The end is excluded; nothing lies before the beginning of time.
        Some(to) => to.checked_sub(1).map(|last| from.unwrap_or(0)..=last).filter(|r| !r.is_empty()),
    };
    Ok((from, to, ts))
}

impl FramesQuery {
    const KNOWN: &'static [&'static str] =
        &["from", "to", "channel", "order", "limit", "cursor", "after", "fields", "every", "agg", "value"];
    const KNOWN_OF_MANY: &'static [&'static str] = &[
        "device", "group", "from", "to", "channel", "order", "limit", "cursor", "after", "fields", "every",
        "agg", "value",
    ];

    /// Reads the query string of a request for one device's frames.
    ///
    /// # Errors
    /// [`Refusal::BadParameter`], [`Refusal::BadCursor`].
    pub fn parse(device: DeviceId, query: Option<&str>) -> Result<Self, Refusal> {
        Self::read(Whose::Device(device), &Params::parse(query, Self::KNOWN)?)
    }

    /// Reads the query string of a request for many devices' frames.
    ///
    /// # Errors
    /// As [`FramesQuery::parse`].
    pub fn parse_many(query: Option<&str>) -> Result<Self, Refusal> {
        let params = Params::parse(query, Self::KNOWN_OF_MANY)?;
        let whose = Whose::Devices { named: devices(&params)?, group: group(&params)? };
        Self::read(whose, &params)
    }

    /// All frames of these devices with these time stamps and on these channels, which are sorted.
    pub fn all(whose: Whose, ts: Option<RangeInclusive<Micros>>, channels: Vec<Channel>) -> Self {
        let (order, limit, after) = (Order::Asc, None, None);
        Self {
            whose,
            ts,
            channels,
            order,
            limit,
            after,
            fields: Vec::new(),
            downsample: None,
            fingerprint: 0,
        }
    }

    fn read(whose: Whose, params: &Params) -> Result<Self, Refusal> {
        let (from, to, ts) = span(params)?;
        let downsample = Downsample::parse(params)?;
        let fields = fields(params)?;
        if downsample.is_some() && !fields.is_empty() {
            return Err(BadParameter::Exclusive { first: "fields", second: "every" }.into());
        }
        let order = match params.one("order")? {
            None | Some("asc") => Order::Asc,
            Some("desc") if downsample.is_some() => {
                return Err(
                    BadParameter::value("order", "desc", "asc, or nothing, together with every").into()
                );
            }
            Some("desc") => Order::Desc,
            Some(other) => return Err(BadParameter::value("order", other, "asc or desc").into()),
        };
        let mut query = Self {
            whose,
            ts,
            channels: params.channels("channel", CHANNELS_MAX)?,
            order,
            limit: params.count("limit", PAGE_MAX)?,
            after: None,
            fields,
            downsample,
            fingerprint: 0,
        };
        query.fingerprint = query.fingerprint_of(from, to);
        query.after = query.begins_behind(params)?;
        Ok(query)
    }

    fn begins_behind(&self, params: &Params) -> Result<Option<Place>, Refusal> {
        match (params.one("cursor")?, params.one("after")?) {
            (Some(_), Some(_)) => Err(BadParameter::Exclusive { first: "cursor", second: "after" }.into()),
            (_, Some(_)) if self.downsample.is_some() => {
                Err(BadParameter::Exclusive { first: "after", second: "every" }.into())
            }
            (Some(text), None) => {
                let Cursor { device, epoch, seq, .. } = Cursor::decode(text, self.fingerprint)?;
                Ok(Some(Place { device, epoch, seq }))
            }
            (None, Some(text)) => match &self.whose {
                Whose::Device(device) => {
                    let place = params.place("after")?;
                    Ok(place.map(|(epoch, seq)| Place { device: device.clone(), epoch, seq }))
                }
                Whose::Devices { .. } => Ok(Some(place_of_device(text)?)),
            },
            (None, None) => Ok(None),
        }
    }

    /// Everything that changes which frames there are and in which order, but not how many at a time, what of them or
    /// in which format.
    fn fingerprint_of(&self, from: Option<Micros>, to: Option<Micros>) -> u32 {
        let order = if self.order == Order::Asc { "asc" } else { "desc" };
        let channels: Vec<&str> = self.channels.iter().map(Channel::as_str).collect();
        let channels = channels.join(",");
        let whose = match &self.whose {
            Whose::Device(device) => format!("frames|{device}"),
            Whose::Devices { named, group } => {
                let named: Vec<&str> = named.iter().map(DeviceId::as_str).collect();
                format!("many frames|{}|{group:?}", named.join(","))
            }
        };
        let mut text = format!("{whose}|{from:?}|{to:?}|{order}|{channels}");
        if let Some(downsample) = &self.downsample {
            text.push('|');
            text.push_str(&downsample.identity());
        }
        crc32c::crc32c(text.as_bytes())
    }

    /// Whether a frame is asked for, by its time stamp and channel.
    pub fn wants(&self, frame: &FrameRef<'_>) -> bool {
        self.ts.as_ref().is_some_and(|ts| ts.contains(&frame.ts)) && self.wants_channel(frame.channel)
    }

    fn wants_channel(&self, channel: &str) -> bool {
        self.channels.is_empty()
            || self.channels.binary_search_by(|known| known.as_str().cmp(channel)).is_ok()
    }

    /// What the journal is asked for of a device; `None` if no frame can match.
    pub fn scan_range(&self, device: &DeviceId) -> Option<ScanRange> {
        let ts = self.ts.clone()?;
        let all = ts == (0..=Micros::MAX);
        let after = self.after.as_ref().filter(|after| after.device == *device);
        let after = after.map(|after| (after.epoch, after.seq));
        Some(ScanRange { after, ts: (!all).then_some(ts), order: self.order })
    }

    /// Whether frames say whose they are.
    pub fn is_of_many(&self) -> bool {
        matches!(self.whose, Whose::Devices { .. })
    }

    /// What is written of a frame.
    pub fn shape(&self) -> Shape {
        Shape { device: self.is_of_many(), fields: self.fields.clone() }
    }

    /// The cursor that goes on behind a place.
    pub fn cursor_after(&self, place: &Place) -> String {
        let Place { device, epoch, seq } = place.clone();
        Cursor { query: self.fingerprint, epoch, seq, device }.encode()
    }

    /// All that an answer depends on besides the frames themselves.
    pub fn identity(&self) -> Fingerprint {
        let after = self.after.as_ref();
        let (epoch, seq) = after.map_or((u64::MAX, u64::MAX), |after| (after.epoch.0, after.seq.0));
        let limit = self.limit.map_or(u64::MAX, |limit| limit as u64);
        let place = Fingerprint::default().text("frames").number(u64::from(self.fingerprint)).number(limit);
        let place = place.text(after.map_or("", |after| after.device.as_str())).number(epoch).number(seq);
        self.fields.iter().fold(place, |identity, field| identity.text(field.as_str()))
    }
}

/// The devices of the parameter `device`: one of them, or several with commas between. Sorted, each once.
fn devices(params: &Params) -> Result<Vec<DeviceId>, BadParameter> {
    let mut devices = Vec::new();
    for value in params.all("device").flat_map(|value| value.split(',')) {
        let accepted = "1 to 64 of A–Z a–z 0–9 . _ - : ~ + @ =, several with commas between them";
        let device = DeviceId::new(value).map_err(|_| BadParameter::value("device", value, accepted))?;
        devices.push(device);
    }
    devices.sort_unstable();
    devices.dedup();
    if devices.len() > NAMED_MAX {
        let value = format!("{} devices", devices.len());
        let accepted = format!("at most {NAMED_MAX}, or a group");
        return Err(BadParameter::value("device", &value, accepted));
    }
    Ok(devices)
}

/// The pointers of the parameter `fields`: one of them, or several with commas between. A comma is between two where a `/`
/// follows, so that one inside of a name needs nothing.
fn fields(params: &Params) -> Result<Vec<Pointer>, BadParameter> {
    let mut fields: Vec<Pointer> = Vec::new();
    for value in params.all("fields") {
        let mut first = true;
        for part in value.split(",/") {
            let text = if std::mem::take(&mut first) { part.to_owned() } else { format!("/{part}") };
            let Some(field) = Pointer::parse(&text) else {
                let accepted = format!("{POINTER_ACCEPTED}, several with commas between them");
                return Err(BadParameter::value("fields", &text, accepted));
            };
            if fields.contains(&field) {
                return Err(BadParameter::value("fields", &text, "each pointer once"));
            }
            fields.push(field);
        }
    }
    if fields.len() > FIELDS_MAX {
        let value = format!("{} pointers", fields.len());
        return Err(BadParameter::value("fields", &value, format!("at most {FIELDS_MAX}")));
    }
    Ok(fields)
}

/// A frame of some device: `bus-1:1:4711`. Device ids may have colons themselves.
fn place_of_device(text: &str) -> Result<Place, BadParameter> {
    let bad = || BadParameter::value("after", text, "device, epoch and seq of a frame, such as bus-1:1:4711");
    let (start, _) = text.rmatch_indices(':').nth(1).ok_or_else(bad)?;
    let device = DeviceId::new(&text[..start]).map_err(|_| bad())?;
    let place = super::params::parse_place(&text[start + 1..]);
    place.map(|(epoch, seq)| Place { device, epoch, seq }).ok_or_else(bad)
}

#[cfg(test)]
mod tests;
