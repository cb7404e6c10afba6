//! Positions in an area: when a device comes into it, and when it leaves it.

use serde::Serialize;
use trough_store::EventKind;
use trough_store::area::Area;

use super::frame::Seen;
use super::happening::Happening;

/// What subscribers are told.
#[derive(Serialize)]
struct Data<'a> {
    lat: f64,
    lon: f64,
    channel: &'a str,
}

/// A frame without a position changes nothing. The first one is an event if it is inside.
pub(super) fn take(area: &Area, inside: &mut Option<bool>, seen: &Seen<'_>) -> Option<Happening> {
    let (lon, lat) = seen.position()?;
    let is_inside = area.contains(lon, lat);
    let was_inside = inside.replace(is_inside).unwrap_or(false);
    if is_inside == was_inside {
        return None;
    }
    let kind = if is_inside { EventKind::GeofenceEntered } else { EventKind::GeofenceLeft };
    let data = Data { lat, lon, channel: seen.frame.channel };
    Some(Happening::new(kind, seen.frame.ts, seen.number, &data))
}
