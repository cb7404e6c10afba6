//! Faults of a whole deployment, chosen before the first of them happens: the same seed gives the same schedule.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use crate::cluster::Role;

/// Feeders of a deployment that is put to faults.
pub const FEEDERS: usize = 2;
/// And eaters.
pub const EATERS: usize = 2;

/// Longest pause between two faults, in ms: several overlap, and now and then frames get through.
const PAUSE_MS_MAX: u64 = 2500;

/// A process that may be killed or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// One of ours.
    Process(Role),
    /// The database.
    Database,
    /// The object store.
    Store,
    /// memcached.
    Bus,
}

/// A way between two parts that may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    /// The links of a feeder to an eater.
    Link {
        /// Which feeder.
        feeder: usize,
        /// Which eater.
        eater: usize,
    },
    /// From a process to memcached.
    Bus(Role),
    /// From a process to the database.
    Database(Role),
    /// From an eater to the object store.
    Store(usize),
    /// From devices to a feeder.
    Devices(usize),
    /// From NGINX to a feeder.
    Nginx(usize),
}

impl Hop {
    /// All that there are.
    pub fn all() -> Vec<Self> {
        let feeders = 0..FEEDERS;
        let links =
            feeders.clone().flat_map(|feeder| (0..EATERS).map(move |eater| Self::Link { feeder, eater }));
        let roles = || feeders.clone().map(Role::Feeder).chain((0..EATERS).map(Role::Eater));
        links
            .chain(roles().map(Self::Bus))
            .chain(roles().map(Self::Database))
            .chain((0..EATERS).map(Self::Store))
            .chain(feeders.clone().map(Self::Devices))
            .chain(feeders.clone().map(Self::Nginx))
            .collect()
    }
}

/// How a way is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Open connections are reset, new ones refused.
    Refuse,
    /// Everything is taken, nothing comes out.
    BlackHole,
    /// Open connections are reset, at the beginning and at the end.
    Reset,
    /// Every byte comes so much later.
    Delay(Duration),
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; started again at the end.
    Kill(Victim),
    /// SIGSTOP; SIGCONT at the end.
    Stop(Victim),
    /// Healed at the end.
    Cut(Hop, Cut),
    /// NGINX reads its configuration again.
    Reload,
    /// memcached forgets everything.
    Flush,
}

/// What two faults cannot hit at once.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Of(Victim),
    Between(Hop),
    Nginx,
}

impl Fault {
    fn place(self) -> Place {
        match self {
            Self::Kill(victim) | Self::Stop(victim) => Place::Of(victim),
            Self::Cut(hop, _) => Place::Between(hop),
            Self::Reload => Place::Nginx,
            Self::Flush => Place::Of(Victim::Bus),
        }
    }
}

/// A fault and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When it begins, from the beginning of all.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// The beginning or the end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When, from the beginning of all.
    pub at: Duration,
    /// Whether it begins.
    pub begins: bool,
    /// What.
    pub fault: Fault,
}

/// Faults in the order in which they begin. One may begin while others last, but not at the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Planned>);

impl Schedule {
    /// So many faults. All kinds are dealt out before one comes again.
    pub fn new(rng: &mut StdRng, count: usize) -> Self {
        let mut deck = Vec::new();
        let mut free_at = BTreeMap::new();
        let mut now = Duration::ZERO;
        let mut faults = Vec::new();
        while faults.len() < count {
            if deck.is_empty() {
                deck = one_of_each(rng);
                deck.shuffle(rng);
            }
            let Some(fault) = deck.pop() else { break };
            now += Duration::from_millis(rng.random_range(0..PAUSE_MS_MAX));
            let lasts = Duration::from_millis(match fault {
                Fault::Kill(_) => rng.random_range(0..2000),
                Fault::Stop(_) => rng.random_range(500..5000),
                Fault::Cut(..) => rng.random_range(1000..5000),
                Fault::Reload | Fault::Flush => 0,
            });
            let free: &mut Duration = free_at.entry(fault.place()).or_default();
            let at = now.max(*free);
            *free = at + lasts;
            faults.push(Planned { at, lasts, fault });
        }
        faults.sort_by_key(|planned| planned.at);
        Self(faults)
    }

    /// Their beginnings and ends, in order.
    pub fn steps(&self) -> Vec<Step> {
        let both = |&Planned { at, lasts, fault }: &Planned| {
            [Step { at, begins: true, fault }, Step { at: at + lasts, begins: false, fault }]
        };
        let mut steps: Vec<Step> = self.0.iter().flat_map(both).collect();
        // Stable, so that what ends at once ends after it began.
        steps.sort_by_key(|step| step.at);
        steps
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Planned { at, lasts, fault } in &self.0 {
            writeln!(f, "{:8.3} s  {fault:?} for {:.3} s", at.as_secs_f64(), lasts.as_secs_f64())?;
        }
        Ok(())
    }
}

/// One of each kind, each at a place by chance.
fn one_of_each(rng: &mut StdRng) -> Vec<Fault> {
    let mut faults = vec![Fault::Reload, Fault::Flush];
    let roles = (0..FEEDERS).map(Role::Feeder).chain((0..EATERS).map(Role::Eater)).map(Victim::Process);
    for victim in roles.chain([Victim::Database, Victim::Store, Victim::Bus]) {
        faults.extend([Fault::Kill(victim), Fault::Stop(victim)]);
    }
    let mut kinds: BTreeMap<_, Vec<Hop>> = BTreeMap::new();
    for hop in Hop::all() {
        kinds.entry(kind(hop)).or_default().push(hop);
    }
    let delay = Duration::from_millis(rng.random_range(20..1000));
    for hops in kinds.values() {
        let cuts = [Cut::Refuse, Cut::BlackHole, Cut::Reset, Cut::Delay(delay)];
        faults.extend(cuts.map(|cut| Fault::Cut(hops[rng.random_range(0..hops.len())], cut)));
    }
    faults
}

fn kind(hop: Hop) -> usize {
    match hop {
        Hop::Link { .. } => 0,
        Hop::Bus(_) => 1,
        Hop::Database(_) => 2,
        Hop::Store(_) => 3,
        Hop::Devices(_) => 4,
        Hop::Nginx(_) => 5,
    }
}

#[cfg(test)]
mod tests;
