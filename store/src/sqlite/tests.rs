//! The conformance suites on SQLite, and what only a file can get wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use trough_protocol::DeviceId;
use trough_runtime::clock::Clock;

use super::{
    OpenError, SqliteCatalog, SqliteObjectCatalog, SqliteOutbox, SqliteRegistry, SqliteSegmentCatalog,
};
use crate::conformance::commands::RegistryWithCommands;
use crate::conformance::subscriptions::InRegistry;
use crate::conformance::{Fixture, START};
use crate::error::{AuthError, RegistryError};
use crate::format_level::{FORMAT_LEVEL, FormatLevel};
use crate::outbox::{CLAIM_MAX, Duty, OutboxError, Shard, WatchStep};
use crate::registry::{NewDevice, Registry};
use crate::rule::{Condition, NewRule, Scope};
use crate::subscription::{NewSubscription, SubscriptionId, Subscriptions, Target};
use crate::{
    Catalog, ObjectCatalog, Outbox, SegmentCatalog, catalog_suite, commands_suite, object_catalog_suite,
    outbox_suite, registry_suite, segment_catalog_suite, subscriptions_suite,
};

fn registry_fixture() -> Fixture<dyn Registry> {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("registry.db"), Clock::manual(START));
    let time = clock.clone();
    let open = move || Arc::new(SqliteRegistry::open(&path, time.clone()).unwrap()) as Arc<dyn Registry>;
    Fixture { clock, open: Box::new(open), keep: Box::new(directory) }
}

fn commands_fixture() -> Fixture<dyn RegistryWithCommands> {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("registry.db"), Clock::manual(START));
    let time = clock.clone();
    let open =
        move || Arc::new(SqliteRegistry::open(&path, time.clone()).unwrap()) as Arc<dyn RegistryWithCommands>;
    Fixture { clock, open: Box::new(open), keep: Box::new(directory) }
}

mod commands {
    use super::*;
    commands_suite!(commands_fixture());
}

fn catalog_fixture() -> Fixture<dyn Catalog> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    let open = move || Arc::new(SqliteCatalog::open(&path).unwrap()) as Arc<dyn Catalog>;
    Fixture { clock: Clock::manual(START), open: Box::new(open), keep: Box::new(directory) }
}

fn object_catalog_fixture() -> Fixture<dyn ObjectCatalog> {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("objects.sqlite"), Clock::manual(START));
    let time = clock.clone();
    let open =
        move || Arc::new(SqliteObjectCatalog::open(&path, time.clone()).unwrap()) as Arc<dyn ObjectCatalog>;
    Fixture { clock, open: Box::new(open), keep: Box::new(directory) }
}

fn segment_catalog_fixture() -> Fixture<dyn SegmentCatalog> {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("segments.sqlite"), Clock::manual(START));
    let time = clock.clone();
    let open =
        move || Arc::new(SqliteSegmentCatalog::open(&path, time.clone()).unwrap()) as Arc<dyn SegmentCatalog>;
    Fixture { clock, open: Box::new(open), keep: Box::new(directory) }
}

fn outbox_fixture() -> Fixture<dyn Outbox> {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("outbox.sqlite"), Clock::manual(START));
    let time = clock.clone();
    let open = move || Arc::new(SqliteOutbox::open(&path, time.clone()).unwrap()) as Arc<dyn Outbox>;
    Fixture { clock, open: Box::new(open), keep: Box::new(directory) }
}

fn subscriptions_fixture() -> Fixture<dyn InRegistry> {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("registry.sqlite"), Clock::manual(START));
    let time = clock.clone();
    let open = move || Arc::new(SqliteRegistry::open(&path, time.clone()).unwrap()) as Arc<dyn InRegistry>;
    Fixture { clock, open: Box::new(open), keep: Box::new(directory) }
}

mod subscriptions {
    use super::*;
    subscriptions_suite!(subscriptions_fixture());
}

mod outbox {
    use super::*;
    outbox_suite!(outbox_fixture());
}

mod registry {
    use super::*;
    registry_suite!(registry_fixture());
}

mod catalog {
    use super::*;
    catalog_suite!(catalog_fixture());
}

mod object_catalog {
    use super::*;
    object_catalog_suite!(object_catalog_fixture());
}

mod segment_catalog {
    use super::*;
    segment_catalog_suite!(segment_catalog_fixture());
}

fn open_registry(path: &Path) -> Result<SqliteRegistry, OpenError> {
    SqliteRegistry::open(path, Clock::manual(START))
}

fn device(name: &str) -> NewDevice {
    NewDevice::new(DeviceId::new(name).unwrap())
}

#[tokio::test]
async fn nobody_else_can_read_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let registry = open_registry(&path).unwrap();
    registry.add_device(device("bus-1")).await.unwrap();
    let entries = fs::read_dir(directory.path()).unwrap();
    let modes: Vec<_> =
        entries.map(|entry| entry.unwrap().metadata().unwrap().permissions().mode()).collect();
    assert!(modes.len() >= 2 && modes.iter().all(|mode| mode & 0o777 == 0o600), "{modes:?}");
}

#[tokio::test]
async fn no_token_is_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open_registry(&directory.path().join("registry.db")).unwrap();
    let token = registry.add_device(device("bus-1")).await.unwrap();
    let secret = token.expose().as_bytes()[18..].to_vec();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn a_newer_schema_is_refused_naming_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    drop(open_registry(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let error = open_registry(&path).unwrap_err().to_string();
    let known = format!("versions up to {}", super::registry::SCHEMA.migrations.len());
    assert!(error.contains("schema version 7") && error.contains(&known), "{error}");
    assert!(error.contains("registry.db"), "{error}");
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some.db");
    drop(SqliteCatalog::open(&path).unwrap());
    assert!(matches!(open_registry(&path), Err(OpenError::NotOurs { .. })));
    let foreign = directory.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(open_registry(&foreign), Err(OpenError::NotOurs { .. })));
    let text = directory.path().join("notes.txt");
    fs::write(&text, "not a database, but long enough to be read as the head of one".repeat(20)).unwrap();
    assert!(matches!(open_registry(&text), Err(OpenError::Refused { .. })));
    assert!(fs::read_to_string(&text).unwrap().starts_with("not a database"));
    let error = open_registry(&directory.path().join("missing/registry.db")).unwrap_err().to_string();
    assert!(error.contains("missing/registry.db"), "{error}");
}

#[test]
fn many_processes_may_make_the_file_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..8).map(|_| scope.spawn(|| open_registry(&path).map(drop))).collect();
        for one in opened {
            one.join().unwrap().unwrap();
        }
    });
}

/// What kill -9 leaves: the files as they are while everything is open and the log was never folded in.
#[tokio::test]
async fn what_was_returned_is_in_the_files_of_a_killed_process() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open_registry(&directory.path().join("registry.db")).unwrap();
    let token = registry.add_device(device("bus-1")).await.unwrap();
    let granted = registry.grant_epoch(&DeviceId::new("bus-1").unwrap()).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    // The -shm file is shared memory, which a machine that died would not have; the log is all that counts.
    for name in ["registry.db", "registry.db-wal"] {
        fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    let survivor = open_registry(&copy.path().join("registry.db")).unwrap();
    let grant = survivor.authenticate_device(token.expose()).await.unwrap();
    assert_eq!(survivor.current_epoch(&grant.device).await.unwrap(), granted);
}

#[tokio::test]
async fn damage_is_told_and_refuses_nobody_as_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let token = open_registry(&path).unwrap().add_device(device("bus-1")).await.unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(
        "PRAGMA foreign_keys = OFF; UPDATE tokens SET device = 'not an id'; DROP TABLE devices",
    )
    .unwrap();
    let registry = open_registry(&path).unwrap();
    let refused = registry.authenticate_device(token.expose()).await;
    assert!(matches!(refused, Err(AuthError::Registry(RegistryError::Corrupt(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_clock_that_was_set_back_keeps_nobody_from_claiming() {
    let fixture = outbox_fixture();
    let (outbox, shard) = ((fixture.open)(), Shard { duty: Duty::Watch, number: 1 });
    let first = outbox.claim(shard, [1; 16], CLAIM_MAX).await.unwrap().unwrap();
    fixture.clock.set(START - 3_600_000_000);
    let second = outbox.claim(shard, [2; 16], CLAIM_MAX).await.unwrap().unwrap();
    assert!(second.token > first.token);
    let fenced = outbox.watched(first, WatchStep::default()).await;
    assert_eq!(fenced, Err(OutboxError::Fenced(shard)));
    outbox.watched(second, WatchStep::default()).await.unwrap();
}

#[tokio::test]
async fn a_format_level_that_is_too_high_is_refused_naming_the_release() {
    let fixture = segment_catalog_fixture();
    let next = FormatLevel { level: FORMAT_LEVEL + 1, release: "7.1.0".into() };
    (fixture.open)().raise_format_level(next).await.unwrap();
    let directory = fixture.keep.downcast_ref::<tempfile::TempDir>().unwrap();
    let opened = SqliteSegmentCatalog::open(&directory.path().join("segments.sqlite"), fixture.clock.clone());
    let refused = opened.unwrap_err().to_string();
    for named in ["segments.sqlite", "format level 2", "release 7.1.0", "levels 1 to 1"] {
        assert!(refused.contains(named), "{refused}");
    }
}

#[tokio::test]
async fn more_rules_and_subscriptions_than_there_may_be_are_refused_with_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let registry = open_registry(&path).unwrap();
    let rule = |name: &str, when: &str| NewRule {
        name: name.parse().unwrap(),
        scope: Scope::All,
        condition: Condition::Compare { channel: None, when: when.parse().unwrap() },
    };
    let wanted = |number: u8| NewSubscription {
        id: SubscriptionId([number; 16]),
        owner: "ios".parse().unwrap(),
        events: Default::default(),
        rules: Default::default(),
        scope: Scope::All,
        target: Target::Push,
        quiet: None,
        coalesce: Duration::ZERO,
    };
    registry.set_rule(rule("first", "/speed > 1")).await.unwrap();
    registry.add_subscription(wanted(1)).await.unwrap();
    let others = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)";
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(&format!(
        "{others} INSERT INTO rules SELECT 'other-' || i, 1, 1, rule FROM n, (SELECT rule FROM rules); \
         {others} INSERT INTO subscriptions SELECT randomblob(16), 'other', 1, NULL, NULL, wanted \
         FROM n, (SELECT wanted FROM subscriptions)"
    ))
    .unwrap();
    let why = registry.set_rule(rule("one-more", "/speed > 1")).await.unwrap_err();
    assert!(matches!(&why, RegistryError::Invalid(why) if why.contains("10000 rules")), "{why}");
    let why = registry.add_subscription(wanted(2)).await.unwrap_err();
    assert!(matches!(&why, RegistryError::Invalid(why) if why.contains("10000 subscriptions")), "{why}");
    // What there is may be changed, and makes room when it goes.
    registry.set_rule(rule("first", "/speed > 2")).await.unwrap();
    registry.remove_rule(&"first".parse().unwrap(), None).await.unwrap();
    registry.set_rule(rule("one-more", "/speed > 1")).await.unwrap();
    registry.remove_subscription(SubscriptionId([1; 16])).await.unwrap();
    registry.add_subscription(wanted(2)).await.unwrap();
}
