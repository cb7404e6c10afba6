//! What is different from the defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use trough_device::Tls;

use super::Role;

/// How one process reaches the others, if that is a way of its own.
#[derive(Debug, Clone, Default)]
pub struct Ways {
    /// The database, if there is one.
    pub database: Option<String>,
    /// The eaters, of a feeder; empty: as they listen.
    pub eaters: Vec<SocketAddr>,
    /// Further arguments, besides those of its kind.
    pub args: Vec<String>,
}

/// What a test may want to be different from the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many feeders a split deployment has.
    pub feeders: usize,
    /// How many eaters. A journal in the data directory has one.
    pub eaters: usize,
    /// Further arguments of whatever has devices.
    pub feeder_args: Vec<String>,
    /// Further arguments of the eaters, if they are processes of their own.
    pub eater_args: Vec<String>,
    /// Where the feeders find their eater, if it is not one of this deployment.
    pub eater: Option<SocketAddr>,
    /// The database of the registry, if it is not in the data directory.
    pub database: Option<String>,
    /// Processes that reach the others by ways of their own.
    pub ways: BTreeMap<Role, Ways>,
    /// Further variables in the environment of every process.
    pub env: Vec<(&'static str, &'static str)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            feeders: 1,
            eaters: 1,
            feeder_args: Vec::new(),
            eater_args: Vec::new(),
            eater: None,
            database: None,
            ways: BTreeMap::new(),
            env: Vec::new(),
        }
    }
}

/// Where devices come in.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// What the client library is told.
    pub url: String,
    /// Whom it trusts, if it is `wss://`.
    pub tls: Option<Tls>,
}
