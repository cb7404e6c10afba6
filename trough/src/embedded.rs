//! A whole deployment in this process: `trough up`, and the server of the demo.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use trough_bus::local::Local;
use trough_bus::{Deployment, Environment};
use trough_eater::{CommandDesk, LinkListener, NoticeDesk, WatchStores};
use trough_feeder::{CommandParts, Eaters, Watched};
use trough_runtime::health::State;
use trough_runtime::local;
use trough_runtime::shutdown::Shutdown;
use trough_runtime::tls::Purpose;
use trough_store::{Registry, SealKey};

use crate::notify::NotifySettings;
use crate::registry::Place;
use crate::seal::SealChoice;
use crate::service::{Chassis, Part};
use crate::storage::HistoryChoice;
use crate::tls::Watcher;
use crate::traces::TraceSettings;

/// How often is looked whether the journal is open. Devices that come sooner wait in the listener's queue.
const READY_POLL: Duration = Duration::from_millis(5);

/// What is served where.
#[derive(Debug)]
pub struct Sockets {
    /// For devices.
    pub devices: TcpListener,
    /// For readers.
    pub api: TcpListener,
    /// For metrics and probes.
    pub admin: TcpListener,
}

/// How subscribers are told, and operators shown.
pub struct Telling {
    /// Where webhooks may lead to, and as whom is pushed.
    pub notify: NotifySettings,
    /// Opens what is sealed.
    pub seal: SealChoice,
    /// Where traces go.
    pub traces: TraceSettings,
}

/// A deployment that runs.
pub struct Embedded {
    /// Who may do what.
    pub registry: Arc<dyn Registry>,
    /// What to wait for.
    pub parts: Vec<Part>,
}

/// Starts one and returns when it is ready.
///
/// # Errors
/// The stores cannot be opened, or the journal refuses to start.
pub async fn start(
    data_dir: &Path,
    sockets: Sockets,
    mut config: trough_feeder::Config,
    history: HistoryChoice,
    telling: Telling,
    shutdown: Shutdown,
) -> Result<Embedded> {
    let mut chassis = Chassis::new(Place::of(data_dir, None), shutdown.clone())?;
    let storage = history.open_local(data_dir, &mut chassis)?;
    let feeder_metrics = trough_feeder::Metrics::register(&mut chassis.metrics);
    let eater_metrics = trough_eater::Metrics::register(&mut chassis.metrics);
    config.tracer = telling.traces.start(&mut chassis)?;
    let (seal, reach) = (telling.seal.needed()?, telling.notify.reach());
    let config_of_notifier =
        trough_notifier::Config { tracer: config.tracer.clone(), ..trough_notifier::Config::alone() };
    let notifier = notifier(telling.notify.into_config(config_of_notifier), seal.clone(), &mut chassis);
    let stores = chassis.stores.clone();
    let watcher = Watcher::new(&mut chassis);
    chassis.serve_admin(sockets.admin);
    watcher.watch(config.tls.as_ref(), Purpose::Http, &chassis);
    let (connector, links) = local::pair();

    // Readers' requests reach the sessions of this process by it.
    let environment = Environment::new("embedded").context("the bus of this process cannot be made")?;
    let bell = Deployment::new(Arc::new(Local::default()), environment);

    let after_feeder = follower(&shutdown);
    let mut eater_config = trough_eater::Config::default();
    eater_config.api.linger = config.drain_linger;
    // One certificate for both ports.
    eater_config.tls.clone_from(&config.tls);
    eater_config.tracer = config.tracer.clone();
    let eater = trough_eater::Parts {
        registry: chassis.registry.clone(),
        bus: None,
        watch: Some(WatchStores {
            subscriptions: stores.subscriptions.clone(),
            outbox: stores.outbox.clone(),
        }),
        commands: CommandDesk { store: stores.commands.clone(), bus: Some(bell.clone()) },
        notices: NoticeDesk {
            subscriptions: stores.subscriptions.clone(),
            outbox: stores.outbox.clone(),
            seal: Some(seal),
            reach,
            // The notifier is here, and hears the outbox itself.
            bus: None,
        },
        storage,
        clock: chassis.clock.clone(),
        health: chassis.health.clone(),
        metrics: eater_metrics,
        shutdown: after_feeder.clone(),
    };
    let eater = trough_eater::run(LinkListener::Local(links), sockets.api, eater, eater_config);
    let eater_shutdown = after_feeder.clone();
    let mut eater = shutdown.tasks.spawn(async move {
        let result = eater.await.context("the eater failed");
        eater_shutdown.finish().await;
        result
    });
    while chassis.health.state() == State::Starting {
        tokio::select! {
            ended = &mut eater => {
                // Whatever it was, it never became ready.
                ended.context("the eater has panicked while it started")??;
                break;
            }
            () = tokio::time::sleep(READY_POLL) => {}
        }
    }

    let feeder = trough_feeder::Parts {
        registry: chassis.registry.clone(),
        // The only feeder has nobody to tell.
        bus: None,
        watched: Some(Watched { presence: stores.presence, subscriptions: stores.subscriptions }),
        commands: Some(CommandParts { store: stores.commands, bus: Some(bell) }),
        clock: chassis.clock,
        health: chassis.health,
        metrics: feeder_metrics,
        shutdown: shutdown.clone(),
    };
    let feeder = trough_feeder::run(sockets.devices, Eaters::Local(connector), feeder, config);
    let feeder = shutdown.tasks.spawn(async move {
        let result = feeder.await.context("the feeder failed");
        after_feeder.begin();
        result
    });
    let notifier = shutdown.tasks.spawn(async move { notifier.await.context("the notifier failed") });
    let parts = vec![("feeder", feeder), ("eater", eater), ("notifier", notifier)];
    Ok(Embedded { registry: chassis.registry, parts })
}

/// The notifier, to be started when the others are ready.
fn notifier(
    config: trough_notifier::Config,
    seal: SealKey,
    chassis: &mut Chassis,
) -> impl Future<Output = Result<(), trough_notifier::StartError>> + use<> {
    let stores = chassis.stores.clone();
    let parts = trough_notifier::Parts {
        registry: stores.registry,
        subscriptions: stores.subscriptions,
        outbox: stores.outbox,
        presence: stores.presence,
        seal,
        bus: None,
        clock: chassis.clock.clone(),
        health: chassis.health.clone(),
        metrics: trough_notifier::Metrics::register(&mut chassis.metrics),
        shutdown: chassis.shutdown.clone(),
    };
    trough_notifier::run(parts, config)
}

/// The eater stops after the feeder: what devices have sent is still made durable and acknowledged.
fn follower(shutdown: &Shutdown) -> Shutdown {
    let follower = Shutdown::new(shutdown.grace);
    let (killed, follow) = (shutdown.killed.clone(), follower.clone());
    tokio::spawn(async move {
        killed.cancelled().await;
        follow.begin();
        follow.killed.cancel();
    });
    follower
}
