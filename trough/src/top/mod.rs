//! `trough top`: what the processes of a deployment are doing, seen from their admin ports.
//!
//! [`source`] finds the processes, on this machine or by way of [`kubectl`], and asks them; [`sample`] is what one of them
//! answered; [`figures`] is what two answers come to; [`table`] shows them to people, [`report`] to programs, and [`screen`]
//! live on a terminal.

pub mod figures;
pub mod forward;
pub mod kubectl;
pub mod report;
pub mod sample;
pub mod screen;
pub mod source;
pub mod table;
