//! All figures of one call, and what they compare to.

use serde::Serialize;

use crate::compacting::CompactingFigures;
use crate::deployment::Subject;
use crate::idle::IdleFigures;
use crate::machine::Machine;
use crate::measure::LoadFigures;
use crate::read::ReadFigures;

/// Everything that was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The runs, in their order.
    pub runs: Vec<Run>,
    /// Trough's runs against the floor's of the same shape.
    pub ratios: Vec<Ratio>,
}

/// The figures of one run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Run {
    /// Traffic.
    Load(Box<LoadFigures>),
    /// Traffic without and with compaction.
    Compacting(Box<CompactingFigures>),
    /// Sessions without traffic.
    Idle(IdleFigures),
    /// Reading back.
    Read(ReadFigures),
}

/// How much more CPU time a frame costs than on the durable floor.
#[derive(Debug, Clone, Serialize)]
pub struct Ratio {
    /// What was compared.
    pub subject: Subject,
    /// Frames in a message.
    pub frames_per_message: u32,
    /// Frames a second, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Its CPU time for each frame, in µs.
    pub cpu_us_per_frame: f64,
    /// The floor's.
    pub floor_cpu_us_per_frame: f64,
    /// The first divided by the second.
    pub ratio: f64,
}

impl Report {
    /// Puts the runs together and compares them.
    pub fn new(machine: Machine, runs: Vec<Run>) -> Self {
        let loads: Vec<_> = runs.iter().filter_map(Run::load).collect();
        let durable_floor = |figures: &LoadFigures| {
            loads.iter().find(|floor| floor.subject == Subject::FloorDurable && floor.shape == figures.shape)
        };
        let ratios = loads
            .iter()
            .filter(|figures| matches!(figures.subject, Subject::Trough | Subject::Embedded))
            .filter_map(|figures| {
                let floor = durable_floor(figures)?;
                let (own, floors) = (figures.server_cpu_us_per_frame_sum, floor.server_cpu_us_per_frame_sum);
                Some(Ratio {
                    subject: figures.subject,
                    frames_per_message: figures.shape.frames_per_message,
                    rate: figures.shape.rate,
                    cpu_us_per_frame: own,
                    floor_cpu_us_per_frame: floors,
                    ratio: own / floors,
                })
            })
            .collect();
        Self { machine, runs, ratios }
    }

    /// What is not stored as it was acknowledged: no figure but a fault.
    pub fn faults(&self) -> Vec<String> {
        let of_load = |figures: &LoadFigures| {
            let stored = figures.stored.as_ref().filter(|stored| !stored.is_equal())?;
            let (acked, found) = (stored.acked, stored.found);
            let (title, some) = (figures.subject.title(), stored.mismatches.join("; "));
            Some(format!("{title}: {acked} frames acknowledged, {found} stored: {some}"))
        };
        let faults = self.runs.iter().flat_map(|run| match run {
            Run::Load(figures) => vec![of_load(figures)],
            Run::Compacting(both) => vec![of_load(&both.without), of_load(&both.with)],
            Run::Read(read) if !read.complete => {
                vec![Some(format!("{}: not every frame was read back", read.subject.title()))]
            }
            Run::Read(_) | Run::Idle(_) => Vec::new(),
        });
        faults.flatten().collect()
    }
}

impl Run {
    fn load(&self) -> Option<&LoadFigures> {
        match self {
            Self::Load(figures) => Some(figures),
            _ => None,
        }
    }
}
