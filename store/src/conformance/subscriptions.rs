//! The cases of rules, subscriptions and push tokens.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Fixture;
use crate::error::RegistryError;
use crate::event::EventKind;
use crate::names::{ReaderName, RuleName};
use crate::registry::{GroupAccess, NewReader, Registry, Scope as Scopes};
use crate::rule::{Condition, NewRule, SCOPE_NAMES_MAX, Scope};
use crate::sealed::SealKey;
use crate::subscription::{
    NewSubscription, PUSH_TOKENS_MAX, PushEnvironment, PushToken, PushTokenId, REASON_BYTES_MAX,
    Subscription, SubscriptionId, Subscriptions, TOPIC_BYTES_MAX, Target, URL_BYTES_MAX,
};

/// Subscriptions lie in a registry, which counts their changes.
pub trait InRegistry: Registry + Subscriptions {}

impl<T: Registry + Subscriptions> InRegistry for T {}

type On = Fixture<dyn InRegistry>;

fn rule(name: &str, condition: Condition) -> NewRule {
    NewRule { name: RuleName::new(name).unwrap(), scope: Scope::All, condition }
}

fn compare(name: &str, when: &str) -> NewRule {
    rule(name, Condition::Compare { channel: None, when: when.parse().unwrap() })
}

fn reader(name: &str) -> ReaderName {
    ReaderName::new(name).unwrap()
}

fn id(number: u8) -> SubscriptionId {
    SubscriptionId([number; 16])
}

fn wanted(number: u8, owner: &str) -> NewSubscription {
    let key = SealKey::new(&[7; 32]).seal(b"a key of a webhook", &id(number).to_string());
    NewSubscription {
        id: id(number),
        owner: reader(owner),
        events: BTreeSet::from([EventKind::DeviceOffline, EventKind::GapOpened]),
        rules: BTreeSet::from([RuleName::new("fast").unwrap()]),
        scope: Scope::All,
        target: Target::Webhook {
            url: "https://example.org/hook".into(),
            keys: vec![key],
            old_key_until: None,
        },
        quiet: None,
        coalesce: Duration::from_secs(60),
    }
}

fn phone(number: u8, owner: &str, registered_at: u64) -> PushToken {
    let id = PushTokenId([number; 16]);
    PushToken {
        id,
        owner: reader(owner),
        token: SealKey::new(&[7; 32]).seal(b"a phone's", &id.to_string()),
        environment: PushEnvironment::Sandbox,
        topic: "org.example.app".into(),
        registered_at,
    }
}

fn is_not_found<T: std::fmt::Debug>(result: Result<T, RegistryError>, named: &str) {
    match result {
        Err(error @ RegistryError::NotFound { .. }) => assert!(error.to_string().contains(named), "{error}"),
        other => panic!("{other:?} for {named}, which there is not"),
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> String {
    match result {
        Err(RegistryError::Invalid(why)) => why,
        other => panic!("{other:?} is not refused as invalid"),
    }
}

async fn listed(store: &dyn InRegistry, owner: Option<&str>) -> Vec<Subscription> {
    store.list_subscriptions(owner.map(reader).as_ref()).await.unwrap()
}

pub async fn rules_are_replaced_under_rising_versions(on: &On) {
    let (store, other) = ((on.open)(), (on.open)());
    assert!(store.list_rules().await.unwrap().is_empty());
    let fast = store.set_rule(compare("fast", "/speed > 30 clear 28 for 60s")).await.unwrap();
    assert_eq!((&fast.rule, fast.set_at), (&compare("fast", "/speed > 30 clear 28 for 60s"), on.clock.now()));
    on.clock.advance(Duration::from_secs(1));
    let same = other.set_rule(compare("fast", "/speed > 30 clear 28 for 60s")).await.unwrap();
    assert_eq!(same, fast, "with the same content nothing changes");
    let gone = other.set_rule(rule("Gone", Condition::Gaps)).await.unwrap();
    let faster = other.set_rule(compare("fast", "/speed > 40")).await.unwrap();
    assert!(faster.version > fast.version && faster.set_at == on.clock.now(), "{faster:?}");
    for store in [&store, &other, &(on.open)()] {
        assert_eq!(store.list_rules().await, Ok(vec![gone.clone(), faster.clone()]), "by name");
    }
    store.remove_rule(&gone.rule.name, None).await.unwrap();
    store.remove_rule(&fast.rule.name, None).await.unwrap();
    is_not_found(other.remove_rule(&fast.rule.name, None).await, "fast");
    assert!(other.list_rules().await.unwrap().is_empty());
    // What was known of devices under the old one counts for nothing, though it is the same again.
    let again = other.set_rule(compare("fast", "/speed > 40")).await.unwrap();
    assert!(again.version > faster.version, "{again:?}");
}

pub async fn a_rule_is_replaced_and_removed_only_as_it_was_seen(on: &On) {
    let (store, other) = ((on.open)(), (on.open)());
    let is_another = |result: Result<_, RegistryError>| {
        assert!(matches!(result, Err(RegistryError::AlreadyExists { .. })), "{result:?}");
    };
    is_another(store.replace_rule(compare("fast", "/speed > 30"), Some(1)).await);
    let first = store.replace_rule(compare("fast", "/speed > 30"), None).await.unwrap();
    is_another(other.replace_rule(compare("fast", "/speed > 30"), None).await);
    is_another(other.replace_rule(compare("fast", "/speed > 40"), Some(first.version + 1)).await);
    assert_eq!(other.get_rule(&first.rule.name).await.as_ref(), Ok(&first));
    let same = other.replace_rule(first.rule.clone(), Some(first.version)).await;
    assert_eq!(same.as_ref(), Ok(&first), "with the same content nothing changes");
    let second = other.replace_rule(compare("fast", "/speed > 40"), Some(first.version)).await.unwrap();
    assert!(second.version > first.version);
    is_not_found(store.remove_rule(&first.rule.name, Some(first.version)).await, "fast");
    assert_eq!(store.get_rule(&first.rule.name).await.as_ref(), Ok(&second));
    store.remove_rule(&first.rule.name, Some(second.version)).await.unwrap();
    is_not_found(other.get_rule(&first.rule.name).await, "fast");
}

pub async fn rules_that_are_not_sound_are_refused_by_name(on: &On) {
    let store = (on.open)();
    let presence = |seconds| Condition::Presence { after: Duration::from_secs(seconds) };
    assert!(refusal(store.set_rule(rule("a", presence(29))).await).contains("29 s"));
    let nobody = NewRule { scope: Scope::Devices(BTreeSet::new()), ..rule("a", presence(30)) };
    assert!(refusal(store.set_rule(nobody).await).contains("0 devices"));
    assert!(store.list_rules().await.unwrap().is_empty());
}

pub async fn a_subscription_is_added_once(on: &On) {
    let (store, other) = ((on.open)(), (on.open)());
    let first = wanted(2, "ios");
    let added = store.add_subscription(first.clone()).await.unwrap();
    let expected = Subscription { wanted: first.clone(), created_at: on.clock.now(), disabled: None };
    assert_eq!(added, expected);
    on.clock.advance(Duration::from_secs(1));
    assert_eq!(other.add_subscription(first.clone()).await.as_ref(), Ok(&added), "twice is once");
    for differs in [wanted(2, "web"), NewSubscription { target: Target::Push, ..first.clone() }] {
        let refused = other.add_subscription(differs).await;
        assert!(matches!(refused, Err(RegistryError::AlreadyExists { .. })), "{refused:?}");
    }
    let second = other.add_subscription(wanted(1, "web")).await.unwrap();
    for store in [&store, &other, &(on.open)()] {
        assert_eq!(listed(&**store, None).await, [second.clone(), added.clone()], "by id");
        assert_eq!(listed(&**store, Some("ios")).await, std::slice::from_ref(&added));
        assert!(listed(&**store, Some("nobody")).await.is_empty());
        assert_eq!(store.get_subscription(id(2)).await.as_ref(), Ok(&added));
    }
    store.remove_subscription(id(2)).await.unwrap();
    is_not_found(other.remove_subscription(id(2)).await, &id(2).to_string());
    is_not_found(other.get_subscription(id(2)).await, &id(2).to_string());
    assert_eq!(listed(&*other, None).await, [second]);
}

pub async fn a_subscription_is_replaced_under_its_id_and_owner(on: &On) {
    let (store, other) = ((on.open)(), (on.open)());
    let added = store.add_subscription(wanted(1, "ios")).await.unwrap();
    store.disable_subscription(id(1), Some("410")).await.unwrap();
    let disabled = store.get_subscription(id(1)).await.unwrap().disabled;
    on.clock.advance(Duration::from_secs(1));
    let before = added.wanted;
    let wishes = NewSubscription { events: BTreeSet::new(), coalesce: Duration::ZERO, ..before.clone() };
    let expected = Subscription { wanted: wishes.clone(), created_at: added.created_at, disabled };
    for store in [&other, &store] {
        let replaced = store.replace_subscription(before.clone(), wishes.clone()).await;
        assert_eq!(replaced, Ok(Some(expected.clone())), "the second time it is so already");
    }
    assert_eq!(store.get_subscription(id(1)).await.as_ref(), Ok(&expected));
    let replace = async |id, owner| store.replace_subscription(wishes.clone(), wanted(id, owner)).await;
    is_not_found(replace(2, "ios").await, &id(2).to_string());
    is_not_found(replace(1, "web").await, &id(1).to_string());
    // Who looked before somebody else changed it takes nothing back.
    let late = NewSubscription { coalesce: Duration::from_secs(5), ..before.clone() };
    assert_eq!(store.replace_subscription(before, late).await, Ok(None));
    assert_eq!(store.get_subscription(id(1)).await, Ok(expected));
}

pub async fn of_several_reasons_the_first_stays(on: &On) {
    let (store, other) = ((on.open)(), (on.open)());
    store.add_subscription(wanted(1, "ios")).await.unwrap();
    let reason = "ü".repeat(REASON_BYTES_MAX);
    let first_at = on.clock.now();
    for reason in [reason.as_str(), "later"] {
        other.disable_subscription(id(1), Some(reason)).await.unwrap();
        let disabled = store.get_subscription(id(1)).await.unwrap().disabled.unwrap();
        assert_eq!((disabled.at, disabled.reason), (first_at, "ü".repeat(REASON_BYTES_MAX / 2)));
        on.clock.advance(Duration::from_secs(1));
    }
    for _ in 0..2 {
        store.disable_subscription(id(1), None).await.unwrap();
        assert_eq!(other.get_subscription(id(1)).await.unwrap().disabled, None);
    }
    other.disable_subscription(id(1), Some("again")).await.unwrap();
    let disabled = store.get_subscription(id(1)).await.unwrap().disabled.unwrap();
    assert_eq!((disabled.at, disabled.reason.as_str()), (on.clock.now(), "again"));
    for reason in [Some("no"), None] {
        is_not_found(store.disable_subscription(id(9), reason).await, &id(9).to_string());
    }
}

pub async fn subscriptions_that_are_not_sound_are_refused_by_name(on: &On) {
    let store = (on.open)();
    store.add_subscription(wanted(1, "ios")).await.unwrap();
    let hook = |url: String, keys: usize| {
        let sealed = SealKey::new(&[7; 32]).seal(b"", "");
        Target::Webhook { url, keys: vec![sealed; keys], old_key_until: None }
    };
    let many = (0..=SCOPE_NAMES_MAX).map(|n| RuleName::new(&format!("rule-{n}")).unwrap()).collect();
    for (wrong, named) in [
        (
            NewSubscription { target: hook("u".repeat(URL_BYTES_MAX + 1), 1), ..wanted(1, "ios") },
            "2049 bytes",
        ),
        (NewSubscription { target: hook("https://x.org".into(), 3), ..wanted(1, "ios") }, "not 3"),
        (NewSubscription { rules: many, ..wanted(1, "ios") }, "1001 rules"),
        (NewSubscription { coalesce: Duration::from_secs(2_592_001), ..wanted(1, "ios") }, "2592001"),
    ] {
        let why = refusal(store.add_subscription(NewSubscription { id: id(2), ..wrong.clone() }).await);
        assert!(why.contains(named), "{why}");
        assert!(refusal(store.replace_subscription(wanted(1, "ios"), wrong).await).contains(named));
    }
    assert_eq!(listed(&*store, None).await.len(), 1);
}

pub async fn a_phone_that_registers_again_is_one(on: &On) {
    let (store, other) = ((on.open)(), (on.open)());
    store.set_push_token(phone(2, "ios", 10)).await.unwrap();
    store.set_push_token(phone(1, "web", 20)).await.unwrap();
    let again = PushToken { environment: PushEnvironment::Production, ..phone(2, "ios", 30) };
    other.set_push_token(again.clone()).await.unwrap();
    let all = store.list_push_tokens(None).await.unwrap();
    assert_eq!(all.iter().map(|token| token.id.0[0]).collect::<Vec<_>>(), [1, 2], "by id");
    assert_eq!(all[1], again);
    assert_eq!(other.list_push_tokens(Some(&reader("ios"))).await, Ok(vec![again.clone()]));
    // Whoever was told that it is gone was told of an earlier registration.
    store.remove_push_token(again.id, Some(10)).await.unwrap();
    assert_eq!(other.list_push_tokens(None).await.unwrap().len(), 2);
    for _ in 0..2 {
        store.remove_push_token(again.id, Some(30)).await.unwrap();
        assert!(other.list_push_tokens(Some(&reader("ios"))).await.unwrap().is_empty());
    }
    // It may be somebody else's now.
    store.set_push_token(phone(1, "ios", 40)).await.unwrap();
    assert!(store.list_push_tokens(Some(&reader("web"))).await.unwrap().is_empty());
    other.remove_push_token(PushTokenId([1; 16]), None).await.unwrap();
    assert!(store.list_push_tokens(None).await.unwrap().is_empty());
}

/// The clock was ahead for a while: of two readers of a name each has what it has made, and nothing of the other's.
pub async fn what_a_reader_has_is_its_own_whatever_the_clock_showed(on: &On) {
    let store = (on.open)();
    let ios = || NewReader { name: reader("ios"), scopes: Scopes::READING.into(), groups: GroupAccess::All };
    let (now, ahead) = (on.clock.now(), on.clock.now() + 86_400_000_000);
    on.clock.set(ahead);
    store.add_reader(ios()).await.unwrap();
    let since = store.get_reader(&reader("ios")).await.unwrap().created_at;
    on.clock.set(now);
    let first = store.add_subscription(wanted(1, "ios")).await.unwrap();
    store.set_push_token(phone(1, "ios", now)).await.unwrap();
    assert!(first.created_at >= since, "{first:?}");
    assert_eq!(store.get_subscription(id(1)).await.unwrap().created_at, first.created_at);
    assert!(store.list_push_tokens(None).await.unwrap()[0].registered_at >= since);
    store.revoke_reader(&reader("ios")).await.unwrap();
    store.add_reader(ios()).await.unwrap();
    let since = store.get_reader(&reader("ios")).await.unwrap().created_at;
    assert!(first.created_at < since && store.list_push_tokens(None).await.unwrap()[0].registered_at < since);
    let second = store.add_subscription(wanted(2, "ios")).await.unwrap();
    assert!(second.created_at >= since, "{second:?}");
}

pub async fn of_too_many_phones_the_oldest_goes(on: &On) {
    let store = (on.open)();
    let most = u8::try_from(PUSH_TOKENS_MAX).unwrap();
    store.set_push_token(phone(200, "web", 1)).await.unwrap();
    for n in 0..most {
        // The highest ids are the oldest.
        store.set_push_token(phone(n, "ios", 1000 - u64::from(n))).await.unwrap();
    }
    assert_eq!(store.list_push_tokens(Some(&reader("ios"))).await.unwrap().len(), PUSH_TOKENS_MAX);
    // One whose time is the oldest of all is new all the same.
    store.set_push_token(phone(150, "ios", 2)).await.unwrap();
    let left = store.list_push_tokens(Some(&reader("ios"))).await.unwrap();
    let expected: Vec<_> = (0..most - 1).chain([150]).collect();
    assert_eq!(left.iter().map(|token| token.id.0[0]).collect::<Vec<_>>(), expected);
    assert_eq!(store.list_push_tokens(Some(&reader("web"))).await.unwrap().len(), 1, "others keep theirs");
    for topic in [String::new(), "t".repeat(TOPIC_BYTES_MAX + 1)] {
        let bytes = format!("{} bytes", topic.len());
        let why = refusal(store.set_push_token(PushToken { topic, ..phone(1, "ios", 5) }).await);
        assert!(why.contains(&bytes), "{why}");
    }
}

pub async fn each_change_is_noticed_and_what_changes_nothing_is_not(on: &On) {
    let (store, other) = ((on.open)(), (on.open)());
    let mut changes = other.changes();
    other.list_rules().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut noticed = async |what: &str| {
        assert!(Instant::now() < deadline, "{what}");
        assert!(timeout(Duration::from_secs(10), changes.changed()).await.is_ok(), "{what} was not noticed");
        changes.borrow_and_update();
    };
    let fast = compare("fast", "/speed > 30");
    store.set_rule(fast.clone()).await.unwrap();
    noticed("a rule").await;
    let before = store.add_subscription(wanted(1, "ios")).await.unwrap().wanted;
    noticed("a subscription").await;
    let wishes = NewSubscription { coalesce: Duration::ZERO, ..before.clone() };
    assert!(store.replace_subscription(before, wishes).await.unwrap().is_some());
    noticed("another one in its place").await;
    store.disable_subscription(id(1), Some("why not")).await.unwrap();
    noticed("disabling").await;
    store.set_push_token(phone(1, "ios", 5)).await.unwrap();
    noticed("a phone").await;
    store.remove_push_token(phone(1, "ios", 5).id, None).await.unwrap();
    noticed("a phone that is gone").await;
    // None of these does anything, so the next thing that is noticed is the one after them.
    store.set_rule(fast.clone()).await.unwrap();
    store.disable_subscription(id(1), Some("again")).await.unwrap();
    store.remove_push_token(phone(1, "ios", 5).id, None).await.unwrap();
    let quiet = timeout(Duration::from_millis(600), noticed("nothing")).await;
    assert!(quiet.is_err(), "what changes nothing is noticed");
    store.remove_subscription(id(1)).await.unwrap();
    noticed("a subscription that is gone").await;
    store.remove_rule(&fast.name, None).await.unwrap();
    noticed("a rule that is gone").await;
}
