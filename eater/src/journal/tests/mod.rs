//! The journal as a whole.

mod real;
mod simulation;
mod world;
