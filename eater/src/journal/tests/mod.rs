//! The journal as a whole.

mod failing;
mod golden;
mod real;
mod repairing;
mod simulation;
mod world;
