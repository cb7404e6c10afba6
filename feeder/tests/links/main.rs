//! The links of a feeder, with the test in the place of the eaters.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod many_eaters;
mod one_eater;
