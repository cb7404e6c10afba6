//! The processes of a deployment, and where they listen.

use std::net::SocketAddr;

use crate::servers::{free_ports, own_ip};

/// How a deployment is cut into processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `trough up`.
    Up,
    /// `trough feeder` and `trough eater`.
    Split,
    /// The same, with frames in an object store: a directory of files.
    Objects,
}

/// One process of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Everything.
    Up,
    /// What devices connect to: the first is 0.
    Feeder(usize),
    /// What stores: the first is 0.
    Eater(usize),
}

impl Role {
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Feeder(_) => "feeder",
            Self::Eater(_) => "eater",
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Up => "up".into(),
            Self::Feeder(index) => format!("feeder-{index}"),
            Self::Eater(index) => format!("eater-{index}"),
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Up => 0,
            Self::Feeder(index) | Self::Eater(index) => index,
        }
    }
}

/// Where `up`, or one feeder and one eater, listen: the same over all restarts, on a loopback address of its own
/// ([`own_ip`]).
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// For devices.
    pub devices: SocketAddr,
    /// For readers.
    pub api: SocketAddr,
    /// For links.
    pub links: SocketAddr,
    /// The admin port of `up` or the feeder.
    pub admin: SocketAddr,
    /// The admin port of the eater.
    pub eater_admin: SocketAddr,
}

impl Addresses {
    pub(super) fn new() -> Self {
        let [devices, api, links, admin, eater_admin] = free_ports(own_ip());
        Self { devices, api, links, admin, eater_admin }
    }
}
