//! How many of everything a fleet needs, and what is too much for one deployment.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::Serialize;

use super::parameters as p;
use super::sealing::{Traffic, simulate};

/// How long an eater is simulated, in seconds.
const SIMULATED_S: f64 = 30.0;
const SEED: u64 = 1;
const MONTH_S: f64 = 30.0 * 86_400.0;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Devices that send alike.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Fleet {
    /// How many.
    pub devices: u64,
    /// Between two frames of one, in seconds.
    pub every_s: f64,
    /// Bytes of a payload.
    pub payload_bytes: u64,
}

/// What they need. All but the first are per deployment, and rates are a second's.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Whose.
    pub fleet: Fleet,
    /// Frames.
    pub frames: f64,
    /// Feeders, of two cores.
    pub feeders: f64,
    /// Eaters, of two cores.
    pub eaters: f64,
    /// Links to each eater.
    pub links_per_eater: f64,
    /// Credit that these need, in bytes.
    pub credit_bytes: f64,
    /// Memory of an eater with that credit, in bytes.
    pub eater_bytes: f64,
    /// Journal objects: PUTs, and rows of the catalog.
    pub objects: f64,
    /// Bytes of one.
    pub object_bytes: f64,
    /// Devices in one.
    pub spans_per_object: f64,
    /// PUTs of all kinds.
    pub puts: f64,
    /// Writes of the database: rows with their spans in the index, their removal, heads.
    pub database_writes: f64,
    /// Of these, heads.
    pub head_writes: f64,
    /// Bytes of rows and of their index at a time.
    pub rows_bytes: f64,
    /// Bytes of heads.
    pub heads_bytes: f64,
    /// Writes of presence, without sessions that begin and end.
    pub reports: f64,
    /// Bytes of journal objects that lie in the bucket at a time.
    pub journal_bytes: f64,
    /// Bytes that segments grow by in a month, of frames like positions of buses.
    pub segment_bytes_month: f64,
    /// Requests to the store in a month, in US dollars.
    pub requests_price_month: f64,
    /// What a month of segments costs in each further month, in US dollars.
    pub month_price: f64,
    /// Keys of devices in memcached, in bytes.
    pub bus_bytes: f64,
    /// Cores that memcached's polls take.
    pub bus_cores: f64,
    /// How much of each limit is used, the fullest first; above 1 it is too much.
    pub limits: Vec<Limit>,
}

/// A limit.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    /// Of what.
    pub name: &'static str,
    /// How much of it is used.
    pub used: f64,
}

/// CPU of frames that come at a rate to so many that wake up for them, in cores.
fn cores(frames: f64, wakers: f64, lone_s: f64, busy_s: f64) -> f64 {
    let wakes = frames.min(wakers * p::WAKES_PER_S);
    wakes * lone_s + (frames - wakes) * busy_s
}

/// How many that share it are needed so that each has at most [`p::FILL`] of its cores in use.
fn needed(frames: f64, wakers_each: f64, lone_s: f64, busy_s: f64) -> f64 {
    let most = p::CORES * p::FILL;
    (1..)
        .map(f64::from)
        .find(|n| cores(frames / n, wakers_each, lone_s, busy_s) <= most)
        .unwrap_or(f64::INFINITY)
}

/// The credit that so many links need (docs/operations.md, "Credit and memory").
fn credit(links: f64) -> f64 {
    p::BASE_CREDIT_BYTES + (links - p::BASE_LINKS).max(0.0) * p::LINK_CREDIT_BYTES
}

impl Plan {
    /// Of a fleet.
    pub fn of(fleet: Fleet) -> Self {
        let devices = fleet.devices as f64;
        let frames = devices / fleet.every_s;
        let by_sessions = (devices / (p::SESSIONS_MAX * p::FILL)).ceil();
        let feeders = needed(frames, p::SHARDS, p::FEEDER_LONE_S, p::FEEDER_BUSY_S).max(by_sessions).max(2.0);
        let links_per_eater = feeders * p::SHARDS;
        // A link's task is woken at most as often as a shard; the commit path of one eater is one.
        let by_cpu = needed(frames, links_per_eater.min(p::CORES), p::EATER_LONE_S, p::EATER_BUSY_S);
        let by_rows = (frames / (p::OBJECT_SPANS_MAX / p::ENTER_S * p::FILL)).ceil();
        let eaters = by_cpu.max(by_rows).max(2.0);
        let traffic = Traffic::new(devices / eaters, frames / eaters, fleet.payload_bytes as f64);
        let sealed = simulate(&traffic, SIMULATED_S, &mut StdRng::seed_from_u64(SEED));
        let per_s = |count: f64| count / SIMULATED_S * eaters;
        let (objects, spans) = (per_s(sealed.objects), per_s(sealed.spans));
        let heads = heads(&traffic) * eaters * 2.0;
        // A row and its spans in the index come and go.
        let database_writes = 2.0 * (objects + spans) + heads;
        let segment_bytes = frames * p::SEGMENT_FRAME_BYTES;
        let segments = (segment_bytes / p::SEGMENT_BYTES).max(1.0 / p::COMPACT_EVERY_S);
        let puts = objects + segments * p::SEGMENT_PUTS + 1.0 / p::COMPACT_EVERY_S;
        let credit_bytes = credit(links_per_eater);
        let eater_bytes = p::EATER_BYTES + (credit_bytes - 96.0 * 1024.0 * 1024.0) * p::CREDIT_MEMORY;
        let bus_cores = (feeders + eaters) * p::TOPICS * p::POLLS_PER_S / p::POLLS_PER_CORE;
        let mut plan = Self {
            fleet,
            frames,
            feeders,
            eaters,
            links_per_eater,
            credit_bytes,
            eater_bytes,
            objects,
            object_bytes: sealed.bytes / sealed.objects.max(1.0),
            spans_per_object: sealed.spans / sealed.objects.max(1.0),
            puts,
            database_writes,
            head_writes: heads,
            rows_bytes: p::ROW_LIFE_S
                * (objects * p::ROW_BYTES + spans * (p::SPAN_BYTES + p::SPAN_INDEX_BYTES)),
            heads_bytes: devices * p::HEADS_BYTES,
            reports: feeders * p::REPORTS_PER_S,
            journal_bytes: per_s(sealed.bytes) * (p::ROW_LIFE_S + p::GRACE_S),
            segment_bytes_month: segment_bytes * MONTH_S,
            requests_price_month: MONTH_S / 1000.0 * (puts * p::PUT_PRICE + objects * p::GET_PRICE),
            month_price: segment_bytes * MONTH_S / GIB * p::GIB_PRICE,
            bus_bytes: devices * p::PRESENCE_BYTES,
            bus_cores,
            limits: Vec::new(),
        };
        plan.limits = plan.limits();
        plan
    }

    fn limits(&self) -> Vec<Limit> {
        let limit = |name, used| Limit { name, used };
        let mut limits = vec![
            limit("writes of the database", self.database_writes / p::DATABASE_WRITES_PER_S),
            limit("memory of an eater for its links' credit", self.eater_bytes / p::EATER_MEMORY_MAX),
            limit("the one compactor", self.frames / p::COMPACTED_PER_S),
            // It is one process with one thread for its share of the topics' names.
            limit("polls of memcached", self.bus_cores),
        ];
        limits.sort_by(|a, b| b.used.total_cmp(&a.used));
        limits
    }

    /// How many such deployments, each with an equal part of the devices, stay within every limit: cells.
    pub fn cells(&self) -> u64 {
        let fits = |cells: u64| {
            let fleet = Fleet { devices: self.fleet.devices.div_ceil(cells), ..self.fleet };
            Self::of(fleet).limits.iter().all(|limit| limit.used <= 1.0)
        };
        // Limits grow with devices, so the number is found by doubling, and then by halves.
        let mut most = 1;
        while !fits(most) && most < self.fleet.devices.max(1) {
            most *= 2;
        }
        let (mut few, mut many) = (most / 2, most);
        while many - few > 1 {
            let middle = few.midpoint(many);
            if fits(middle) { many = middle } else { few = middle }
        }
        many.max(1)
    }
}

/// Heads that an eater writes in a second: of each device that has sent in it, once; those for which there is no room are
/// not written.
fn heads(traffic: &Traffic) -> f64 {
    let rate = traffic.frames_per_s / traffic.devices / p::HEADS_PER_S;
    (traffic.devices * (1.0 - (-rate).exp())).min(p::HEADS_MAX) * p::HEADS_PER_S
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(devices: u64) -> Plan {
        Plan::of(Fleet { devices, every_s: 10.0, payload_bytes: 256 })
    }

    #[test]
    fn credit_is_that_of_the_documents() {
        assert_eq!(credit(26.0), p::BASE_CREDIT_BYTES);
        assert_eq!(credit(28.0), p::BASE_CREDIT_BYTES + 2.0 * p::LINK_CREDIT_BYTES);
    }

    #[test]
    fn more_devices_need_more_of_everything() {
        let plans = [1_000, 10_000, 100_000, 1_000_000].map(plan);
        for pair in plans.windows(2) {
            let [few, many] = pair else { unreachable!("pairs") };
            assert!(many.feeders >= few.feeders && many.eaters >= few.eaters, "{many:?}");
            assert!(
                many.objects >= few.objects * 0.99 && many.database_writes > few.database_writes,
                "{many:?}"
            );
        }
    }

    #[test]
    fn cells_fit_and_fewer_would_not() {
        let all = plan(20_000_000);
        let cells = all.cells();
        let of = |cells: u64| plan(all.fleet.devices.div_ceil(cells));
        assert!(cells > 1 && of(cells).limits[0].used <= 1.0, "{cells}");
        assert!(of(cells - 1).limits[0].used > 1.0, "{cells}");
        assert_eq!(plan(10_000).cells(), 1);
    }
}
