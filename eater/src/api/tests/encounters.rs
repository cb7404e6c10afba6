//! Encounters.
//!
//! 1. A reader learns of devices that it may see, and of no other; of one device, also if that is in no group that others
//!    are looked for in.
//! 2. What carries no position is passed over.
//! 3. Too many searches at a time are refused.

use trough_protocol::frame::FrameRef;
use trough_protocol::{Channel, ContentType};
use trough_store::{PositionSchema, Registry as _, Scope};

use super::support::{Server, TS};
use crate::api::ApiLimits;

fn frame(channel: &'static str, payload: &'static str) -> FrameRef<'static> {
    FrameRef { ts: TS, channel, content_type: ContentType::Json, payload: payload.as_bytes() }
}

/// Four devices at one place, two of them in the group `north`; positions are on the channel `gps`.
async fn together(limits: ApiLimits) -> Server {
    let mut server = Server::with(limits).await;
    let schema = PositionSchema::new(Channel::new("gps").unwrap(), "/lat", "/lon").unwrap();
    server.registry.set_position_schema(schema).await.unwrap();
    for (name, groups) in [("a", &["north"][..]), ("b", &["north"]), ("c", &["south"]), ("d", &[])] {
        server.add_device(name, groups).await;
        let frames = [
            frame("gps", r#"{"lat":30.25,"lon":-97.75}"#),
            frame("gps", r#"{"lat":"here"}"#),
            frame("gps", r#"{"lat":99,"lon":1}"#),
            frame("other", r#"{"lat":1,"lon":1}"#),
        ];
        server.write(name, 1, 1, &frames).await;
    }
    server
}

async fn pairs(server: &Server, token: &str, path: &str) -> Vec<String> {
    let answer = server.get(path).token(token).send().await;
    assert_eq!(answer.status, 200, "{path}");
    let answer = answer.json();
    assert_eq!(answer["channels"], serde_json::json!(["gps"]));
    let pair = |one: &serde_json::Value| {
        let [a, b] = [0, 1].map(|at| one["devices"][at].as_str().unwrap().to_owned());
        assert_eq!((one["metres"].as_f64(), one["first_ts"].as_u64()), (Some(0.0), Some(TS)));
        a + &b
    };
    answer["encounters"].as_array().unwrap().iter().map(pair).collect()
}

#[tokio::test]
async fn a_reader_learns_of_devices_that_it_sees() {
    let server = together(ApiLimits::default()).await;
    let all = server.reader().await;
    assert_eq!(pairs(&server, &all, "/v1/encounters").await, ["ab", "ac", "ad", "bc", "bd", "cd"]);
    assert_eq!(pairs(&server, &all, "/v1/encounters?group=north").await, ["ab"]);
    assert_eq!(pairs(&server, &all, "/v1/devices/c/encounters").await, ["ac", "bc", "cd"]);
    assert_eq!(pairs(&server, &all, "/v1/devices/d/encounters?group=north").await, ["ad", "bd"]);
    assert!(pairs(&server, &all, "/v1/encounters?to=0").await.is_empty());
    let northern = server.add_reader("northern", &[Scope::FramesRead], &["north"]).await;
    assert_eq!(pairs(&server, &northern, "/v1/encounters").await, ["ab"]);
    assert_eq!(pairs(&server, &northern, "/v1/devices/a/encounters").await, ["ab"]);
    assert!(pairs(&server, &northern, "/v1/encounters?group=south").await.is_empty());
    let (status, code, _) = server.get("/v1/devices/c/encounters").token(&northern).send().await.problem();
    assert_eq!((status, code.as_str()), (404, "no_such_device"));
}

#[tokio::test]
async fn so_many_searches_at_a_time_and_no_more() {
    let server = together(ApiLimits { searches_max: 0, ..ApiLimits::default() }).await;
    let all = server.reader().await;
    let (status, code, detail) = server.get("/v1/encounters").token(&all).send().await.problem();
    assert_eq!((status, code.as_str()), (503, "busy"));
    assert!(detail.contains("searches"), "{detail}");
}
