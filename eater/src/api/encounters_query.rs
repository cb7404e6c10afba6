//! What a request for encounters asks for.

use std::ops::RangeInclusive;

use trough_protocol::{Channel, DeviceId, Micros};
use trough_store::{Group, PositionSchema};

use super::downsample::parse_duration;
use super::frames_query::{FramesQuery, Whose, span};
use super::params::{BadParameter, Params};
use super::query::group;
use super::refusal::Refusal;

/// Metres, unless something else is said.
const WITHIN: f64 = 50.0;
/// µs, unless something else is said.
const DURING: Micros = 60_000_000;
/// The longest, in µs: an hour.
const DURING_MAX: Micros = 3_600_000_000;
/// The farthest, in metres.
const WITHIN_MAX: u32 = 10_000;

/// Which encounters.
#[derive(Debug, Clone, PartialEq)]
pub struct EncountersQuery {
    /// Only those of this device.
    pub device: Option<DeviceId>,
    /// Only with and among devices of this group.
    pub group: Option<Group>,
    /// The time stamps of positions, both ends included; `None` if none can match.
    pub ts: Option<RangeInclusive<Micros>>,
    /// How far apart at most, in metres.
    pub within: f64,
    /// How long apart at most, in µs.
    pub during: Micros,
}

impl EncountersQuery {
    /// Reads the query string.
    ///
    /// # Errors
    /// [`Refusal::BadParameter`].
    pub fn parse(device: Option<DeviceId>, query: Option<&str>) -> Result<Self, Refusal> {
        let params = Params::parse(query, &["from", "to", "within", "during", "group"])?;
        let accepted = "a whole number with m or km, from 1m to 10km, such as 50m";
        let within = match params.one("within")? {
            None => WITHIN,
            Some(text) => metres(text).ok_or_else(|| BadParameter::value("within", text, accepted))?,
        };
        let accepted = "a whole number with ms, s, m or h, from 1ms to 1h, such as 60s";
        let during = match params.one("during")? {
            None => DURING,
            Some(text) => parse_duration(text)
                .filter(|during| *during <= DURING_MAX)
                .ok_or_else(|| BadParameter::value("during", text, accepted))?,
        };
        let (_, _, ts) = span(&params)?;
        Ok(Self { device, group: group(&params)?, ts, within, during })
    }

    /// Whether positions of that time are asked for.
    pub fn has(&self, ts: Micros) -> bool {
        self.ts.as_ref().is_some_and(|span| span.contains(&ts))
    }

    /// The frames that have the positions.
    pub fn frames(&self, schemas: &[PositionSchema]) -> FramesQuery {
        let whose = Whose::Devices { named: Vec::new(), group: self.group.clone() };
        let mut channels: Vec<Channel> = schemas.iter().map(|schema| schema.channel().clone()).collect();
        channels.sort_unstable();
        FramesQuery::all(whose, self.ts.clone(), channels)
    }
}

fn metres(text: &str) -> Option<f64> {
    let (number, unit) = text
        .strip_suffix("km")
        .map(|number| (number, 1000))
        .or_else(|| Some((text.strip_suffix('m')?, 1)))?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let metres = number.parse::<u32>().ok().filter(|_| digits)?.checked_mul(unit)?;
    (1..=WITHIN_MAX).contains(&metres).then(|| f64::from(metres))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<EncountersQuery, String> {
        EncountersQuery::parse(None, Some(query)).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn distances_and_times_have_units() {
        let query = parse("").unwrap();
        assert_eq!((query.within, query.during, query.ts), (50.0, 60_000_000, Some(0..=u64::MAX)));
        let query = parse("within=2km&during=5m&from=5&to=9").unwrap();
        assert_eq!((query.within, query.during, query.ts.clone()), (2000.0, 300_000_000, Some(5..=8)));
        assert!(query.has(8) && !query.has(9));
        for bad in
            ["within=50", "within=m", "within=0m", "within=11km", "within=1.5km", "within=-5m", "within=5mm"]
        {
            assert!(parse(bad).unwrap_err().contains("1m to 10km"), "{bad}");
        }
        for bad in ["during=60", "during=0s", "during=2h", "during=1d"] {
            assert!(parse(bad).unwrap_err().contains("1ms to 1h"), "{bad}");
        }
        assert!(parse("limit=5").unwrap_err().contains("no parameter"));
        assert!(parse("from=9&to=5").unwrap_err().contains("not before from"));
    }
}
