//! What each kind of condition finds in some frames. Numbers and holds are in `matching.rs`.

use std::time::Duration;

use trough_protocol::{Epoch, Micros, Seq};
use trough_store::Event;
use trough_store::event::FrameNumber;
use trough_store::outbox::STEP_MAX;

use super::script::{Item, SET_AT, Stored, find, frame, look, numbered, rules};
use crate::watch::states::{Looked, States};
use crate::watch::vigil::Vigil;

/// Events as seq and kind.
fn found(conditions: &[&str], items: &[Item]) -> Vec<(u64, &'static str)> {
    find(&rules(conditions), items)
        .iter()
        .map(|event| (event.frame.unwrap().seq.0, event.kind.as_str()))
        .collect()
}

fn data(events: &[Event], at: usize) -> serde_json::Value {
    serde_json::from_str(events[at].data.get()).unwrap()
}

#[test]
fn comparisons_are_of_their_channel_and_of_numbers() {
    let condition = r#"{"kind":"compare","channel":"can","when":"/speed > 30"}"#;
    let items = [
        frame(1, "can", r#"{"speed":31}"#),
        frame(2, "gps", r#"{"speed":1}"#),
        frame(3, "can", r#"{"speed":"1"}"#),
        frame(4, "can", r#"{"speed":1"#),
        frame(5, "can", "{}"),
        frame(6, "can", " {\"speed\": 2e0}\n"),
    ];
    assert_eq!(found(&[condition], &items), [(1, "rule.matched"), (6, "rule.cleared")]);
    let events = find(&rules(&[condition]), &items);
    let told = serde_json::json!({"when": "/speed > 30", "value": 31.0, "channel": "can"});
    assert_eq!((data(&events, 0), events[1].at), (told, 6_000_000));
    assert_ne!(events[0].id, events[1].id);
}

#[test]
fn rates_are_per_second_of_the_device_time() {
    let condition = r#"{"kind":"rate","when":"/level < -0.5"}"#;
    let level = |ts, level: f64| frame(ts, "tank", &format!(r#"{{"level":{level}}}"#));
    let items = [
        level(10, 100.0),
        level(20, 96.0),
        frame(21, "tank", "{}"),
        level(30, 90.0),
        // No rate where time does not rise; it goes on from there.
        level(30, 0.0),
        level(25, 50.0),
        level(27, 49.5),
    ];
    assert_eq!(found(&[condition], &items), [(4, "rule.matched"), (7, "rule.cleared")]);
    assert_eq!(data(&find(&rules(&[condition]), &items), 0)["per_second"], -0.6);
}

#[test]
fn areas_are_entered_and_left() {
    let square =
        r#"{"kind":"geofence","area":{"type":"Polygon","coordinates":[[[0,0],[4,0],[4,4],[0,4],[0,0]]]}}"#;
    let at = |lat: &str, lon: &str| frame(1, "gps", &format!(r#"{{"lat":{lat},"lon":{lon}}}"#));
    let outside = [at("9", "1"), at("9", "2"), at("1", "1"), at("2", "2"), at("1", "9")];
    assert_eq!(found(&[square], &outside), [(3, "geofence.entered"), (5, "geofence.left")]);
    let inside = [
        at("1", "1"),
        // Nowhere on earth, no position, and another channel.
        at("91", "1"),
        at("\"NaN\"", "1"),
        frame(1, "can", r#"{"lat":9,"lon":9}"#),
        at("\"9\"", "1"),
    ];
    assert_eq!(found(&[square], &inside), [(1, "geofence.entered"), (5, "geofence.left")]);
}

#[test]
fn the_first_frame_is_the_first_only() {
    let first = r#"{"kind":"first_frame"}"#;
    assert_eq!(found(&[first], &[frame(1, "c", "1"), frame(2, "c", "2")]), [(1, "device.first_frame")]);
    // One that was lost is none; whether a frame had others before it is for history to say.
    assert_eq!(found(&[first], &[Item::Loss(3), frame(2, "c", "2"), frame(3, "c", "3")]), []);
}

#[test]
fn gaps_are_opened_and_closed() {
    let gaps = r#"{"kind":"gaps"}"#;
    let items = [
        frame(1, "c", "1"),
        Item::Loss(3),
        Item::Loss(2),
        frame(2, "c", "2"),
        frame(3, "c", "3"),
        Item::Loss(1),
    ];
    assert_eq!(found(&[gaps], &items), [(2, "gap.opened"), (7, "gap.closed"), (9, "gap.opened")]);
    let events = find(&rules(&[gaps]), &items);
    let last = serde_json::json!({"epoch": 1, "seq": 6});
    assert_eq!((&data(&events, 1)["last"], &data(&events, 1)["reason"]), (&last, &"storage_lost".into()));
}

#[test]
fn a_silence_is_told_once_and_ends_with_the_next_frame() {
    let rules = rules(&[r#"{"kind":"silence","channel":"gps","after_s":60}"#]);
    let mut states = States::default();
    look(&mut states, &rules, 1, &frame(1, "can", "1"), usize::MAX);
    assert_eq!(states.dues(&rules).count(), 0, "a channel that never had a frame is not silent");
    look(&mut states, &rules, 2, &frame(2, "gps", "1"), usize::MAX);
    let due = states.dues(&rules).next().unwrap();
    assert_eq!(due.at, SET_AT + 60_000_000);
    states.expire(&rules, &due);
    states.expire(&rules, &due);
    assert_eq!(states.dues(&rules).count(), 0);
    // It comes back from what is stored, silent.
    let mut stored = Stored::default();
    stored.set(&states.to_store(STEP_MAX));
    let [silent] = states.events() else { panic!("told once") };
    assert_eq!((silent.kind.as_str(), silent.at, silent.frame.unwrap().seq.0), ("channel.silent", due.at, 2));
    let mut states = stored.load(&rules);
    assert_eq!(states.dues(&rules).count(), 0);
    look(&mut states, &rules, 3, &frame(3, "can", "1"), usize::MAX);
    look(&mut states, &rules, 4, &frame(4, "gps", "1"), usize::MAX);
    let [resumed] = states.events() else { panic!("told once") };
    assert_eq!((resumed.kind.as_str(), resumed.frame.unwrap().seq.0), ("channel.resumed", 4));
}

/// An eater whose clock is ten seconds behind, and a frame each second: silent, and heard again, for each of them.
#[tokio::test(start_paused = true)]
async fn a_channel_that_is_heard_is_not_silent_whatever_clocks_say() {
    let rules = rules(&[r#"{"kind":"silence","channel":"gps","after_s":10}"#]);
    let (second, behind) = (Duration::from_secs(1), 10_000_000);
    let (mut states, vigil) = (States::default(), Vigil::anew());
    let mut now = SET_AT + behind;
    let heard =
        |now: Micros| Item::Frame { ts_s: 1, channel: "gps", payload: "1".into(), received_at: now - behind };
    for number in 1..=30 {
        look(&mut states, &rules, number, &heard(now), usize::MAX);
        let due = states.dues(&rules).next().unwrap();
        assert!(due.at <= now, "by the clocks it is silent");
        assert_eq!(states.left(&rules, &due, &vigil), Duration::from_secs(10));
        tokio::time::advance(second).await;
        now += 1_000_000;
    }
    let due = states.dues(&rules).next().unwrap();
    assert_eq!(states.left(&rules, &due, &vigil), Duration::from_secs(9));
    tokio::time::advance(second * 9).await;
    assert!(states.left(&rules, &due, &vigil).is_zero(), "now it is");
}

/// A channel that was heard by a clock that was a day ahead would be silent for a day before that is told.
#[test]
fn what_was_heard_tomorrow_was_heard_now() {
    let rules = rules(&[r#"{"kind":"silence","channel":"gps","after_s":60}"#]);
    let day = 86_400_000_000;
    let tomorrow = Item::Frame { ts_s: 1, channel: "gps", payload: "1".into(), received_at: SET_AT + day };
    let mut states = States::default();
    look(&mut states, &rules, 1, &tomorrow, usize::MAX);
    states.not_later(SET_AT + 1);
    assert_eq!(states.dues(&rules).next().unwrap().at, SET_AT + 1 + 60_000_000);
    let mut stored = Stored::default();
    stored.set(&states.to_store(STEP_MAX));
    assert_eq!(stored.load(&rules).dues(&rules).next().unwrap().at, SET_AT + 1 + 60_000_000);
}

/// What does not fit into one step is in the next one.
#[test]
fn what_was_not_stored_is_stored_later() {
    let rules = rules(&[r#"{"kind":"compare","when":"/v > 1"}"#; 9]);
    let mut states = States::default();
    look(&mut states, &rules, 1, &frame(1, "c", r#"{"v":5}"#), usize::MAX);
    let mut stored = Stored::default();
    for expected in [4, 8, 9] {
        let some = states.to_store(4);
        stored.set(&some);
        states.stored(&some);
        assert_eq!((stored.len(), states.is_changed()), (expected, expected < 9));
    }
}

/// A watcher that was killed had looked at later frames, which is not stored with each of them.
#[test]
fn a_silence_is_told_by_a_watcher_that_has_not_seen_the_last_frames() {
    let rules = rules(&[r#"{"kind":"silence","channel":"gps","after_s":60}"#]);
    let mut states = States::default();
    look(&mut states, &rules, 1, &frame(1, "gps", "1"), usize::MAX);
    let mut stored = Stored::default();
    stored.set(&states.to_store(STEP_MAX));
    let mut states = stored.load(&rules);
    let first = states.dues(&rules).next().unwrap();
    let number = FrameNumber { epoch: Epoch(1), seq: Seq(5) };
    states.hear(&first, number, SET_AT + 10_000_000);
    let later = states.dues(&rules).next().unwrap();
    assert_eq!(later.at, SET_AT + 70_000_000, "it counts from the last frame that there is");
    // Should it come to a frame that it knows of already, that is no news.
    look(&mut states, &rules, 5, &frame(5, "gps", "1"), usize::MAX);
    assert_eq!(states.dues(&rules).next().unwrap().at, later.at);
    states.expire(&rules, &later);
    states.hear(&later, FrameNumber { seq: Seq(6), ..number }, SET_AT + 80_000_000);
    let [silent] = states.events() else { panic!("told once") };
    assert_eq!((silent.kind.as_str(), silent.frame.unwrap().seq.0), ("channel.silent", 5));
}

#[test]
fn what_was_received_before_a_rule_was_set_is_none_of_its_business() {
    let early = |payload: &str| Item::Frame {
        ts_s: 1,
        channel: "c",
        payload: payload.into(),
        received_at: SET_AT - 1,
    };
    let conditions = [r#"{"kind":"compare","when":"/v > 1"}"#, r#"{"kind":"first_frame"}"#];
    let items = [early(r#"{"v":5}"#), frame(2, "c", r#"{"v":6}"#)];
    assert_eq!(found(&conditions, &items), [(2, "rule.matched")]);
}

#[test]
fn what_a_rule_knew_goes_with_it() {
    let compare = r#"{"kind":"compare","when":"/v > 1"}"#;
    let rules_before = rules(&[compare, r#"{"kind":"gaps"}"#]);
    let mut states = States::default();
    look(&mut states, &rules_before, 1, &frame(1, "c", r#"{"v":5}"#), usize::MAX);
    let mut stored = Stored::default();
    stored.set(&states.to_store(STEP_MAX));
    states.stored(&states.to_store(STEP_MAX));
    assert_eq!(stored.len(), 1, "nothing is stored of who knows nothing");
    let none = rules(&[]);
    states.keep(&none);
    let forget = states.to_store(STEP_MAX);
    stored.set(&forget);
    states.stored(&forget);
    assert_eq!((stored.len(), states.len(), states.is_changed()), (0, 0, false));
}

#[test]
fn there_is_no_more_of_it_than_there_is_room() {
    let conditions = [r#"{"kind":"compare","when":"/v > 1"}"#; 9];
    let rules = rules(&conditions);
    let item = frame(1, "c", r#"{"v":5}"#);
    let (mut states, mut events) = (States::default(), Vec::new());
    while look(&mut states, &rules, 1, &item, 4) == Looked::Some {
        assert_eq!((states.events().len(), states.to_store(STEP_MAX).len()), (4, 4));
        events.extend(states.events().to_vec());
        states.stored(&states.to_store(STEP_MAX));
    }
    events.extend(states.events().to_vec());
    let ids = |events: &[Event]| events.iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(
        ids(&events),
        ids(&find(&rules, &numbered(&[item]).into_iter().map(|(_, i)| i).collect::<Vec<_>>()))
    );
}
