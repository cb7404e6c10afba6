//! The real data that is sent: a morning of Austin's buses, and what 115 GNSS receivers said.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::json;

use crate::ledger::{Sent, Track};

/// Frames of the receivers.
pub const GPSD_FRAMES: usize = 31_421;
/// Receivers.
pub const GPSD_DEVICES: usize = 115;
/// Positions of the buses.
pub const BUS_POSITIONS: usize = 45_377;
/// Buses.
pub const BUSES: usize = 329;

fn unpacked(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

#[derive(Deserialize)]
struct Captured {
    dev: String,
    text: Option<String>,
    hex: Option<String>,
}

/// What each receiver said, frame by frame: sentences as text, the rest as bytes.
///
/// # Panics
/// If the file is not what it was.
pub fn gpsd() -> Vec<Track> {
    let mut tracks: BTreeMap<String, Vec<Sent>> = BTreeMap::new();
    for line in unpacked("data/gpsd-receivers/frames.ndjson.gz").lines() {
        let captured: Captured = serde_json::from_str(line).unwrap();
        let (content_type, payload) = match (captured.text, captured.hex) {
            (Some(text), None) => ("text/plain; charset=utf-8", text.into_bytes()),
            (None, Some(hex)) => ("application/octet-stream", unhex(&hex)),
            other => panic!("{other:?} in {line}"),
        };
        let sent = tracks.entry(captured.dev).or_default();
        // The captures carry no common clock: a second between frames.
        let ts = 1_300_000_000_000_000 + sent.len() as u64 * 1_000_000;
        sent.push(Sent { ts, channel: "gnss".into(), content_type: content_type.into(), payload });
    }
    let tracks: Vec<Track> = tracks.into_iter().map(|(device, sent)| Track { device, sent }).collect();
    assert_eq!((tracks.len(), frames(&tracks)), (GPSD_DEVICES, GPSD_FRAMES));
    tracks
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// One row of the buses' file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Position {
    /// Which bus.
    pub vehicle_id: String,
    /// When, in RFC 3339.
    pub timestamp: String,
    /// In m/s.
    pub speed: f64,
    /// The line.
    pub route_id: String,
    /// The trip.
    pub trip_id: String,
    /// In degrees.
    pub latitude: f64,
    /// In degrees.
    pub longitude: f64,
    /// What is written on the bus.
    pub trip_headsign: String,
}

/// The rows of the buses' file, in its order.
///
/// # Panics
/// If the file is not what it was.
pub fn positions() -> Vec<Position> {
    let text = unpacked("../data/austin-buses/positions.csv.gz");
    let rows: Vec<Position> =
        csv::Reader::from_reader(text.as_bytes()).deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len(), BUS_POSITIONS);
    rows
}

/// The buses' positions as frames.
pub fn buses() -> Vec<Track> {
    let mut tracks: BTreeMap<String, Vec<Sent>> = BTreeMap::new();
    for (row, at) in positions().into_iter().zip(1_490_072_402_000_000..) {
        let payload =
            json!({"lat": row.latitude, "lon": row.longitude, "speed": row.speed, "at": row.timestamp});
        let payload = payload.to_string().into_bytes();
        let sent =
            Sent { ts: at, channel: "position".into(), content_type: "application/json".into(), payload };
        tracks.entry(format!("bus-{}", row.vehicle_id)).or_default().push(sent);
    }
    assert_eq!(tracks.len(), BUSES);
    tracks.into_iter().map(|(device, sent)| Track { device, sent }).collect()
}

/// How many frames tracks have together.
pub fn frames(tracks: &[Track]) -> usize {
    tracks.iter().map(|track| track.sent.len()).sum()
}
