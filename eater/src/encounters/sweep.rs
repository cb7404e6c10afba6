//! Which devices were near one another, out of positions in the order of time.
//!
//! Positions of the last while lie in the cells of a hexagonal grid (H3), so that a new one is compared with those of its
//! own cell and the cells around it only.

use std::collections::{HashMap, VecDeque};

use h3o::{CellIndex, LatLng, Resolution};
use trough_protocol::{Epoch, Micros, Seq};

/// Most comparisons of one search: some seconds of work.
const COMPARISONS_MAX: u64 = 500_000_000;
/// Most pairs that one search gives.
pub const PAIRS_MAX: usize = 20_000;
/// The mean radius of the earth (IUGG), in metres.
const EARTH_RADIUS: f64 = 6_371_008.8;

/// Where a device was at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    /// Which device: where it stands among those that are searched.
    pub device: u32,
    /// The device's time, in µs since 1970.
    pub ts: Micros,
    /// The frame that says so.
    pub frame: (Epoch, Seq),
    /// Latitude and longitude in degrees (WGS 84).
    pub at: (f64, f64),
}

/// Two devices that were near one another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Encounter {
    /// When the earlier of two positions was that were near one another, the first time.
    pub first: Micros,
    /// When the later one was, the last time.
    pub last: Micros,
    /// The two that were nearest; the device with the lower number first.
    pub closest: (Position, Position),
    /// How far apart these are, in metres.
    pub metres: f64,
}

/// A search was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Too many pairs.
    #[error("more than {PAIRS_MAX} pairs of devices were near one another")]
    Pairs,
    /// Too many positions close together.
    #[error("so many positions are close together that it takes too long")]
    Comparisons,
}

/// A search that takes positions one after another.
#[derive(Debug)]
pub struct Sweep {
    within: f64,
    during: Micros,
    /// Only pairs that this device is one of.
    only: Option<u32>,
    resolution: Resolution,
    /// Positions of the last `during`, and some that are older, in the order of time.
    cells: HashMap<CellIndex, VecDeque<(Position, LatLng)>>,
    found: HashMap<(u32, u32), Encounter>,
    comparisons: u64,
}

impl Sweep {
    /// A search for positions at most `within` metres and `during` µs apart; of one device, if that is named.
    pub fn new(within: f64, during: Micros, only: Option<u32>) -> Self {
        // The cells around one reach further than half an edge on all sides, however they are distorted: take the finest
        // ones of which that is enough.
        let wide = |resolution: &Resolution| resolution.edge_length_m() >= 2.0 * within;
        let finest = Resolution::range(Resolution::Zero, Resolution::Fifteen).rfind(wide);
        let resolution = finest.unwrap_or(Resolution::Zero);
        Self {
            within,
            during,
            only,
            resolution,
            cells: HashMap::new(),
            found: HashMap::new(),
            comparisons: 0,
        }
    }

    /// Takes a position that is not earlier than those before. One that is nowhere on earth is passed over.
    ///
    /// # Errors
    /// [`TooMuch`].
    pub fn push(&mut self, position: Position) -> Result<(), TooMuch> {
        let Some(at) = place(position.at) else { return Ok(()) };
        let (cell, since) = (at.to_cell(self.resolution), position.ts.saturating_sub(self.during));
        for near in cell.grid_disk::<Vec<_>>(1) {
            let Some(others) = self.cells.get_mut(&near) else { continue };
            while others.front().is_some_and(|(other, _)| other.ts < since) {
                others.pop_front();
            }
            self.comparisons += others.len() as u64;
            let wanted = |(other, _): &&(Position, LatLng)| {
                let asked = self.only.is_none_or(|only| [position.device, other.device].contains(&only));
                other.device != position.device && asked
            };
            for (other, there) in others.iter().filter(wanted) {
                let metres = at.distance_rads(*there) * EARTH_RADIUS;
                if metres <= self.within {
                    note(&mut self.found, *other, position, metres);
                }
            }
        }
        if self.found.len() > PAIRS_MAX {
            return Err(TooMuch::Pairs);
        }
        if self.comparisons > COMPARISONS_MAX {
            return Err(TooMuch::Comparisons);
        }
        self.cells.entry(cell).or_default().push_back((position, at));
        Ok(())
    }

    /// What was found, by the two devices, the lower one first.
    pub fn finish(self) -> Vec<((u32, u32), Encounter)> {
        let mut found: Vec<_> = self.found.into_iter().collect();
        found.sort_unstable_by_key(|(pair, _)| *pair);
        found
    }
}

/// A place on earth; `None` if it is none.
fn place((lat, lon): (f64, f64)) -> Option<LatLng> {
    let on_earth = (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon);
    LatLng::new(lat, lon).ok().filter(|_| on_earth)
}

fn note(found: &mut HashMap<(u32, u32), Encounter>, earlier: Position, later: Position, metres: f64) {
    let (low, high) = if earlier.device < later.device { (earlier, later) } else { (later, earlier) };
    let new = Encounter { first: earlier.ts, last: later.ts, closest: (low, high), metres };
    let known = found.entry((low.device, high.device)).or_insert(new);
    known.first = known.first.min(earlier.ts);
    known.last = known.last.max(later.ts);
    // Of equally near ones the earliest.
    let order = |(low, high): (Position, Position)| (low.ts, high.ts, low.frame, high.frame);
    if (metres, order(new.closest)) < (known.metres, order(known.closest)) {
        (known.metres, known.closest) = (metres, new.closest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(device: u32, ts: Micros, at: (f64, f64)) -> Position {
        Position { device, ts, frame: (Epoch(1), Seq(ts)), at }
    }

    fn search(within: f64, during: Micros, positions: &[Position]) -> Vec<((u32, u32), Encounter)> {
        let mut sweep = Sweep::new(within, during, None);
        positions.iter().for_each(|position| sweep.push(*position).unwrap());
        sweep.finish()
    }

    /// Each with each.
    fn plainly(within: f64, during: Micros, positions: &[Position]) -> Vec<((u32, u32), Encounter)> {
        let mut found = HashMap::new();
        for (at, later) in positions.iter().enumerate() {
            for earlier in &positions[..at] {
                let (Some(a), Some(b)) = (place(earlier.at), place(later.at)) else { continue };
                let metres = b.distance_rads(a) * EARTH_RADIUS;
                if earlier.device != later.device && later.ts - earlier.ts <= during && metres <= within {
                    note(&mut found, *earlier, *later, metres);
                }
            }
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable_by_key(|(pair, _)| *pair);
        found
    }

    #[test]
    fn both_limits_are_included() {
        // A degree of latitude is EARTH_RADIUS * π / 180 metres.
        let metres = EARTH_RADIUS.to_radians();
        let apart = |ts, degrees| [position(0, 100, (30.0, -97.0)), position(1, ts, (30.0 + degrees, -97.0))];
        assert_eq!(search(metres * 1.000_001, 60, &apart(160, 1.0)).len(), 1);
        assert_eq!(search(metres * 0.999_999, 60, &apart(160, 1.0)).len(), 0);
        assert_eq!(search(metres * 1.000_001, 60, &apart(161, 1.0)).len(), 0);
        let [(pair, encounter)] = search(50.0, 60, &apart(160, 0.0004))[..] else { panic!("they were near") };
        assert_eq!((pair, encounter.first, encounter.last), ((0, 1), 100, 160));
        assert!((encounter.metres - metres * 0.0004).abs() < 1e-6, "{encounter:?}");
    }

    #[test]
    fn what_is_nowhere_is_near_nothing() {
        let nowhere = [(f64::NAN, 0.0), (0.0, f64::INFINITY), (91.0, 0.0), (0.0, 181.0), (-90.1, 0.0)];
        let positions: Vec<_> = (0..).zip(nowhere).map(|(device, at)| position(device, 5, at)).collect();
        assert!(search(1e6, 60, &positions).is_empty());
    }

    #[test]
    fn the_date_line_and_the_poles_are_places_as_any_other() {
        let near = |a, b| search(60.0, 60, &[position(0, 1, a), position(1, 2, b)]).len();
        assert_eq!(near((10.0, 180.0), (10.0, -179.9998)), 1);
        assert_eq!(near((10.0, 179.9999), (10.0, -179.9999)), 1);
        assert_eq!(near((89.9998, 0.0), (89.9998, 180.0)), 1);
        assert_eq!(near((-90.0, 20.0), (-90.0, -120.0)), 1);
        assert_eq!(near((0.0, 0.0), (0.001, 0.0)), 0);
    }

    #[test]
    fn of_one_device_only_its_own_pairs_are_found() {
        let positions: Vec<_> = (0..4).map(|device| position(device, 7, (1.0, 1.0))).collect();
        let mut sweep = Sweep::new(50.0, 60, Some(2));
        positions.iter().for_each(|position| sweep.push(*position).unwrap());
        let pairs: Vec<_> = sweep.finish().into_iter().map(|(pair, _)| pair).collect();
        assert_eq!(pairs, [(0, 2), (1, 2), (2, 3)]);
    }

    #[test]
    fn too_many_pairs_are_given_up() {
        let mut sweep = Sweep::new(50.0, 60, None);
        let given_up = (0..1000).find_map(|device| sweep.push(position(device, 7, (1.0, 1.0))).err());
        assert_eq!(given_up, Some(TooMuch::Pairs));
    }

    proptest! {
        /// Also where the grid is distorted most: around its pentagons and at the poles.
        #[test]
        fn the_grid_finds_what_comparing_all_finds(
            middle in prop::sample::select(vec![
                (30.27, -97.74), (58.9377, 10.5362), (89.9999, 0.0), (-39.1, 122.3), (10.44, 58.16), (0.0, 180.0),
            ]),
            places in prop::collection::vec((0_u32..6, 0_u64..20, -1.0..1.0, -1.0..1.0), 2..60),
            within in prop::sample::select(vec![3.0, 50.0, 700.0, 30_000.0]),
        ) {
            let spread = within * 3.0 / EARTH_RADIUS.to_radians();
            let mut ts = 1000;
            let positions: Vec<_> = places.into_iter().map(|(device, step, north, east): (u32, u64, f64, f64)| {
                ts += step;
                let lat = (middle.0 + north * spread).clamp(-90.0, 90.0);
                let lon = middle.1 + east * spread / lat.to_radians().cos().max(0.001);
                let lon = if lon > 180.0 { lon - 360.0 } else if lon < -180.0 { lon + 360.0 } else { lon };
                position(device, ts, (lat, lon))
            }).collect();
            let found = search(within, 60, &positions);
            prop_assert_eq!(found, plainly(within, 60, &positions));
        }
    }
}
