//! Frames of one device, and rules that look at them.

use trough_protocol::frame::FrameRef;
use trough_protocol::{Channel, ContentType, DeviceId, Epoch, Micros, Seq};
use trough_store::event::FrameNumber;
use trough_store::outbox::WatchState;
use trough_store::rule::Rule;
use trough_store::{Event, PositionSchema};

use crate::watch::compiled::{Concerned, Rules};
use crate::watch::frame::{Loss, Seen};
use crate::watch::states::{Looked, States};

/// When rules were set.
pub const SET_AT: Micros = 1_000;

/// What a device sends.
#[derive(Debug, Clone)]
pub enum Item {
    Frame {
        ts_s: u64,
        channel: &'static str,
        payload: String,
        received_at: Micros,
    },
    /// So many numbers.
    Loss(u64),
}

pub fn frame(ts_s: u64, channel: &'static str, payload: &str) -> Item {
    Item::Frame { ts_s, channel, payload: payload.into(), received_at: SET_AT }
}

/// Items with their numbers.
pub fn numbered(items: &[Item]) -> Vec<(u64, Item)> {
    let mut next = 1;
    let number = |item: &Item| {
        let first = next;
        next += if let Item::Loss(count) = item { *count } else { 1 };
        (first, item.clone())
    };
    items.iter().map(number).collect()
}

pub fn device() -> DeviceId {
    DeviceId::new("d").unwrap()
}

/// Rules of these conditions, named a, b, c….
pub fn rules(conditions: &[&str]) -> Rules {
    let rule = |(name, condition): (char, &&str)| {
        let text = format!(r#"{{"name":"{name}","scope":"all","condition":{condition}}}"#);
        Rule { rule: serde_json::from_str(&text).unwrap(), version: 3, set_at: SET_AT }
    };
    let rules: Vec<Rule> = ('a'..).zip(conditions).map(rule).collect();
    let schema = PositionSchema::new(Channel::new("gps").unwrap(), "/lat", "/lon").unwrap();
    Rules::new(0, &rules, &[schema])
}

pub fn concerned(rules: &Rules) -> Concerned {
    rules.concerning(&device(), &Default::default()).unwrap()
}

/// Looks at one item. The first frame of all is the device's first.
pub fn look(states: &mut States, rules: &Rules, first: u64, item: &Item, room: usize) -> Looked {
    let (device, concerned) = (device(), concerned(rules));
    let number = FrameNumber { epoch: Epoch(1), seq: Seq(first) };
    match item {
        Item::Frame { ts_s, channel, payload, received_at } => {
            let frame = FrameRef {
                ts: ts_s * 1_000_000,
                channel,
                content_type: ContentType::Json,
                payload: payload.as_bytes(),
            };
            let seen = Seen::new(number, *received_at, frame, first == 1, &rules.positions);
            states.take(rules, (&device, &concerned), &seen, (0, room))
        }
        Item::Loss(count) => {
            let loss =
                Loss { first: number, last: Seq(first + count - 1), reason: 2, received_at: SET_AT + first };
            states.lose(rules, (&device, &concerned), &loss, (0, room))
        }
    }
}

/// Everything that one look at all items finds.
pub fn find(rules: &Rules, items: &[Item]) -> Vec<Event> {
    let mut states = States::default();
    for (first, item) in numbered(items) {
        assert_eq!(look(&mut states, rules, first, &item, usize::MAX), Looked::All);
    }
    states.events().to_vec()
}

/// States as the outbox keeps them.
#[derive(Debug, Clone, Default)]
pub struct Stored(std::collections::BTreeMap<String, WatchState>);

impl Stored {
    pub fn set(&mut self, states: &[WatchState]) {
        for state in states {
            let key = state.rule.to_string();
            match state.state.is_empty() {
                true => drop(self.0.remove(&key)),
                false => drop(self.0.insert(key, state.clone())),
            }
        }
    }

    pub fn load(&self, rules: &Rules) -> States {
        let mut states = States::default();
        self.0.values().for_each(|state| states.load(rules, state.clone()));
        states
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}
