//! The list of devices, and one device.

use serde_json::{Value, json};
use trough_protocol::ContentType;
use trough_protocol::frame::FrameRef;
use trough_store::{Registry as _, Scope};

use super::support::{NOW, Server, TS, device, text_frame};

fn ids(list: &Value) -> Vec<&str> {
    list["devices"].as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn readers_see_their_groups_devices_and_no_others() {
    let server = Server::start().await;
    server.add_device("a", &["north"]).await;
    server.add_device("b", &["north", "south"]).await;
    server.add_device("c", &["south"]).await;
    server.add_device("d", &[]).await;
    let all = server.add_reader("all", &Scope::ALL, &[]).await;
    let north = server.add_reader("north", &Scope::ALL, &["north", "empty"]).await;
    for (token, target, expected) in [
        (&all, "/v1/devices", vec!["a", "b", "c", "d"]),
        (&all, "/v1/devices?group=south", vec!["b", "c"]),
        (&all, "/v1/devices?group=nowhere", vec![]),
        (&north, "/v1/devices", vec!["a", "b"]),
        (&north, "/v1/devices?group=north", vec!["a", "b"]),
        (&north, "/v1/devices?group=south", vec![]),
        (&north, "/v1/devices?group=empty", vec![]),
    ] {
        let list = server.get(target).token(token).send().await.json();
        assert_eq!(ids(&list), expected, "{target}");
        assert_eq!(list["next_cursor"], Value::Null);
    }
    let list = server.get("/v1/devices").token(&north).send().await.json();
    assert_eq!(list["devices"][1]["groups"], json!(["north"]), "other groups are not shown");
}

#[tokio::test]
async fn a_list_goes_on_where_it_ended_while_devices_are_added() {
    let server = Server::start().await;
    for name in ["b", "d", "f", "h"] {
        server.add_device(name, &[]).await;
    }
    let token = server.reader().await;
    let first = server.get("/v1/devices?limit=2").token(&token).send().await.json();
    assert_eq!(ids(&first), ["b", "d"]);
    for name in ["a", "e", "i"] {
        server.add_device(name, &[]).await;
    }
    let cursor = first["next_cursor"].as_str().unwrap();
    let next = server.get(&format!("/v1/devices?limit=3&cursor={cursor}")).token(&token).send().await.json();
    assert_eq!(ids(&next), ["e", "f", "h"]);
    let cursor = next["next_cursor"].as_str().unwrap();
    let last = server.get(&format!("/v1/devices?limit=3&cursor={cursor}")).token(&token).send().await.json();
    assert_eq!(ids(&last), ["i"]);
    assert_eq!(last["next_cursor"], Value::Null);
    let other = server.get(&format!("/v1/devices?group=x&cursor={cursor}")).token(&token).send().await;
    assert_eq!(other.problem().1, "cursor_of_other_query");
}

#[tokio::test]
async fn a_device_shows_its_head_and_the_last_frame_of_each_channel() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    let unheard = server.get("/v1/devices/bus-1").token(&token).send().await;
    let expected = json!({
        "id": "bus-1", "groups": [], "revoked": false, "epoch": 0, "head": 0, "frames": 0,
        "last_seen": null, "last_ts": null, "channels": [],
    });
    assert_eq!(unheard.json(), expected);

    let position =
        FrameRef { ts: TS, channel: "position", content_type: ContentType::Json, payload: b"{\"lat\":30.4}" };
    server.write("bus-1", 1, 1, &[position, text_frame(TS + 5, "log", "door open")]).await;
    server.clock.set(NOW + 1_500_000);
    let position = FrameRef { ts: TS + 9, payload: b"{\"lat\":30.5}", ..position };
    server.write("bus-1", 3, 1, &[position]).await;
    let reply = server.get("/v1/devices/bus-1").token(&token).send().await;
    let expected = json!({
        "id": "bus-1", "groups": [], "revoked": false, "epoch": 3, "head": 1, "frames": 3,
        "last_seen": "2023-11-14T22:13:21.500000Z", "last_ts": TS + 9,
        "channels": [
            {
                "epoch": 1, "seq": 2, "ts": TS + 5, "time": "2017-03-21T05:00:02.000005Z",
                "received_at": "2023-11-14T22:13:20.000000Z", "channel": "log", "text": "door open",
            },
            {
                "epoch": 3, "seq": 1, "ts": TS + 9, "time": "2017-03-21T05:00:02.000009Z",
                "received_at": "2023-11-14T22:13:21.500000Z", "channel": "position", "json": {"lat": 30.5},
            },
        ],
    });
    assert_eq!(reply.json(), expected);

    let lists = server.add_reader("lists", &[Scope::DevicesRead], &[]).await;
    let without = server.get("/v1/devices/bus-1").token(&lists).send().await.json();
    assert_eq!(without["head"], 1);
    assert!(without.get("channels").is_none(), "frames need their own scope");
}

#[tokio::test]
async fn tags_of_devices_change_with_what_is_shown() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    for target in ["/v1/devices", "/v1/devices/bus-1"] {
        let first = server.get(target).token(&token).send().await;
        let tag = first.header("etag").to_owned();
        let again = server.get(target).token(&token).header("if-none-match", &tag).send().await;
        assert_eq!(again.status, 304);
        assert!(again.body.is_empty());
        assert_eq!(again.header("etag"), tag);

        let next = first.json().pointer("/head").or(first.json().pointer("/devices/0/head")).unwrap().clone();
        server.write_texts("bus-1", 1, next.as_u64().unwrap() + 1, 1).await;
        let after = server.get(target).token(&token).header("if-none-match", &tag).send().await;
        assert_eq!(after.status, 200);
        assert_ne!(after.header("etag"), tag);
    }
}

#[tokio::test]
async fn a_revoked_device_keeps_its_frames_and_says_so() {
    let mut server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    server.write_texts("bus-1", 1, 1, 2).await;
    server.registry.revoke_device(&device("bus-1")).await.unwrap();
    let reply = server.get("/v1/devices/bus-1").token(&token).send().await.json();
    assert_eq!((&reply["revoked"], &reply["frames"]), (&json!(true), &json!(2)));
    let frames = server.get("/v1/devices/bus-1/frames").token(&token).send().await.json();
    assert_eq!(frames["frames"].as_array().unwrap().len(), 2);
}
