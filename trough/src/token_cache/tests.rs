//! The cache over a registry in a file and an in-process bus.
//!
//! 1. It passes the registry's suite, also with a memcached that is away.
//! 2. A grant comes from the cache: the registry is not asked again.
//! 3. A revocation by another process holds at once where its doorbell is heard, and in a process that began later.
//! 4. With no bus between them, it holds when the grant expires, or as soon as the registry says that it changed.
//! 5. With a cache of its own, grants lie there and nothing else: it may be wiped, and a revocation holds.
//! 6. The same token in two environments shares nothing; what others write on the bus opens nothing.

use std::path::Path;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use trough_bus::local::Local;
use trough_bus::memcached::Memcached;
use trough_store::conformance::{Fixture, START};
use trough_store::registry_suite;
use trough_store::sqlite::SqliteRegistry;

use super::*;

fn environment(name: &str) -> Environment {
    Environment::new(name).unwrap()
}

fn sealer(name: &str) -> Sealer {
    Sealer::new(vec![7; 32], environment(name)).unwrap()
}

fn fixture(bus: Arc<dyn Bus>) -> Fixture<dyn Registry> {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("registry.db"), Clock::manual(START));
    let time = clock.clone();
    let open = move || -> Arc<dyn Registry> {
        let inner = Arc::new(SqliteRegistry::open(&path, time.clone()).unwrap());
        let deployment = Deployment::new(bus.clone(), environment("sandbox"));
        let (cache, sealer) = (bus.clone(), Some(sealer("sandbox")));
        Arc::new(CachedRegistry::new(inner, deployment, cache, sealer, time.clone()))
    };
    Fixture { clock, open: Box::new(open), keep: Box::new(directory) }
}

mod over_the_local_bus {
    use super::*;
    registry_suite!(fixture(Arc::new(Local::new())));
}

mod while_memcached_is_away {
    use super::*;
    registry_suite!(fixture(Arc::new(Memcached::new(
        "memcached://127.0.0.1:1".parse().unwrap(),
        Clock::system()
    ))));
}

/// A registry that counts how often it is asked, and whose changes are noticed by nobody.
struct Counting {
    inner: SqliteRegistry,
    asked: AtomicUsize,
    silent: watch::Sender<u64>,
}

impl Counting {
    fn open(path: &Path, clock: &Clock) -> Arc<Self> {
        let inner = SqliteRegistry::open(path, clock.clone()).unwrap();
        Arc::new(Self { inner, asked: AtomicUsize::new(0), silent: watch::Sender::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

macro_rules! passed_on {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $name<'a>(&'a self, $($argument: $type),*) -> BoxFuture<'a, $result> {
            self.inner.$name($($argument),*)
        }
    )*};
}

impl Registry for Counting {
    fn add_device(&self, device: NewDevice) -> BoxFuture<'_, Result<Token, RegistryError>> {
        self.inner.add_device(device)
    }
    fn import_devices(
        &self,
        devices: Vec<NewDevice>,
    ) -> BoxFuture<'_, Result<Vec<(DeviceId, Token)>, RegistryError>> {
        self.inner.import_devices(devices)
    }
    fn list_devices(&self, filter: DeviceFilter) -> BoxFuture<'_, Result<Vec<DeviceRecord>, RegistryError>> {
        self.inner.list_devices(filter)
    }
    fn add_reader(&self, reader: NewReader) -> BoxFuture<'_, Result<Token, RegistryError>> {
        self.inner.add_reader(reader)
    }
    fn list_readers(&self) -> BoxFuture<'_, Result<Vec<ReaderRecord>, RegistryError>> {
        self.inner.list_readers()
    }
    fn set_retention(&self, policy: RetentionPolicy) -> BoxFuture<'_, Result<(), RegistryError>> {
        self.inner.set_retention(policy)
    }
    fn list_retention(&self) -> BoxFuture<'_, Result<Vec<RetentionRecord>, RegistryError>> {
        self.inner.list_retention()
    }
    fn set_position_schema(&self, schema: PositionSchema) -> BoxFuture<'_, Result<(), RegistryError>> {
        self.inner.set_position_schema(schema)
    }
    fn list_position_schemas(&self) -> BoxFuture<'_, Result<Vec<PositionSchema>, RegistryError>> {
        self.inner.list_position_schemas()
    }
    passed_on! {
        remove_position_schema(channel: &'a Channel) -> Result<(), RegistryError>;
        get_device(id: &'a DeviceId) -> Result<DeviceRecord, RegistryError>;
        rotate_device(id: &'a DeviceId, keep_old: Option<Duration>) -> Result<Token, RegistryError>;
        revoke_device(id: &'a DeviceId) -> Result<(), RegistryError>;
        set_groups(id: &'a DeviceId, groups: BTreeSet<Group>) -> Result<(), RegistryError>;
        tokens_revoked(ids: &'a [TokenId]) -> Result<Vec<TokenId>, RegistryError>;
        grant_epoch(device: &'a DeviceId) -> Result<Epoch, RegistryError>;
        current_epoch(device: &'a DeviceId) -> Result<Epoch, RegistryError>;
        get_reader(name: &'a ReaderName) -> Result<ReaderRecord, RegistryError>;
        revoke_reader(name: &'a ReaderName) -> Result<(), RegistryError>;
        enforce_retention(group: &'a Group, set_at: Micros) -> Result<(), RegistryError>;
        remove_retention(group: &'a Group) -> Result<(), RegistryError>;
        note_retention(group: &'a Group, set_at: Micros, note: RetentionNote) -> Result<(), RegistryError>;
    }
    fn authenticate_device<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<DeviceGrant, AuthError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.inner.authenticate_device(token)
    }
    fn authenticate_reader<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ReaderGrant, AuthError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.inner.authenticate_reader(token)
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.silent.subscribe()
    }
}

/// Processes that share a registry and a time, and nothing else unless a test says so.
struct World {
    directory: tempfile::TempDir,
    clock: Clock,
}

struct Process {
    registry: CachedRegistry,
    inner: Arc<Counting>,
}

impl World {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: Clock::manual(START) }
    }

    /// A process on this bus, for this environment.
    fn process(&self, bus: &Local, name: &str) -> Process {
        let bus: Arc<dyn Bus> = Arc::new(bus.clone());
        self.process_on(bus.clone(), bus, name)
    }

    /// One with a cache of its own.
    fn process_on(&self, bus: Arc<dyn Bus>, cache: Arc<dyn Bus>, name: &str) -> Process {
        let inner = Counting::open(&self.directory.path().join("registry.db"), &self.clock);
        let (deployment, sealer) = (Deployment::new(bus, environment(name)), Some(sealer(name)));
        let registry = CachedRegistry::new(inner.clone(), deployment, cache, sealer, self.clock.clone());
        Process { registry, inner }
    }
}

fn device() -> DeviceId {
    DeviceId::new("bus-1").unwrap()
}

async fn add_device(process: &Process) -> Token {
    process.registry.add_device(NewDevice::new(device())).await.unwrap()
}

#[tokio::test]
async fn a_grant_is_looked_up_once_for_all_processes_until_it_expires() {
    let (world, bus) = (World::new(), Local::new());
    let [one, other] = [world.process(&bus, "sandbox"), world.process(&bus, "sandbox")];
    let token = add_device(&one).await;
    for process in [&one, &one, &other] {
        let grant = process.registry.authenticate_device(token.expose()).await.unwrap();
        assert_eq!((grant.device, grant.token_id), (device(), token.id));
    }
    assert_eq!((one.inner.asked(), other.inner.asked()), (1, 0));
    world.clock.advance(TTL);
    other.registry.authenticate_device(token.expose()).await.unwrap();
    assert_eq!(other.inner.asked(), 1);
    // A refusal is never kept.
    let unknown = Token::random(TokenKind::Device);
    for asked in 2..4 {
        let refused = other.registry.authenticate_device(unknown.expose()).await;
        assert_eq!((refused, other.inner.asked()), (Err(AuthError::Unknown), asked));
    }
}

#[tokio::test]
async fn a_revocation_holds_wherever_its_doorbell_is_heard() {
    let (world, bus) = (World::new(), Local::new());
    let [one, other] = [world.process(&bus, "sandbox"), world.process(&bus, "sandbox")];
    let token = add_device(&one).await;
    let mut changes = other.registry.changes();
    other.registry.authenticate_device(token.expose()).await.unwrap();
    one.registry.revoke_device(&device()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), changes.changed()).await.unwrap().unwrap();
    let later = world.process(&bus, "sandbox");
    for process in [&one, &other, &later] {
        let refused = process.registry.authenticate_device(token.expose()).await;
        assert_eq!(refused, Err(AuthError::Revoked));
    }
}

/// A slow process puts a grant from before the revocation into the cache after it.
#[tokio::test]
async fn a_grant_that_was_looked_up_before_the_doorbell_is_not_believed_after_it() {
    let (world, bus) = (World::new(), Local::new());
    let [one, other] = [world.process(&bus, "sandbox"), world.process(&bus, "sandbox")];
    let token = add_device(&one).await;
    other.registry.authenticate_device(token.expose()).await.unwrap();
    let shown = PresentedToken::parse(TokenKind::Device, token.expose()).unwrap();
    let key = key(&environment("sandbox"), TokenKind::Device, &shown);
    let kept = bus.get(&key).await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(1));
    one.registry.revoke_device(&device()).await.unwrap();
    bus.set(&key, kept, TTL).await.unwrap();
    // The time on the bus is enough, whether or not the bell was heard yet.
    for process in [&one, &other] {
        let refused = process.registry.authenticate_device(token.expose()).await;
        assert_eq!(refused, Err(AuthError::Revoked));
    }
}

#[tokio::test]
async fn without_a_bus_between_them_it_holds_when_the_grant_expires() {
    let world = World::new();
    let [one, other] = [world.process(&Local::new(), "sandbox"), world.process(&Local::new(), "sandbox")];
    let token = add_device(&one).await;
    other.registry.authenticate_device(token.expose()).await.unwrap();
    one.registry.revoke_device(&device()).await.unwrap();
    // The bell is not heard there: this is what the cache's life bounds.
    assert!(other.registry.authenticate_device(token.expose()).await.is_ok());
    world.clock.advance(TTL);
    assert_eq!(other.registry.authenticate_device(token.expose()).await, Err(AuthError::Revoked));
}

#[tokio::test]
async fn what_the_registry_itself_says_holds_without_any_bell() {
    let world = World::new();
    let [one, other] = [world.process(&Local::new(), "sandbox"), world.process(&Local::new(), "sandbox")];
    let token = add_device(&one).await;
    other.registry.authenticate_device(token.expose()).await.unwrap();
    let mut changes = other.registry.changes();
    one.registry.revoke_device(&device()).await.unwrap();
    other.inner.silent.send_modify(|seen| *seen += 1);
    tokio::time::timeout(Duration::from_secs(30), changes.changed()).await.unwrap().unwrap();
    assert_eq!(other.registry.authenticate_device(token.expose()).await, Err(AuthError::Revoked));
}

#[tokio::test]
async fn a_cache_of_its_own_has_the_grants_and_nothing_else() {
    let (world, bus, cache) = (World::new(), Local::new(), Local::new());
    let process = || world.process_on(Arc::new(bus.clone()), Arc::new(cache.clone()), "sandbox");
    let [one, other] = [process(), process()];
    let token = add_device(&one).await;
    for process in [&one, &other] {
        process.registry.authenticate_device(token.expose()).await.unwrap();
    }
    assert_eq!((one.inner.asked(), other.inner.asked()), (1, 0));
    let shown = PresentedToken::parse(TokenKind::Device, token.expose()).unwrap();
    let key = key(&environment("sandbox"), TokenKind::Device, &shown);
    assert_eq!(bus.get(&key).await.unwrap(), None);
    let kept = cache.get(&key).await.unwrap().unwrap();
    one.registry.revoke_device(&device()).await.unwrap();
    // What the doorbell has left must not be evicted: a process that begins now would believe the grant.
    assert_eq!(cache.get(one.registry.doorbell.changed_key()).await.unwrap(), None);
    cache.set(&key, kept, TTL).await.unwrap();
    let later = process();
    assert_eq!(later.registry.authenticate_device(token.expose()).await, Err(AuthError::Revoked));
}

/// The fault of the services before: a token of a developer's deployment was good in production.
#[tokio::test]
async fn one_readers_token_in_two_environments_shares_nothing() {
    let (world, elsewhere, bus) = (World::new(), World::new(), Local::new());
    let production = world.process(&bus, "production");
    let sandbox = elsewhere.process(&bus, "sandbox");
    let reader = NewReader {
        name: ReaderName::new("app").unwrap(),
        scopes: trough_store::Scope::ALL.into(),
        groups: trough_store::GroupAccess::All,
    };
    let token = production.registry.add_reader(reader).await.unwrap();
    for _ in 0..2 {
        production.registry.authenticate_reader(token.expose()).await.unwrap();
        let refused = sandbox.registry.authenticate_reader(token.expose()).await;
        assert_eq!(refused, Err(AuthError::Unknown));
    }
    assert_eq!((production.inner.asked(), sandbox.inner.asked()), (1, 2));
    // Nor if somebody copies the entry from one to the other.
    let shown = PresentedToken::parse(TokenKind::Reader, token.expose()).unwrap();
    let [from, to] = ["production", "sandbox"].map(|name| key(&environment(name), TokenKind::Reader, &shown));
    let kept = bus.get(&from).await.unwrap().unwrap();
    bus.set(&to, kept, TTL).await.unwrap();
    assert_eq!(sandbox.registry.authenticate_reader(token.expose()).await, Err(AuthError::Unknown));
}

#[tokio::test]
async fn whoever_can_write_the_bus_opens_nothing() {
    let (world, bus) = (World::new(), Local::new());
    let process = world.process(&bus, "sandbox");
    let token = add_device(&process).await;
    process.registry.authenticate_device(token.expose()).await.unwrap();
    let key_of = |token: &Token| {
        let shown = PresentedToken::parse(TokenKind::Device, token.expose()).unwrap();
        key(&environment("sandbox"), TokenKind::Device, &shown)
    };
    assert!(!key_of(&token).as_str().contains(&token.expose()[18..]), "no token is in a key");
    let kept = bus.get(&key_of(&token)).await.unwrap().unwrap();
    let forged = Token::random(TokenKind::Device);
    let other = Sealer::new(vec![8; 32], environment("sandbox")).unwrap();
    let sealed = sealer("sandbox").open(&key_of(&token), &kept).unwrap();
    for value in [kept, other.seal(&key_of(&forged), &sealed), Bytes::new()] {
        bus.set(&key_of(&forged), value, TTL).await.unwrap();
        let refused = process.registry.authenticate_device(forged.expose()).await;
        assert_eq!(refused, Err(AuthError::Unknown));
    }
    // At the worst, nothing is cached any more.
    bus.set(process.registry.doorbell.changed_key(), Bytes::from_static(&[255; 8]), TTL).await.unwrap();
    let asked = process.inner.asked();
    process.registry.authenticate_device(token.expose()).await.unwrap();
    assert_eq!(process.inner.asked(), asked + 1);
}

#[tokio::test]
async fn the_cache_is_used_again_some_seconds_after_a_change() {
    let (world, bus) = (World::new(), Local::new());
    let process = world.process(&bus, "sandbox");
    let token = add_device(&process).await;
    process.registry.set_groups(&device(), BTreeSet::new()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while process.registry.distrusted_until.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "the own bell is heard");
        sleep(Duration::from_millis(5)).await;
    }
    world.clock.advance(SKEW + Duration::from_micros(1));
    for _ in 0..3 {
        process.registry.authenticate_device(token.expose()).await.unwrap();
    }
    assert_eq!(process.inner.asked(), 1);
}
