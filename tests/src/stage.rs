//! The cluster shape whole: two feeders and two eaters over a database, an object store and memcached, NGINX in front
//! of the feeders, and a proxy in every way between two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use trough_device::Tls;

use crate::cluster::{Cluster, Entrance, Options, Role, Shape, Ways};
use crate::faults::{Cut, EATERS, FEEDERS, Fault, Hop, Victim};
use crate::process::Process;
use crate::servers::memcached::Memcached;
use crate::servers::mongo::Mongo;
use crate::servers::nginx::Nginx;
use crate::servers::proxy::Proxy;
use crate::servers::seaweed::{self, Seaweed};
use crate::servers::swift::{self, Swift};
use crate::servers::{Access, list, url_of};

/// Of the database.
const NAME: &str = "stage";

/// An object store.
#[derive(Debug)]
pub enum Store {
    /// SeaweedFS.
    Seaweed(Seaweed),
    /// OpenStack Swift.
    Swift(Swift),
}

impl Store {
    /// SeaweedFS, with an empty bucket.
    pub async fn seaweed() -> Self {
        Self::Seaweed(Seaweed::start().await)
    }

    /// Where its S3 API listens.
    pub fn at(&self) -> SocketAddr {
        match self {
            Self::Seaweed(server) => server.at,
            Self::Swift(server) => server.at,
        }
    }

    /// Who may use it.
    pub fn access(&self) -> &'static Access {
        match self {
            Self::Seaweed(_) => &seaweed::ACCESS,
            Self::Swift(_) => &swift::ACCESS,
        }
    }

    fn process(&mut self) -> &mut Process {
        match self {
            Self::Seaweed(server) => server.process(),
            Self::Swift(server) => server.process(),
        }
    }

    fn spawn_again(&mut self) {
        match self {
            Self::Seaweed(server) => server.spawn_again(),
            Self::Swift(server) => server.spawn_again(),
        }
    }

    async fn ready(&mut self) {
        match self {
            Self::Seaweed(server) => server.ready().await,
            Self::Swift(server) => server.ready().await,
        }
    }
}

/// The deployment, running.
#[derive(Debug)]
pub struct Stage {
    /// Our processes. Devices come in through NGINX, unless a test says otherwise.
    pub cluster: Cluster,
    /// What devices may come in through.
    pub nginx: Nginx,
    /// Registry and catalog.
    pub database: Mongo,
    /// Frames.
    pub store: Store,
    /// memcached.
    pub bus: Memcached,
    hops: BTreeMap<Hop, Proxy>,
}

impl Stage {
    /// Starts it over SeaweedFS.
    pub async fn start() -> Self {
        Self::start_over(Store::seaweed().await).await
    }

    /// Starts it over this store.
    pub async fn start_over(store: Store) -> Self {
        let (database, bus) = (Mongo::start().await, Memcached::start(&["-M"]).await);
        let options = Options {
            feeders: FEEDERS,
            eaters: EATERS,
            database: Some(database.url(NAME)),
            env: vec![
                ("AWS_ACCESS_KEY_ID", store.access().access_key),
                ("AWS_SECRET_ACCESS_KEY", store.access().secret_key),
            ],
            ..Options::default()
        };
        let mut cluster = Cluster::prepare(Shape::Split, options).await;
        let mut hops = BTreeMap::new();
        for hop in Hop::all() {
            let to = match hop {
                Hop::Link { eater, .. } => cluster.links()[eater],
                Hop::Bus(_) => bus.at,
                Hop::Database(_) => database.at,
                Hop::Store(_) => store.at(),
                Hop::Devices(feeder) | Hop::Nginx(feeder) => cluster.feeders()[feeder],
            };
            hops.insert(hop, Proxy::start(to).await);
        }
        let key = cluster.path().join("bus.key");
        std::fs::write(&key, [7; 32]).unwrap();
        for role in cluster.roles() {
            let mut args = vec!["--bus".into(), format!("memcached://{}", hops[&Hop::Bus(role)].at)];
            args.extend(["--bus-key-file".into(), key.display().to_string()]);
            let mut eaters = Vec::new();
            match role {
                Role::Feeder(feeder) => {
                    eaters.extend((0..EATERS).map(|eater| hops[&Hop::Link { feeder, eater }].at));
                }
                Role::Eater(eater) => {
                    args.extend(["--store".into(), url_of(hops[&Hop::Store(eater)].at, "")]);
                }
                Role::Up => {}
            }
            let database = Some(database.url_by(hops[&Hop::Database(role)].at, NAME));
            cluster.options.ways.insert(role, Ways { database, eaters, args });
        }
        let by_nginx: Vec<_> = (0..FEEDERS).map(|feeder| hops[&Hop::Nginx(feeder)].at).collect();
        let nginx = Nginx::start(&by_nginx, &cluster.eaters()).await;
        let tls = Tls::with_roots_pem(nginx.certificate_pem.as_bytes()).unwrap();
        cluster.entrance = Entrance { url: format!("wss://{}", nginx.at), tls: Some(tls) };
        for role in cluster.roles() {
            cluster.spawn(role);
        }
        cluster.ready().await;
        Self { cluster, nginx, database, store, bus, hops }
    }

    /// Where devices come in: at a feeder, past NGINX.
    pub fn entrance(&self, feeder: usize) -> Entrance {
        Entrance { url: format!("ws://{}", self.feeder(feeder)), tls: None }
    }

    /// The same as an address.
    pub fn feeder(&self, feeder: usize) -> SocketAddr {
        self.hop(Hop::Devices(feeder)).at
    }

    /// What stands in a way.
    pub fn hop(&self, hop: Hop) -> &Proxy {
        &self.hops[&hop]
    }

    /// The keys of everything in the object store.
    pub async fn objects(&self) -> BTreeSet<String> {
        list(self.store.at(), self.store.access()).await
    }

    /// Registry and catalog, past every proxy.
    pub fn catalog(&self) -> mongodb::Database {
        self.database.client().database(NAME)
    }

    fn process(&mut self, victim: Victim) -> &mut Process {
        match victim {
            Victim::Process(role) => self.cluster.process(role),
            Victim::Database => self.database.process(),
            Victim::Store => self.store.process(),
            Victim::Bus => self.bus.process(),
        }
    }

    /// A fault begins.
    pub async fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(victim) => self.process(victim).kill(),
            Fault::Stop(victim) => self.process(victim).stop(),
            Fault::Cut(hop, cut) => {
                let proxy = self.hops.get_mut(&hop).expect("there is a proxy in every way");
                match cut {
                    Cut::Refuse => {
                        proxy.refuse().await;
                        proxy.reset();
                    }
                    Cut::BlackHole => proxy.black_hole(),
                    Cut::Reset => proxy.reset(),
                    Cut::Delay(each_way) => proxy.delay(each_way),
                }
            }
            Fault::Reload => self.nginx.hang_up(),
            Fault::Flush => self.bus.flush(),
        }
    }

    /// It ends; whatever it struck may need a moment more.
    pub async fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(Victim::Process(role)) => self.cluster.spawn(role),
            Fault::Kill(Victim::Database) => self.database.spawn_again(),
            Fault::Kill(Victim::Store) => self.store.spawn_again(),
            Fault::Kill(Victim::Bus) => self.bus.spawn_again(),
            Fault::Stop(victim) => self.process(victim).resume(),
            Fault::Cut(hop, cut) => {
                let proxy = self.hops.get_mut(&hop).expect("there is a proxy in every way");
                proxy.heal().await;
                if cut == Cut::Reset {
                    proxy.reset();
                }
            }
            Fault::Reload | Fault::Flush => {}
        }
    }

    /// Waits until everything is there, and nothing is degraded.
    pub async fn ready(&mut self) {
        self.database.ready().await;
        self.store.ready().await;
        self.bus.ready().await;
        self.cluster.ready().await;
    }
}
