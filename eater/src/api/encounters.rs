//! `GET /v1/encounters` and `GET /v1/devices/{id}/encounters`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use serde::Serialize;
use tokio::time::Instant;
use trough_protocol::DeviceId;
use trough_store::{PositionSchema, Scope};
use utoipa::{IntoParams, ToSchema};

use super::answer::{Head, json_offer};
use super::auth::Caller;
use super::encode::time_text;
use super::encounters_query::EncountersQuery;
use super::fault::{RETRY_SLOW_AFTER, ReadFault};
use super::openapi::schemas::{self, DevicePath};
use super::params::BadParameter;
use super::reads::Held;
use super::refusal::Refusal;
use super::roster::Roster;
use super::routes::DeviceName;
use super::run::RunReader;
use super::state::Api;
use super::walk::{Step, Walk};
use crate::encounters::{Encounter, Position, Positions, Sweep, TooMuch};
use crate::frames::AnyJournal;
use crate::journal::Order;

/// Most positions of one search: they are in memory at once.
pub const POSITIONS_MAX: usize = 500_000;
/// Positions between two looks at the clock.
const LOOK_EVERY: usize = 1024;

/// Devices that were near one another.
#[derive(Serialize, ToSchema)]
#[schema(as = Encounters)]
struct EncountersJson<'a> {
    /// The channels that carry positions.
    channels: Vec<&'a str>,
    /// How many positions were compared.
    positions: usize,
    /// By the ids of the two devices.
    encounters: Vec<EncounterJson<'a>>,
}

/// Two devices that were near one another, at least once.
#[derive(Serialize, ToSchema)]
#[schema(as = Encounter)]
struct EncounterJson<'a> {
    /// The two, by their ids' bytes.
    devices: [&'a str; 2],
    /// The earliest position that was near one of the other device.
    #[schema(format = DateTime)]
    first: String,
    /// The same in microseconds since 1970.
    first_ts: u64,
    /// The latest position that was.
    #[schema(format = DateTime)]
    last: String,
    /// The same in microseconds since 1970.
    last_ts: u64,
    /// How near they were at the nearest, in metres.
    metres: f64,
    /// The two positions that were nearest, in the order of `devices`.
    closest: [PositionJson; 2],
}

/// Where a device was.
#[derive(Serialize, ToSchema)]
#[schema(as = Position)]
struct PositionJson {
    /// The numbering of the frame that says so.
    epoch: u64,
    /// Its number.
    seq: u64,
    /// Its time, in microseconds since 1970.
    ts: u64,
    /// Latitude in degrees.
    lat: f64,
    /// Longitude in degrees.
    lon: f64,
}

impl From<Position> for PositionJson {
    fn from(position: Position) -> Self {
        let ((epoch, seq), (lat, lon)) = (position.frame, position.at);
        Self { epoch: epoch.0, seq: seq.0, ts: position.ts, lat, lon }
    }
}

impl<'a> EncounterJson<'a> {
    fn new(devices: [&'a str; 2], encounter: &Encounter) -> Self {
        let (low, high) = encounter.closest;
        Self {
            devices,
            first: time_text(encounter.first),
            first_ts: encounter.first,
            last: time_text(encounter.last),
            last_ts: encounter.last,
            metres: encounter.metres,
            closest: [low.into(), high.into()],
        }
    }
}

/// How near, and when.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: EncountersQuery reads it")]
struct NearParameters {
    /// Only positions with `ts` at or after this instant: RFC 3339 with an offset, or microseconds since 1970; from 1970 to
    /// 2255. Without it, from the beginning.
    #[param(inline, example = "2017-03-21T05:00:00Z")]
    from: Option<schemas::Instant>,
    /// Only positions with `ts` before this instant, which is not before `from`; the same forms. Without it, to the end.
    #[param(inline, example = "2017-03-22T05:00:00Z")]
    to: Option<schemas::Instant>,
    /// How far apart at most: a whole number of metres with `m` or kilometres with `km`, from `1m` to `10km`.
    #[param(inline)]
    within: Option<schemas::Distance>,
    /// How long apart at most: a whole number and `ms`, `s`, `m` or `h`, from `1ms` to `1h`.
    #[param(inline)]
    during: Option<schemas::During>,
}

/// Among which devices.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: EncountersQuery reads it")]
struct AmongParameter {
    /// Only devices of this group. Without it, all that the reader may see.
    #[param(inline)]
    group: Option<schemas::GroupName>,
}

/// Which devices were near one another.
///
/// Two devices were near one another if there is a position of each, at most `within` and at most `during` apart, by the
/// devices' own time; what lies between two positions of a device is not guessed. Positions are in the frames of channels
/// that were declared to have them (`trough channels position`). A search takes at most 500,000 positions and finds at most
/// 20,000 pairs: else it is refused.
#[utoipa::path(
    get, path = "/v1/encounters", operation_id = "list_encounters", tag = "encounters",
    security(("reader" = ["frames:read"])),
    params(NearParameters, AmongParameter),
    responses((status = 200, description = "All pairs of devices that were", body = EncountersJson))
)]
pub(super) async fn encounters(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::FramesRead)?;
    let query = EncountersQuery::parse(None, request.uri.query())?;
    search(&api, caller, query, &request).await
}

/// Which devices a device was near.
///
/// As `/v1/encounters`, but only pairs that this device is one of.
#[utoipa::path(
    get, path = "/v1/devices/{id}/encounters", operation_id = "list_encounters_of_device", tag = "encounters",
    security(("reader" = ["frames:read"])),
    params(DevicePath, NearParameters, AmongParameter),
    responses((status = 200, description = "All pairs that it is one of", body = EncountersJson))
)]
pub(super) async fn encounters_of_device(
    State(api): State<Arc<Api>>,
    caller: Caller,
    DeviceName(device): DeviceName,
    request: Parts,
) -> Result<Response, Refusal> {
    caller.require(Scope::FramesRead)?;
    let device = api.auth.device(&caller, &device).await?.id;
    let query = EncountersQuery::parse(Some(device), request.uri.query())?;
    search(&api, caller, query, &request).await
}

async fn search(
    api: &Arc<Api>,
    caller: Caller,
    query: EncountersQuery,
    request: &Parts,
) -> Result<Response, Refusal> {
    let offer = json_offer(&request.headers)?;
    let schemas = api.auth.position_schemas().await?;
    let frames = query.frames(&schemas);
    let roster = Roster::begin(api.auth.clone(), caller, &frames).await?;
    let permit = api.searches.permit()?;
    let journal = api.journal.clone();
    let deadline = Instant::now() + api.limits.query_deadline;
    let work = move || {
        let walk = Walk::new(journal.clone(), roster, &frames);
        let mut search = Search::new(&query, &schemas, deadline);
        if !schemas.is_empty() {
            search.read(walk)?;
            if let Some(device) = &query.device
                && !search.devices.contains(device)
            {
                // It may be in none of the groups that others are looked for in.
                search.read_one(&journal, device)?;
            }
        }
        Ok::<_, Refusal>(Held::body(search.finish()?, permit))
    };
    let body = api.query(work).await??;
    Ok(Head { offer, tag: None }.with(body))
}

/// A search, as it gets on.
struct Search<'q> {
    query: &'q EncountersQuery,
    schemas: &'q [PositionSchema],
    positions_of: Positions,
    deadline: Instant,
    devices: Vec<DeviceId>,
    positions: Vec<Position>,
    runs: RunReader,
}

impl<'q> Search<'q> {
    fn new(query: &'q EncountersQuery, schemas: &'q [PositionSchema], deadline: Instant) -> Self {
        let (devices, positions) = (Vec::new(), Vec::new());
        let positions_of = Positions::new(schemas);
        Self { query, schemas, positions_of, deadline, devices, positions, runs: RunReader::default() }
    }

    /// Reads the positions of all devices.
    fn read(&mut self, walk: Walk<'_>) -> Result<(), Refusal> {
        for step in walk {
            let step = step.map_err(|fault| self.refused(&fault))?;
            match step {
                Step::Device(device) => self.devices.push(device),
                Step::Chunk(chunk) => self.take(&chunk)?,
                Step::End => {}
            }
        }
        Ok(())
    }

    fn read_one(&mut self, journal: &AnyJournal, device: &DeviceId) -> Result<(), Refusal> {
        self.devices.push(device.clone());
        let Some(range) = self.query.frames(self.schemas).scan_range(device) else { return Ok(()) };
        for chunk in journal.scan(device, range) {
            let chunk = chunk.map_err(|error| self.refused(&error.into()))?;
            self.take(&chunk)?;
        }
        Ok(())
    }

    fn take(&mut self, chunk: &crate::journal::Chunk) -> Result<(), Refusal> {
        self.in_time()?;
        let device = u32::try_from(self.devices.len() - 1).unwrap_or(u32::MAX);
        let (positions_of, positions, query) = (&self.positions_of, &mut self.positions, self.query);
        let read = self.runs.for_each(chunk, Order::Asc, |seq, frame| {
            if query.has(frame.ts)
                && let Some(at) = positions_of.of(frame.channel, frame.payload)
            {
                positions.push(Position { device, ts: frame.ts, frame: (chunk.epoch, seq), at });
            }
            positions.len() <= POSITIONS_MAX
        });
        let whole = read.map_err(|error| self.refused(&error.into()))?;
        if whole { Ok(()) } else { Err(too_much(&format!("they have more than {POSITIONS_MAX} positions"))) }
    }

    /// Compares them, and writes what was found.
    fn finish(mut self) -> Result<Vec<u8>, Refusal> {
        // Devices by their ids, as those of a pair are.
        let mut order: Vec<usize> = (0..self.devices.len()).collect();
        order.sort_unstable_by(|a, b| self.devices[*a].cmp(&self.devices[*b]));
        let mut ranks = vec![0; order.len()];
        for (rank, at) in (0..).zip(&order) {
            ranks[*at] = rank;
        }
        for position in &mut self.positions {
            position.device = ranks[position.device as usize];
        }
        self.positions.sort_unstable_by_key(|position| (position.ts, position.device, position.frame));
        let only =
            self.query.device.as_ref().and_then(|device| self.devices.iter().position(|of| of == device));
        let mut sweep = Sweep::new(self.query.within, self.query.during, only.map(|at| ranks[at]));
        for (count, position) in self.positions.iter().enumerate() {
            if count % LOOK_EVERY == 0 {
                self.in_time()?;
            }
            sweep.push(*position).map_err(|error: TooMuch| too_much(&error.to_string()))?;
        }
        let name = |rank: u32| self.devices[order[rank as usize]].as_str();
        let found = sweep.finish();
        let encounters = found.iter().map(|((a, b), found)| EncounterJson::new([name(*a), name(*b)], found));
        let json = EncountersJson {
            channels: self.schemas.iter().map(|schema| schema.channel().as_str()).collect(),
            positions: self.positions.len(),
            encounters: encounters.collect(),
        };
        Ok(serde_json::to_vec(&json).expect("strings and finite numbers always serialise"))
    }

    fn in_time(&self) -> Result<(), Refusal> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(Refusal::Deadline { retry_after: RETRY_SLOW_AFTER })
    }

    fn refused(&self, fault: &ReadFault) -> Refusal {
        let device = self.devices.last();
        fault.log_of(device);
        match fault.refusal(Order::Asc) {
            Refusal::Damaged { epoch, first, last, .. } => {
                let device = device.map_or_else(String::new, |device| format!(" of device {device}"));
                let remedy = format!("leave those{device} out with from and to, or with a group");
                Refusal::Damaged { epoch, first, last, remedy }
            }
            refusal => refusal,
        }
    }
}

/// A range that has too much in it.
fn too_much(what: &str) -> Refusal {
    BadParameter::TooMuch { what: what.to_owned(), remedy: "a shorter time between from and to, or a group" }
        .into()
}
