//! How batches become objects: one eater's sealer, simulated with the rules of `eater/src/objects/sealer.rs`.

use rand::Rng;
use rand::rngs::StdRng;

use super::parameters::{
    DEVICE_BYTES, ENTER_S, FLUSH_S, FRAME_BYTES, IN_FLIGHT_MAX, INDEX_BYTES, OBJECT_BYTES, OBJECT_BYTES_MAX,
    OBJECT_SPANS_MAX, PUT_S, RUN_BYTES,
};

/// What an eater gets.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// Devices that belong to it.
    pub devices: f64,
    /// Frames of all of them in a second.
    pub frames_per_s: f64,
    /// Bytes of a payload.
    pub payload_bytes: f64,
    /// How long an object gathers, in seconds.
    pub flush_s: f64,
}

impl Traffic {
    /// Traffic with the default of `--flush-after`.
    pub fn new(devices: f64, frames_per_s: f64, payload_bytes: f64) -> Self {
        Self { devices, frames_per_s, payload_bytes, flush_s: FLUSH_S }
    }

    /// Bytes of a frame that is a run of its own, in an object.
    pub fn frame_bytes(&self) -> f64 {
        self.payload_bytes + FRAME_BYTES + RUN_BYTES + DEVICE_BYTES + INDEX_BYTES
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sealed {
    /// Objects, which are PUTs and rows of the catalog alike.
    pub objects: f64,
    /// Devices in them, each counted once an object: spans.
    pub spans: f64,
    /// Frames.
    pub frames: f64,
    /// Bytes.
    pub bytes: f64,
    /// Frames that had come and were in no object at the end: devices are slowed down if these grow.
    pub waiting: f64,
}

/// A step, in seconds: a frame waits for the next one at the most.
const STEP_S: f64 = 0.001;

#[derive(Default)]
struct Object {
    frames: f64,
    spans: f64,
    age_s: f64,
}

/// What one eater makes of some seconds of traffic.
pub fn simulate(traffic: &Traffic, seconds: f64, rng: &mut StdRng) -> Sealed {
    let mut all = Sealed::default();
    let (mut open, mut waiting): (Option<Object>, f64) = (None, 0.0);
    // When those on their way are entered: one after another, each stored before.
    let mut in_flight = std::collections::VecDeque::new();
    let mut entered_s: f64 = 0.0;
    for step in 0..(seconds / STEP_S) as u64 {
        let now_s = step as f64 * STEP_S;
        while in_flight.front().is_some_and(|done| *done <= now_s) {
            in_flight.pop_front();
        }
        waiting += poisson(traffic.frames_per_s * STEP_S, rng);
        // An object takes what it has room for, and is sealed when its time is over or it is full.
        while waiting > 0.0 || open.is_some() {
            let object = open.get_or_insert_with(Object::default);
            let bytes = object.frames * traffic.frame_bytes();
            let room = ((OBJECT_BYTES_MAX - bytes) / traffic.frame_bytes()).max(0.0).floor();
            let new_devices = |taken: f64| taken * (1.0 - object.spans / traffic.devices).max(0.0);
            let crowd = (OBJECT_SPANS_MAX - object.spans).max(0.0);
            let taken = waiting.min(room).min(if new_devices(1.0) > 0.0 {
                crowd / new_devices(1.0)
            } else {
                waiting
            });
            object.spans = (object.spans + new_devices(taken)).min(traffic.devices).max(1.0);
            object.frames += taken;
            waiting -= taken;
            let full = object.spans > OBJECT_SPANS_MAX - 0.5
                || (object.frames + 1.0) * traffic.frame_bytes() > OBJECT_BYTES_MAX;
            if !full && object.age_s < traffic.flush_s {
                object.age_s += STEP_S;
                break;
            }
            // While all places are taken it stays open, and so does what comes behind it.
            if in_flight.len() as f64 >= IN_FLIGHT_MAX {
                object.age_s += STEP_S;
                break;
            }
            entered_s = (entered_s + ENTER_S).max(now_s + PUT_S + ENTER_S);
            in_flight.push_back(entered_s);
            all.objects += 1.0;
            all.spans += object.spans;
            all.frames += object.frames;
            all.bytes += object.frames * traffic.frame_bytes() + OBJECT_BYTES;
            open = None;
        }
    }
    all.waiting = waiting + open.map_or(0.0, |object| object.frames);
    all
}

/// How many of what comes at this rate: exactly for few, by a normal distribution for many.
fn poisson(mean: f64, rng: &mut StdRng) -> f64 {
    if mean > 50.0 {
        // Twelve uniform numbers are nearly normal (Irwin–Hall).
        let normal = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        return (mean + normal * mean.sqrt()).round().max(0.0);
    }
    let (limit, mut product, mut count) = ((-mean).exp(), rng.random::<f64>(), 0.0);
    while product > limit {
        product *= rng.random::<f64>();
        count += 1.0;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    fn a_minute_of(devices: f64, frames_per_s: f64, payload: f64) -> Sealed {
        simulate(&Traffic::new(devices, frames_per_s, payload), 60.0, &mut StdRng::seed_from_u64(1))
    }

    fn near(value: f64, expected: f64) -> bool {
        (value / expected - 1.0).abs() < 0.05
    }

    #[test]
    fn sparse_traffic_is_cut_by_time() {
        // A frame opens an object, which gathers for 0.1 s; the next frame comes 1/40 s later.
        let sealed = a_minute_of(1000.0, 40.0, 256.0);
        assert!(near(sealed.objects, 60.0 / (0.1 + 1.0 / 40.0)), "{sealed:?}");
        assert!(near(sealed.frames, 2400.0) && near(sealed.spans, sealed.frames), "{sealed:?}");
    }

    #[test]
    fn dense_traffic_is_cut_by_devices_and_large_by_bytes() {
        let sealed = a_minute_of(1e6, 100_000.0, 16.0);
        assert!(near(sealed.spans / sealed.objects, 2048.0), "{sealed:?}");
        assert!(near(sealed.objects, 60.0 * 100_000.0 / 2048.0), "{sealed:?}");
        let sealed = a_minute_of(200.0, 2_000.0, 60_000.0);
        assert!(near(sealed.bytes / sealed.objects, OBJECT_BYTES_MAX), "{sealed:?}");
        assert!(sealed.spans / sealed.objects < 200.0);
    }

    #[test]
    fn what_cannot_be_entered_in_time_waits() {
        let most = 2048.0 / ENTER_S;
        assert!(a_minute_of(1e7, most * 0.8, 16.0).waiting < most);
        assert!(a_minute_of(1e7, most * 1.5, 16.0).waiting > most, "rows are entered one after another");
    }

    #[test]
    fn nothing_is_made_or_lost_on_the_way() {
        let sealed = a_minute_of(500.0, 3_000.0, 100.0);
        assert!(near(sealed.frames + sealed.waiting, 180_000.0), "{sealed:?}");
        assert_eq!(a_minute_of(500.0, 3_000.0, 100.0).objects, sealed.objects, "a seed is a run");
    }
}
