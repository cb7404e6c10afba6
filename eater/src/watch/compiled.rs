//! Rules, ready to be asked which of them concern a device.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use trough_protocol::{DeviceId, Micros};
use trough_store::area::Area;
use trough_store::rule::{Condition, Rule, Scope};
use trough_store::when::When;
use trough_store::{Group, PositionSchema, RuleName};

use super::compare::Compare;
use super::frame::{Loss, Seen};
use super::gaps;
use super::happening::Happening;
use super::matching::Matching;
use super::rate::{self, Course};
use super::silence::Silence;
use super::state::Known;
use super::{first_frame, geofence};
use crate::encounters::Positions;
use crate::json::Pointer;

/// Most sets of groups whose rules are kept together; more are put together anew.
const GROUP_SETS_MAX: usize = 4096;

/// A rule, ready for use.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub name: RuleName,
    pub version: u64,
    /// Frames that were received earlier are none of its business.
    pub set_at: Micros,
    check: Check,
}

#[derive(Debug)]
enum Check {
    Compare(Compare),
    Rate(Compare),
    Geofence(Area),
    Silence(Silence),
    FirstFrame,
    Gaps,
}

impl CompiledRule {
    /// `None` for one that is not about frames.
    fn new(rule: &Rule) -> Option<Self> {
        let number = |channel: &Option<_>, when: &When| {
            // It was checked when the rule was set.
            let pointer = Pointer::parse(&when.pointer)?;
            Some(Compare { channel: channel.clone(), when: when.clone(), pointer })
        };
        let check = match &rule.rule.condition {
            Condition::Compare { channel, when } => Check::Compare(number(channel, when)?),
            Condition::Rate { channel, when } => Check::Rate(number(channel, when)?),
            Condition::Geofence { area } => Check::Geofence(area.clone()),
            Condition::Silence { channel, after } => {
                Check::Silence(Silence { channel: channel.clone(), after: *after })
            }
            Condition::FirstFrame => Check::FirstFrame,
            Condition::Gaps => Check::Gaps,
            Condition::Presence { .. } => return None,
        };
        let (name, version, set_at) = (rule.rule.name.clone(), rule.version, rule.set_at);
        Some(Self { name, version, set_at, check })
    }

    /// What it knows of a device before its first frame.
    pub fn begin(&self) -> Known {
        match self.check {
            Check::Compare(_) => Known::Compare(Matching::default()),
            Check::Rate(_) => Known::Rate(Course::default()),
            Check::Geofence(_) => Known::Geofence(None),
            Check::Silence(_) => Known::Silence(None),
            Check::FirstFrame => Known::FirstFrame(false),
            Check::Gaps => Known::Gaps(None),
        }
    }

    /// Looks at a frame. A state of another kind is none: [`CompiledRule::begin`] made it, or it is begun anew.
    pub fn take(&self, known: &mut Known, seen: &Seen<'_>) -> Option<Happening> {
        match (&self.check, known) {
            (Check::Compare(compare), Known::Compare(matching)) => compare.take(matching, seen),
            (Check::Rate(compare), Known::Rate(course)) => rate::take(compare, course, seen),
            (Check::Geofence(area), Known::Geofence(inside)) => geofence::take(area, inside, seen),
            (Check::Silence(silence), Known::Silence(heard)) => silence.take(heard, seen),
            (Check::FirstFrame, Known::FirstFrame(done)) => first_frame::take(done, seen),
            (Check::Gaps, Known::Gaps(open)) => gaps::take(open, seen),
            (_, known) => {
                *known = self.begin();
                None
            }
        }
    }

    /// Looks at a declared loss.
    pub fn lose(&self, known: &mut Known, loss: &Loss) -> Option<Happening> {
        match (&self.check, known) {
            (Check::Gaps, Known::Gaps(open)) => gaps::lose(open, loss),
            _ => None,
        }
    }

    /// Whether it wants to know which frame is a device's first.
    pub fn wants_first(&self) -> bool {
        matches!(self.check, Check::FirstFrame)
    }

    /// Whether it wants to know of declared losses.
    pub fn wants_losses(&self) -> bool {
        matches!(self.check, Check::Gaps)
    }

    /// The silence it waits for, if it does.
    pub fn silence(&self) -> Option<&Silence> {
        match &self.check {
            Check::Silence(silence) => Some(silence),
            _ => None,
        }
    }
}

/// All rules about frames.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// When they were asked for last, and were these, the outbox's clock said this before.
    at: AtomicU64,
    rules: Vec<CompiledRule>,
    /// By name, where they stand.
    names: HashMap<RuleName, u32>,
    all: Arc<[u32]>,
    by_device: HashMap<DeviceId, Vec<u32>>,
    by_group: HashMap<Group, Vec<u32>>,
    /// Those of every device and those of some groups, for devices that are in the same ones.
    together: Mutex<HashMap<BTreeSet<Group>, Arc<[u32]>>>,
    pub positions: Positions,
}

/// The rules that concern a device: those that it shares with others, and its own.
#[derive(Debug, Clone)]
pub(super) struct Concerned {
    shared: Arc<[u32]>,
    own: bool,
}

impl Rules {
    /// When they were asked for last: whatever was set before is among them.
    pub fn at(&self) -> Micros {
        self.at.load(Ordering::Acquire)
    }

    /// They were asked for again, and are the same.
    pub fn are_still(&self, at: Micros) {
        self.at.fetch_max(at, Ordering::AcqRel);
    }

    pub fn new(at: Micros, rules: &[Rule], schemas: &[PositionSchema]) -> Self {
        let mut compiled =
            Self { at: AtomicU64::new(at), positions: Positions::new(schemas), ..Self::default() };
        let mut all = Vec::new();
        for rule in rules {
            let Some(ready) = CompiledRule::new(rule) else { continue };
            let index = u32::try_from(compiled.rules.len()).unwrap_or(u32::MAX);
            compiled.names.insert(ready.name.clone(), index);
            compiled.rules.push(ready);
            match &rule.rule.scope {
                Scope::All => all.push(index),
                Scope::Devices(devices) => {
                    for device in devices {
                        compiled.by_device.entry(device.clone()).or_default().push(index);
                    }
                }
                Scope::Groups(groups) => {
                    for group in groups {
                        compiled.by_group.entry(group.clone()).or_default().push(index);
                    }
                }
            }
        }
        compiled.all = all.into();
        compiled
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none: then nothing need be read.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &CompiledRule> {
        self.rules.iter()
    }

    /// The rule of this name and version.
    pub fn get(&self, name: &RuleName, version: u64) -> Option<&CompiledRule> {
        let rule = &self.rules[*self.names.get(name)? as usize];
        (rule.version == version).then_some(rule)
    }

    /// Whether the groups of devices matter.
    pub fn want_groups(&self) -> bool {
        !self.by_group.is_empty()
    }

    /// The devices that rules name which were set at `since` or later; `None` if one of these is of more than those.
    pub fn named_since(&self, since: Micros) -> Option<BTreeSet<DeviceId>> {
        let is_new = |index: &u32| self.rules[*index as usize].set_at >= since;
        let of_many = self.all.iter().chain(self.by_group.values().flatten()).any(is_new);
        let named = self.by_device.iter().filter(|(_, rules)| rules.iter().any(is_new));
        (!of_many).then(|| named.map(|(device, _)| device.clone()).collect())
    }

    /// Which rules concern a device that is in these groups.
    pub fn concerning(&self, device: &DeviceId, groups: &BTreeSet<Group>) -> Option<Concerned> {
        let shared = self.shared(groups);
        let own = self.by_device.contains_key(device);
        (own || !shared.is_empty()).then_some(Concerned { shared, own })
    }

    fn shared(&self, groups: &BTreeSet<Group>) -> Arc<[u32]> {
        let mine: BTreeSet<Group> =
            groups.iter().filter(|group| self.by_group.contains_key(*group)).cloned().collect();
        if mine.is_empty() {
            return self.all.clone();
        }
        // Entries are added whole, or all of them are removed.
        let mut together = self.together.lock().unwrap_or_else(PoisonError::into_inner);
        if together.len() >= GROUP_SETS_MAX {
            together.clear();
        }
        let put_together = |groups: &BTreeSet<Group>| {
            // A rule that names several of them is one.
            let of_groups = groups.iter().filter_map(|group| self.by_group.get(group)).flatten();
            let indexes: BTreeSet<u32> = of_groups.chain(self.all.iter()).copied().collect();
            indexes.into_iter().collect()
        };
        together.entry(mine).or_insert_with_key(put_together).clone()
    }

    /// The rules of a device.
    pub fn of<'a>(
        &'a self,
        device: &DeviceId,
        concerned: &'a Concerned,
    ) -> impl Iterator<Item = &'a CompiledRule> {
        let own = self.by_device.get(device).filter(|_| concerned.own).map_or(&[][..], Vec::as_slice);
        concerned.shared.iter().chain(own).map(|index| &self.rules[*index as usize])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn rules(texts: &[&str]) -> Rules {
        let rules: Vec<Rule> = texts
            .iter()
            .map(|text| Rule { rule: serde_json::from_str(text).unwrap(), version: 1, set_at: 5 })
            .collect();
        Rules::new(0, &rules, &[])
    }

    fn names(rules: &Rules, device: &str, groups: &[&str]) -> Vec<String> {
        let device = DeviceId::new(device).unwrap();
        let groups = groups.iter().map(|group| Group::new(group).unwrap()).collect();
        let Some(concerned) = rules.concerning(&device, &groups) else { return Vec::new() };
        rules.of(&device, &concerned).map(|rule| rule.name.to_string()).collect()
    }

    #[test]
    fn each_device_has_its_rules_once() {
        let rules = rules(&[
            r#"{"name":"a","scope":{"devices":["d","e"]},"condition":{"kind":"gaps"}}"#,
            r#"{"name":"b","scope":{"groups":["g","h"]},"condition":{"kind":"gaps"}}"#,
            r#"{"name":"c","scope":{"groups":["h"]},"condition":{"kind":"first_frame"}}"#,
            r#"{"name":"p","scope":"all","condition":{"kind":"presence","after_s":60}}"#,
        ]);
        assert_eq!(rules.len(), 3, "presence is no matter of frames");
        assert_eq!(names(&rules, "d", &[]), ["a"]);
        assert_eq!(names(&rules, "d", &["h", "g", "x"]), ["b", "c", "a"]);
        assert_eq!(names(&rules, "f", &["g"]), ["b"]);
        assert_eq!(names(&rules, "f", &["x"]), [] as [&str; 0]);
        let name = RuleName::new("c").unwrap();
        assert!(rules.get(&name, 1).is_some() && rules.get(&name, 2).is_none());
    }

    #[test]
    fn a_rule_of_all_is_of_each() {
        let rules = rules(&[
            r#"{"name":"all","scope":"all","condition":{"kind":"gaps"}}"#,
            r#"{"name":"one","scope":{"devices":["d"]},"condition":{"kind":"gaps"}}"#,
            r#"{"name":"some","scope":{"groups":["g"]},"condition":{"kind":"gaps"}}"#,
        ]);
        assert_eq!(names(&rules, "x", &[]), ["all"]);
        assert_eq!(names(&rules, "d", &["g"]), ["all", "some", "one"]);
    }

    /// 10,000 rules that name 100,000 devices. The time is shown, not asserted.
    #[test]
    fn many_rules_are_compiled_at_once() {
        let rule = |n: u32| {
            let devices = (0..10).map(|d| DeviceId::new(&format!("d-{}", (n * 10 + d) % 100_000)).unwrap());
            let condition =
                Condition::Compare { channel: None, when: "/speed > 30 for 60s".parse().unwrap() };
            let (name, scope) =
                (RuleName::new(&format!("r-{n}")).unwrap(), Scope::Devices(devices.collect()));
            Rule { rule: trough_store::rule::NewRule { name, scope, condition }, version: 1, set_at: 0 }
        };
        let rules: Vec<Rule> = (0..10_000).map(rule).collect();
        let begun = Instant::now();
        let compiled = Rules::new(0, &rules, &[]);
        println!("10,000 rules: {:?}", begun.elapsed());
        assert_eq!((compiled.len(), compiled.by_device.len()), (10_000, 100_000));
        assert_eq!(names(&compiled, "d-99999", &[]), ["r-9999"]);
    }
}
