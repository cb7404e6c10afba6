//! 1. Every refusal has its status, its code and a text that says what to do.
//! 2. Nobody learns of devices that are not theirs.
//! 3. A revoked reader is refused within a second.
//! 4. No token reaches a log.

use http::Method;
use trough_store::{ReaderName, Registry as _, Scope};

use super::support::{SOON, Server, capture_logs};
use crate::api::ApiLimits;
use crate::api::metrics::ReadLabels;

#[tokio::test]
async fn without_a_valid_token_nobody_gets_anything() {
    let server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    for path in ["/v1/devices", "/v1/devices/bus-1", "/v1/devices/bus-1/frames", "/v1/devices/bus-1/gaps"] {
        let missing = server.get(path).send().await;
        assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"trough\"");
        let (status, code, detail) = missing.problem();
        assert_eq!((status, code.as_str()), (401, "token_missing"));
        assert!(detail.contains("Authorization: Bearer"), "{detail}");

        let other = if token.ends_with('A') { 'E' } else { 'A' };
        let wrong = format!("{}{other}", &token[..token.len() - 1]);
        for bad in ["x", &wrong, "tdev_000000000000_00000000000000000000000000000000000000000000"] {
            let refused = server.get(path).token(bad).send().await;
            assert!(refused.header("www-authenticate").contains("error=\"invalid_token\""));
            let (status, code, detail) = refused.problem();
            assert_eq!((status, code.as_str()), (401, "token_refused"));
            assert!(bad.len() < 2 || !detail.contains(bad), "{detail}");
        }
        let basic = server.get(path).header("authorization", "Basic YTpi").send().await;
        assert_eq!(basic.problem().1, "token_missing");
        assert_eq!(server.get(path).token(&token).send().await.status, 200);
    }
}

#[tokio::test]
async fn a_scope_that_is_missing_is_named() {
    let server = Server::start().await;
    server.add_device("bus-1", &[]).await;
    let lists = server.add_reader("lists", &[Scope::DevicesRead], &[]).await;
    let reads = server.add_reader("reads", &[Scope::FramesRead], &[]).await;
    for (token, path, reader, scope) in [
        (&lists, "/v1/devices/bus-1/frames", "lists", "frames:read"),
        (&lists, "/v1/devices/bus-1/gaps", "lists", "frames:read"),
        (&reads, "/v1/devices", "reads", "devices:read"),
        (&reads, "/v1/devices/bus-1", "reads", "devices:read"),
    ] {
        let refused = server.get(path).token(token).send().await;
        let challenge = refused.header("www-authenticate");
        assert!(challenge.contains("insufficient_scope") && challenge.contains(scope), "{challenge}");
        let (status, code, detail) = refused.problem();
        assert_eq!((status, code.as_str()), (403, "scope_missing"));
        assert!(detail.contains(reader) && detail.contains(scope), "{detail}");
    }
}

#[tokio::test]
async fn a_device_of_others_is_as_absent_as_none() {
    let server = Server::start().await;
    server.add_device("mine", &["north", "south"]).await;
    server.add_device("theirs", &["south"]).await;
    server.add_device("ungrouped", &[]).await;
    let token = server.add_reader("north", &Scope::ALL, &["north"]).await;
    for tail in ["", "/frames", "/gaps"] {
        let ask = |name: &str| server.get(&format!("/v1/devices/{name}{tail}")).token(&token).send();
        assert_eq!(ask("mine").await.status, 200);
        let mut details = Vec::new();
        for name in ["theirs", "ungrouped", "nobody", "%FF", "b%20c"] {
            let (status, code, detail) = ask(name).await.problem();
            assert_eq!((status, code.as_str()), (404, "no_such_device"), "{name}");
            details.push(detail.replace(&format!("{name:?}"), "NAME"));
        }
        assert_eq!(details[0], details[1]);
        assert_eq!(details[0], details[2]);
    }
}

#[tokio::test]
async fn what_is_not_understood_is_refused_by_name() {
    let server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    for (target, code, named) in [
        ("/v1/devices?group=a%20b", "bad_parameter", "group"),
        ("/v1/devices?limit=0", "bad_parameter", "limit"),
        ("/v1/devices?from=1", "bad_parameter", "use group, limit, cursor"),
        ("/v1/devices?cursor=x", "bad_cursor", "cursor"),
        ("/v1/devices/bus-1?limit=1", "bad_parameter", "use none"),
        ("/v1/devices/bus-1/gaps?limit=10001", "bad_parameter", "10001"),
        ("/v1/devices/bus-1/gaps?cursor=", "bad_cursor", "cursor"),
        ("/v1/devices/bus-1/frames?lmit=1", "bad_parameter", "\"lmit\""),
        (
            "/v1/devices/bus-1/frames?limit=ten",
            "bad_parameter",
            "\"ten\": use a whole number from 1 to 10000",
        ),
        ("/v1/devices/bus-1/frames?limit=1&limit=2", "bad_parameter", "give it once"),
        ("/v1/devices/bus-1/frames?from=yesterday", "bad_parameter", "RFC 3339"),
        ("/v1/devices/bus-1/frames?from=2&to=1", "bad_parameter", "not before from"),
        ("/v1/devices/bus-1/frames?order=up", "bad_parameter", "asc or desc"),
        ("/v1/devices/bus-1/frames?channel=a%20b", "bad_parameter", "\"a b\""),
        ("/v1/devices/bus-1/frames?after=1", "bad_parameter", "1:4711"),
        ("/v1/devices/bus-1/frames?from=%zz", "bad_parameter", "RFC 3986"),
        ("/v1/devices/bus-1/frames?cursor=AAAA", "bad_cursor", "next_cursor"),
    ] {
        let (status, found, detail) = server.get(target).token(&token).send().await.problem();
        assert_eq!((status, found.as_str()), (400, code), "{target}: {detail}");
        assert!(detail.contains(named), "{target}: {detail}");
    }
}

#[tokio::test]
async fn other_paths_methods_and_types_are_refused() {
    let server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    for path in ["/", "/v1", "/v1/devices/", "/v1/devices/bus-1/frames/", "/v2/devices"] {
        let (status, code, detail) = server.get(path).send().await.problem();
        assert_eq!((status, code.as_str()), (404, "no_such_path"));
        assert!(detail.ends_with(path), "{detail}");
    }
    for method in [Method::POST, Method::DELETE, Method::PUT, Method::OPTIONS] {
        let refused = server.ask(method.clone(), "/v1/devices/bus-1/frames").token(&token).send().await;
        assert_eq!(refused.header("allow"), "GET, HEAD");
        let (status, code, detail) = refused.problem();
        assert_eq!((status, code.as_str()), (405, "method_not_allowed"));
        assert!(detail.contains(method.as_str()), "{detail}");
    }
    for (path, accept, offered) in [
        ("/v1/devices", "text/csv", "application/json"),
        ("/v1/devices/bus-1", "text/csv", "application/json"),
        ("/v1/devices/bus-1/gaps", "application/x-ndjson", "application/json"),
        ("/v1/devices/bus-1/frames", "image/png", "application/json, application/x-ndjson, text/csv"),
    ] {
        let refused = server.get(path).token(&token).header("accept", accept).send().await;
        let (status, code, detail) = refused.problem();
        assert_eq!((status, code.as_str()), (406, "not_acceptable"));
        assert!(detail.contains(offered) && detail.contains(accept), "{detail}");
    }
}

#[tokio::test]
async fn too_many_reads_are_told_to_come_back() {
    let limits = ApiLimits { pages_max: 0, streams_max: 0, ..ApiLimits::default() };
    let server = Server::with(limits).await;
    let token = server.device_and_reader("bus-1").await;
    for (path, accept) in [
        ("/v1/devices/bus-1/frames", "*/*"),
        ("/v1/devices/bus-1/frames", "application/x-ndjson"),
        ("/v1/devices/bus-1/gaps", "*/*"),
        ("/v1/devices/bus-1", "*/*"),
        ("/v1/devices", "*/*"),
    ] {
        let refused = server.get(path).token(&token).header("accept", accept).send().await;
        assert_eq!(refused.header("retry-after"), "1");
        let (status, code, _) = refused.problem();
        assert_eq!((status, code.as_str()), (503, "busy"));
    }
    for (kind, refused) in [("pages", 4), ("streams", 1)] {
        let kind = ReadLabels { kind };
        assert_eq!(server.metrics.reads_refused.get_or_create(&kind).get(), refused);
        assert_eq!(server.metrics.reads.get_or_create(&kind).get(), 0);
        assert_eq!(server.metrics.reads_max.get_or_create(&kind).get(), 0);
    }
    assert_eq!(server.metrics.connections_max.get(), 1024);
}

#[tokio::test]
async fn a_revoked_reader_is_refused() {
    let server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    assert_eq!(server.get("/v1/devices").token(&token).send().await.status, 200);
    server.registry.revoke_reader(&ReaderName::new("all").unwrap()).await.unwrap();
    let refused = async {
        loop {
            let reply = server.get("/v1/devices").token(&token).send().await;
            if reply.status == 401 {
                return reply;
            }
        }
    };
    let reply = tokio::time::timeout(SOON, refused).await.expect("the revocation holds");
    let (_, code, detail) = reply.problem();
    assert_eq!(code, "token_refused");
    assert!(detail.contains("revoked"), "{detail}");
}

#[tokio::test]
async fn request_ids_are_kept_and_logs_have_no_secrets() {
    let (_guard, mut lines) = capture_logs();
    let server = Server::start().await;
    let token = server.device_and_reader("bus-1").await;
    let target = format!("/v1/devices/bus-1/frames?access_token={token}");
    let reply = server.get(&target).token(&token).header("x-request-id", "from-the-app-1").send().await;
    assert_eq!(reply.header("x-request-id"), "from-the-app-1");
    let (_, code, detail) = reply.problem();
    assert_eq!(code, "bad_parameter");
    assert!(!detail.contains(&token), "{detail}");
    let made = server.get("/v1/devices").token(&token).header("x-request-id", "two words").send().await;
    assert_eq!(made.header("x-request-id").len(), 36);

    let mut log = String::new();
    while let Ok(line) = lines.try_recv() {
        log.push_str(&line);
    }
    let requests: Vec<&str> = log.lines().filter(|line| line.contains(": request ")).collect();
    assert_eq!(requests.len(), 2, "{log}");
    for wanted in [
        "method=GET",
        "route=\"/v1/devices/{id}/frames\"",
        "status=400",
        "reader=\"all\"",
        "request_id=from-the-app-1",
        "bytes=",
        "duration_ms=",
        "whole=true",
    ] {
        assert!(requests[0].contains(wanted), "{wanted} is missing: {}", requests[0]);
    }
    // The secret's alphabet has the separator, too.
    let secret = token.splitn(3, '_').nth(2).unwrap();
    assert!(!log.contains(secret) && !log.contains("access_token"), "{log}");
}
