//! One morning of Austin's buses: 45,377 positions of 329 vehicles, recorded on 2017-03-21 from Capital Metro's
//! public feed by Sean Cascketta (MIT licence; `data/austin-buses/` has the licence and the source note).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use trough_protocol::{DeviceId, Micros};

/// The data as it lies in the repository.
pub const POSITIONS_CSV_GZ: &[u8] = include_bytes!("../../../data/austin-buses/positions.csv.gz");
/// Its licence, which whoever passes the binary on must pass on too.
pub const LICENSE: &str = include_str!("../../../data/austin-buses/LICENSE.txt");
/// The buses in it.
pub const BUSES: usize = 329;
/// The positions in it.
pub const POSITIONS: usize = 45_377;
/// The channel they are sent on.
pub const CHANNEL: &str = "position";
/// Far above the 4 MB it has: what a damaged file may grow to.
const CSV_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The compiled-in data cannot be read. It can only be a fault of the build.
#[derive(Debug, thiserror::Error)]
#[error("the compiled-in bus data cannot be read ({0}): build the binary again from a clean checkout")]
pub struct DataError(String);

impl DataError {
    fn new(what: impl std::fmt::Display) -> Self {
        Self(what.to_string())
    }
}

/// One bus and where it was, in the order it reported.
#[derive(Debug, Clone)]
pub struct Bus {
    /// The vehicle id of the file, with `bus-` before it.
    pub id: DeviceId,
    /// At least one.
    pub positions: Vec<Position>,
}

/// One row of the file, as a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The row's time.
    pub ts: Micros,
    /// The row as a JSON object, every column under its own name, numbers spelled as in the file.
    pub json: String,
    /// The row as it stands in the file, without its end.
    pub line: String,
}

/// The columns, under their own names.
#[derive(Debug, Serialize, Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    vehicle_id: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    speed: &'a RawValue,
    #[serde(borrow)]
    route_id: Cow<'a, str>,
    #[serde(borrow)]
    trip_id: Cow<'a, str>,
    #[serde(borrow)]
    latitude: &'a RawValue,
    #[serde(borrow)]
    longitude: &'a RawValue,
    #[serde(borrow)]
    trip_headsign: Cow<'a, str>,
}

/// The whole file as text: a heading and one line per position.
///
/// # Errors
/// [`DataError`].
pub fn csv_text() -> Result<String, DataError> {
    let mut text = String::new();
    GzDecoder::new(POSITIONS_CSV_GZ).take(CSV_BYTES_MAX).read_to_string(&mut text).map_err(DataError::new)?;
    Ok(text)
}

/// All buses by id, each with its positions in the order of the file, which is the order of time.
///
/// # Errors
/// [`DataError`], also if the numbers are not [`BUSES`] and [`POSITIONS`].
pub fn load_buses() -> Result<Vec<Bus>, DataError> {
    let text = csv_text()?;
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let mut buses: BTreeMap<String, Vec<Position>> = BTreeMap::new();
    let mut row = csv::StringRecord::new();
    while rows.read_record(&mut row).map_err(DataError::new)? {
        buses.entry(row[0].to_owned()).or_default().push(position(&text, &row)?);
    }
    let positions: usize = buses.values().map(Vec::len).sum();
    if (buses.len(), positions) != (BUSES, POSITIONS) {
        let buses = buses.len();
        return Err(DataError::new(format!("it has {buses} buses and {positions} positions")));
    }
    let bus = |(vehicle, positions)| {
        let id = DeviceId::new(&format!("bus-{vehicle}")).map_err(DataError::new)?;
        Ok(Bus { id, positions })
    };
    buses.into_iter().map(bus).collect()
}

fn position(text: &str, row: &csv::StringRecord) -> Result<Position, DataError> {
    let start = row.position().map_or(0, |position| position.byte() as usize);
    let line = text[start..].lines().next().unwrap_or_default().to_owned();
    let number = |column: usize| -> Result<&RawValue, DataError> {
        serde_json::from_str(&row[column]).map_err(|error| {
            DataError::new(format!(
                "line {:?}, column {column}: {error}",
                row.position().map(csv::Position::line)
            ))
        })
    };
    let payload = Payload {
        vehicle_id: row[0].into(),
        timestamp: row[1].into(),
        speed: number(2)?,
        route_id: row[3].into(),
        trip_id: row[4].into(),
        latitude: number(5)?,
        longitude: number(6)?,
        trip_headsign: row[7].into(),
    };
    let at: jiff::Timestamp = row[1].parse().map_err(DataError::new)?;
    let ts = Micros::try_from(at.as_microsecond()).map_err(DataError::new)?;
    let json = serde_json::to_string(&payload).expect("strings and numbers always serialise");
    Ok(Position { ts, json, line })
}

/// A frame's payload as the line of the file it came from, without its end: the other direction, so that what
/// is read back can be compared with the file itself.
///
/// # Errors
/// If the payload is not a position.
pub fn csv_line(json: &str) -> Result<String, serde_json::Error> {
    let p: Payload<'_> = serde_json::from_str(json)?;
    // No value of this file needs quotes; one that did would not be equal to its line and be found.
    Ok([
        &*p.vehicle_id,
        &*p.timestamp,
        p.speed.get(),
        &*p.route_id,
        &*p.trip_id,
        p.latitude.get(),
        p.longitude.get(),
        &*p.trip_headsign,
    ]
    .join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_one_frame_and_back() {
        let buses = load_buses().unwrap();
        assert_eq!(buses.len(), 329);
        assert_eq!(buses.iter().map(|bus| bus.positions.len()).sum::<usize>(), 45_377);
        let text = csv_text().unwrap();
        let mut lines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in text.lines().skip(1) {
            lines.entry(line.split(',').next().unwrap()).or_default().push(line);
        }
        for bus in &buses {
            let lines_of_bus: Vec<_> = bus.positions.iter().map(|p| p.line.as_str()).collect();
            assert_eq!(lines_of_bus, lines[&bus.id.as_str()["bus-".len()..]], "{}", bus.id);
            let back: Vec<_> = bus.positions.iter().map(|p| csv_line(&p.json).unwrap()).collect();
            assert_eq!(back, lines[&bus.id.as_str()["bus-".len()..]], "{}", bus.id);
            assert!(bus.positions.is_sorted_by(|a, b| a.ts < b.ts), "{}", bus.id);
        }
    }

    #[test]
    fn a_frame_reads_as_the_file_says() {
        let buses = load_buses().unwrap();
        let first = &buses.iter().find(|bus| bus.id.as_str() == "bus-5022").unwrap().positions[0];
        assert_eq!(first.ts, 1_490_072_402_000_000);
        assert_eq!(
            first.json,
            r#"{"vehicle_id":"5022","timestamp":"2017-03-21T00:00:02-05:00","speed":10.72896,"route_id":"801","trip_id":"1743204","latitude":30.414877,"longitude":-97.66681,"trip_headsign":"801 TECH RIDGE"}"#
        );
    }
}
