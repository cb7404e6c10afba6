//! What is known of commands to devices.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use trough_protocol::device::{CommandId, CommandStatus};
use trough_protocol::limits::{COMMAND_BYTES_MAX, COMMAND_RESULT_BYTES_MAX};
use trough_protocol::{DeviceId, Micros};
use trough_runtime::clock::micros;

use super::{Fixture, START};
use crate::commands::{
    COMMAND_DEVICES_MAX, CommandAnswer, CommandError, CommandFilter, CommandPayload, CommandPlace,
    CommandRecord, CommandState, Commands, EXPIRES_MAX, FINISHED_KEPT, NewCommand, PENDING_MAX,
    SWEEP_COMMANDS_MAX, SweptCommands,
};
use crate::error::RegistryError;
use crate::registry::{NewDevice, Registry};

/// A registry, and the commands beside it.
pub trait RegistryWithCommands: Send + Sync {
    fn registry(&self) -> &dyn Registry;
    fn commands(&self) -> &dyn Commands;
}

impl<R: Registry, C: Commands> RegistryWithCommands for (R, C) {
    fn registry(&self) -> &dyn Registry {
        &self.0
    }
    fn commands(&self) -> &dyn Commands {
        &self.1
    }
}

impl<T: Registry + Commands> RegistryWithCommands for T {
    fn registry(&self) -> &dyn Registry {
        self
    }
    fn commands(&self) -> &dyn Commands {
        self
    }
}

type On = Fixture<dyn RegistryWithCommands>;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn text(text: &str) -> CommandPayload {
    CommandPayload { content_type: "text/plain; charset=utf-8".into(), bytes: text.as_bytes().to_vec() }
}

fn new(device: &str, what: &str, now: Micros) -> NewCommand {
    NewCommand {
        device: id(device),
        payload: text(what),
        expires_at: now + micros(HOUR),
        key: None,
        made_by: "reader me".into(),
    }
}

fn keyed(device: &str, what: &str, key: &str, now: Micros) -> NewCommand {
    NewCommand { key: Some(key.into()), ..new(device, what, now) }
}

fn done(what: &str) -> CommandAnswer {
    CommandAnswer { status: CommandStatus::Done, payload: text(what) }
}

fn place(record: &CommandRecord) -> CommandPlace {
    CommandPlace { device: record.device.clone(), id: record.id }
}

async fn with_devices(on: &On, names: &[&str]) -> Arc<dyn RegistryWithCommands> {
    let stores = (on.open)();
    for name in names {
        stores.registry().add_device(NewDevice::new(id(name))).await.unwrap();
    }
    stores
}

async fn add(stores: &dyn RegistryWithCommands, command: NewCommand) -> CommandRecord {
    stores.commands().add_command(command).await.unwrap().record
}

async fn pending(stores: &dyn RegistryWithCommands, device: &str) -> Vec<CommandId> {
    let places = stores.commands().pending_commands(vec![id(device)]).await.unwrap();
    places.iter().inspect(|place| assert_eq!(place.device, id(device))).map(|place| place.id).collect()
}

async fn state(stores: &dyn RegistryWithCommands, record: &CommandRecord) -> CommandState {
    stores.commands().get_command(&place(record)).await.unwrap().state
}

pub async fn a_command_is_sent_and_answered_once(on: &On) {
    let stores = with_devices(on, &["bus-1", "bus-2"]).await;
    let other = (on.open)();
    let first = add(&*stores, new("bus-1", "lock", START)).await;
    assert_eq!((first.state, first.sends, first.created_at), (CommandState::Queued, 0, START));
    on.clock.advance(Duration::from_millis(1));
    let second = add(&*stores, new("bus-1", "unlock", START)).await;
    assert_eq!(other.commands().get_command(&place(&first)).await, Ok(first.clone()));
    assert_eq!(pending(&*other, "bus-1").await, [first.id, second.id]);
    assert_eq!(pending(&*other, "bus-2").await, []);

    let both = vec![place(&first), place(&second)];
    let foreign = CommandPlace { device: id("bus-2"), id: first.id };
    let sent = other.commands().send_commands([both.clone(), vec![foreign.clone()]].concat()).await.unwrap();
    assert_eq!(sent.iter().map(|record| record.id).collect::<Vec<_>>(), [first.id, second.id]);
    assert_eq!((sent[0].payload.clone(), sent[0].sends), (text("lock"), 1));
    assert_eq!(sent[0].sent_at, Some(START + 1000));
    assert_eq!(pending(&*stores, "bus-1").await.len(), 2, "until it is answered");
    let again = other.commands().send_commands(both.clone()).await.unwrap();
    assert_eq!((again[1].sends, again[1].state), (2, CommandState::Sent));

    let finished = other.commands().finish_command(&place(&first), done("locked")).await.unwrap().unwrap();
    assert_eq!((finished.state, finished.result.clone()), (CommandState::Acknowledged, Some(text("locked"))));
    assert_eq!((finished.finished_at, finished.sends), (Some(START + 1000), 2));
    let no = CommandAnswer { status: CommandStatus::Rejected, payload: text("") };
    assert_eq!(stores.commands().finish_command(&place(&first), no.clone()).await, Ok(None), "said once");
    assert_eq!(stores.commands().get_command(&place(&first)).await, Ok(finished));
    assert_eq!(stores.commands().send_commands(both).await.unwrap().len(), 1);
    let rejected = stores.commands().finish_command(&place(&second), no).await.unwrap().unwrap();
    assert_eq!((rejected.state, rejected.result), (CommandState::Rejected, Some(text(""))));
    assert_eq!(pending(&*other, "bus-1").await, []);
    let unknown = stores.commands().finish_command(&foreign, done("")).await;
    assert_eq!(unknown, Err(CommandError::NotFound(first.id)), "it is another device's");
}

pub async fn a_key_is_one_command(on: &On) {
    let stores = with_devices(on, &["bus-1", "bus-2"]).await;
    let commands = stores.commands();
    let first = commands.add_command(keyed("bus-1", "lock", "k", START)).await.unwrap();
    assert!(first.is_new);
    on.clock.advance(HOUR / 2);
    let again = (on.open)().commands().add_command(keyed("bus-1", "lock", "k", START)).await.unwrap();
    assert!(!again.is_new && again.record == first.record);
    let used = commands.add_command(keyed("bus-1", "unlock", "k", START)).await;
    assert_eq!(used, Err(CommandError::KeyUsed { key: "k".into(), id: first.record.id }));
    for others in [keyed("bus-1", "lock", "K", START), keyed("bus-2", "lock", "k", START)] {
        assert!(commands.add_command(others).await.unwrap().is_new);
    }
    commands.finish_command(&place(&first.record), done("")).await.unwrap();
    let now = on.clock.now();
    let later = commands.add_command(keyed("bus-1", "lock", "k", now)).await.unwrap();
    assert_eq!((later.is_new, later.record.state), (false, CommandState::Acknowledged));
}

pub async fn what_cannot_be_is_refused_by_name(on: &On) {
    let stores = with_devices(on, &["bus-1", "gone"]).await;
    stores.registry().revoke_device(&id("gone")).await.unwrap();
    let refused = async |command: NewCommand| match stores.commands().add_command(command).await {
        Err(CommandError::Registry(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(new("bus-9", "", START)).await, RegistryError::NotFound { .. }));
    assert_eq!(refused(new("gone", "", START)).await, RegistryError::Revoked(id("gone")));
    let words = async |command: NewCommand, words: &str| {
        let error = refused(command).await;
        assert!(matches!(error, RegistryError::Invalid(_)) && error.to_string().contains(words), "{error}");
    };
    let good = new("bus-1", "", START);
    let late = START + micros(EXPIRES_MAX) + 1;
    words(NewCommand { expires_at: START, ..good.clone() }, "at most 30 days").await;
    words(NewCommand { expires_at: late, ..good.clone() }, "at most 30 days").await;
    let large = CommandPayload { bytes: vec![0; COMMAND_BYTES_MAX + 1], ..text("") };
    words(NewCommand { payload: large, ..good.clone() }, "16385 bytes: use 16384").await;
    let odd = CommandPayload { content_type: " ".into(), bytes: vec![] };
    words(NewCommand { payload: odd, ..good.clone() }, "content type").await;
    for key in ["", "a b", "ü", &"k".repeat(65)] {
        words(NewCommand { key: Some(key.into()), ..good.clone() }, "1 to 64 visible ASCII").await;
    }
    let largest = CommandPayload { bytes: vec![7; COMMAND_BYTES_MAX], ..text("") };
    let record = add(&*stores, NewCommand { payload: largest, expires_at: late - 1, ..good }).await;
    let answer = CommandPayload { bytes: vec![0; COMMAND_RESULT_BYTES_MAX + 1], ..text("") };
    let answer = CommandAnswer { status: CommandStatus::Done, payload: answer };
    assert!(stores.commands().finish_command(&place(&record), answer).await.is_err());
    let nobody = CommandPlace { id: CommandId([0; 16]), ..place(&record) };
    assert_eq!(stores.commands().get_command(&nobody).await, Err(CommandError::NotFound(nobody.id)));
    assert_eq!(stores.commands().cancel_command(&nobody).await, Err(CommandError::NotFound(nobody.id)));
}

pub async fn of_a_device_so_many_are_pending(on: &On) {
    let stores = with_devices(on, &["bus-1", "bus-2"]).await;
    let mut records = Vec::new();
    for n in 0..PENDING_MAX {
        on.clock.advance(Duration::from_millis(1));
        records.push(add(&*stores, new("bus-1", &n.to_string(), START)).await);
    }
    let refused = stores.commands().add_command(new("bus-1", "more", START)).await;
    assert_eq!(refused, Err(CommandError::TooMany(id("bus-1"))));
    add(&*stores, new("bus-2", "of another", START)).await;
    assert_eq!(pending(&*stores, "bus-1").await, records.iter().map(|r| r.id).collect::<Vec<_>>());
    stores.commands().cancel_command(&place(&records[0])).await.unwrap();
    add(&*stores, new("bus-1", "now there is room", START)).await;
    on.clock.advance(HOUR);
    add(&*stores, new("bus-1", "they have expired", on.clock.now())).await;
}

pub async fn commands_are_listed_newest_first_by_page_and_state(on: &On) {
    let stores = with_devices(on, &["bus-1", "bus-2"]).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        on.clock.advance(Duration::from_millis(1));
        ids.push(add(&*stores, new("bus-1", &n.to_string(), START)).await);
    }
    add(&*stores, new("bus-2", "of another", START)).await;
    stores.commands().cancel_command(&place(&ids[1])).await.unwrap();
    stores.commands().send_commands(vec![place(&ids[2])]).await.unwrap();
    let list = async |state, before, limit| -> Vec<usize> {
        let filter = CommandFilter { device: id("bus-1"), state, before, limit };
        let found = stores.commands().list_commands(filter).await.unwrap();
        found.iter().map(|record| ids.iter().position(|known| known.id == record.id).unwrap()).collect()
    };
    assert_eq!(list(None, None, 100).await, [4, 3, 2, 1, 0]);
    assert_eq!(list(None, None, 2).await, [4, 3]);
    assert_eq!(list(None, Some(ids[3].id), 2).await, [2, 1]);
    assert_eq!(list(None, None, 0).await, [0; 0]);
    assert_eq!(list(Some(CommandState::Queued), None, 100).await, [4, 3, 0]);
    assert_eq!(list(Some(CommandState::Queued), Some(ids[3].id), 100).await, [0]);
    assert_eq!(list(Some(CommandState::Sent), None, 100).await, [2]);
    assert_eq!(list(Some(CommandState::Cancelled), None, 100).await, [1]);
    assert_eq!(list(Some(CommandState::Expired), None, 100).await, [0; 0]);
    on.clock.advance(HOUR);
    for _ in 0..2 {
        assert_eq!(list(Some(CommandState::Expired), None, 100).await, [4, 3, 2, 0]);
        assert_eq!(list(Some(CommandState::Sent), None, 100).await, [0; 0]);
        stores.commands().sweep_commands().await.unwrap();
    }
}

pub async fn what_is_cancelled_is_not_sent(on: &On) {
    let stores = with_devices(on, &["bus-1"]).await;
    let record = add(&*stores, new("bus-1", "lock", START)).await;
    for _ in 0..2 {
        let cancelled = stores.commands().cancel_command(&place(&record)).await.unwrap();
        assert_eq!((cancelled.state, cancelled.finished_at), (CommandState::Cancelled, Some(START)));
    }
    assert_eq!(pending(&*stores, "bus-1").await, []);
    assert_eq!(stores.commands().send_commands(vec![place(&record)]).await, Ok(vec![]));
    let finished = add(&*stores, new("bus-1", "unlock", START)).await;
    stores.commands().finish_command(&place(&finished), done("")).await.unwrap();
    let refused = stores.commands().cancel_command(&place(&finished)).await;
    let state = CommandState::Acknowledged;
    assert_eq!(refused, Err(CommandError::Finished { id: finished.id, state }));
}

pub async fn what_has_expired_is_not_sent(on: &On) {
    let stores = with_devices(on, &["bus-1"]).await;
    let mut records = Vec::new();
    for n in 0..SWEEP_COMMANDS_MAX as u64 / 2 {
        on.clock.advance(Duration::from_millis(1));
        records.push(add(&*stores, new("bus-1", &n.to_string(), START)).await);
        if records.len() == PENDING_MAX {
            break;
        }
    }
    stores.commands().send_commands(vec![place(&records[0])]).await.unwrap();
    assert_eq!(stores.commands().sweep_commands().await, Ok(SweptCommands::default()));
    on.clock.advance(HOUR);
    assert_eq!(pending(&*stores, "bus-1").await, []);
    assert_eq!(stores.commands().devices_with_commands(None).await, Ok(vec![]));
    let all = records.iter().map(place).take(10).collect();
    assert_eq!(stores.commands().send_commands(all).await, Ok(vec![]));
    let read = stores.commands().get_command(&place(&records[0])).await.unwrap();
    assert_eq!((read.state, read.finished_at), (CommandState::Expired, Some(START + micros(HOUR))));
    let refused = stores.commands().cancel_command(&place(&records[0])).await;
    assert!(matches!(refused, Err(CommandError::Finished { .. })), "{refused:?}");
    let other = (on.open)();
    let (some, rest) = tokio::join!(other.commands().sweep_commands(), stores.commands().sweep_commands());
    let mut ended = [some.unwrap().expired, rest.unwrap().expired].concat();
    ended.sort_by_key(|command| command.place.id);
    assert_eq!(ended.len(), records.len(), "each is told of once");
    assert_eq!((ended[0].place.clone(), ended[0].sends), (place(&records[0]), 1));
    assert_eq!(stores.commands().get_command(&place(&records[0])).await.unwrap(), read);
}

pub async fn the_word_of_the_device_counts(on: &On) {
    let stores = with_devices(on, &["bus-1"]).await;
    let late = add(&*stores, new("bus-1", "late", START)).await;
    let cancelled = add(&*stores, new("bus-1", "cancelled", START)).await;
    stores.commands().send_commands(vec![place(&late), place(&cancelled)]).await.unwrap();
    stores.commands().cancel_command(&place(&cancelled)).await.unwrap();
    on.clock.advance(HOUR);
    stores.commands().sweep_commands().await.unwrap();
    for record in [late, cancelled] {
        assert!(stores.commands().finish_command(&place(&record), done("")).await.unwrap().is_some());
        assert_eq!(state(&*stores, &record).await, CommandState::Acknowledged);
    }
}

pub async fn finished_commands_are_forgotten_after_a_week(on: &On) {
    let stores = with_devices(on, &["bus-1"]).await;
    let first = add(&*stores, keyed("bus-1", "lock", "k", START)).await;
    stores.commands().finish_command(&place(&first), done("")).await.unwrap();
    let second = add(&*stores, new("bus-1", "unlock", START)).await;
    on.clock.advance(FINISHED_KEPT - Duration::from_secs(1));
    assert_eq!(stores.commands().sweep_commands().await.unwrap().expired.len(), 1);
    assert_eq!(state(&*stores, &first).await, CommandState::Acknowledged);
    on.clock.advance(Duration::from_secs(1));
    assert_eq!(stores.commands().sweep_commands().await, Ok(SweptCommands::default()));
    let gone = stores.commands().get_command(&place(&first)).await;
    assert_eq!(gone, Err(CommandError::NotFound(first.id)));
    assert_eq!(state(&*stores, &second).await, CommandState::Expired);
    let again = stores.commands().add_command(keyed("bus-1", "other", "k", on.clock.now())).await.unwrap();
    assert!(again.is_new, "its key is free again");
    on.clock.advance(HOUR);
    stores.commands().sweep_commands().await.unwrap();
    let gone = stores.commands().get_command(&place(&second)).await;
    assert_eq!(gone, Err(CommandError::NotFound(second.id)));
}

pub async fn what_is_left_to_be_swept_is_said(on: &On) {
    let names = ["bus-1", "bus-2"];
    let stores = with_devices(on, &names).await;
    let all = SWEEP_COMMANDS_MAX + 5;
    for n in 0..all {
        add(&*stores, new(names[n % 2], &n.to_string(), START)).await;
    }
    on.clock.advance(HOUR);
    // Ended, and a week later forgotten.
    for ends in [true, false] {
        let first = stores.commands().sweep_commands().await.unwrap();
        assert_eq!((first.expired.len(), first.more), (if ends { SWEEP_COMMANDS_MAX } else { 0 }, true));
        let last = stores.commands().sweep_commands().await.unwrap();
        assert_eq!((last.expired.len(), last.more), (if ends { 5 } else { 0 }, false));
        on.clock.advance(FINISHED_KEPT);
    }
    assert_eq!(stores.commands().sweep_commands().await, Ok(SweptCommands::default()));
    let filter = CommandFilter { device: id("bus-1"), state: None, before: None, limit: 1 };
    assert_eq!(stores.commands().list_commands(filter).await, Ok(vec![]));
}

pub async fn devices_with_commands_are_found_page_by_page(on: &On) {
    let names: Vec<String> = (0..COMMAND_DEVICES_MAX + 3).map(|n| format!("bus-{n:04}")).collect();
    let devices: Vec<NewDevice> = names.iter().map(|name| NewDevice::new(id(name))).collect();
    let stores = (on.open)();
    stores.registry().import_devices(devices).await.unwrap();
    for name in &names {
        add(&*stores, new(name, "a", START)).await;
    }
    add(&*stores, new(&names[0], "b", START)).await;
    let finished = add(&*stores, new(&names[1], "b", START)).await;
    stores.commands().finish_command(&place(&finished), done("")).await.unwrap();
    let first = stores.commands().devices_with_commands(None).await.unwrap();
    assert_eq!(first.len(), COMMAND_DEVICES_MAX);
    let rest = stores.commands().devices_with_commands(first.last().cloned()).await.unwrap();
    assert_eq!([first.clone(), rest].concat(), names.iter().map(|name| id(name)).collect::<Vec<_>>());
    assert_eq!(stores.commands().pending_commands(first).await.unwrap().len(), COMMAND_DEVICES_MAX + 1);
}

pub async fn what_was_returned_survives_a_restart(on: &On) {
    let stores = with_devices(on, &["bus-1"]).await;
    let first = add(&*stores, keyed("bus-1", "lock", "k", START)).await;
    stores.commands().send_commands(vec![place(&first)]).await.unwrap();
    let finished = stores.commands().finish_command(&place(&first), done("ok")).await.unwrap().unwrap();
    drop(stores);
    let again = (on.open)();
    assert_eq!(again.commands().get_command(&place(&first)).await, Ok(finished));
}

pub async fn of_many_requests_with_one_key_one_makes_a_command(on: &On) {
    let stores = [with_devices(on, &["bus-1"]).await, (on.open)()];
    let mut asking = JoinSet::new();
    for n in 0..16 {
        let stores = stores[n % 2].clone();
        asking.spawn(async move {
            loop {
                match stores.commands().add_command(keyed("bus-1", "lock", "k", START)).await {
                    // Too many at once for a database; whoever asked tries again.
                    Err(CommandError::Registry(RegistryError::Unavailable { .. })) => {}
                    other => return other.unwrap(),
                }
            }
        });
    }
    let added = asking.join_all().await;
    assert_eq!(added.iter().filter(|added| added.is_new).count(), 1);
    assert!(added.iter().all(|other| other.record.id == added[0].record.id));
}
