//! What a fleet would need, on paper: a model of the cluster shape. Its figures are [`parameters`], each with its source; how
//! batches become objects is simulated ([`sealing`]), and the rest is computed ([`plan`]). A whole-system test compares
//! the simulation with a real deployment.

pub mod parameters;
pub mod plan;
pub mod sealing;
mod text;

pub use plan::{Fleet, Plan};
pub use text::table;
