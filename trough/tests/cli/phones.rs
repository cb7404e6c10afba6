//! `trough phones`: a phone is added, shown without its token, and removed.

use crate::harness::{Output, Place};

const TOKEN: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

fn add(place: &Place, token: &str, words: &str) -> Output {
    place.run(&format!("phones add {words} --push-token {token}"))
}

#[test]
fn a_phone_is_added_shown_without_its_token_and_removed() {
    let place = Place::new();
    place.run("readers add me").ok();
    let id = add(&place, TOKEN, "me --app com.example.app --server sandbox").ok();
    assert!(id.starts_with("psh_"), "{id}");
    let again = add(&place, &TOKEN.to_uppercase(), "me --app com.example.app --server sandbox").ok();
    assert_eq!(again, id, "twice is once");
    let json = place.run("phones list --json").ok();
    let phones: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(phones.as_array().unwrap().len(), 1);
    let shown = &phones[0];
    assert_eq!((&shown["id"], &shown["reader"]), (&id.as_str().into(), &"me".into()));
    assert_eq!((&shown["app"], &shown["server"]), (&"com.example.app".into(), &"sandbox".into()));
    let table = place.run("phones list").ok();
    assert!(table.contains(&id) && !table.contains("00fc13ad") && !json.contains("00fc13ad"), "{table}");
    place.run(&format!("phones remove {id}")).ok();
    assert_eq!(place.run("phones list --json").ok(), "[]");
}

#[test]
fn what_is_no_phone_is_refused_by_name() {
    let place = Place::new();
    place.run("readers add me").ok();
    for (token, words, named) in [
        ("xyz", "me --app com.example.app", "3 characters are no push token"),
        (TOKEN, "me", "--app"),
        (TOKEN, "me --app com.example.app --server test", "use production or sandbox"),
    ] {
        let refused = add(&place, token, words).failed(2);
        assert!(refused.contains(named) && !refused.contains(token), "{refused}");
    }
    let stranger = add(&place, TOKEN, "you --app com.example.app").failed(1);
    assert!(stranger.contains("there is no reader \"you\""), "{stranger}");
}
