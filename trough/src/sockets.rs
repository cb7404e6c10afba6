//! Binding: every socket of a command before anything else happens, and every failure at once.

use std::io;
use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};

use crate::error::CliError;
use crate::faults::{Faults, HostPort};
use crate::opt::Opt;

/// Connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`. A fleet that reconnects
/// after a deploy comes all at once.
const BACKLOG: u32 = 4096;

/// Binds them all, in order.
///
/// # Errors
/// Every address that cannot be bound.
pub async fn bind<const N: usize>(addresses: [(Opt, &HostPort); N]) -> Result<[TcpListener; N], CliError> {
    let mut faults = Faults::default();
    let mut listeners = Vec::with_capacity(N);
    for (option, address) in addresses {
        match bind_one(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                let remedy = match error.kind() {
                    io::ErrorKind::AddrInUse => "stop what listens there, or choose another port",
                    io::ErrorKind::PermissionDenied => {
                        "choose a port above 1023, or allow this program to bind it"
                    }
                    _ => "choose an address of this machine",
                };
                faults.add(option, address.as_str(), format!("cannot listen there ({error})"), remedy);
            }
        }
    }
    <[TcpListener; N]>::try_from(listeners).map_err(|_| CliError::Bind(faults))
}

async fn bind_one(address: &HostPort) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host(address.as_str()).await? {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the kernel to forget the connections of the last run.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The address to tell users: what was bound to every interface is reached through this machine.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// Raises the soft limit of open files to the hard one: the usual soft limit of 1024 exists for programs that use
/// select(2), and would end a feeder's growth at as many devices. Returns what holds now; `None` for no limit.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            limit.current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opt;

    #[tokio::test]
    async fn every_address_in_use_is_named() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken: HostPort = holder.local_addr().unwrap().to_string().parse().unwrap();
        let free: HostPort = "127.0.0.1:0".parse().unwrap();
        let result = bind([(opt::LISTEN, &taken), (opt::API, &free), (opt::ADMIN, &taken)]).await;
        let Err(CliError::Bind(faults)) = result else { panic!("{result:?}") };
        let lines: Vec<_> = faults.lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("--listen") && lines[1].starts_with("--admin"), "{lines:?}");
        assert!(lines[0].contains("in use") && lines[0].contains("another port"), "{lines:?}");
    }
}
