//! Wherever looking is broken off and begun anew, and whatever is looked at twice: the same events, with the same ids, in
//! the same order.

use proptest::prelude::*;
use trough_store::EventId;
use trough_store::outbox::STEP_MAX;

use super::script::{Item, Stored, find, frame, look, numbered, rules};
use crate::watch::compiled::Rules;
use crate::watch::states::Looked;

const CONDITIONS: [&str; 8] = [
    r#"{"kind":"compare","when":"/v > 5"}"#,
    r#"{"kind":"compare","channel":"can","when":"/v >= 5 clear 3"}"#,
    r#"{"kind":"compare","when":"/v < 5 for 4s"}"#,
    r#"{"kind":"rate","when":"/v > 1 clear 0 for 2s"}"#,
    r#"{"kind":"geofence","area":{"type":"Circle","center":[1.0,1.0],"radius_m":300000.0}}"#,
    r#"{"kind":"first_frame"}"#,
    r#"{"kind":"gaps"}"#,
    r#"{"kind":"silence","channel":"gps","after_s":5}"#,
];

fn items() -> impl Strategy<Value = Vec<Item>> {
    let item = (0_u64..30, 0_u32..10, prop::bool::ANY, 0_u64..12).prop_map(|(ts, v, gps, loss)| match loss {
        0 => Item::Loss(1 + ts % 3),
        1 => frame(1 + ts, "can", "{}"),
        _ if gps => frame(1 + ts, "gps", &format!(r#"{{"lat":{v},"lon":1,"v":{v}}}"#)),
        _ => frame(1 + ts, "can", &format!(r#"{{"v":{v}}}"#)),
    });
    prop::collection::vec(item, 0..60)
}

/// One life of a watcher after another. A cut is how many items one looks at, how many of them it stores on the way, and
/// how many that are stored already are given again to the next.
fn in_pieces(rules: &Rules, items: &[Item], cuts: &[(usize, usize, usize)]) -> Vec<EventId> {
    let items = numbered(items);
    let (mut stored, mut entered, mut place) = (Stored::default(), Vec::<EventId>::new(), 0);
    let mut enter = |states: &mut crate::watch::states::States, stored: &mut Stored| {
        for event in states.events() {
            if !entered.contains(&event.id) {
                entered.push(event.id);
            }
        }
        let step = states.to_store(STEP_MAX);
        stored.set(&step);
        states.stored(&step);
    };
    let whole_life = (usize::MAX, 7, 0);
    for (looks, every, again) in cuts.iter().copied().chain([whole_life]) {
        let mut states = stored.load(rules);
        let begin = place - again.min(place);
        for (at, (first, item)) in items.iter().enumerate().skip(begin).take(looks) {
            while look(&mut states, rules, *first, item, 3) == Looked::Some {
                enter(&mut states, &mut stored);
            }
            if at % (every + 1) == every {
                enter(&mut states, &mut stored);
                place = place.max(at + 1);
            }
        }
        // It is killed here, but for the last.
        if looks == usize::MAX {
            enter(&mut states, &mut stored);
        }
    }
    entered
}

proptest! {
    #[test]
    fn any_cuts_give_the_same_events(
        items in items(),
        cuts in prop::collection::vec((0_usize..20, 0_usize..9, 0_usize..30), 0..8),
    ) {
        let rules = rules(&CONDITIONS);
        let expected: Vec<EventId> = find(&rules, &items).iter().map(|event| event.id).collect();
        prop_assert_eq!(in_pieces(&rules, &items, &cuts), expected);
    }
}
