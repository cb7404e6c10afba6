//! Rules, watched by real processes: the events are exactly those that a plain computation over what was sent finds, each
//! once, whatever happens to whoever watches.
//!
//! 1. Real data: 329 buses, a circle and a polygon with a hole, and a speed.
//! 2. `trough up`, killed again and again.
//! 3. Two eaters over one object store, one of them killed now and then; the other one goes on. With the outbox in files, and
//!    in a database.
//! 4. What was to be watched next was compacted, and has left the journal: it is read from history.
//! 5. A rule sees what came after it was set, also before any server has noticed it, and nothing else.
//! 6. A silent channel: told once, over a kill; ended by the next frame.
//! 7. The first frame of a device, and declared losses.
//!
//! `TROUGH_TEST_KILLS` sets the kills (the quarter of it), `TROUGH_TEST_SEED` repeats a run.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use serde_json::Value;
use trough_device::Mode;
use trough_protocol::device::{Hello, Skip, SkipReason};
use trough_protocol::{Epoch, Seq};
use trough_store::Event;
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::data;
use trough_tests::duckdb::Manifest;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Sent, Track};
use trough_tests::outbox::Events;
use trough_tests::poll::{LATER, until};
use trough_tests::seed;
use trough_tests::servers::mongo::Mongo;
use trough_tests::wire::{Form, Wire};

const KILLS_DEFAULT: usize = 16;
const CENTER: [f64; 2] = [-97.7431, 30.2672];
const RADIUS_M: f64 = 1_500.0;
/// Degrees of longitude and latitude.
const OUTER: [[f64; 2]; 5] =
    [[-97.81, 30.21], [-97.70, 30.22], [-97.68, 30.33], [-97.79, 30.35], [-97.81, 30.21]];
const HOLE: [[f64; 2]; 4] = [[-97.76, 30.25], [-97.73, 30.26], [-97.745, 30.30], [-97.76, 30.25]];

/// What an event is about: rule, device, seq, kind, and when.
type Found = (String, String, u64, &'static str, u64);

fn found(events: &[Event]) -> Vec<Found> {
    let of = |event: &Event| {
        let (rule, device) = (event.rule.as_ref().unwrap(), event.device.as_ref().unwrap());
        (rule.to_string(), device.to_string(), event.frame.unwrap().seq.0, event.kind.as_str(), event.at)
    };
    events.iter().map(of).collect()
}

/// Great-circle distance by the haversine formula, in metres.
fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    let [lon_a, lat_a, lon_b, lat_b] = [a[0], a[1], b[0], b[1]].map(f64::to_radians);
    let h = ((lat_b - lat_a) / 2.0).sin().powi(2)
        + lat_a.cos() * lat_b.cos() * ((lon_b - lon_a) / 2.0).sin().powi(2);
    2.0 * 6_371_008.8 * h.sqrt().asin()
}

/// Whether a ray to the east crosses the ring an odd number of times.
fn is_in_ring(ring: &[[f64; 2]], [x, y]: [f64; 2]) -> bool {
    let crosses = |edge: &&[[f64; 2]]| {
        let ([ax, ay], [bx, by]) = (edge[0], edge[1]);
        (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax)
    };
    ring.windows(2).filter(crosses).count() % 2 == 1
}

fn field(sent: &Sent, name: &str) -> Option<f64> {
    serde_json::from_slice::<Value>(&sent.payload).ok()?.get(name)?.as_f64()
}

/// What is expected of a device, of something that begins and ends.
fn turns(
    rule: &str,
    track: &Track,
    kinds: [&'static str; 2],
    is_so: impl Fn(&Sent, bool) -> Option<bool>,
) -> Vec<Found> {
    let (mut was, mut found) = (false, Vec::new());
    for (seq, sent) in (1..).zip(&track.sent) {
        let Some(is) = is_so(sent, was) else { continue };
        if is != was {
            let kind = if is { kinds[0] } else { kinds[1] };
            found.push((rule.to_owned(), track.device.clone(), seq, kind, sent.ts));
        }
        was = is;
    }
    found
}

fn expected(track: &Track) -> Vec<Found> {
    let at = |sent: &Sent| Some([field(sent, "lon")?, field(sent, "lat")?]);
    let fences = ["geofence.entered", "geofence.left"];
    let mut all = turns("circle", track, fences, |sent, _| Some(distance(at(sent)?, CENTER) <= RADIUS_M));
    all.extend(turns("area", track, fences, |sent, _| {
        let at = at(sent)?;
        Some(is_in_ring(&OUTER, at) && !is_in_ring(&HOLE, at))
    }));
    all.extend(turns("fast", track, ["rule.matched", "rule.cleared"], |sent, was| {
        let speed = field(sent, "speed")?;
        Some(speed > if was { 5.0 } else { 10.0 })
    }));
    all
}

async fn set_rules(events: &Events) {
    events.has_positions("position").await;
    let rule = |name: &str, condition: Value| {
        serde_json::json!({"name": name, "scope": "all", "condition": condition}).to_string()
    };
    let circle = serde_json::json!({"type": "Circle", "center": CENTER, "radius_m": RADIUS_M});
    let area = serde_json::json!({"type": "Polygon", "coordinates": [OUTER.to_vec(), HOLE.to_vec()]});
    for (name, area) in [("circle", circle), ("area", area)] {
        let condition = serde_json::json!({"kind": "geofence", "area": area});
        events.set_rule(&rule(name, condition)).await;
    }
    let fast = serde_json::json!({"kind": "compare", "when": "/speed > 10 clear 5"});
    events.set_rule(&rule("fast", fast)).await;
}

/// That these events and no others are there, each once, those of a device and rule in the order of its numbers.
async fn assert_found(events: &Events, tracks: &[Track]) {
    let expected: BTreeSet<Found> = tracks.iter().flat_map(expected).collect();
    let all = events.has(expected.len()).await;
    let listed = found(&all);
    let mut last: std::collections::BTreeMap<(&str, &str), u64> = Default::default();
    for (rule, device, seq, ..) in &listed {
        let before = last.insert((rule, device), *seq);
        assert!(before < Some(*seq), "{rule} of {device}: {seq} behind {before:?}");
    }
    println!("{} events", listed.len());
    let found: BTreeSet<Found> = listed.iter().cloned().collect();
    assert_eq!((listed.len(), found), (expected.len(), expected));
    let ids: BTreeSet<_> = all.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), all.len());
}

async fn prepare(shape: Shape, eaters: usize, args: &[&str]) -> (Cluster, Events) {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut options = Options { eaters, ..Options::default() };
    match shape {
        Shape::Up => options.feeder_args = args,
        _ => options.eater_args = args,
    }
    let cluster = Cluster::prepare(shape, options).await;
    let events = Events::open(&cluster.data_dir());
    (cluster, events)
}

async fn spawn_all(cluster: &mut Cluster) {
    for role in cluster.roles() {
        cluster.spawn(role);
    }
    cluster.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_buses_enter_and_leave_areas() {
    let (mut cluster, events) = prepare(Shape::Up, 1, &[]).await;
    set_rules(&events).await;
    spawn_all(&mut cluster).await;
    let mut fleet = Fleet::start(&cluster, data::buses(), Mode::Binary).await;
    fleet.finish().await;
    assert_found(&events, &fleet.tracks).await;
    let frames = cluster.metric(Role::Up, "trough_watch_frames_total").await;
    println!("{frames} frames were looked at");
}

async fn storm(name: &str, shape: Shape, buses: usize, (mut cluster, events): (Cluster, Events)) {
    let mut rng = seed::rng(name);
    let kills = seed::count("TROUGH_TEST_KILLS", KILLS_DEFAULT) / 4;
    let eaters = cluster.options.eaters;
    set_rules(&events).await;
    spawn_all(&mut cluster).await;
    let tracks = data::buses().into_iter().take(buses).collect();
    let mut fleet = Fleet::start(&cluster, tracks, Mode::Binary).await;
    println!("{} frames", data::frames(&fleet.tracks));
    for kill in 1..=kills {
        fleet.let_go(900 * kill as u64 / kills as u64);
        // Somewhere in the middle of what is let go, looked at, and stored.
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..800))).await;
        let victim = match shape {
            Shape::Up => Role::Up,
            _ => Role::Eater(rng.random_range(0..eaters)),
        };
        cluster.kill(victim);
        cluster.spawn(victim);
        cluster.ready().await;
    }
    fleet.finish().await;
    assert_found(&events, &fleet.tracks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_found_once_over_kills() {
    let prepared = prepare(Shape::Up, 1, &["--compact-after", "1"]).await;
    storm("watch up", Shape::Up, 72, prepared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_eater_goes_on_watching() {
    let prepared = prepare(Shape::Objects, 2, &["--compact-after", "1"]).await;
    storm("watch objects", Shape::Objects, 72, prepared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_eater_goes_on_watching_over_a_database() {
    let server = Mongo::start().await;
    let url = server.url("trough");
    let eater_args = ["--compact-after", "1"].map(str::to_owned).into();
    let options = Options { eaters: 2, eater_args, database: Some(url.clone()), ..Options::default() };
    let cluster = Cluster::prepare(Shape::Objects, options).await;
    // The test's database takes its time for each event.
    storm("watch database", Shape::Objects, 12, (cluster, Events::in_database(&url))).await;
}

const DOOR: &str =
    r#"{"name":"door","scope":{"devices":["d"]},"condition":{"kind":"compare","when":"/open == 1"}}"#;
const OPEN: &[u8] = br#"{"open":1}"#;
const SHUT: &[u8] = br#"{"open":0}"#;

/// The events of a device as seq and kind.
fn seqs(events: &[Event]) -> Vec<(u64, &'static str)> {
    found(events).into_iter().map(|(_, _, seq, kind, _)| (seq, kind)).collect()
}

const MATCHED: &str = "rule.matched";
const CLEARED: &str = "rule.cleared";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_compacted_is_read_from_history() {
    let (mut cluster, events) = prepare(Shape::Up, 1, &["--compact-after", "1"]).await;
    // What was set a moment before a watcher died is looked at from its beginning anyway.
    Events::set_old_rule(&cluster.data_dir(), DOOR).await;
    spawn_all(&mut cluster).await;
    let token = cluster.add_device("d").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    wire.frames(1, &[SHUT, OPEN]).await;
    wire.acked(2).await;
    assert_eq!(seqs(&events.has(1).await), [(2, MATCHED)]);
    cluster.kill(Role::Up);
    // Nobody watches from here on.
    let claims = events.hold().await;
    cluster.spawn(Role::Up);
    cluster.ready().await;
    let hello = |next| Hello {
        epoch: Epoch(1),
        oldest: Seq(next),
        next: Seq(next),
        acked: Seq(next - 1),
        ..Hello::NEW
    };
    let (mut wire, _) = Wire::resume(cluster.at.devices, Form::Binary, &token, hello(3)).await;
    wire.frames(3, &[OPEN, SHUT, OPEN, SHUT, SHUT]).await;
    wire.acked(7).await;
    wire.close().await;
    let store = cluster.data_dir().join("store");
    until("all of it is compacted", LATER, async || {
        Manifest::newest(&store).filter(|manifest| manifest.frames() == 7)
    })
    .await;
    // With its start, what is compacted leaves the journal.
    assert_eq!(cluster.terminate(Role::Up, LATER).await.code, Some(0));
    cluster.spawn(Role::Up);
    cluster.ready().await;
    assert_eq!(events.all().await.len(), 1);
    events.release(claims).await;
    let expected = [(2, MATCHED), (4, CLEARED), (5, MATCHED), (6, CLEARED)];
    assert_eq!(seqs(&events.has(4).await), expected);
    assert!(cluster.all_logs().contains("it is read from history"));
    let (mut wire, _) = Wire::resume(cluster.at.devices, Form::Binary, &token, hello(8)).await;
    wire.frames(8, &[SHUT, OPEN]).await;
    wire.acked(9).await;
    assert_eq!(seqs(&events.has(5).await)[4], (9, MATCHED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_looks_at_what_came_after_it_was_set() {
    let (mut cluster, events) = prepare(Shape::Up, 1, &[]).await;
    spawn_all(&mut cluster).await;
    let token = cluster.add_device("d").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    wire.frames(1, &[OPEN, SHUT, OPEN]).await;
    wire.acked(3).await;
    events.set_rule(DOOR).await;
    // No server has noticed it yet.
    wire.frames(4, &[SHUT, OPEN]).await;
    wire.acked(5).await;
    assert_eq!(seqs(&events.has(1).await), [(5, MATCHED)]);
    wire.frames(6, &[SHUT]).await;
    wire.acked(6).await;
    // Another one, while the first one is watched.
    events.set_rule(&DOOR.replace(r#""door""#, r#""gate""#)).await;
    wire.frames(7, &[OPEN]).await;
    wire.acked(7).await;
    let all = found(&events.has(4).await);
    let (mut matched, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, _, seq, ..)| *seq == 7);
    matched.sort();
    assert_eq!(matched.iter().map(|(rule, ..)| rule.as_str()).collect::<Vec<_>>(), ["door", "gate"]);
    assert_eq!(rest.iter().map(|(_, _, seq, ..)| *seq).collect::<Vec<_>>(), [5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_channel_is_told_once() {
    let (mut cluster, events) = prepare(Shape::Up, 1, &[]).await;
    events
        .set_rule(
            r#"{"name":"quiet","scope":"all","condition":{"kind":"silence","channel":"c","after_s":2}}"#,
        )
        .await;
    spawn_all(&mut cluster).await;
    let token = cluster.add_device("d").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &token).await;
    wire.frames(1, &[b"1", b"2"]).await;
    wire.acked(2).await;
    let silent = events.has(1).await;
    assert_eq!(seqs(&silent), [(2, "channel.silent")]);
    let data: Value = serde_json::from_str(silent[0].data.get()).unwrap();
    assert_eq!(Some(silent[0].at), data["last_received_at"].as_u64().map(|last| last + 2_000_000));
    cluster.kill(Role::Up);
    cluster.spawn(Role::Up);
    cluster.ready().await;
    let hello = Hello { epoch: Epoch(1), oldest: Seq(3), next: Seq(3), acked: Seq(2), ..Hello::NEW };
    let (mut wire, _) = Wire::resume(cluster.at.devices, Form::Binary, &token, hello).await;
    wire.frames(3, &[b"3"]).await;
    wire.acked(3).await;
    let expected = [(2, "channel.silent"), (3, "channel.resumed"), (3, "channel.silent")];
    // The last two are entered together if it took long until somebody watched again.
    let mut told = seqs(&events.has(3).await);
    told.sort_unstable();
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_frames_and_losses_are_told() {
    let (mut cluster, events) = prepare(Shape::Up, 1, &[]).await;
    spawn_all(&mut cluster).await;
    let old = cluster.add_device("old").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &old).await;
    wire.frames(1, &[b"1"]).await;
    wire.acked(1).await;
    for (name, kind) in [("new", "first_frame"), ("lost", "gaps")] {
        let rule = format!(r#"{{"name":"{name}","scope":"all","condition":{{"kind":"{kind}"}}}}"#);
        events.set_rule(&rule).await;
    }
    wire.skip(Skip { first: Seq(2), last: Seq(4), reason: SkipReason::OVERFLOW }).await;
    wire.frames(5, &[b"5", b"6"]).await;
    wire.acked(6).await;
    assert_eq!(seqs(&events.has(2).await), [(2, "gap.opened"), (5, "gap.closed")]);
    let young = cluster.add_device("young").await;
    let (mut wire, _) = Wire::begin(cluster.at.devices, Form::Binary, &young).await;
    wire.frames(1, &[b"1", b"2"]).await;
    wire.acked(2).await;
    let all = found(&events.has(3).await);
    assert_eq!((all[2].1.as_str(), all[2].2, all[2].3), ("young", 1, "device.first_frame"));
}
