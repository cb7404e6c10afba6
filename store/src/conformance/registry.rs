//! The cases of a registry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use trough_protocol::{DeviceId, Epoch};

use super::{Fixture, START};
use crate::error::{AuthError, RegistryError};
use crate::names::{Group, ReaderName};
use crate::registry::{
    DeviceFilter, GROUPS_MAX, GroupAccess, IMPORT_DEVICES_MAX, NewDevice, NewReader, Registry, Scope,
    TOKENS_CHECKED_MAX,
};
use crate::token::{Token, TokenId, TokenKind};

mod positions;
mod retention;

pub use positions::*;
pub use retention::*;

type On = Fixture<dyn Registry>;

const SECOND: Duration = Duration::from_secs(1);

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn groups(names: &[&str]) -> BTreeSet<Group> {
    names.iter().map(|name| Group::new(name).unwrap()).collect()
}

fn device(name: &str, in_groups: &[&str]) -> NewDevice {
    NewDevice { groups: groups(in_groups), ..NewDevice::new(id(name)) }
}

fn reader(name: &str, groups: GroupAccess) -> NewReader {
    NewReader { name: ReaderName::new(name).unwrap(), scopes: BTreeSet::from([Scope::FramesRead]), groups }
}

async fn ids(registry: &dyn Registry, filter: DeviceFilter) -> Vec<String> {
    registry.list_devices(filter).await.unwrap().iter().map(|record| record.id.to_string()).collect()
}

async fn auth_error(registry: &dyn Registry, token: &Token) -> Option<AuthError> {
    registry.authenticate_device(token.expose()).await.err()
}

/// Far beyond the 500 ms that are promised, as a busy test machine is no proof of anything.
async fn moved(changes: &mut watch::Receiver<u64>) {
    tokio::time::timeout(Duration::from_secs(30), changes.changed())
        .await
        .expect("no change was noticed")
        .unwrap();
}

pub async fn a_token_opens_its_own_device_only(on: &On) {
    let registry = (on.open)();
    let first = registry.add_device(NewDevice { query_token: true, ..device("bus-1", &[]) }).await.unwrap();
    let second = registry.add_device(device("bus-2", &[])).await.unwrap();
    let grant = registry.authenticate_device(first.expose()).await.unwrap();
    assert_eq!((grant.device, grant.token_id, grant.query_token), (id("bus-1"), first.id, true));
    assert_eq!(grant.expires_at, None);
    let grant = registry.authenticate_device(second.expose()).await.unwrap();
    assert_eq!((grant.device, grant.query_token), (id("bus-2"), false));
    // The id of one with the secret of the other.
    let crossed = format!("{}{}", &first.expose()[..18], &second.expose()[18..]);
    assert_eq!(registry.authenticate_device(&crossed).await, Err(AuthError::Unknown));
}

pub async fn damaged_and_foreign_tokens_are_unknown(on: &On) {
    let registry = (on.open)();
    let token = registry.add_device(device("bus-1", &[])).await.unwrap();
    let reader_token = registry.add_reader(reader("ios", GroupAccess::All)).await.unwrap();
    let stranger = Token::random(TokenKind::Device);
    let long = "tdev_".repeat(100_000);
    for bad in ["", "tdev_", &token.expose()[1..], stranger.expose(), reader_token.expose(), &long] {
        assert_eq!(registry.authenticate_device(bad).await, Err(AuthError::Unknown));
    }
    assert_eq!(registry.authenticate_reader(token.expose()).await, Err(AuthError::Unknown));
}

pub async fn devices_are_listed_in_order_by_page_and_group(on: &On) {
    let registry = (on.open)();
    for (name, group) in [("b", "north"), ("a", "south"), ("C", "north"), ("d", "west"), ("a.1", "south")] {
        registry.add_device(device(name, &[group, "all-of-them"])).await.unwrap();
    }
    registry.add_device(device("loner", &[])).await.unwrap();
    let all = ["C", "a", "a.1", "b", "d", "loner"];
    assert_eq!(ids(&*registry, DeviceFilter::default()).await, all);
    let page = DeviceFilter { after: Some(id("a")), limit: 2, ..DeviceFilter::default() };
    assert_eq!(ids(&*registry, page).await, ["a.1", "b"]);
    let some = |names: &[&str]| DeviceFilter { groups: Some(groups(names)), ..DeviceFilter::default() };
    assert_eq!(ids(&*registry, some(&["north", "south", "all-of-them"])).await, &all[..5]);
    assert_eq!(ids(&*registry, some(&["north", "nowhere"])).await, ["C", "b"]);
    assert_eq!(ids(&*registry, some(&[])).await, [""; 0]);
    let page = DeviceFilter { after: Some(id("C")), limit: 1, ..some(&["north", "south"]) };
    assert_eq!(ids(&*registry, page).await, ["a"]);
    let record = registry.get_device(&id("b")).await.unwrap();
    assert_eq!(record.groups, groups(&["north", "all-of-them"]));
    assert_eq!((record.created_at, record.revoked_at, record.epoch), (START, None, Epoch::NONE));
}

pub async fn an_id_is_never_reused(on: &On) {
    let registry = (on.open)();
    registry.add_device(device("bus-1", &[])).await.unwrap();
    let taken = RegistryError::AlreadyExists { what: "device", name: "bus-1".into() };
    assert_eq!(registry.add_device(device("bus-1", &[])).await.unwrap_err(), taken);
    registry.revoke_device(&id("bus-1")).await.unwrap();
    assert_eq!(registry.add_device(device("bus-1", &[])).await.unwrap_err(), taken);
}

pub async fn an_import_is_all_or_nothing(on: &On) {
    let registry = (on.open)();
    registry.add_device(device("b", &[])).await.unwrap();
    let fleet = |names: &[&str]| names.iter().map(|name| device(name, &["fleet"])).collect::<Vec<_>>();
    let taken = |name: &str| RegistryError::AlreadyExists { what: "device", name: name.into() };
    assert_eq!(registry.import_devices(fleet(&["a", "b", "c"])).await.unwrap_err(), taken("b"));
    assert_eq!(registry.import_devices(fleet(&["x", "y", "x"])).await.unwrap_err(), taken("x"));
    assert_eq!(ids(&*registry, DeviceFilter::default()).await, ["b"]);
    let added = registry.import_devices(fleet(&["z", "a", "c"])).await.unwrap();
    assert_eq!(added.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["z", "a", "c"]);
    for (id, token) in &added {
        assert_eq!(registry.authenticate_device(token.expose()).await.unwrap().device, *id);
    }
    assert_eq!(registry.get_device(&id("c")).await.unwrap().groups, groups(&["fleet"]));
    assert!(registry.import_devices(Vec::new()).await.unwrap().is_empty());
}

pub async fn limits_are_refused_by_name(on: &On) {
    fn refused<T: std::fmt::Debug>(result: Result<T, RegistryError>, limit: usize) {
        match result.unwrap_err() {
            RegistryError::Invalid(reason) => assert!(reason.contains(&limit.to_string()), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    let registry = (on.open)();
    registry.add_device(device("bus-1", &[])).await.unwrap();
    let many: BTreeSet<_> = (0..=GROUPS_MAX).map(|n| Group::new(&format!("g{n}")).unwrap()).collect();
    let crowded = NewDevice { groups: many.clone(), ..device("bus-2", &[]) };
    refused(registry.add_device(crowded).await, GROUPS_MAX);
    refused(registry.set_groups(&id("bus-1"), many.clone()).await, GROUPS_MAX);
    refused(registry.add_reader(reader("ios", GroupAccess::Only(many))).await, GROUPS_MAX);
    let fleet = vec![device("same", &[]); IMPORT_DEVICES_MAX + 1];
    refused(registry.import_devices(fleet).await, IMPORT_DEVICES_MAX);
    let tokens = vec![TokenId::random(); TOKENS_CHECKED_MAX + 1];
    refused(registry.tokens_revoked(&tokens).await, TOKENS_CHECKED_MAX);
}

pub async fn rotation_ends_old_tokens_at_once_or_in_time(on: &On) {
    let registry = (on.open)();
    let bus = id("bus-1");
    let first = registry.add_device(device("bus-1", &[])).await.unwrap();
    let second = registry.rotate_device(&bus, Some(60 * SECOND)).await.unwrap();
    let grant = registry.authenticate_device(first.expose()).await.unwrap();
    assert_eq!(grant.expires_at, Some(START + 60_000_000));
    // A later, longer rotation does not lengthen a life that was cut already.
    let third = registry.rotate_device(&bus, Some(3600 * SECOND)).await.unwrap();
    let grant = registry.authenticate_device(first.expose()).await.unwrap();
    assert_eq!(grant.expires_at, Some(START + 60_000_000));
    on.clock.advance(60 * SECOND);
    assert_eq!(auth_error(&*registry, &first).await, Some(AuthError::Expired));
    assert_eq!(auth_error(&*registry, &second).await, None);
    let fourth = registry.rotate_device(&bus, None).await.unwrap();
    assert_eq!(auth_error(&*registry, &second).await, Some(AuthError::Revoked));
    assert_eq!(auth_error(&*registry, &third).await, Some(AuthError::Revoked));
    assert_eq!(auth_error(&*registry, &fourth).await, None);
    let nobody = registry.rotate_device(&id("nobody"), None).await.unwrap_err();
    assert_eq!(nobody, RegistryError::NotFound { what: "device", name: "nobody".into() });
    registry.rotate_device(&bus, Some(Duration::MAX)).await.unwrap();
    assert_eq!(auth_error(&*registry, &fourth).await, None);
}

pub async fn revocation_ends_every_token_for_good(on: &On) {
    let registry = (on.open)();
    let bus = id("bus-1");
    let first = registry.add_device(device("bus-1", &["north"])).await.unwrap();
    let second = registry.rotate_device(&bus, Some(3600 * SECOND)).await.unwrap();
    let other = registry.add_device(device("bus-2", &[])).await.unwrap();
    registry.grant_epoch(&bus).await.unwrap();
    registry.revoke_device(&bus).await.unwrap();
    on.clock.advance(SECOND);
    registry.revoke_device(&bus).await.unwrap();
    for token in [&first, &second] {
        assert_eq!(auth_error(&*registry, token).await, Some(AuthError::Revoked));
    }
    assert_eq!(auth_error(&*registry, &other).await, None);
    let revoked = RegistryError::Revoked(bus.clone());
    assert_eq!(registry.rotate_device(&bus, None).await.unwrap_err(), revoked);
    assert_eq!(registry.grant_epoch(&bus).await.unwrap_err(), revoked);
    let record = registry.get_device(&bus).await.unwrap();
    assert_eq!((record.revoked_at, record.epoch), (Some(START), Epoch(1)));
    assert!(matches!(registry.revoke_device(&id("nobody")).await, Err(RegistryError::NotFound { .. })));
}

pub async fn ended_tokens_are_told_apart_from_live_ones(on: &On) {
    let registry = (on.open)();
    let live = registry.add_device(device("live", &[])).await.unwrap().id;
    let revoked = registry.add_device(device("revoked", &[])).await.unwrap().id;
    let rotated = registry.add_device(device("rotated", &[])).await.unwrap().id;
    let gone_reader = registry.add_reader(reader("gone", GroupAccess::All)).await.unwrap().id;
    let live_reader = registry.add_reader(reader("live", GroupAccess::All)).await.unwrap().id;
    registry.revoke_device(&id("revoked")).await.unwrap();
    registry.revoke_reader(&ReaderName::new("gone").unwrap()).await.unwrap();
    let replacement = registry.rotate_device(&id("rotated"), Some(SECOND)).await.unwrap().id;
    let unknown = TokenId::random();
    let asked = [live, unknown, gone_reader, revoked, rotated, replacement, live_reader];
    assert_eq!(registry.tokens_revoked(&asked).await.unwrap(), [unknown, gone_reader, revoked]);
    on.clock.advance(SECOND);
    assert_eq!(registry.tokens_revoked(&asked).await.unwrap(), [unknown, gone_reader, revoked, rotated]);
    assert!(registry.tokens_revoked(&[]).await.unwrap().is_empty());
}

pub async fn groups_are_replaced_whole(on: &On) {
    let registry = (on.open)();
    let bus = id("bus-1");
    registry.add_device(device("bus-1", &["north", "old"])).await.unwrap();
    registry.set_groups(&bus, groups(&["north", "new"])).await.unwrap();
    assert_eq!(registry.get_device(&bus).await.unwrap().groups, groups(&["north", "new"]));
    // Its frames stay readable after it was revoked, so who may read them can still be set.
    registry.revoke_device(&bus).await.unwrap();
    registry.set_groups(&bus, groups(&[])).await.unwrap();
    assert_eq!(registry.get_device(&bus).await.unwrap().groups, groups(&[]));
    assert!(matches!(registry.set_groups(&id("x"), groups(&[])).await, Err(RegistryError::NotFound { .. })));
    assert!(matches!(registry.get_device(&id("x")).await, Err(RegistryError::NotFound { .. })));
}

pub async fn epochs_rise_and_never_repeat(on: &On) {
    let registry = (on.open)();
    let bus = id("bus-1");
    registry.add_device(device("bus-1", &[])).await.unwrap();
    assert_eq!(registry.current_epoch(&bus).await.unwrap(), Epoch::NONE);
    for expected in 1..=3 {
        assert_eq!(registry.grant_epoch(&bus).await.unwrap(), Epoch(expected));
        assert_eq!(registry.current_epoch(&bus).await.unwrap(), Epoch(expected));
    }
    assert!(matches!(registry.grant_epoch(&id("x")).await, Err(RegistryError::NotFound { .. })));
    assert!(matches!(registry.current_epoch(&id("x")).await, Err(RegistryError::NotFound { .. })));
}

pub async fn epochs_of_many_devices_at_once(on: &On) {
    const DEVICES: usize = 2_000;
    let registry = (on.open)();
    let fleet: Vec<_> = (0..DEVICES).map(|n| device(&format!("bus-{n}"), &[])).collect();
    registry.import_devices(fleet).await.unwrap();
    let mut grants = JoinSet::new();
    for n in 0..DEVICES {
        let registry = registry.clone();
        grants.spawn(async move { registry.grant_epoch(&id(&format!("bus-{n}"))).await.unwrap() });
    }
    assert_eq!(grants.join_all().await, vec![Epoch(1); DEVICES]);
}

async fn grant_at_once(registries: &[Arc<dyn Registry>], each: usize) -> Vec<Epoch> {
    let mut grants = JoinSet::new();
    for registry in registries {
        for _ in 0..each {
            let registry = registry.clone();
            grants.spawn(async move { registry.grant_epoch(&id("bus-1")).await.unwrap() });
        }
    }
    let mut granted = grants.join_all().await;
    granted.sort();
    granted
}

pub async fn two_processes_never_grant_the_same_epoch(on: &On) {
    let registries = [(on.open)(), (on.open)()];
    registries[0].add_device(device("bus-1", &[])).await.unwrap();
    let granted = grant_at_once(&registries, 200).await;
    assert_eq!(granted, (1..=400).map(Epoch).collect::<Vec<_>>());
    assert_eq!(registries[1].current_epoch(&id("bus-1")).await.unwrap(), Epoch(400));
}

pub async fn what_was_returned_survives_a_restart(on: &On) {
    let registry = (on.open)();
    let token = registry.add_device(device("bus-1", &["north"])).await.unwrap();
    let reading = registry.add_reader(reader("ios", GroupAccess::All)).await.unwrap();
    assert_eq!(registry.grant_epoch(&id("bus-1")).await.unwrap(), Epoch(1));
    drop(registry);
    let registry = (on.open)();
    assert_eq!(registry.authenticate_device(token.expose()).await.unwrap().device, id("bus-1"));
    assert_eq!(registry.authenticate_reader(reading.expose()).await.unwrap().groups, GroupAccess::All);
    assert_eq!(registry.get_device(&id("bus-1")).await.unwrap().groups, groups(&["north"]));
    assert_eq!(registry.grant_epoch(&id("bus-1")).await.unwrap(), Epoch(2));
}

pub async fn readers_have_scopes_and_groups(on: &On) {
    let registry = (on.open)();
    let some = GroupAccess::Only(groups(&["north", "south"]));
    let narrow = NewReader { scopes: BTreeSet::from(Scope::ALL), ..reader("narrow", some.clone()) };
    let token = registry.add_reader(narrow.clone()).await.unwrap();
    let wide = registry.add_reader(reader("wide", GroupAccess::All)).await.unwrap();
    let grant = registry.authenticate_reader(token.expose()).await.unwrap();
    assert_eq!((grant.name.as_str(), grant.token_id), ("narrow", token.id));
    assert_eq!((grant.scopes, grant.groups.clone()), (BTreeSet::from(Scope::ALL), some.clone()));
    assert!(grant.groups.allows(&groups(&["south", "x"])));
    assert!(!grant.groups.allows(&groups(&["x"])) && !grant.groups.allows(&groups(&[])));
    let grant = registry.authenticate_reader(wide.expose()).await.unwrap();
    assert!(grant.groups.allows(&groups(&[])) && grant.groups.as_filter().is_none());
    let listed = registry.list_readers().await.unwrap();
    assert_eq!(listed.iter().map(|record| record.name.as_str()).collect::<Vec<_>>(), ["narrow", "wide"]);
    assert_eq!((&listed[0].groups, listed[0].created_at, listed[0].revoked_at), (&some, START, None));
    assert_eq!(registry.get_reader(&listed[1].name).await.as_ref(), Ok(&listed[1]));
    let nobody = registry.get_reader(&ReaderName::new("nobody").unwrap()).await;
    assert!(matches!(nobody, Err(RegistryError::NotFound { .. })), "{nobody:?}");
    let blind = reader("blind", GroupAccess::Only(BTreeSet::new()));
    assert!(matches!(registry.add_reader(blind).await, Err(RegistryError::Invalid(_))));
    let idle = NewReader { scopes: BTreeSet::new(), ..reader("idle", GroupAccess::All) };
    assert!(matches!(registry.add_reader(idle).await, Err(RegistryError::Invalid(_))));
    let taken = RegistryError::AlreadyExists { what: "reader", name: "narrow".into() };
    assert_eq!(registry.add_reader(narrow).await.unwrap_err(), taken);
}

pub async fn a_revoked_reader_can_be_added_again(on: &On) {
    let registry = (on.open)();
    let name = ReaderName::new("ios").unwrap();
    let old = registry.add_reader(reader("ios", GroupAccess::Only(groups(&["a", "b"])))).await.unwrap();
    registry.revoke_reader(&name).await.unwrap();
    registry.revoke_reader(&name).await.unwrap();
    assert_eq!(registry.authenticate_reader(old.expose()).await, Err(AuthError::Revoked));
    assert_eq!(registry.list_readers().await.unwrap()[0].revoked_at, Some(START));
    on.clock.advance(SECOND);
    let access = GroupAccess::Only(groups(&["b", "c"]));
    let new = registry.add_reader(reader("ios", access.clone())).await.unwrap();
    assert_eq!(registry.authenticate_reader(new.expose()).await.unwrap().groups, access);
    assert_eq!(registry.authenticate_reader(old.expose()).await, Err(AuthError::Revoked));
    assert_eq!(registry.list_readers().await.unwrap()[0].revoked_at, None);
    let found = registry.get_reader(&name).await.unwrap();
    assert_eq!(
        (found.created_at, found.revoked_at),
        (START + 1_000_000, None),
        "it is another one since then"
    );
    let nobody = registry.revoke_reader(&ReaderName::new("nobody").unwrap()).await;
    assert!(matches!(nobody, Err(RegistryError::NotFound { .. })));
}

pub async fn changes_of_this_and_of_other_processes_are_noticed(on: &On) {
    let (server, command_line) = ((on.open)(), (on.open)());
    let mut changes = server.changes();
    let token = command_line.add_device(device("bus-1", &[])).await.unwrap();
    moved(&mut changes).await;
    assert!(server.tokens_revoked(&[token.id]).await.unwrap().is_empty());
    command_line.revoke_device(&id("bus-1")).await.unwrap();
    moved(&mut changes).await;
    assert_eq!(server.tokens_revoked(&[token.id]).await.unwrap(), [token.id]);
    server.add_reader(reader("ios", GroupAccess::All)).await.unwrap();
    moved(&mut changes).await;
}

pub async fn an_expiry_is_noticed(on: &On) {
    let registry = (on.open)();
    let old = registry.add_device(device("bus-1", &[])).await.unwrap();
    let mut changes = registry.changes();
    registry.rotate_device(&id("bus-1"), Some(60 * SECOND)).await.unwrap();
    assert!(registry.tokens_revoked(&[old.id]).await.unwrap().is_empty());
    moved(&mut changes).await;
    on.clock.advance(60 * SECOND);
    moved(&mut changes).await;
    assert_eq!(registry.tokens_revoked(&[old.id]).await.unwrap(), [old.id]);
}
