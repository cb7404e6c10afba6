//! TLS and the shared key, with real certificates.
//!
//! 1. A device streams over wss and a reader fetches over https, in both shapes; plain HTTP is told what to do.
//! 2. Certificates are rotated while devices stream: their sessions live on, new connections see the new one. A new
//!    file that is broken changes nothing, and shows in `/readyz` until it is mended.
//! 3. An eater with TLS and a key refuses a plain link, a feeder of another authority, one that trusts another
//!    authority, one whose certificate has expired, one without the key and one with another: the reason is in the
//!    logs of both and in the feeder's `/readyz`. When it is mended, everything that the device holds arrives.
//! 4. An eater with a key wants the proof of this very link before it takes anything: none, a wrong one, its own sent
//!    back, and one of another link are refused.
//! 5. A feeder with TLS or a key refuses an eater without.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trough_device::{Device, Tls};
use trough_protocol::LinkId;
use trough_protocol::link::{LinkKey, LinkMessage, Opening, Proof, Side, Versions};
use trough_tests::certificates::{Authority, Issued, Mount};
use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::fleet::config;
use trough_tests::ledger::{Sent, Track};
use trough_tests::peer::{Heard, Peer, batch};
use trough_tests::poll::{SOON, ends, until};

/// The name of eaters that are reached by address.
const EATER: &str = "trough-eater";

/// Sends frames `from` to `to` and waits until they are durable.
async fn stream(device: &Device, track: &mut Track, to: u64) {
    for n in track.sent.len() as u64 + 1..=to {
        let frame = Sent::on_wire(n, format!("frame {n}").as_bytes());
        device.send(frame.frame()).await.unwrap();
        track.sent.push(frame);
    }
    ends("the frames are durable", SOON, device.flush()).await.unwrap();
}

fn track() -> Track {
    Track { device: "d".into(), sent: Vec::new() }
}

/// A device that trusts this authority and no other.
fn device_over_tls(cluster: &Cluster, token: &str, authority: &Authority) -> trough_device::Config {
    let mut config = config(cluster, token);
    config.url = cluster.url().replace("ws://", "wss://");
    config.tls = Some(Tls::with_roots_pem(authority.pem().as_bytes()).unwrap());
    config
}

/// A deployment of which no process runs yet, with a certificate for its address.
async fn prepared(shape: Shape, authority: &Authority) -> (Cluster, Mount, Issued) {
    let mut cluster = Cluster::prepare(shape, Options::default()).await;
    let issued = authority.issue(&[&cluster.at.devices.ip().to_string()]);
    let mount = Mount::new(&cluster.path().join("http"), &issued, &authority.pem());
    cluster.options.feeder_args = mount.http_args();
    cluster.options.eater_args = mount.http_args();
    (cluster, mount, issued)
}

async fn start(cluster: &mut Cluster) {
    for role in cluster.roles() {
        cluster.spawn(role);
    }
    cluster.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_and_readers_come_over_tls() {
    for shape in [Shape::Up, Shape::Split] {
        let authority = Authority::new("ours");
        let (mut cluster, _mount, _) = prepared(shape, &authority).await;
        start(&mut cluster).await;
        let token = cluster.add_device("d").await;
        let device = Device::connect(device_over_tls(&cluster, &token, &authority)).await.unwrap();
        let mut track = track();
        stream(&device, &mut track, 300).await;
        device.close().await.unwrap();
        track.assert_readable(&cluster.reader().over_tls(&authority.pem()), 1).await;

        for at in [cluster.at.devices, cluster.at.api] {
            let mut plain = TcpStream::connect(at).await.unwrap();
            plain.write_all(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            ends("plain HTTP is answered", SOON, plain.read_to_string(&mut answer)).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://"), "{answer}");
        }
        let stranger = Authority::new("another");
        let refused = cluster.reader().over_tls(&stranger.pem()).get("/readyz", "*/*").await;
        assert!(refused.is_err(), "a client that trusts another authority does not connect");
        let metrics = cluster.metrics(cluster.front()).await;
        let expiry = "trough_tls_certificate_expiry_seconds{purpose=\"http\"} 4102444800";
        assert!(metrics.contains(expiry), "{metrics}");
    }
}

/// The certificate that a port shows.
async fn shown(cluster: &Cluster, authority: &Authority) -> Option<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let at = cluster.at.devices;
    let show = tokio::task::spawn_blocking(move || {
        let name = ServerName::from(at.ip());
        let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
        let mut stream = std::net::TcpStream::connect(at).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).ok()?;
        }
        Some(connection.peer_certificates()?.first()?.to_vec())
    });
    show.await.unwrap()
}

fn der(issued: &Issued) -> Option<Vec<u8>> {
    Some(CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap().to_vec())
}

/// Why a part is degraded.
async fn reason(cluster: &Cluster, role: Role, part: &str) -> Option<String> {
    let (_, body) = cluster.readiness(role).await?;
    let found = body["degraded"].as_array()?.iter().find(|degraded| degraded["part"] == part)?.clone();
    found["reason"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_rotated_while_devices_stream() {
    let authority = Authority::new("ours");
    let (mut cluster, mut mount, first) = prepared(Shape::Split, &authority).await;
    start(&mut cluster).await;
    let token = cluster.add_device("d").await;
    let device = Device::connect(device_over_tls(&cluster, &token, &authority)).await.unwrap();
    let mut track = track();
    stream(&device, &mut track, 50).await;
    assert_eq!(shown(&cluster, &authority).await, der(&first));

    let second = authority.issue(&[&cluster.at.devices.ip().to_string()]);
    mount.swap(&second, &authority.pem());
    until("the new certificate is shown", SOON, async || {
        (shown(&cluster, &authority).await == der(&second)).then_some(())
    })
    .await;
    stream(&device, &mut track, 100).await;

    // The certificate of one and the key of another.
    let broken = Issued { key: first.key.clone(), ..authority.issue(&["broken"]) };
    mount.swap(&broken, &authority.pem());
    let text =
        until("the broken file is reported", SOON, async || reason(&cluster, Role::Feeder(0), "tls").await)
            .await;
    assert!(text.contains("tls.key") && text.contains("not the key of the certificate"), "{text}");
    assert_eq!(shown(&cluster, &authority).await, der(&second), "the one before stays in use");
    stream(&device, &mut track, 150).await;

    mount.swap(&first, &authority.pem());
    cluster.ready().await;
    assert_eq!(shown(&cluster, &authority).await, der(&first));
    stream(&device, &mut track, 200).await;
    device.close().await.unwrap();
    track.assert_readable(&cluster.reader().over_tls(&authority.pem()), 1).await;
    assert_eq!(cluster.session_ends("d").len(), 1, "the session lived through all of it");
    let complaints = cluster.log(Role::Feeder(0));
    let complaints = complaints.iter().filter(|line| line["message"] == "degraded" && line["part"] == "tls");
    assert_eq!(complaints.count(), 1, "a bad file is complained of once");
}

fn key_args(dir: &Path, name: &str, key: &str) -> Vec<String> {
    let file = dir.join(name);
    std::fs::write(&file, key).unwrap();
    vec!["--link-key-file".into(), file.display().to_string()]
}

/// Starts the feeder anew with these options, which the eater refuses, and sees the reasons on both sides.
async fn is_refused(cluster: &mut Cluster, what: &str, args: Vec<String>, theirs: &str, ours: &str) {
    cluster.kill(Role::Feeder(0));
    let known = cluster.log(Role::Eater(0)).len();
    cluster.options.feeder_args = args;
    cluster.spawn(Role::Feeder(0));
    until(&format!("the feeder says why: {what}: {theirs}"), SOON, async || {
        reason(cluster, Role::Feeder(0), "eater").await.filter(|text| text.contains(theirs))
    })
    .await;
    until(&format!("the eater says why: {what}: {ours}"), SOON, async || {
        let log = cluster.log(Role::Eater(0));
        log[known..].iter().any(|line| line.to_string().contains(ours)).then_some(())
    })
    .await;
}

const KEY: &str = "a key that both sides have, and nobody else\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eater_takes_only_links_that_it_trusts() {
    let [authority, twin, stranger] = ["ours", "ours", "another"].map(Authority::new);
    let mut cluster = Cluster::prepare(Shape::Split, Options::default()).await;
    let dir = cluster.path().to_owned();
    let mount = |name: &str, issued: &Issued, authority: &Authority| {
        Mount::new(&dir.join(name), issued, &authority.pem()).link_args()
    };
    let key = key_args(&dir, "key", KEY);
    let good = mount("feeder", &authority.issue(&["a-feeder"]), &authority);
    cluster.options.eater_args =
        [mount("eater", &authority.issue(&[EATER]), &authority), key.clone()].concat();
    cluster.options.feeder_args = [good.clone(), key.clone()].concat();
    start(&mut cluster).await;
    let token = cluster.add_device("d").await;
    let device = Device::connect(config(&cluster, &token)).await.unwrap();
    let mut track = track();
    stream(&device, &mut track, 100).await;

    let other_key = key_args(&dir, "other-key", "another key, which is as long as it has to be");
    let strange = mount("strange", &stranger.issue(&["a-feeder"]), &authority);
    let twins = mount("twins", &twin.issue(&["a-feeder"]), &authority);
    let trusting = mount("trusting", &authority.issue(&["a-feeder"]), &stranger);
    let expired = mount("expired", &authority.issue_until(&["a-feeder"], 2020), &authority);
    let cases = [
        ("plain", key.clone(), "TLS only", "TLS only"),
        ("another authority", strange, "authority of our certificate", "not of an authority trusted here"),
        ("its namesake", twins, "authority of our certificate", "not of an authority trusted here"),
        ("trusting another", trusting, "not of an authority trusted here", "authority of our certificate"),
        ("expired", expired, "our certificate has expired", "certificate has expired"),
        ("no key", good.clone(), "--link-key-file", "shared key only"),
        // The feeder finds it first: the eater has to prove the key to it, too.
        ("another key", [good.clone(), other_key].concat(), "another key", "another key"),
    ];
    for (what, args, theirs, ours) in cases {
        is_refused(&mut cluster, what, args, theirs, ours).await;
    }
    // The device has more by now.
    for n in 101..=150 {
        let frame = Sent::on_wire(n, format!("frame {n}").as_bytes());
        device.send(frame.frame()).await.unwrap();
        track.sent.push(frame);
    }
    cluster.kill(Role::Feeder(0));
    cluster.options.feeder_args = [good, key].concat();
    cluster.spawn(Role::Feeder(0));
    cluster.ready().await;
    stream(&device, &mut track, 200).await;
    device.close().await.unwrap();
    track.assert_readable(&cluster.reader(), 1).await;
}

/// Opens a link by hand up to the eater's challenge.
async fn challenged(cluster: &Cluster, key: &LinkKey) -> (Peer, Opening, Proof) {
    let (feeder, feeder_challenge) = (LinkId([7; 16]), [5; 32]);
    let mut peer = Peer::connect(cluster.at.links).await;
    let (versions, software) = (Versions::OURS, "a test".to_owned());
    peer.say(&LinkMessage::Hello { versions, feeder, software, challenge: Some(feeder_challenge) }).await;
    let Heard::Challenge { eater, challenge, proof } = peer.hear().await else {
        panic!("a CHALLENGE was due")
    };
    let opening = Opening { feeder, eater, feeder_challenge, eater_challenge: challenge };
    assert!(key.verify(Side::Eater, &opening, &proof), "the eater proves that it knows the key");
    (peer, opening, proof)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_is_of_the_key_and_of_this_link() {
    let mut cluster = Cluster::prepare(Shape::Split, Options::default()).await;
    cluster.options.eater_args = key_args(cluster.path(), "key", KEY);
    cluster.options.feeder_args.clone_from(&cluster.options.eater_args);
    start(&mut cluster).await;
    cluster.add_device("d").await;
    let key = LinkKey::new(KEY.trim_end().as_bytes()).unwrap();
    let one = batch("d", 1, &[b"one"]);

    let (_, old, _) = challenged(&cluster, &key).await;
    let other = LinkKey::new(&[9; 32]).unwrap();
    for what in ["another key's", "its own", "an older one"] {
        let (mut peer, opening, theirs) = challenged(&cluster, &key).await;
        assert_ne!(opening.eater_challenge, old.eater_challenge, "every link has its own challenge");
        let proof = match what {
            "another key's" => other.prove(Side::Feeder, &opening),
            "its own" => theirs,
            _ => key.prove(Side::Feeder, &old),
        };
        peer.say(&LinkMessage::Proof { proof }).await;
        let heard = peer.hear().await;
        assert!(matches!(heard, Heard::Goaway { code: "unauthorized", .. }), "{what}: {heard:?}");
        assert_eq!(peer.hear().await, Heard::End);
    }
    let (mut peer, _, _) = challenged(&cluster, &key).await;
    peer.say(&LinkMessage::Feed { number: 1, batch: &one }).await;
    let heard = peer.hear().await;
    assert!(matches!(heard, Heard::Goaway { code: "protocol", .. }), "no proof: {heard:?}");
    assert_eq!(cluster.reader().frames("d").await.len(), 0, "nothing of them was stored");

    let (mut peer, opening, _) = challenged(&cluster, &key).await;
    peer.say(&LinkMessage::Proof { proof: key.prove(Side::Feeder, &opening) }).await;
    assert!(matches!(peer.hear().await, Heard::Welcome { .. }));
    peer.say(&LinkMessage::Feed { number: 1, batch: &one }).await;
    peer.ate(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feeder_takes_only_an_eater_that_it_trusts() {
    let authority = Authority::new("ours");
    let mut cluster = Cluster::start(Shape::Split).await;
    let dir = cluster.path().to_owned();
    let key = key_args(&dir, "key", KEY);
    let mount = |name: &str, names: &[&str]| {
        Mount::new(&dir.join(name), &authority.issue(names), &authority.pem()).link_args()
    };
    let tls = mount("feeder", &["a-feeder"]);
    is_refused(&mut cluster, "no key", key, "has not shown that it knows the key", "has not shown").await;
    is_refused(&mut cluster, "no TLS", tls.clone(), "TLS with the eater failed", "a feeder speaks TLS").await;

    cluster.kill(Role::Eater(0));
    cluster.options.eater_args = mount("misnamed", &["another-name"]);
    cluster.spawn(Role::Eater(0));
    is_refused(&mut cluster, "misnamed", tls, "for other names", "refuses our certificate").await;
}
