//! A notifier in this process, with the stores that it stands on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use trough_notifier::{Config, Metrics, Parts};
use trough_protocol::DeviceId;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_runtime::shutdown::Shutdown;
use trough_store::outbox::{Delivery, DeliveryFilter, DeliveryId, DeliveryState, PAGE_MAX, tests_of};
use trough_store::rule::Scope;
use trough_store::sqlite::{SqliteOutbox, SqlitePresence, SqliteRegistry};
use trough_store::subscription::{NewSubscription, PushEnvironment, PushToken, PushTokenId, Target};
use trough_store::webhook::Reach;
use trough_store::{
    Event, EventId, EventKind, Group, GroupAccess, NewDevice, NewReader, Outbox, Presence, ReaderName,
    Registry, SealKey, SubscriptionId, Subscriptions,
};

use crate::poll::{SOON, until};

/// The signing key of all webhooks of these tests.
pub const SIGNING_KEY: [u8; 32] = [5; 32];

/// What a notifier stands on.
pub struct Stores {
    /// Who may see what.
    pub registry: Arc<dyn Registry>,
    /// Who wants to be told.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// What happened.
    pub outbox: Arc<dyn Outbox>,
    /// Which devices are connected.
    pub presence: Arc<dyn Presence>,
    /// Seals what is secret.
    pub seal: SealKey,
    _dir: Option<TempDir>,
}

impl Stores {
    /// In files of a new directory.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stores = Self::in_data_dir(dir.path());
        Self { _dir: Some(dir), ..stores }
    }

    /// Those of processes that have a data directory in common.
    pub fn in_data_dir(dir: &Path) -> Self {
        Self::at_time(dir, Clock::system())
    }

    /// The same, by another clock.
    pub fn at_time(dir: &Path, clock: Clock) -> Self {
        let at = |name: &str| dir.join(name);
        let registry = Arc::new(SqliteRegistry::open(&at("registry.sqlite"), clock.clone()).unwrap());
        let outbox = Arc::new(SqliteOutbox::open(&at("outbox.sqlite"), clock.clone()).unwrap());
        let presence = Arc::new(SqlitePresence::open(&at("presence.sqlite"), clock).unwrap());
        Self::of(registry.clone(), registry, outbox, presence, SealKey::new(&[9; 32]))
    }

    /// Those of a deployment, with its key.
    pub fn of(
        registry: Arc<dyn Registry>,
        subscriptions: Arc<dyn Subscriptions>,
        outbox: Arc<dyn Outbox>,
        presence: Arc<dyn Presence>,
        seal: SealKey,
    ) -> Self {
        Self { registry, subscriptions, outbox, presence, seal, _dir: None }
    }

    /// Adds a reader that sees these groups; all devices, if there are none.
    pub async fn reader(&self, name: &str, groups: &[&str]) -> ReaderName {
        let name = ReaderName::new(name).unwrap();
        let groups: std::collections::BTreeSet<_> =
            groups.iter().map(|group| Group::new(group).unwrap()).collect();
        let groups = if groups.is_empty() { GroupAccess::All } else { GroupAccess::Only(groups) };
        let scopes = trough_store::Scope::ALL.into_iter().collect();
        self.registry.add_reader(NewReader { name: name.clone(), scopes, groups }).await.unwrap();
        name
    }

    /// Adds a device in these groups.
    pub async fn device(&self, name: &str, groups: &[&str]) {
        let mut device = NewDevice::new(DeviceId::new(name).unwrap());
        device.groups = groups.iter().map(|group| Group::new(group).unwrap()).collect();
        self.registry.add_device(device).await.unwrap();
    }

    /// What a webhook for everything wants, to be changed and added.
    pub fn webhook(&self, owner: &ReaderName, name: &str, url: String) -> NewSubscription {
        let id = SubscriptionId::of(&[name.as_bytes()]);
        let keys = vec![self.seal.seal(&SIGNING_KEY, &id.to_string())];
        self.wanting(id, owner, Target::Webhook { url, keys, old_key_until: None })
    }

    /// The same for pushes.
    pub fn pushes(&self, owner: &ReaderName, name: &str) -> NewSubscription {
        self.wanting(SubscriptionId::of(&[name.as_bytes()]), owner, Target::Push)
    }

    fn wanting(&self, id: SubscriptionId, owner: &ReaderName, target: Target) -> NewSubscription {
        NewSubscription {
            id,
            owner: owner.clone(),
            events: Default::default(),
            rules: Default::default(),
            scope: Scope::All,
            target,
            quiet: None,
            coalesce: Duration::ZERO,
        }
    }

    /// Adds a subscription.
    pub async fn subscribe(&self, wanted: NewSubscription) -> SubscriptionId {
        self.subscriptions.add_subscription(wanted).await.unwrap().wanted.id
    }

    /// A phone as it registers.
    pub fn phone(&self, owner: &ReaderName, token: &str, topic: &str, registered_at: u64) -> PushToken {
        let id = PushTokenId::of(&[token.as_bytes()]);
        PushToken {
            id,
            owner: owner.clone(),
            token: self.seal.seal(token.as_bytes(), &id.to_string()),
            environment: PushEnvironment::Sandbox,
            topic: topic.to_owned(),
            registered_at,
        }
    }

    /// All deliveries of a subscription, oldest first.
    pub async fn deliveries(&self, of: SubscriptionId) -> Vec<Delivery> {
        let filter =
            DeliveryFilter { subscriptions: Some(vec![of]), limit: PAGE_MAX, ..DeliveryFilter::default() };
        let mut deliveries = self.outbox.list_deliveries(filter).await.unwrap();
        deliveries.sort_by_key(|delivery| delivery.position);
        deliveries
    }

    /// Waits until so many deliveries of a subscription are in a state.
    pub async fn reach(&self, of: SubscriptionId, state: DeliveryState, count: usize) -> Vec<Delivery> {
        until(&format!("{count} deliveries are {state:?}"), SOON, async || {
            let mut deliveries = self.deliveries(of).await;
            deliveries.retain(|delivery| delivery.state == state);
            (deliveries.len() == count).then_some(deliveries)
        })
        .await
    }

    /// Has a test sent to a webhook, or to a phone.
    pub async fn test(&self, of: SubscriptionId, phone: Option<&PushToken>) -> DeliveryId {
        let subscription = self.subscriptions.get_subscription(of).await.unwrap();
        let tests = tests_of(&subscription, phone.map_or(&[], std::slice::from_ref), 0);
        self.outbox.deliver_test(tests[0].clone()).await.unwrap()
    }
}

impl Default for Stores {
    fn default() -> Self {
        Self::new()
    }
}

/// An event of a rule, the `number`th of a device.
pub fn event(device: &str, number: u64) -> Event {
    Event {
        id: EventId::of(&[device.as_bytes(), &number.to_be_bytes()]),
        kind: EventKind::RuleMatched,
        at: 1_782_907_200_000_000 + number,
        rule: Some("fast".parse().unwrap()),
        device: Some(DeviceId::new(device).unwrap()),
        group: None,
        frame: None,
        trace: None,
        data: RawValue::from_string(format!(r#"{{"number":{number}}}"#)).unwrap(),
    }
}

/// A notifier that runs.
pub struct Notifier {
    shutdown: Shutdown,
    task: JoinHandle<Result<(), trough_notifier::StartError>>,
    /// How it says that it is.
    pub health: Health,
}

impl Notifier {
    /// Starts one that may go anywhere.
    pub fn start(stores: &Stores, config: Config) -> Self {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let health = Health::new();
        let parts = Parts {
            registry: stores.registry.clone(),
            subscriptions: stores.subscriptions.clone(),
            outbox: stores.outbox.clone(),
            presence: stores.presence.clone(),
            seal: stores.seal.clone(),
            bus: None,
            clock: Clock::system(),
            health: health.clone(),
            metrics: Metrics::register(&mut trough_runtime::metrics::Registry::default()),
            shutdown: shutdown.clone(),
        };
        let reach = Reach { http: true, private_networks: true };
        let task = tokio::spawn(trough_notifier::run(parts, Config { reach, ..config }));
        Self { shutdown, task, health }
    }

    /// Waits until it ends by itself: whether it has panicked.
    pub async fn panics(self) -> bool {
        self.task.await.is_err_and(|error| error.is_panic())
    }

    /// Stops it, and waits until what is on its way has ended.
    pub async fn stop(self) {
        let outcome = self.shutdown.clone().finish().await;
        assert!(outcome.is_clean(), "{outcome:?}");
        self.task.await.unwrap().unwrap();
    }
}

/// Whether every call is signed as the specification says, by its reference implementation for Python. Gives what it
/// says of the first one that is not.
pub fn verify(secret: &[u8], calls: &[crate::servers::hooks::Call]) -> Result<usize, String> {
    use base64::Engine as _;
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let lines: Vec<_> = calls
        .iter()
        .map(|call| {
            let headers: std::collections::BTreeMap<_, _> = call
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
                .collect();
            let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(secret));
            let body = std::str::from_utf8(&call.body).unwrap();
            serde_json::json!({ "secret": secret, "headers": headers, "body": body }).to_string()
        })
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify_webhooks.py");
    let mut python = Command::new(crate::servers::program("python3"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() {
        true => said.parse().map_err(|_| said),
        false => Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))),
    }
}
