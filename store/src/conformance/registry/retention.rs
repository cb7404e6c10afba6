//! How long frames are kept.

use trough_protocol::limits::INT_MAX;

use super::*;
use crate::retention::{RETENTION_DAYS_MAX, RetentionCount, RetentionNote, RetentionPolicy, RetentionRecord};

fn group(name: &str) -> Group {
    Group::new(name).unwrap()
}

fn policy(name: &str, days: Option<u32>, bytes: Option<u64>) -> RetentionPolicy {
    RetentionPolicy { group: group(name), days, bytes }
}

async fn only(registry: &dyn Registry) -> RetentionRecord {
    let [record] = &registry.list_retention().await.unwrap()[..] else { panic!("one policy was set") };
    record.clone()
}

pub async fn a_retention_policy_is_enforced_when_it_was_counted(on: &On) {
    let (registry, other) = ((on.open)(), (on.open)());
    assert_eq!(registry.list_retention().await, Ok(vec![]));
    registry.set_retention(policy("buses", Some(30), None)).await.unwrap();
    let first = only(&*other).await;
    assert_eq!(first.policy, policy("buses", Some(30), None));
    assert!(!first.enforced && first.counted.is_none() && first.removed_frames == 0);
    let refused = other.enforce_retention(&group("buses"), first.set_at).await;
    assert!(matches!(refused, Err(RegistryError::Invalid(_))), "{refused:?}");

    let counted = RetentionCount { at: START + 5, devices: 2, frames: 70, bytes: 7000 };
    let note = RetentionNote { counted, ..RetentionNote::default() };
    other.note_retention(&group("buses"), first.set_at, note).await.unwrap();
    assert_eq!(only(&*registry).await, RetentionRecord { counted: Some(counted), ..first.clone() });
    for _ in 0..2 {
        registry.enforce_retention(&group("buses"), first.set_at).await.unwrap();
    }
    assert!(only(&*other).await.enforced);
    for _ in 0..2 {
        let note = RetentionNote { counted, removed_frames: INT_MAX >> 2, removed_bytes: 300 };
        other.note_retention(&group("buses"), first.set_at, note).await.unwrap();
    }
    let record = only(&*(on.open)()).await;
    assert_eq!((record.removed_frames, record.removed_bytes), (2 * (INT_MAX >> 2), 600));

    // Another one begins anew, and what is said of the one before is not said of it.
    on.clock.advance(SECOND);
    registry.set_retention(policy("buses", None, Some(INT_MAX))).await.unwrap();
    other.note_retention(&group("buses"), first.set_at, note).await.unwrap();
    let second = only(&*other).await;
    assert!(second.set_at > first.set_at);
    let expected = RetentionRecord {
        policy: policy("buses", None, Some(INT_MAX)),
        set_at: second.set_at,
        enforced: false,
        counted: None,
        removed_frames: 0,
        removed_bytes: 0,
    };
    assert_eq!(second, expected);
    let refused = registry.enforce_retention(&group("buses"), first.set_at).await;
    assert!(matches!(refused, Err(RegistryError::NotFound { .. })), "{refused:?}");

    registry.set_retention(policy("an", Some(1), Some(1))).await.unwrap();
    let listed = other.list_retention().await.unwrap();
    assert_eq!(listed.iter().map(|record| record.policy.group.as_str()).collect::<Vec<_>>(), ["an", "buses"]);
    other.remove_retention(&group("an")).await.unwrap();
    let refused = registry.remove_retention(&group("an")).await;
    assert!(matches!(refused, Err(RegistryError::NotFound { .. })), "{refused:?}");
    assert_eq!(only(&*registry).await, expected);
}

pub async fn retention_limits_are_refused_by_name(on: &On) {
    let registry = (on.open)();
    for (bad, named) in [
        (policy("g", None, None), "days, bytes or both"),
        (policy("g", Some(0), None), "0 days"),
        (policy("g", Some(RETENTION_DAYS_MAX + 1), None), "36501 days"),
        (policy("g", None, Some(0)), "0 bytes"),
        (policy("g", Some(1), Some(INT_MAX + 1)), "use 1 to"),
    ] {
        let refused = registry.set_retention(bad).await.unwrap_err().to_string();
        assert!(refused.contains(named) && refused.contains("group g"), "{refused}");
    }
    assert_eq!(registry.list_retention().await, Ok(vec![]));
}

pub async fn what_a_longer_policy_kept_is_not_removed_with_it(on: &On) {
    let (registry, other) = ((on.open)(), (on.open)());
    for (name, in_groups) in [("x", &["long", "short"][..]), ("y", &["far"])] {
        registry.add_device(device(name, in_groups)).await.unwrap();
    }
    let enforced = async || {
        let records = other.list_retention().await.unwrap();
        let enforced = records.into_iter().filter(|record| record.enforced && record.counted.is_some());
        enforced.map(|record| record.policy.group.to_string()).collect::<Vec<_>>()
    };
    let enforce = async |name: &str, days| {
        registry.set_retention(policy(name, days, Some(9))).await.unwrap();
        let records = registry.list_retention().await.unwrap();
        let set_at = records.iter().find(|record| record.policy.group.as_str() == name).unwrap().set_at;
        registry.note_retention(&group(name), set_at, RetentionNote::default()).await.unwrap();
        registry.enforce_retention(&group(name), set_at).await.unwrap();
    };
    for (name, days) in [("far", 5), ("long", 365), ("short", 5)] {
        enforce(name, Some(days)).await;
    }
    assert_eq!(enforced().await, ["far", "long", "short"]);
    registry.remove_retention(&group("long")).await.unwrap();
    assert_eq!(enforced().await, ["far"], "what it kept is not removed by the other one unseen");
    // One that had no days kept nothing.
    enforce("short", Some(5)).await;
    enforce("long", None).await;
    registry.remove_retention(&group("long")).await.unwrap();
    assert_eq!(enforced().await, ["far", "short"]);
}
