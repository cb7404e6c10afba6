//! The cases of values.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Fixture, key, until};
use crate::{BusError, Environment, KEYS_MAX, Key, VALUE_BYTES_MAX, VALUE_TTL_MAX};

const LONG: Duration = Duration::from_secs(300);

pub async fn a_value_is_seen_by_everybody_until_it_is_deleted(on: &Fixture) {
    let (bus, other, name) = ((on.open)(), (on.open)(), key("value"));
    assert_eq!(bus.get(&name).await.unwrap(), None);
    for value in ["one", "two", ""] {
        bus.set(&name, Bytes::from(value), LONG).await.unwrap();
        assert_eq!(other.get(&name).await.unwrap().unwrap(), value);
    }
    for _ in 0..2 {
        other.delete(&name).await.unwrap();
        assert_eq!(bus.get(&name).await.unwrap(), None);
    }
}

pub async fn a_value_expires(on: &Fixture) {
    let (bus, name) = ((on.open)(), key("short"));
    let began = Instant::now();
    bus.set(&name, Bytes::from_static(b"x"), Duration::from_millis(1500)).await.unwrap();
    bus.set(&key("long"), Bytes::from_static(b"x"), VALUE_TTL_MAX * 2).await.unwrap();
    until("it has expired", async || bus.get(&name).await.unwrap().is_none().then_some(())).await;
    // Rounded up to two seconds, of which memcached may take one.
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(bus.get(&key("long")).await.unwrap().is_some());
    let refused = bus.set(&name, Bytes::new(), Duration::ZERO).await;
    assert!(matches!(refused, Err(BusError::Invalid(_))), "{refused:?}");
}

pub async fn many_values_are_got_in_order(on: &Fixture) {
    let bus = (on.open)();
    let keys: Vec<_> = (0..KEYS_MAX).map(|n| key(&format!("many-{n}"))).collect();
    for (n, key) in keys.iter().enumerate().filter(|(n, _)| n % 3 != 0) {
        bus.set(key, Bytes::from(n.to_string()), LONG).await.unwrap();
    }
    let values = bus.get_many(&keys).await.unwrap();
    for (n, value) in values.iter().enumerate() {
        assert_eq!(*value, (n % 3 != 0).then(|| Bytes::from(n.to_string())));
    }
    assert_eq!(bus.get_many(&[]).await.unwrap(), Vec::<Option<Bytes>>::new());
    let refused = bus.get_many(&[&keys[..], &[key("one more")]].concat()).await;
    assert!(matches!(&refused, Err(BusError::Invalid(told)) if told.contains("257")), "{refused:?}");
}

pub async fn many_values_are_set_and_deleted_at_once(on: &Fixture) {
    let (bus, other) = ((on.open)(), (on.open)());
    let values: Vec<_> =
        (0..KEYS_MAX).map(|n| (key(&format!("all-{n}")), Bytes::from(n.to_string()))).collect();
    let keys: Vec<_> = values.iter().map(|(key, _)| key.clone()).collect();
    bus.set_many(&values, LONG).await.unwrap();
    let found = other.get_many(&keys).await.unwrap();
    assert!(found.iter().zip(&values).all(|(found, (_, value))| found.as_ref() == Some(value)), "{found:?}");
    // Those that are there, and those that are not.
    for _ in 0..2 {
        other.delete_many(&keys[1..]).await.unwrap();
        let left = bus.get_many(&keys).await.unwrap();
        assert_eq!(left.iter().flatten().count(), 1);
    }
    bus.set_many(&[], LONG).await.unwrap();
    let more = [&values[..], &[(key("one more"), Bytes::new())]].concat();
    for refused in [bus.set_many(&more, LONG).await, bus.set_many(&values[..1], Duration::ZERO).await] {
        assert!(matches!(refused, Err(BusError::Invalid(_))), "{refused:?}");
    }
}

pub async fn names_and_values_at_their_limits(on: &Fixture) {
    let bus = (on.open)();
    let names = ["x".repeat(167), "x".repeat(168), "a b\r\nset x 0 0 1".into(), "\0".into(), "ä".repeat(999)];
    for name in &names {
        bus.set(&key(name), Bytes::from(name.clone()), LONG).await.unwrap();
    }
    for name in &names {
        assert_eq!(bus.get(&key(name)).await.unwrap().unwrap(), *name);
    }
    let largest = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    bus.set(&key("largest"), largest.clone(), LONG).await.unwrap();
    assert_eq!(bus.get(&key("largest")).await.unwrap().unwrap(), largest);
    let refused = bus.set(&key("largest"), [&largest[..], b"!"].concat().into(), LONG).await;
    assert!(matches!(&refused, Err(BusError::Invalid(told)) if told.contains("1000001")), "{refused:?}");
}

pub async fn environments_share_nothing(on: &Fixture) {
    let bus = (on.open)();
    let [production, sandbox] = ["production", "sandbox"].map(|name| Environment::new(name).unwrap());
    for name in ["token", &"x".repeat(1000)] {
        bus.set(&Key::new(&production, name), Bytes::from_static(b"a grant"), LONG).await.unwrap();
        assert_eq!(bus.get(&Key::new(&sandbox, name)).await.unwrap(), None);
    }
}

pub async fn a_wiped_bus_has_no_values(on: &Fixture) {
    let bus = (on.open)();
    bus.set(&key("gone"), Bytes::from_static(b"x"), LONG).await.unwrap();
    (on.wipe)();
    assert_eq!(bus.get(&key("gone")).await.unwrap(), None);
}
