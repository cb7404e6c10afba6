//! NGINX with the configuration that ships, in front of two feeders and an eater.
//!
//! 1. Reloads in mid-stream, which cut every session, and the kill of one feeder: devices resume, all on the other
//!    feeder while the one is dead; nothing is lost, nothing is there twice. A reader fetches it by the same way.
//! 2. A ticket opens a session, whichever feeder issued it.
//! 3. No log has a token, a ticket or a query string: also when no feeder can be reached, when the request is none,
//!    and when the question mark is hidden.
//! 4. Nothing leads to the port of the links or to an admin port.
//! 5. A feeder without an eater refuses; the next one is asked. If nobody can be reached, the answer says when to
//!    come back.
//! 6. What readers may send gets through, and what is too large is refused as eaters do.
//! 7. Its timeouts are longer than a session is silent.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use trough_device::{Mode, Tls};
use trough_tests::cluster::{Cluster, Entrance, Options, Role, Shape};
use trough_tests::data;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::{Track, assert_all_readable};
use trough_tests::poll::{LATER, SOON, until};
use trough_tests::process::{Process, command};
use trough_tests::reader::{Reader, client_trusting};
use trough_tests::servers::nginx::{Nginx, shipped};
use trough_tests::servers::{accepts, free_ports, own_ip};
use trough_tests::upgrade::{Ask, Refused};

/// Two feeders, an eater, and NGINX, through which devices come in.
async fn behind_nginx() -> (Cluster, Nginx) {
    let options = Options { feeders: 2, ..Options::default() };
    let mut cluster = Cluster::start_with(Shape::Split, options).await;
    let nginx = Nginx::start(&cluster.feeders(), &cluster.eaters()).await;
    let tls = Tls::with_roots_pem(nginx.certificate_pem.as_bytes()).unwrap();
    cluster.entrance = Entrance { url: format!("wss://{}", nginx.at), tls: Some(tls) };
    (cluster, nginx)
}

fn reader(cluster: &Cluster, nginx: &Nginx) -> Reader {
    cluster.reader().through(client_trusting(&nginx.certificate_pem), url(nginx, ""))
}

fn url(nginx: &Nginx, path: &str) -> String {
    format!("https://{}{path}", nginx.at)
}

async fn sessions(cluster: &Cluster, feeder: usize) -> u64 {
    let metrics = cluster.metrics(Role::Feeder(feeder)).await;
    let value = metrics.lines().find_map(|line| line.strip_prefix("trough_feeder_sessions "));
    value.expect("a gauge of sessions").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_a_dead_feeder_lose_nothing() {
    let (mut cluster, mut nginx) = behind_nginx().await;
    let tracks: Vec<Track> = data::buses().into_iter().chain(data::gpsd()).collect();
    let devices = tracks.len() as u64;
    let mut fleet = Fleet::start(&cluster, tracks, Mode::Binary).await;
    for feeder in 0..2 {
        assert!(sessions(&cluster, feeder).await > devices / 4, "both feeders have sessions");
    }
    fleet.let_go(300);
    until("frames are streaming", LATER, async || (fleet.acked() > 1000).then_some(())).await;

    fleet.let_go(500);
    nginx.reload().await;
    until("the reload has cut sessions", SOON, async || {
        cluster.log(Role::Feeder(0)).iter().any(|line| line["message"] == "session ended").then_some(())
    })
    .await;

    fleet.let_go(700);
    cluster.kill(Role::Feeder(1));
    until("all go on with the feeder that lives", LATER, async || {
        (fleet.acked() == fleet.due()).then_some(())
    })
    .await;
    cluster.spawn(Role::Feeder(1));
    cluster.ready().await;
    fleet.let_go(900);
    nginx.reload().await;
    nginx.kill();
    nginx.restart().await;
    fleet.finish().await;
    assert_all_readable(&reader(&cluster, &nginx), &fleet.tracks).await;
}

/// Asks for a ticket.
async fn ticket(nginx: &Nginx, token: &str) -> String {
    let client = client_trusting(&nginx.certificate_pem);
    let response = client.post(url(nginx, "/v1/tickets")).bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let body: Value = response.json().await.unwrap();
    body["ticket"].as_str().unwrap().to_owned()
}

async fn refused(nginx: &Nginx, path: &str) -> Refused {
    let ask = Ask::new(nginx.at, path).speaks("trough.v1");
    ask.send_by_tls(&nginx.certificate_pem).await.expect_err("this must be refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_find_their_feeder_and_no_log_has_a_secret() {
    let (mut cluster, nginx) = behind_nginx().await;
    let token = cluster.add_device("browser").await;
    let mut secrets = vec![token.clone(), cluster.reader_token().to_owned()];
    // By chance alone, two feeders would pass this once in a thousand runs.
    for _ in 0..10 {
        let ticket = ticket(&nginx, &token).await;
        let path = format!("/v1/stream?access_token={ticket}");
        let ask = Ask::new(nginx.at, &path).speaks("trough.v1");
        drop(ask.send_by_tls(&nginx.certificate_pem).await.unwrap());
        secrets.push(ticket);
    }
    let client = client_trusting(&nginx.certificate_pem);
    let response = client.get(url(&nginx, "/v1/devices?limit=7")).header("X-Request-Id", "mine-1");
    let response = response.header("Referer", "https://app/?secret-in-referer").bearer_auth(&secrets[1]);
    let response = response.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-request-id"]),
        (200, &"mine-1".parse().unwrap())
    );

    let used = refused(&nginx, &format!("/v1/stream?access_token={}", secrets[2])).await;
    assert_eq!((used.status, used.code()), (401, "token_invalid"));
    // Sent as if the question mark belonged to the path.
    assert_eq!(refused(&nginx, "/v1/stream%3Faccess_token=secret-in-path").await.status, 404);
    assert_eq!(refused(&nginx, "/nowhere?access_token=secret-at-nowhere").await.status, 404);
    assert_eq!(refused(&nginx, "/v1/devices?access_token=secret at api").await.status, 400);
    cluster.kill(Role::Feeder(0));
    cluster.kill(Role::Feeder(1));
    cluster.kill(Role::Eater(0));
    for path in ["/v1/stream", "/v1/raw", "/v1/devices"] {
        let refused = refused(&nginx, &format!("{path}?access_token={}", secrets[3])).await;
        assert_eq!((refused.status, refused.code()), (503, "unavailable"), "{path}");
        assert!(refused.head.to_lowercase().contains("retry-after: 5"), "{}", refused.head);
    }
    let logs = until("the last request is logged", SOON, async || {
        Some(nginx.logs()).filter(|logs| logs.matches("\"status\":\"503\"").count() == 3)
    })
    .await;
    assert!(
        logs.contains("\"request_id\":\"mine-1\"") && logs.contains("\"path\":\"/v1/tickets\""),
        "{logs}"
    );
    for secret in secrets.iter().map(String::as_str).chain(["secret", "access_token", "limit=7", "?"]) {
        let line = logs.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret:?} was logged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leads_to_the_links_or_an_admin_port() {
    let (cluster, nginx) = behind_nginx().await;
    let configuration = nginx.configuration();
    let upstreams = configuration.lines().filter_map(|line| line.trim().strip_prefix("server "));
    let upstreams: BTreeSet<SocketAddr> =
        upstreams.filter_map(|line| line.split([' ', ';']).next()?.parse().ok()).collect();
    assert_eq!(upstreams, cluster.feeders().into_iter().chain(cluster.eaters()).collect());
    for passed in configuration.split("proxy_pass ").skip(1) {
        let target = passed.split(';').next().unwrap().trim();
        let known = ["$feeders", "feeders_by_client", "feeders_by_load", "eaters", "eaters_for_live"];
        assert!(target.strip_prefix("http://").is_some_and(|name| known.contains(&name)), "{target}");
    }
    let client = client_trusting(&nginx.certificate_pem);
    let status = async |path| client.get(url(&nginx, path)).send().await.unwrap().status().as_u16();
    assert_eq!((status("/readyz").await, status("/healthz").await), (200, 200), "the feeders' probes");
    assert_eq!((status("/metrics").await, status("/").await), (404, 404));
    // No proxy for whatever a client names.
    let asked =
        Ask::new(nginx.at, &format!("http://{}/", cluster.at.links)).send_by_tls(&nginx.certificate_pem);
    assert_eq!(asked.await.unwrap_err().status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_rule_gets_through() {
    let (cluster, nginx) = behind_nginx().await;
    let token = cluster.admin(&["readers", "add", "ruler", "--scope", "rules:manage"], "").await;
    let client = client_trusting(&nginx.certificate_pem);
    let rule = r#"{"scope":"all","condition":{"kind":"compare","when":"/speed > 30"}}"#;
    for (bytes, status) in [(1024 * 1024, 201), (1024 * 1024 + 1, 413), (1_200_000, 413)] {
        let ask = client.put(url(&nginx, "/v1/rules/fast")).bearer_auth(&token);
        let ask = ask
            .header("content-type", "application/json")
            .body(rule.to_owned() + &" ".repeat(bytes - rule.len()));
        let answer = ask.send().await.unwrap();
        assert_eq!(answer.status(), status, "{bytes} bytes");
        if status == 413 {
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["code"], "body_too_large", "{bytes} bytes: {problem}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feeder_without_an_eater_is_passed_over() {
    let cluster = Cluster::start(Shape::Split).await;
    let [lost, admin] = free_ports(own_ip());
    let mut command = command();
    command.args(["feeder", "--eater", "127.0.0.1:1", "--listen", &lost.to_string()]);
    command.args(["--admin", &admin.to_string(), "--data-dir"]).arg(cluster.data_dir());
    let _lost = Process::spawn("lost", &mut command, &cluster.path().join("lost.log"));
    until("it listens", SOON, async || accepts(lost).then_some(())).await;
    let token = cluster.add_device("d").await;
    let direct = Ask::new(lost, "/v1/stream").token(&token).speaks("trough.v1").send().await;
    assert_eq!(direct.unwrap_err().code(), "no_eater");
    let nginx = Nginx::start(&[lost, cluster.at.devices], &cluster.eaters()).await;
    for _ in 0..3 {
        let ask = Ask::new(nginx.at, "/v1/raw").token(&token);
        drop(ask.send_by_tls(&nginx.certificate_pem).await.unwrap());
    }
}

/// The value of a directive in a file that ships, in seconds.
fn seconds(file: &str, directive: &str) -> Duration {
    let text = fs::read_to_string(shipped().join(file)).unwrap();
    let value = text.lines().find_map(|line| line.trim().strip_prefix(directive)?.trim().strip_suffix(';'));
    let value = value.unwrap_or_else(|| panic!("{file} has no {directive}"));
    let (number, unit) = value.split_at(value.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => panic!("{directive} has the unit {other}"),
    };
    Duration::from_secs(number.parse::<u64>().unwrap() * unit)
}

#[test]
fn timeouts_are_longer_than_a_session_is_silent() {
    let config = trough_feeder::Config::default();
    // One ping may be lost.
    let silence = 2 * config.ping_interval + config.pong_timeout;
    assert!(seconds("sessions.conf", "proxy_read_timeout") > silence);
    assert!(seconds("sessions.conf", "proxy_send_timeout") > silence);
    assert!(seconds("sessions.conf", "send_timeout") > config.slow_reader_timeout);
}
