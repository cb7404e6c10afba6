//! What watching has come to.

use super::*;

const WATCH: Shard = Shard { duty: Duty::Watch, number: 2 };

fn state(device_name: &str, rule_name: &str, state: &[u8]) -> WatchState {
    WatchState { device: device(device_name), rule: rule(rule_name), version: 7, state: state.to_vec() }
}

pub async fn a_step_is_entered_whole(on: &On) {
    let (outbox, other) = ((on.open)(), (on.open)());
    assert_eq!(outbox.place(WATCH).await, Ok(None));
    let claim = claimed(&*outbox, WATCH).await;
    assert_eq!(outbox.place(WATCH).await, Ok(None), "a claim is no step");
    let before = outbox.now().await.unwrap();
    let step = WatchStep {
        place: b"here".to_vec(),
        states: vec![state("bus-1", "fast", b"x")],
        events: vec![event("bus-1", 1), event("bus-1", 2)],
    };
    outbox.watched(claim, step.clone()).await.unwrap();
    for outbox in [&outbox, &other, &(on.open)()] {
        assert_eq!(outbox.place(WATCH).await, Ok(Some(b"here".to_vec())));
        assert_eq!(outbox.states(WATCH, None, PAGE_MAX).await, Ok(step.states.clone()));
        let found = outbox.unrouted(Shard::of_event(&step.events[0]), PAGE_MAX).await.unwrap();
        assert_eq!(entered(&found), ids(&step.events));
        for (found, event) in found.iter().zip(&step.events) {
            assert!((before..=before + 600_000_000).contains(&found.entered_at), "{found:?}");
            assert_eq!(format!("{:?}", found.event), format!("{event:?}"));
        }
    }
    // Another part, or duty, has its own.
    for shard in [Shard { number: 3, ..WATCH }, Shard { duty: Duty::Presence, ..WATCH }] {
        assert_eq!(other.place(shard).await, Ok(None));
        assert_eq!(other.states(shard, None, PAGE_MAX).await, Ok(vec![]));
    }
    outbox.release(claim).await.unwrap();
    let claim = other.claim(WATCH, OTHER, TTL).await.unwrap().unwrap();
    assert_eq!(other.place(WATCH).await, Ok(Some(b"here".to_vec())), "whoever claims it goes on from there");
    other.watched(claim, WatchStep { place: b"there".to_vec(), ..WatchStep::default() }).await.unwrap();
    assert_eq!(outbox.place(WATCH).await, Ok(Some(b"there".to_vec())));
    assert_eq!(outbox.states(WATCH, None, PAGE_MAX).await, Ok(step.states), "what has not changed stays");
}

pub async fn states_are_listed_by_device_and_rule(on: &On) {
    let outbox = (on.open)();
    let claim = claimed(&*outbox, WATCH).await;
    let all = [
        state("Bus", "slow", b"0"),
        state("bus-1", "fast", b"1"),
        state("bus-1", "slow", &[0; STATE_BYTES_MAX]),
        state("bus-10", "fast", b"3"),
        state("bus-2", "Fast", b"4"),
    ];
    let mut mixed = all.to_vec();
    mixed.rotate_left(2);
    outbox.watched(claim, WatchStep { states: mixed, ..WatchStep::default() }).await.unwrap();
    let mut after = None;
    for page in all.chunks(2) {
        assert_eq!(outbox.states(WATCH, after, 2).await.unwrap(), page);
        after = page.last().map(|state| (state.device.clone(), state.rule.clone()));
    }
    assert_eq!(outbox.states(WATCH, after, 2).await, Ok(vec![]));
    // Others take their place, and of one that knows nothing nothing is left.
    let newer = WatchState { version: 8, ..state("bus-1", "fast", b"new") };
    let states = vec![newer.clone(), state("bus-2", "Fast", b""), state("bus-3", "never", b"")];
    outbox.watched(claim, WatchStep { states, ..WatchStep::default() }).await.unwrap();
    let left = [all[0].clone(), newer, all[2].clone(), all[3].clone()];
    assert_eq!(outbox.states(WATCH, None, usize::MAX).await.unwrap(), left);
}

pub async fn an_event_is_entered_once(on: &On) {
    let (outbox, other) = ((on.open)(), (on.open)());
    let claim = claimed(&*outbox, WATCH).await;
    let [one, two, three] = [event("bus-1", 1), event("bus-1", 2), event("bus-1", 3)];
    let step = |events: &[Event]| WatchStep { events: events.to_vec(), ..WatchStep::default() };
    outbox.watched(claim, step(&[one.clone(), two.clone(), one.clone()])).await.unwrap();
    outbox.watched(claim, step(&[two.clone(), one.clone()])).await.unwrap();
    other.enter(vec![Event { at: 1, ..one.clone() }, three.clone(), three.clone()]).await.unwrap();
    let found = outbox.unrouted(Shard::of_event(&one), PAGE_MAX).await.unwrap();
    assert_eq!(entered(&found), [one.id, two.id, three.id]);
    assert_eq!(found[0].event.at, one.at, "the first one stays");
    // Routed, it is not entered again either.
    other.route(router(&*outbox).await, vec![one.id, three.id], vec![]).await.unwrap();
    outbox.watched(claim, step(&[one.clone(), three])).await.unwrap();
    assert_eq!(entered(&outbox.unrouted(Shard::of_event(&one), PAGE_MAX).await.unwrap()), [two.id]);
}

pub async fn what_waits_to_be_routed_is_in_the_order_in_which_it_was_entered(on: &On) {
    let outbox = (on.open)();
    let events: Vec<_> = (0..40).map(|n| event(&format!("bus-{}", n % 10), 40 - n)).collect();
    for some in events.chunks(7) {
        outbox.enter(some.to_vec()).await.unwrap();
    }
    let group = Event {
        device: None,
        group: Some(Group::new("bus-1").unwrap()),
        kind: EventKind::RetentionRun,
        ..event("bus-1", 99)
    };
    outbox.enter(vec![group.clone()]).await.unwrap();
    assert_eq!(Shard::of_event(&group), Shard::of_event(&event("bus-1", 1)), "by what it is about");
    let all: Vec<_> = events.iter().chain([&group]).collect();
    for shard in Shard::all(Duty::Route) {
        let own: Vec<_> = all.iter().filter(|event| Shard::of_event(event) == shard).collect();
        let own = ids(own.into_iter().copied());
        assert_eq!(entered(&outbox.unrouted(shard, PAGE_MAX).await.unwrap()), own);
        let first = own.len().min(3);
        assert_eq!(entered(&outbox.unrouted(shard, 3).await.unwrap()), own[..first]);
    }
}

pub async fn limits_of_a_step_are_refused_by_name(on: &On) {
    let outbox = (on.open)();
    let claim = claimed(&*outbox, WATCH).await;
    let large = RawValue::from_string(format!("{{\"x\":\"{}\"}}", "x".repeat(EVENT_DATA_BYTES_MAX))).unwrap();
    let no_object = RawValue::from_string("[1]".into()).unwrap();
    let many: Vec<_> = (0..=STEP_MAX as u64).map(|n| event("bus-1", n)).collect();
    let states: Vec<_> = (0..=STEP_MAX).map(|n| state(&format!("bus-{n}"), "fast", b"x")).collect();
    let wrong = [
        (WatchStep { place: vec![0; PLACE_BYTES_MAX + 1], ..WatchStep::default() }, "262145 bytes"),
        (WatchStep { states: states.clone(), ..WatchStep::default() }, "1001 states"),
        (WatchStep { events: many.clone(), ..WatchStep::default() }, "1001 events"),
        (
            WatchStep {
                states: vec![state("bus-1", "fast", &[1; STATE_BYTES_MAX + 1])],
                ..WatchStep::default()
            },
            "1025 bytes",
        ),
        (WatchStep { states: vec![state("bus-1", "fast", b"1"); 2], ..WatchStep::default() }, "there twice"),
        (
            WatchStep { events: vec![Event { data: large, ..event("a", 1) }], ..WatchStep::default() },
            "2056 bytes",
        ),
        (
            WatchStep { events: vec![Event { data: no_object, ..event("a", 1) }], ..WatchStep::default() },
            "[1]",
        ),
    ];
    for (step, named) in wrong {
        let events = step.events.clone();
        let why = refusal(outbox.watched(claim, step).await);
        assert!(why.contains(named), "{why}");
        if !events.is_empty() {
            let why = refusal(outbox.enter(events).await);
            assert!(why.contains(named), "{why}");
        }
    }
    assert_eq!(outbox.place(WATCH).await, Ok(None));
    let most = WatchStep {
        place: vec![1; PLACE_BYTES_MAX],
        states: states[1..].to_vec(),
        events: many[1..].to_vec(),
    };
    outbox.watched(claim, most).await.unwrap();
    let found = outbox.unrouted(Shard::of_event(&many[0]), usize::MAX).await.unwrap();
    assert_eq!(entered(&found), ids(&many[1..]));
}
