//! Where the eaters are: names become addresses, again and again, as eaters come and go.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use trough_runtime::local::Connector;

use crate::context::Context;

/// How long one lookup may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest time from one lookup to the next, however many links die.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

/// An address, and the name that led to it.
#[derive(Debug, Clone)]
pub enum EaterAddress {
    /// Over TCP.
    Tcp {
        /// As the operator wrote it, `host:port`.
        name: Arc<str>,
        /// Where it is now.
        at: SocketAddr,
    },
    /// In this process.
    Local(Connector),
}

impl fmt::Display for EaterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { name, at } if **name == *at.to_string() => f.write_str(name),
            Self::Tcp { name, at } => write!(f, "{name} ({at})"),
            Self::Local(_) => f.write_str("this process"),
        }
    }
}

/// An address and the links that each shard is to have there.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where.
    pub address: EaterAddress,
    /// How many links.
    pub links: usize,
}

impl Place {
    /// What tells it from other places; `None` for this process.
    pub fn key(&self) -> Option<SocketAddr> {
        match &self.address {
            EaterAddress::Tcp { at, .. } => Some(*at),
            EaterAddress::Local(_) => None,
        }
    }
}

/// The answer to a lookup.
pub type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
/// Looks a `host:port` up.
pub type Lookup = Arc<dyn Fn(String) -> Answer + Send + Sync>;

/// The eaters of a feeder.
#[derive(Clone)]
pub enum Eaters {
    /// Names, `host:port` each, and how they are looked up.
    Named(Vec<String>, Lookup),
    /// In this process.
    Local(Connector),
}

impl fmt::Debug for Eaters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Eaters({self})")
    }
}

impl fmt::Display for Eaters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(names, _) => f.write_str(&names.join(", ")),
            Self::Local(_) => f.write_str("this process"),
        }
    }
}

impl Eaters {
    /// Eaters that the system's resolver finds.
    pub fn named(names: Vec<String>) -> Self {
        let lookup: Lookup =
            Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host(name).await?.collect()) }));
        Self::Named(names, lookup)
    }
}

/// Starts looking; the places come over the channel, none at first. Ends when the feeder is killed.
pub fn start(eaters: Eaters, context: &Arc<Context>) -> watch::Receiver<Vec<Place>> {
    match eaters {
        Eaters::Local(connector) => {
            let place = Place { address: EaterAddress::Local(connector), links: 1 };
            watch::channel(vec![place]).1
        }
        Eaters::Named(names, lookup) => {
            let (sender, receiver) = watch::channel(Vec::new());
            tokio::spawn(follow(names, lookup, sender, context.clone()));
            receiver
        }
    }
}

/// One name and what it led to last.
struct Name {
    name: Arc<str>,
    addresses: Vec<SocketAddr>,
}

async fn follow(
    names: Vec<String>,
    lookup: Lookup,
    places: watch::Sender<Vec<Place>>,
    context: Arc<Context>,
) {
    let mut names: Vec<Name> =
        names.into_iter().map(|name| Name { name: name.into(), addresses: Vec::new() }).collect();
    let interval = context.config.resolve_interval;
    loop {
        let began = Instant::now();
        let mut failure = None;
        for name in &mut names {
            if let Err(error) = name.look_up(&lookup).await {
                failure = Some(format!("{}: it cannot be resolved: {error}", name.name));
            }
        }
        let found = to_places(&names, context.config.links_per_address);
        places.send_if_modified(|known| {
            let changed = differs(known, &found);
            if changed {
                tracing::info!(places = found.len(), links_per_shard = links(&found), "eaters looked up");
                *known = found;
            }
            changed
        });
        let pause = if failure.is_some() { LOOKUP_PAUSE } else { interval };
        context.links.resolved(failure);
        tokio::select! {
            () = context.shutdown.killed.cancelled() => return,
            () = tokio::time::sleep_until(began + pause) => {}
            () = context.links.lost() => tokio::time::sleep_until(began + LOOKUP_PAUSE.min(interval)).await,
        }
    }
}

impl Name {
    /// A name that cannot be resolved now keeps the addresses that it had: links there may be up.
    async fn look_up(&mut self, lookup: &Lookup) -> io::Result<()> {
        let answer = tokio::time::timeout(LOOKUP_TIMEOUT, lookup(self.name.to_string())).await;
        let mut found = answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        // A name with both kinds of address usually means the same eaters twice.
        if found.iter().any(SocketAddr::is_ipv4) {
            found.retain(SocketAddr::is_ipv4);
        }
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
        }
        self.addresses = found;
        Ok(())
    }
}

/// A name with one address may stand for a load balancer, which spreads several links over its eaters; of
/// several addresses, each is an eater.
fn to_places(names: &[Name], links_per_address: usize) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for Name { name, addresses } in names {
        let links = if addresses.len() == 1 { links_per_address } else { 1 };
        for at in addresses {
            if places.iter().all(|place| place.key() != Some(*at)) {
                places.push(Place { address: EaterAddress::Tcp { name: name.clone(), at: *at }, links });
            }
        }
    }
    places
}

fn differs(a: &[Place], b: &[Place]) -> bool {
    let parts = |place: &Place| (place.key(), place.links);
    !a.iter().map(parts).eq(b.iter().map(parts))
}

fn links(places: &[Place]) -> usize {
    places.iter().map(|place| place.links).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup_of(addresses: &[&str]) -> Lookup {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Arc::new(move |_| {
            let addresses = addresses.clone();
            Box::pin(async move { Ok(addresses) })
        })
    }

    async fn places_of(addresses: &[&str]) -> Vec<(Option<SocketAddr>, usize)> {
        let mut name = Name { name: "eater:8082".into(), addresses: Vec::new() };
        name.look_up(&lookup_of(addresses)).await.unwrap();
        to_places(&[name], 2).iter().map(|place| (place.key(), place.links)).collect()
    }

    #[tokio::test]
    async fn one_address_gets_several_links_and_each_of_many_gets_one() {
        let (a, b) = ("10.0.0.1:8082", "10.0.0.2:8082");
        let at = |address: &str| Some(address.parse().unwrap());
        assert_eq!(places_of(&[a]).await, [(at(a), 2)]);
        assert_eq!(places_of(&[b, a, b]).await, [(at(a), 1), (at(b), 1)]);
        assert_eq!(places_of(&["[::1]:8082", a]).await, [(at(a), 2)], "both are the same eater");
        assert_eq!(places_of(&["[::1]:8082"]).await, [(at("[::1]:8082"), 2)]);
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_keeps_its_addresses() {
        let mut name = Name { name: "eater:8082".into(), addresses: Vec::new() };
        name.look_up(&lookup_of(&["10.0.0.1:8082"])).await.unwrap();
        assert!(name.look_up(&lookup_of(&[])).await.is_err());
        let fails: Lookup = Arc::new(|_| Box::pin(async { Err(io::Error::other("SERVFAIL")) }));
        assert!(name.look_up(&fails).await.is_err());
        assert_eq!(name.addresses.len(), 1);
    }
}
