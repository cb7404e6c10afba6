//! Clients that cannot set headers.
//!
//! 1. A ticket is issued for a token, opens one session, and is refused the second time.
//! 2. A ticket that is older than a minute is refused (long form: `TROUGH_TEST_LONG=1`).
//! 3. A ticket is not issued without a token, nor for a token in the query.
//! 4. A token in the query is refused, unless its device opted in.
//! 5. A ticket ends with the token that it was issued for.

use serde_json::Value;
use trough_tests::cluster::{Cluster, Shape};
use trough_tests::reader::client;
use trough_tests::seed;
use trough_tests::upgrade::Ask;
use trough_tests::wire::{Form, Wire};

async fn ticket(cluster: &Cluster, token: &str) -> String {
    let url = format!("http://{}/v1/tickets", cluster.at.devices);
    let response = client().post(url).bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert!((1..=60).contains(&body["expires_in"].as_u64().unwrap()), "{body}");
    body["ticket"].as_str().unwrap().to_owned()
}

fn ask(cluster: &Cluster, credential: &str) -> Ask {
    let path = format!("/v1/stream?access_token={credential}");
    Ask::new(cluster.at.devices, &path).speaks("trough.v1.json")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_one_session() {
    let cluster = Cluster::start(Shape::Up).await;
    let token = cluster.add_device("browser").await;
    let ticket = ticket(&cluster, &token).await;
    let mut wire = Wire::from_socket(ask(&cluster, &ticket).send().await.unwrap(), Form::Json);
    wire.hello(trough_protocol::device::Hello::NEW).await;
    wire.frames(1, &[b"x"]).await;
    wire.acked(1).await;
    wire.close().await;
    let again = ask(&cluster, &ticket).send().await.unwrap_err();
    assert_eq!((again.status, again.code()), (401, "token_invalid"));
    assert!(again.detail().contains("ticket"), "{again:?}");

    let url = format!("http://{}/v1/tickets", cluster.at.devices);
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    assert_eq!(status(client().post(&url)).await, 401);
    assert_eq!(status(client().post(format!("{url}?access_token={token}"))).await, 401);
    assert_eq!(status(client().get(&url).bearer_auth(&token)).await, 405);
    assert_eq!(cluster.reader().frames("browser").await.len(), 1);
    assert!(!cluster.all_logs().contains(&ticket), "a ticket was logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_expires() {
    if seed::count("TROUGH_TEST_LONG", 0) == 0 {
        println!("only in the long form: a ticket lives for a minute; its unit test has its own clock");
        return;
    }
    let cluster = Cluster::start(Shape::Up).await;
    let token = cluster.add_device("late").await;
    let ticket = ticket(&cluster, &token).await;
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    assert_eq!(ask(&cluster, &ticket).send().await.unwrap_err().status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_the_query_needs_leave() {
    let cluster = Cluster::start(Shape::Split).await;
    let token = cluster.add_device("strict").await;
    let refused = ask(&cluster, &token).send().await.unwrap_err();
    assert_eq!((refused.status, refused.code()), (403, "query_token_not_allowed"));
    let allowed = cluster.admin(&["devices", "add", "lax", "--token-in-url"], "").await;
    let mut wire = Wire::from_socket(ask(&cluster, &allowed).send().await.unwrap(), Form::Json);
    wire.hello(trough_protocol::device::Hello::NEW).await;
    wire.close().await;
    for secret in [&token, &allowed] {
        assert!(!cluster.all_logs().contains(secret.as_str()), "a token was logged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_ends_with_its_token() {
    let cluster = Cluster::start(Shape::Up).await;
    let token = cluster.add_device("browser").await;
    let [before, kept] = [ticket(&cluster, &token).await, ticket(&cluster, &token).await];
    let wire = Wire::from_socket(ask(&cluster, &kept).send().await.unwrap(), Form::Json);
    wire.close().await;
    cluster.admin(&["devices", "rotate", "browser"], "").await;
    let mut wire = Wire::from_socket(ask(&cluster, &before).send().await.unwrap(), Form::Json);
    wire.say(&trough_protocol::device::ClientMessage::Hello(trough_protocol::device::Hello::NEW)).await;
    let (code, reason, _) = wire.closed().await;
    assert_eq!(code, 4300, "{reason}");
}
