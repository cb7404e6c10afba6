//! What needs no server. The suite runs over a real one, in the whole-system tests.

use super::*;
use crate::key::Environment;

fn bus(servers: &[String]) -> Memcached {
    let addresses = format!("memcached://{}", servers.join(","));
    Memcached::new(addresses.parse().unwrap(), Clock::system())
}

#[test]
fn addresses_are_checked_and_what_is_wrong_is_told() {
    for good in ["memcached://a:1", "memcached://a:1,b:2", "memcached://[::1]:11211/"] {
        let parsed: Addresses = good.parse().unwrap();
        assert_eq!(parsed.to_string(), good.trim_end_matches('/'));
    }
    let faults = [
        ("redis://a:1", "memcached://"),
        ("memcached://", "\"\""),
        ("memcached://a", "\"a\""),
        ("memcached://a:1,", "\"\""),
        ("memcached://a:0", "\"a:0\""),
        ("memcached://user@a:1", "user@a:1"),
        ("memcached://a:1/path", "a:1/path"),
        ("memcached://a:1,b:1,a:1", "twice"),
    ];
    for (bad, told) in faults {
        let error = bad.parse::<Addresses>().unwrap_err().to_string();
        assert!(error.contains(told), "{bad}: {error}");
    }
}

#[test]
fn a_server_more_moves_only_its_own_share() {
    let servers: Vec<_> = (1..=4).map(|n| format!("10.0.0.{n}:11211")).collect();
    let [three, four] = [bus(&servers[..3]), bus(&servers)];
    let names: Vec<_> = (0..4000).map(|n| format!("name-{n}")).collect();
    let (mut moved, mut shares) = (0, [0; 4]);
    for name in &names {
        let (before, after) = (three.0.server(name).address(), four.0.server(name).address());
        shares[servers.iter().position(|server| server == after).unwrap()] += 1;
        if before != after {
            moved += 1;
            assert_eq!(after, servers[3]);
        }
    }
    assert_eq!(moved, shares[3]);
    assert!(shares.iter().all(|share| (800..1200).contains(share)), "{shares:?}");
}

/// A port where nobody listens: three calls are refused by it, the others by the breaker.
#[tokio::test]
async fn without_a_server_every_call_fails() {
    let bus = bus(&["127.0.0.1:1".to_owned()]);
    let environment = Environment::new("sandbox").unwrap();
    let (key, topic) = (Key::new(&environment, "k"), Topic::new(&environment, "t"));
    for _ in 0..5 {
        assert!(matches!(bus.get(&key).await, Err(BusError::Unavailable { .. })));
        let published = bus.publish(&topic, Bytes::new()).await;
        assert!(matches!(published, Err(BusError::Unavailable { .. })), "{published:?}");
    }
    let told = bus.get(&key).await.unwrap_err().to_string();
    assert!(told.contains("memcached 127.0.0.1:1 is away") && !told.contains("sandbox"), "{told}");
}
