//! What a look at a slot means: whether it is in use, and whether it is time to put it to sleep.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use trough_protocol::Micros;

use super::activity::{Record, Sample};
use super::office::Hours;

/// How long a slot may be without use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// In office hours.
    pub idle: Duration,
    /// Outside of them, when nobody would wake it again.
    pub idle_off_hours: Duration,
    /// When they are.
    pub hours: Hours,
    /// And where.
    pub zone: TimeZone,
}

impl Limits {
    /// The limit that holds at a moment.
    pub fn at(&self, now: Micros) -> Duration {
        if self.hours.contain(now, &self.zone) { self.idle } else { self.idle_off_hours }
    }
}

/// What was seen of a slot.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Whether anything runs there, or could.
    pub workloads: bool,
    /// When somebody deployed there last: also the use of a slot.
    pub deployed: Option<Timestamp>,
    /// What its pods say, by name; or why one cannot be asked.
    pub pods: BTreeMap<String, Result<Sample, String>>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing runs there.
    Asleep,
    /// It is in use: by what that shows.
    Used(String),
    /// It was in use not long ago.
    Resting {
        /// How long ago.
        idle: Duration,
        /// After how long it would be put to sleep.
        limit: Duration,
    },
    /// It may be in use, so nothing is done.
    Unknown(String),
    /// Nobody has used it for this long.
    Forgotten {
        /// For how long.
        idle: Duration,
        /// After how long that is enough.
        limit: Duration,
    },
}

/// What a look means, and what is to be remembered for the next one.
pub fn judge(before: Option<Record>, look: &Look, now: Micros, limits: &Limits) -> (Record, Verdict) {
    let first = before.is_none();
    let moment = timestamp(now);
    // A record of the future is of a clock that was wrong.
    let before = before.map(|record| Record { active: record.active.min(moment), ..record });
    let mut record = before.unwrap_or(Record { active: moment, pods: BTreeMap::new() });
    if !look.workloads {
        record.pods.clear();
        return (record, Verdict::Asleep);
    }
    record.pods.retain(|name, _| look.pods.contains_key(name));
    let (mut used, mut unknown) = (None, None);
    for (name, sample) in &look.pods {
        match sample {
            Ok(sample) => {
                used = used.or(sample.shows(record.pods.get(name)).map(|what| format!("{name}: {what}")));
                record.pods.insert(name.clone(), sample.counters);
            }
            Err(reason) => unknown = unknown.or(Some(format!("{name}: {reason}"))),
        }
    }
    if first {
        used = used.or(Some("it is looked at for the first time".to_owned()));
    }
    if let Some(what) = used {
        record.active = moment;
        return (record, Verdict::Used(what));
    }
    record.active = look.deployed.map_or(record.active, |at| record.active.max(at.min(moment)));
    if let Some(reason) = unknown {
        return (record, Verdict::Unknown(reason));
    }
    let idle = Duration::try_from(moment.duration_since(record.active)).unwrap_or_default();
    let limit = limits.at(now);
    let verdict =
        if idle < limit { Verdict::Resting { idle, limit } } else { Verdict::Forgotten { idle, limit } };
    (record, verdict)
}

fn timestamp(at: Micros) -> Timestamp {
    i64::try_from(at).ok().and_then(|at| Timestamp::from_microsecond(at).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::activity::Counters;
    use trough_runtime::clock::Clock;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A slot with one pod, over which time passes.
    struct Slot {
        clock: Clock,
        record: Option<Record>,
        look: Look,
    }

    impl Slot {
        fn new(at: &str) -> Self {
            let at = at.parse::<Timestamp>().unwrap().as_microsecond();
            let counters = Counters { started: 1, frames: 5, sessions: 0, requests: 0 };
            let pods =
                BTreeMap::from([("feeder-1".to_owned(), Ok(Sample { counters, ..Sample::default() }))]);
            let look = Look { workloads: true, deployed: None, pods };
            Self { clock: Clock::manual(u64::try_from(at).unwrap()), record: None, look }
        }

        fn says(&mut self, change: impl FnOnce(&mut Sample)) {
            change(self.look.pods.get_mut("feeder-1").unwrap().as_mut().unwrap());
        }

        /// Sweeps every five minutes, for so many; gives the last verdict.
        fn after(&mut self, minutes: u32) -> Verdict {
            let limits = Limits {
                idle: 60 * MINUTE,
                idle_off_hours: 120 * MINUTE,
                hours: "Mon-Fri 08:00-18:00".parse().unwrap(),
                zone: TimeZone::get("Europe/Zurich").unwrap(),
            };
            let mut verdict = None;
            for minute in (0..=minutes).step_by(5) {
                if minute > 0 {
                    self.clock.advance(5 * MINUTE);
                }
                let (record, new) = judge(self.record.take(), &self.look, self.clock.now(), &limits);
                self.record = Some(record);
                verdict = Some(new);
            }
            verdict.unwrap()
        }
    }

    fn forgotten(minutes: u32, limit: u32) -> Verdict {
        Verdict::Forgotten { idle: minutes * MINUTE, limit: limit * MINUTE }
    }

    /// A Thursday; 10:00 in Zurich.
    const MORNING: &str = "2026-11-26T09:00:00Z";
    /// 17:30 in Zurich.
    const EVENING: &str = "2026-11-26T16:30:00Z";

    #[test]
    fn an_hour_in_office_hours_and_two_outside() {
        let mut slot = Slot::new(MORNING);
        assert!(matches!(slot.after(0), Verdict::Used(_)), "the time begins with the first look");
        assert_eq!(slot.after(55), Verdict::Resting { idle: 55 * MINUTE, limit: 60 * MINUTE });
        assert_eq!(slot.after(5), forgotten(60, 60));
        let mut slot = Slot::new(EVENING);
        assert_eq!(slot.after(115), Verdict::Resting { idle: 115 * MINUTE, limit: 120 * MINUTE });
        assert_eq!(slot.after(5), forgotten(120, 120));
        // What was left alone at night has no two hours when the office opens: 07:00 to 08:10.
        let mut slot = Slot::new("2026-11-26T06:00:00Z");
        assert_eq!(slot.after(55), Verdict::Resting { idle: 55 * MINUTE, limit: 120 * MINUTE });
        assert_eq!(slot.after(5), forgotten(60, 60));
    }

    #[test]
    fn whoever_uses_it_has_the_whole_time_again() {
        let mut slot = Slot::new(MORNING);
        slot.after(55);
        slot.says(|sample| sample.counters.frames += 1);
        assert!(matches!(slot.after(0), Verdict::Used(_)));
        assert_eq!(slot.after(55), Verdict::Resting { idle: 55 * MINUTE, limit: 60 * MINUTE });
        slot.says(|sample| sample.open_sessions = 1);
        assert!(matches!(slot.after(600), Verdict::Used(_)), "a device that only listens uses it too");
    }

    #[test]
    fn a_restart_is_no_use_but_a_deployment_is() {
        let mut slot = Slot::new(MORNING);
        slot.after(30);
        slot.says(|sample| sample.counters = Counters { started: 2, ..Counters::default() });
        assert_eq!(slot.after(30), forgotten(60, 60), "counters went backwards, and nobody came");
        slot.look.deployed = Some(timestamp(slot.clock.now()));
        assert_eq!(slot.after(5), Verdict::Resting { idle: 5 * MINUTE, limit: 60 * MINUTE });
    }

    #[test]
    fn what_cannot_be_read_is_left_alone_and_judged_when_it_can() {
        let mut slot = Slot::new(MORNING);
        slot.after(30);
        let readable = slot.look.pods.insert("feeder-1".into(), Err("no answer".into())).unwrap();
        assert_eq!(slot.after(120), Verdict::Unknown("feeder-1: no answer".into()));
        let mut used = slot.look.clone();
        used.pods.insert("feeder-1".into(), readable.clone());
        used.pods.insert("feeder-2".into(), Err("no answer".into()));
        slot.look = used;
        assert!(matches!(slot.after(0), Verdict::Unknown(_)), "one of two is not enough");
        slot.look.pods.remove("feeder-2");
        assert_eq!(slot.after(0), forgotten(150, 60), "nothing was counted meanwhile");
        slot.look.pods.insert("feeder-1".into(), Err("no answer".into()));
        slot.after(30);
        slot.look.pods.insert("feeder-1".into(), readable);
        slot.says(|sample| sample.counters.requests += 1);
        assert!(matches!(slot.after(0), Verdict::Used(_)), "something was counted meanwhile");
    }

    #[test]
    fn what_sleeps_stays_asleep_and_what_is_woken_has_its_time() {
        let mut slot = Slot::new(MORNING);
        slot.after(60);
        let awake = std::mem::take(&mut slot.look);
        assert_eq!(slot.after(600), Verdict::Asleep);
        slot.look = Look { deployed: Some(timestamp(slot.clock.now())), ..awake };
        slot.says(|sample| sample.counters = Counters { started: 9, ..Counters::default() });
        assert_eq!(slot.after(0), Verdict::Resting { idle: Duration::ZERO, limit: 120 * MINUTE });
    }

    #[test]
    fn a_record_of_the_future_does_not_keep_it_awake_for_ever() {
        let mut slot = Slot::new(MORNING);
        slot.after(0);
        slot.record.as_mut().unwrap().active = "2036-01-01T00:00:00Z".parse().unwrap();
        slot.after(0);
        assert_eq!(slot.after(60), forgotten(60, 60));
    }
}
