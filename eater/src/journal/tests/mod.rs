//! The journal as a whole.

mod real;
mod repairing;
mod simulation;
mod world;
