//! The bus on memcached 1.6 or later, by its meta protocol; one server or several. docs/bus.md has keys and bytes.
//!
//! The client crate's module is young (`memcache::exp`), so nothing of it shows outside of here.

mod breaker;
mod metrics;
mod ring;
mod server;
mod standing;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memcache::exp::{Delete, Get, GetResult, Meta, MutationStatus, Set, Ttl};
use sha2::{Digest as _, Sha256};
use trough_runtime::clock::Clock;

pub use self::metrics::BusMetrics;
use self::ring::Ring;
use self::server::Server;
pub use self::standing::Report;
use self::standing::Standing;
use crate::BoxFuture;
use crate::bus::{Bus, check_keys, check_message, check_value};
use crate::envelope::{self, Kind};
use crate::error::BusError;
use crate::key::{Key, Topic};
use crate::lease::{self, Items, Lease, Owner};
use crate::subscription::Subscription;

/// Most servers of one bus.
pub const SERVERS_MAX: usize = 32;

/// Where the servers are: `memcached://host:port,host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<String>);

/// Not the address of a bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("it does not begin with memcached://")]
    Scheme,
    /// No server, or too many.
    #[error("it names {0} servers, not 1 to {SERVERS_MAX}")]
    Count(usize),
    /// A server that is none.
    #[error("{0:?} is not host:port")]
    Server(String),
    /// A server twice: it would get two shares.
    #[error("{0:?} is named twice")]
    Twice(String),
}

impl FromStr for Addresses {
    type Err = AddressError;
    fn from_str(s: &str) -> Result<Self, AddressError> {
        let list = s.strip_prefix("memcached://").ok_or(AddressError::Scheme)?;
        let list = list.strip_suffix('/').unwrap_or(list);
        let servers: Vec<_> = list.split(',').map(ToOwned::to_owned).collect();
        if servers.len() > SERVERS_MAX {
            return Err(AddressError::Count(servers.len()));
        }
        for (at, server) in servers.iter().enumerate() {
            let (host, port) = server.rsplit_once(':').unwrap_or_default();
            let odd = |byte: u8| !byte.is_ascii_graphic() || b"/@?#".contains(&byte);
            if host.is_empty() || host.bytes().any(odd) || !port.parse::<u16>().is_ok_and(|port| port > 0) {
                return Err(AddressError::Server(server.chars().take(80).collect()));
            }
            if servers[..at].contains(server) {
                return Err(AddressError::Twice(server.clone()));
            }
        }
        Ok(Self(servers))
    }
}

impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "memcached://{}", self.0.join(","))
    }
}

/// The bus on memcached. Clones are the same one. Nothing is connected before it is needed.
#[derive(Debug, Clone)]
pub struct Memcached(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: Vec<Server>,
    clock: Clock,
}

impl Memcached {
    /// A bus on these servers. The clock seeds the numbers of messages.
    pub fn new(addresses: Addresses, clock: Clock) -> Self {
        Self::open(addresses, clock, None)
    }

    /// The same, which says how it stands.
    pub fn reporting(addresses: Addresses, clock: Clock, report: Report) -> Self {
        Self::open(addresses, clock, Some(report))
    }

    fn open(addresses: Addresses, clock: Clock, report: Option<Report>) -> Self {
        let standing = Arc::new(Standing::new(addresses.0.len(), report));
        let servers = addresses.0.into_iter().map(|address| Server::new(address, standing.clone())).collect();
        Self(Arc::new(Inner { servers, clock }))
    }

    /// Asks every server for nothing: a server that nobody needs just now is found to be away, or back, all the same.
    pub async fn probe(&self) {
        for server in &self.0.servers {
            // What comes of it is noted where every call's outcome is.
            let _ = server.run(Get::new("v:probe")).await;
        }
    }
}

impl Inner {
    /// The server of a name: rendezvous hashing by the address as configured, so that a server more or less moves
    /// only its own share. All processes must name the servers alike.
    fn server(&self, name: &str) -> &Server {
        let score = |server: &&Server| -> [u8; 32] {
            let mut hash = Sha256::new();
            hash.update(server.address());
            hash.update([0]);
            hash.update(name);
            hash.finalize().into()
        };
        match &self.servers[..] {
            [one] => one,
            many => many.iter().max_by_key(score).expect("an address list is never empty"),
        }
    }
}

impl Inner {
    /// The servers that have some of these keys, and which.
    fn shares(&self, keys: &[Key]) -> Vec<(&Server, Vec<usize>)> {
        let mut shares: Vec<(&Server, Vec<usize>)> = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let server = self.server(key.as_str());
            match shares.iter_mut().find(|(known, _)| std::ptr::eq(*known, server)) {
                Some((_, places)) => places.push(at),
                None => shares.push((server, vec![at])),
            }
        }
        shares
    }
}

fn value_key(key: &Key) -> String {
    format!("v:{key}")
}

fn lease_key(key: &Key) -> String {
    format!("l:{key}")
}

/// What is in an item that was got; `None` if there is none or it is none of ours.
fn content(kind: Kind, got: GetResult) -> Option<Bytes> {
    envelope::open(kind, &got.value?.into())
}

impl Bus for Memcached {
    fn publish<'a>(&'a self, topic: &'a Topic, message: Bytes) -> BoxFuture<'a, Result<u64, BusError>> {
        Box::pin(async move {
            check_message(topic, &message)?;
            ring::publish(self.0.server(topic.as_str()), topic, &message, &self.0.clock).await
        })
    }

    fn subscribe(&self, topic: &Topic) -> Subscription {
        Subscription::new(Box::new(Ring::new(self.0.clone(), topic.clone())))
    }

    fn acquire<'a>(&'a self, name: &'a Key, ttl: Duration) -> BoxFuture<'a, Result<Option<Lease>, BusError>> {
        Box::pin(lease::acquire(self.0.clone(), name, ttl))
    }

    fn is_leased<'a>(&'a self, name: &'a Key) -> BoxFuture<'a, Result<bool, BusError>> {
        Box::pin(async move { Ok(self.0.read(name).await?.is_some()) })
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Bytes>, BusError>> {
        Box::pin(async move {
            let got = self.0.server(key.as_str()).run(Get::new(value_key(key))).await?;
            Ok(content(Kind::Value, got))
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, BusError>> {
        Box::pin(async move {
            check_keys(keys.len())?;
            let mut values = vec![None; keys.len()];
            for (server, places) in self.0.shares(keys) {
                let gets = places.iter().map(|&at| Get::new(value_key(&keys[at]))).collect();
                for (at, got) in places.iter().zip(server.run_many(gets).await?) {
                    values[*at] = content(Kind::Value, got);
                }
            }
            Ok(values)
        })
    }

    fn set<'a>(&'a self, key: &'a Key, value: Bytes, ttl: Duration) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            let seconds = check_value(key, &value, ttl)?;
            let item = envelope::wrap(Kind::Value, &value);
            let set = Set::new(value_key(key), item).ttl(Ttl::secs(seconds));
            self.0.server(key.as_str()).run(set).await.map(drop)
        })
    }

    fn set_many<'a>(
        &'a self,
        values: &'a [(Key, Bytes)],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            check_keys(values.len())?;
            let keys: Vec<Key> = values.iter().map(|(key, _)| key.clone()).collect();
            for (server, places) in self.0.shares(&keys) {
                let set = |&at: &usize| {
                    let (key, value) = &values[at];
                    let ttl = Ttl::secs(check_value(key, value, ttl)?);
                    Ok(Set::new(value_key(key), envelope::wrap(Kind::Value, value)).ttl(ttl))
                };
                server.run_many(places.iter().map(set).collect::<Result<_, BusError>>()?).await?;
            }
            Ok(())
        })
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move { self.0.server(key.as_str()).run(Delete::new(value_key(key))).await.map(drop) })
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            check_keys(keys.len())?;
            for (server, places) in self.0.shares(keys) {
                server.run_many(places.iter().map(|&at| Delete::new(value_key(&keys[at]))).collect()).await?;
            }
            Ok(())
        })
    }
}

impl Items for Inner {
    fn add<'a>(
        &'a self,
        key: &'a Key,
        owner: Owner,
        ttl_s: u32,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>> {
        Box::pin(async move {
            let set = Set::new(lease_key(key), envelope::wrap(Kind::Lease, &owner)).ttl(Ttl::secs(ttl_s));
            let result = self.server(key.as_str()).run(set.add().return_cas()).await?;
            Ok(result.cas.filter(|_| result.status == MutationStatus::Applied))
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a Key,
        owner: Owner,
        number: u64,
        ttl_s: u32,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>> {
        Box::pin(async move {
            let set = Set::new(lease_key(key), envelope::wrap(Kind::Lease, &owner)).ttl(Ttl::secs(ttl_s));
            let result = self.server(key.as_str()).run(set.compare_cas(number).return_cas()).await?;
            Ok(result.cas.filter(|_| result.status == MutationStatus::Applied))
        })
    }

    fn read<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<(Owner, u64)>, BusError>> {
        Box::pin(async move {
            let get = Get::new(lease_key(key)).meta(Meta::NONE.cas());
            let got = self.server(key.as_str()).run(get).await?;
            let number = got.item.cas;
            let owner = content(Kind::Lease, got).and_then(|owner| Owner::try_from(&owner[..]).ok());
            Ok(owner.zip(number))
        })
    }

    fn remove<'a>(&'a self, key: &'a Key, number: u64) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            let delete = Delete::new(lease_key(key)).compare_cas(number);
            self.server(key.as_str()).run(delete).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests;
