//! Two feeders and more on one bus, without their sockets.
//!
//! 1. A session that begins on one feeder ends the older one on the other, and no other.
//! 2. Of sessions that begin everywhere at the same time exactly one stays.
//! 3. A wiped bus: values are there again, only those are ended that have a newer session, and takeovers work.
//! 4. A message that was missed is made up for by the values, if their feeder lives.
//! 5. A thousand sessions at once are a few messages.
//! 6. A bus that is away: nothing waits, and what has begun is told when it is back.
//! 7. What others write ends a session at the worst.

use bytes::Bytes;
use tokio::task::AbortHandle;
use trough_bus::local::Local;
use trough_bus::memcached::{BusMetrics, Memcached, Report};
use trough_bus::{Bus, Environment};
use trough_protocol::close::CloseCode;
use trough_runtime::clock::Clock;
use trough_runtime::health::Health;
use trough_store::TokenId;

use super::*;

const DELAY: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);

/// A feeder, as far as its neighbours know it.
struct Node {
    presence: Arc<Presence>,
    feeder: Feeder,
    metrics: Metrics,
    deployment: Deployment,
    tasks: [AbortHandle; 2],
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Node {
    fn start(bus: Arc<dyn Bus>) -> Self {
        let deployment = Deployment::new(bus, Environment::new("sandbox").unwrap());
        let feeder = Feeder::new(trough_runtime::random::link_id());
        let (presence, metrics) = (Arc::new(Presence::told()), Metrics::default());
        let shutdown = Shutdown::new(GRACE);
        let lease = deployment.key(&feeder.lease());
        let lease = tokio::spawn(lease::keep(deployment.clone(), lease, shutdown.clone())).abort_handle();
        let (presence_there, there) = (presence.clone(), deployment.clone());
        let neighbours = Neighbours::new(there, feeder.clone(), presence_there, DELAY, &metrics);
        let tasks = [lease, tokio::spawn(neighbours.run(shutdown)).abort_handle()];
        Self { presence, feeder, metrics, deployment, tasks }
    }

    fn open(&self, device: &DeviceId) -> Arc<Control> {
        let control = Control::new(TokenId::random(), LinkId([0; 16]));
        self.presence.enter(device, &control, DELAY);
        control
    }

    /// Where the bus says that a device's session is.
    async fn place_of(&self, device: &DeviceId) -> Option<(Feeder, u64)> {
        let key = self.deployment.key(&record::place_key(device));
        record::read_place(&self.deployment.bus().get(&key).await.unwrap()?)
    }

    async fn has(&self, device: &DeviceId) {
        until("the bus has it", async || {
            self.place_of(device).await.filter(|(feeder, _)| *feeder == self.feeder).map(drop)
        })
        .await;
    }
}

/// On a clock that goes on by itself when nobody has anything to do.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

async fn is_ended(control: &Control) {
    let ending = until("the session is told to end", async || control.requested()).await;
    assert_eq!(ending.code, CloseCode::TakenOver);
    assert!(ending.retry_after.unwrap() >= DELAY);
}

#[tokio::test(start_paused = true)]
async fn a_newer_session_ends_the_older_on_another_feeder_and_no_other() {
    let bus = Local::new();
    let [one, other] = [Node::start(Arc::new(bus.clone())), Node::start(Arc::new(bus.clone()))];
    let (moved, stays) = (device("moved"), device("stays"));
    one.open(&moved);
    let neighbour = one.open(&stays);
    one.has(&moved).await;
    for (from, to) in [(&one, &other), (&other, &one), (&one, &other)] {
        let left = from.presence.session(&moved).unwrap();
        let newer = to.open(&moved);
        is_ended(&left).await;
        from.presence.leave(&moved, &left);
        to.has(&moved).await;
        assert_eq!(newer.requested(), None);
        assert!(newer.order() > left.order());
    }
    assert_eq!((one.metrics.taken_elsewhere.get(), other.metrics.taken_elsewhere.get()), (2, 1));
    assert_eq!(neighbour.requested(), None);
    one.has(&stays).await;
    // One that has ended by itself is nowhere.
    one.presence.leave(&stays, &neighbour);
    until("it is nowhere", async || one.place_of(&stays).await.is_none().then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn of_sessions_that_begin_everywhere_at_once_one_stays() {
    let bus = Local::new();
    let nodes: Vec<_> = (0..4).map(|_| Node::start(Arc::new(bus.clone()))).collect();
    for round in 0..50 {
        let device = device(&format!("device-{round}"));
        let sessions: Vec<_> = nodes.iter().map(|node| node.open(&device)).collect();
        let mut ended = [false; 4];
        until("all but one are told to end", async || {
            for (session, ended) in sessions.iter().zip(&mut ended) {
                *ended |= session.requested().is_some();
            }
            (ended.iter().filter(|ended| **ended).count() == 3).then_some(())
        })
        .await;
        // Nor does anybody change their mind later.
        tokio::time::sleep(Duration::from_secs(200)).await;
        let survivor = ended.iter().position(|ended| !ended).unwrap();
        assert_eq!(sessions[survivor].requested(), None);
        nodes[survivor].has(&device).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wiped_bus_ends_no_newest_session_and_takeovers_work() {
    let bus = Local::new();
    let [one, other] = [Node::start(Arc::new(bus.clone())), Node::start(Arc::new(bus.clone()))];
    let devices: Vec<_> = (0..600).map(|n| device(&format!("device-{n}"))).collect();
    let sessions: Vec<_> = devices.iter().map(|device| one.open(device)).collect();
    one.has(&devices[599]).await;
    bus.wipe();
    // The first that is told of after a wipe is what shows it, so that nobody hears of it.
    let first = device("first");
    let (older, newer) = (one.open(&first), other.open(&first));
    let ended = until("one of them ends", async || {
        [&older, &newer].into_iter().position(|session| session.requested().is_some())
    })
    .await;
    let [from, to] = if ended == 0 { [&one, &other] } else { [&other, &one] };
    from.presence.leave(&first, &[older, newer][ended]);
    to.has(&first).await;
    for device in &devices {
        one.has(device).await;
    }
    assert!(sessions.iter().all(|session| session.requested().is_none()));
    for (device, session) in devices.iter().zip(&sessions) {
        other.open(device);
        is_ended(session).await;
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_that_begin_anew_below_what_was_told_before() {
    let bus = Local::new();
    let node = Node::start(Arc::new(bus.clone()));
    let device = device("d");
    let session = node.open(&device);
    node.has(&device).await;
    // As if the clock of whoever made the topic first had been far ahead.
    session.set_order(1 << 52);
    bus.wipe();
    until("it comes before all that follows", async || (session.order() == 0).then_some(())).await;
    assert_eq!(session.requested(), None);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_missed_is_made_up_for_if_its_feeder_lives() {
    let bus = Local::new();
    let one = Node::start(Arc::new(bus.clone()));
    for lives in [false, true] {
        let device = device(&format!("lives-{lives}"));
        let session = one.open(&device);
        one.has(&device).await;
        // What another feeder has written, whose message nobody heard.
        let other = Feeder::new(trough_runtime::random::link_id());
        let key = one.deployment.key(&record::place_key(&device));
        let lease = one.deployment.key(&other.lease());
        let lease = if lives { bus.acquire(&lease, Duration::from_secs(10)).await.unwrap() } else { None };
        bus.set(&key, record::place(&other, session.order() + 1), PLACE_TTL).await.unwrap();
        if lives {
            is_ended(&session).await;
            assert_eq!(one.place_of(&device).await.unwrap().0, other);
        } else {
            one.has(&device).await;
            assert_eq!(session.requested(), None);
        }
        drop(lease);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_sessions_at_once_are_a_few_messages() {
    let bus = Local::new();
    let node = Node::start(Arc::new(bus.clone()));
    let mut listener = bus.subscribe(&node.deployment.topic("sessions"));
    assert_eq!(listener.next().await, Event::Rescan(Cause::Began));
    let devices: Vec<_> = (0..1000).map(|n| device(&format!("device-{n}"))).collect();
    devices.iter().for_each(|device| drop(node.open(device)));
    let (mut told, mut messages) = (0, 0);
    while told < 1000 {
        if let Event::Message(message) = listener.next().await {
            told += record::read_began(&message).unwrap().1.len();
            messages += 1;
        }
    }
    assert!(told == 1000 && messages <= 5, "{told} sessions in {messages} messages");
    for device in &devices {
        node.has(device).await;
    }
}

#[tokio::test]
async fn while_the_bus_is_away_nothing_waits_and_nothing_ends() {
    let health = Health::new();
    let report = Report { part: "bus", health: health.clone(), metrics: BusMetrics::default() };
    let away = Memcached::reporting("memcached://127.0.0.1:1".parse().unwrap(), Clock::system(), report);
    let node = Node::start(Arc::new(away));
    let session = node.open(&device("d"));
    until("the bus is known to be away", async || (!health.degraded().is_empty()).then_some(())).await;
    assert_eq!((session.requested(), session.order()), (None, UNTOLD));
    // It is still to be told of.
    until("it was put back", async || node.presence.take_changed(1).pop()).await;
}

#[tokio::test(start_paused = true)]
async fn what_others_write_ends_a_session_at_the_worst() {
    let bus = Local::new();
    let node = Node::start(Arc::new(bus.clone()));
    let (device, topic) = (device("d"), node.deployment.topic("sessions"));
    let session = node.open(&device);
    node.has(&device).await;
    for nonsense in [&b""[..], b"{", b"{\"feeder\":7}", &[0xff; 1000]] {
        bus.publish(&topic, Bytes::copy_from_slice(nonsense)).await.unwrap();
    }
    let key = node.deployment.key(&record::place_key(&device));
    bus.set(&key, Bytes::from_static(b"nonsense"), PLACE_TTL).await.unwrap();
    node.has(&device).await;
    assert_eq!(session.requested(), None);
    // A forged message of a feeder that does not exist.
    let forged =
        record::began(&Feeder::new(trough_runtime::random::link_id()), std::slice::from_ref(&device));
    bus.publish(&topic, forged).await.unwrap();
    is_ended(&session).await;
    // The device comes back, and stays.
    node.presence.leave(&device, &session);
    let again = node.open(&device);
    node.has(&device).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(again.requested(), None);
}
