//! One file per command. Each has its arguments, `prepare`, which checks all of them before anything is done,
//! and the work itself.

pub mod bench;
pub mod bench_floor;
pub mod bench_history;
pub mod bench_notify;
pub mod bench_scale;
pub mod channels;
pub mod commands;
pub mod deliveries;
pub mod demo;
pub mod devices;
pub mod drain;
pub mod eater;
pub mod export;
pub mod feeder;
pub mod fsck;
pub mod health;
pub mod journal;
pub mod notifier;
pub mod phones;
pub mod preview;
pub mod readers;
pub mod retention;
pub mod rules;
pub mod send;
pub mod subscriptions;
pub mod tail;
pub mod top;
pub mod up;
pub mod upgrade;

use std::pin::Pin;

use crate::cli::Command;
use crate::error::CliError;
use crate::faults::Faults;

/// A command whose options are in order.
pub type Work = Pin<Box<dyn Future<Output = Result<(), CliError>>>>;

/// Checks a command's options, adding to the faults found so far.
///
/// # Errors
/// All faults at once.
pub fn prepare(command: Command, faults: Faults) -> Result<Work, Faults> {
    match command {
        Command::Up(args) => up::prepare(args, faults),
        Command::Feeder(args) => feeder::prepare(args, faults),
        Command::Eater(args) => eater::prepare(args, faults),
        Command::Notifier(args) => notifier::prepare(args, faults),
        Command::Devices(command) => devices::prepare(command, faults),
        Command::Readers(command) => readers::prepare(command, faults),
        Command::Commands(command) => commands::prepare(command, faults),
        Command::Channels(command) => channels::prepare(command, faults),
        Command::Retention(command) => retention::prepare(command, faults),
        Command::Subscriptions(command) => subscriptions::prepare(*command, faults),
        Command::Phones(command) => phones::prepare(command, faults),
        Command::Deliveries(command) => deliveries::prepare(command, faults),
        Command::Rules(command) => rules::prepare(command, faults),
        Command::Send(args) => send::prepare(args, faults),
        Command::Tail(args) => tail::prepare(args, faults),
        Command::Demo(args) => demo::prepare(args, faults),
        Command::Bench(args) => bench::prepare(args, faults),
        Command::BenchFloor(args) => bench_floor::prepare(args, faults),
        Command::Export(args) => export::prepare(args, faults),
        Command::Fsck(args) => fsck::prepare(args, faults),
        Command::Journal(command) => journal::prepare(command, faults),
        Command::Upgrade(command) => upgrade::prepare(command, faults),
        Command::Preview(command) => preview::prepare(command, faults),
        Command::Drain(args) => drain::prepare(args, faults),
        Command::Top(args) => top::prepare(args, faults),
        Command::Health(args) => health::prepare(args, faults),
    }
}
