//! The cluster shape whole: two feeders and two eaters over a database, an object store and memcached, NGINX in front
//! of the feeders, and a proxy in every way between two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use trough_device::Tls;

use crate::cluster::{Cluster, Entrance, Options, Role, Shape, Ways};
use crate::faults::{Cut, EATERS, FEEDERS, Fault, Hop, Victim};
use crate::poll::{LATER, until};
use crate::process::Process;
use crate::servers::memcached::Memcached;
use crate::servers::mongo::Mongo;
use crate::servers::nginx::Nginx;
use crate::servers::proxy::Proxy;
use crate::servers::{list, url_of};

mod store;

pub use store::Store;

/// Of the database.
const NAME: &str = "stage";
/// In the directory of the cluster.
const KEY_FILE: &str = "bus.key";

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
        std::fs::write(cluster.path().join(KEY_FILE), [7; 32]).unwrap();
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
        let by_nginx: Vec<_> = (0..FEEDERS).map(|feeder| hops[&Hop::Nginx(feeder)].at).collect();
        let nginx = Nginx::start(&by_nginx, &cluster.eaters()).await;
        let tls = Tls::with_roots_pem(nginx.certificate_pem.as_bytes()).unwrap();
        cluster.entrance = Entrance { url: format!("wss://{}", nginx.at), tls: Some(tls) };
        let mut stage = Self { cluster, nginx, database, store, bus, hops };
        for role in stage.cluster.roles() {
            let ways = stage.ways(role);
            stage.cluster.options.ways.insert(role, ways);
            stage.cluster.spawn(role);
        }
        stage.cluster.ready().await;
        stage
    }

    /// How a process reaches the others: each by the proxy on its way.
    fn ways(&self, role: Role) -> Ways {
        let at = |hop| self.hops[&hop].at;
        let key_file = self.cluster.path().join(KEY_FILE).display().to_string();
        let mut args = vec!["--bus".into(), format!("memcached://{}", at(Hop::Bus(role)))];
        args.extend(["--bus-key-file".into(), key_file]);
        let mut eaters = Vec::new();
        match role {
            Role::Feeder(feeder) => {
                eaters.extend((0..EATERS).map(|eater| at(Hop::Link { feeder, eater })));
            }
            Role::Eater(eater) => args.extend(["--store".into(), url_of(at(Hop::Store(eater)), "")]),
            Role::Up => {}
        }
        let database = Some(self.database.url_by(at(Hop::Database(role)), NAME));
        Ways { database, eaters, args }
    }

    /// Where devices come in: at a feeder, past NGINX.
    pub fn entrance(&self, feeder: usize) -> Entrance {
        Entrance { url: format!("ws://{}", self.feeder(feeder)), tls: None }
    }

    /// The same as an address.
    pub fn feeder(&self, feeder: usize) -> SocketAddr {
        self.hops[&Hop::Devices(feeder)].at
    }

    /// The keys of everything in the object store.
    pub async fn objects(&self) -> BTreeSet<String> {
        let (at, access) = (self.store.at(), self.store.access());
        until("the store lists what it has", LATER, async || list(at, access).await).await
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
