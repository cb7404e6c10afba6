//! A feeder's errands over a real store, without sockets.
//!
//! 1. What waits is sent when a session opens; the answer is stored, and makes room for the next.
//! 2. A thousand sessions that open at once are a few questions.
//! 3. The doorbell names a device; without one, the store's own word is enough.
//! 4. A new session of a device is sent again what the one before did not answer.
//! 5. A session that takes no commands is sent none, and answers to what was not sent change nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::task::AbortHandle;
use trough_bus::Environment;
use trough_bus::local::Local;
use trough_protocol::ContentType;
use trough_protocol::device::{Command, CommandId, CommandStatus};
use trough_runtime::clock::Clock;
use trough_store::commands::{AddedCommand, CommandFilter, NewCommand, SweptCommands};
use trough_store::sqlite::SqliteRegistry;
use trough_store::{BoxFuture, NewDevice, Registry, RegistryError, TokenId};

use super::*;
use crate::presence::Control;

const DELAY: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(30);

/// A store that counts what it is asked.
struct Counting {
    inner: SqliteRegistry,
    questions: AtomicUsize,
    /// Whether it keeps quiet about new commands, as a database does.
    is_quiet: bool,
    still: watch::Sender<u64>,
}

impl Commands for Counting {
    fn add_command(&self, command: NewCommand) -> BoxFuture<'_, Result<AddedCommand, CommandError>> {
        self.inner.add_command(command)
    }
    fn get_command<'a>(
        &'a self,
        place: &'a CommandPlace,
    ) -> BoxFuture<'a, Result<CommandRecord, CommandError>> {
        self.inner.get_command(place)
    }
    fn list_commands(
        &self,
        filter: CommandFilter,
    ) -> BoxFuture<'_, Result<Vec<CommandRecord>, RegistryError>> {
        self.inner.list_commands(filter)
    }
    fn cancel_command<'a>(
        &'a self,
        place: &'a CommandPlace,
    ) -> BoxFuture<'a, Result<CommandRecord, CommandError>> {
        self.inner.cancel_command(place)
    }
    fn pending_commands(
        &self,
        devices: Vec<DeviceId>,
    ) -> BoxFuture<'_, Result<Vec<CommandPlace>, RegistryError>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        self.inner.pending_commands(devices)
    }
    fn devices_with_commands(
        &self,
        after: Option<DeviceId>,
    ) -> BoxFuture<'_, Result<Vec<DeviceId>, RegistryError>> {
        self.inner.devices_with_commands(after)
    }
    fn send_commands(
        &self,
        places: Vec<CommandPlace>,
    ) -> BoxFuture<'_, Result<Vec<CommandRecord>, RegistryError>> {
        self.inner.send_commands(places)
    }
    fn finish_command<'a>(
        &'a self,
        place: &'a CommandPlace,
        answer: CommandAnswer,
    ) -> BoxFuture<'a, Result<Option<CommandRecord>, CommandError>> {
        self.inner.finish_command(place, answer)
    }
    fn sweep_commands(&self) -> BoxFuture<'_, Result<SweptCommands, RegistryError>> {
        self.inner.sweep_commands()
    }
    fn commands_added(&self) -> watch::Receiver<u64> {
        if self.is_quiet { self.still.subscribe() } else { self.inner.commands_added() }
    }
}

/// A feeder, as far as commands know it.
struct Node {
    store: Arc<Counting>,
    presence: Arc<Presence>,
    desk: Arc<Desk>,
    bell: Deployment,
    task: AbortHandle,
    _dir: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn device(number: usize) -> DeviceId {
    DeviceId::new(&format!("bus-{number}")).unwrap()
}

impl Node {
    async fn start(devices: usize, is_quiet: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inner = SqliteRegistry::open(&dir.path().join("registry.sqlite"), Clock::system()).unwrap();
        inner.import_devices((0..devices).map(|n| NewDevice::new(device(n))).collect()).await.unwrap();
        let (questions, still) = (AtomicUsize::new(0), watch::Sender::new(0));
        let store = Arc::new(Counting { inner, questions, is_quiet, still });
        let bus = Arc::new(Local::default());
        let bell = Deployment::new(bus, Environment::new("sandbox").unwrap());
        let parts = CommandParts { store: store.clone(), bus: is_quiet.then(|| bell.clone()) };
        let presence = Arc::new(Presence::default());
        let (desk, errands) = Errands::new(parts, presence.clone(), Metrics::default());
        let task = tokio::spawn(errands.run()).abort_handle();
        Self { store, presence, desk, bell, task, _dir: dir }
    }

    async fn add(&self, number: usize, what: &str) -> CommandId {
        let payload = CommandPayload { content_type: "a/b".into(), bytes: what.as_bytes().to_vec() };
        let expires_at = Clock::system().now() + 60_000_000;
        let device = device(number);
        let command = NewCommand { device, payload, expires_at, key: None, made_by: "a test".into() };
        self.store.add_command(command).await.unwrap().record.id
    }

    fn enter(&self, number: usize) -> Arc<Control> {
        let control = Control::new(TokenId::random(), trough_protocol::LinkId([0; 16]));
        self.presence.enter(&device(number), &control, DELAY);
        control
    }

    /// A session that takes commands.
    fn open(&self, number: usize) -> Arc<Control> {
        let control = self.enter(number);
        control.set_takes_commands();
        self.desk.opened(device(number));
        control
    }

    fn answer(&self, number: usize, id: CommandId) {
        let (status, content_type) = (CommandStatus::Done, ContentType::Text);
        let result = CommandResult { id, status, content_type, payload: b"ok" };
        self.desk.answered(&device(number), &result);
    }

    async fn state(&self, number: usize, id: CommandId) -> CommandState {
        self.store.get_command(&CommandPlace { device: device(number), id }).await.unwrap().state
    }
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn sent(control: &Control, count: usize) -> Vec<Command> {
    let mut all = Vec::new();
    until("the commands come", async || {
        all.extend(control.take_commands());
        (all.len() >= count).then_some(())
    })
    .await;
    assert_eq!(all.len(), count);
    all
}

#[tokio::test]
async fn what_waits_is_sent_a_few_at_a_time_and_its_answer_stored() {
    let node = Node::start(1, true).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(node.add(0, &n.to_string()).await);
    }
    let control = node.open(0);
    let first = sent(&control, 4).await;
    assert_eq!(first.iter().map(|command| command.id).collect::<Vec<_>>(), ids[..4]);
    assert_eq!(
        (node.state(0, ids[3]).await, node.state(0, ids[4]).await),
        (CommandState::Sent, CommandState::Queued)
    );
    node.answer(0, ids[1]);
    assert_eq!(sent(&control, 1).await[0].id, ids[4]);
    assert_eq!(node.state(0, ids[1]).await, CommandState::Acknowledged);
}

#[tokio::test]
async fn a_thousand_openings_are_a_few_questions() {
    let node = Node::start(1000, true).await;
    let id = node.add(999, "go").await;
    let controls: Vec<_> = (0..1000).map(|number| node.open(number)).collect();
    assert_eq!(sent(&controls[999], 1).await[0].id, id);
    let questions = node.store.questions.load(Ordering::SeqCst);
    assert!(questions <= 10, "{questions} questions");
}

#[tokio::test]
async fn a_doorbell_names_a_device() {
    let node = Node::start(2, true).await;
    let control = node.open(0);
    until("the openings were looked up", async || {
        (node.store.questions.load(Ordering::SeqCst) > 0).then_some(())
    })
    .await;
    let id = node.add(0, "go").await;
    devices::ring(&node.bell, TOPIC_COMMANDS, &[device(1), device(0)]).await.unwrap();
    assert_eq!(sent(&control, 1).await[0].id, id);
}

#[tokio::test]
async fn the_stores_own_word_is_enough() {
    let node = Node::start(1, false).await;
    let control = node.open(0);
    let id = node.add(0, "go").await;
    assert_eq!(sent(&control, 1).await[0].id, id);
}

#[tokio::test]
async fn a_new_session_is_sent_again_what_the_one_before_did_not_answer() {
    let node = Node::start(1, true).await;
    let id = node.add(0, "go").await;
    let older = node.open(0);
    sent(&older, 1).await;
    let newer = node.open(0);
    assert_eq!(sent(&newer, 1).await[0].id, id);
    node.answer(0, id);
    until("it is stored", async || (node.state(0, id).await == CommandState::Acknowledged).then_some(()))
        .await;
}

#[tokio::test]
async fn who_takes_none_is_sent_none_and_may_say_what_it_likes() {
    let node = Node::start(2, true).await;
    let ignored = node.add(0, "go").await;
    let control = node.enter(0);
    devices::ring(&node.bell, TOPIC_COMMANDS, &[device(0)]).await.unwrap();
    node.answer(0, ignored);
    // One that does take them is served after that.
    let id = node.add(1, "go").await;
    let other = node.open(1);
    assert_eq!(sent(&other, 1).await[0].id, id);
    assert!(!control.has_commands());
    assert_eq!(node.state(0, ignored).await, CommandState::Queued);
}
