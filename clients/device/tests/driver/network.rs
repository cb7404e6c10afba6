//! The device over real sockets: TCP, TLS, and an address where nobody listens.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use trough_device::{Config, ConfigError, Device, Event, Seq, Tls};
use trough_protocol::device::{ClientMessage, ServerMessage, Welcome, binary};
use trough_protocol::frame::check_frames;
use trough_protocol::{Epoch, limits::FRAME_BYTES_MAX};

use crate::feeder::frame;

const DEADLINE: Duration = Duration::from_secs(30);
const CA: &[u8] = include_bytes!("data/ca.pem");
const SERVER: &[u8] = include_bytes!("data/server.pem");
const SERVER_KEY: &[u8] = include_bytes!("data/server.key");

/// Serves one session that acknowledges everything at once; returns how many frames came.
#[allow(clippy::result_large_err, reason = "tungstenite's callback is what it is")]
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) -> u64 {
    let callback = |_: &Request, mut response: Response| {
        response.headers_mut().insert("sec-websocket-protocol", "trough.v1".parse().unwrap());
        Ok(response)
    };
    let mut websocket = tokio_tungstenite::accept_hdr_async(stream, callback).await.unwrap();
    let mut count = 0;
    while let Some(Ok(message)) = websocket.next().await {
        let Message::Binary(bytes) = message else { continue };
        let answer = match binary::decode_client(&bytes).unwrap() {
            ClientMessage::Hello(_) => ServerMessage::Welcome(Welcome {
                epoch: Epoch(1),
                resume: Seq(1),
                time: 1,
                window_bytes: 1 << 20,
                frame_bytes_max: 1 << 20,
                message_bytes_max: 1 << 20,
                session: [0; 16],
            }),
            ClientMessage::Frames { first, data } => {
                assert_eq!(first.0, count + 1);
                count += check_frames(data, FRAME_BYTES_MAX).unwrap().count;
                ServerMessage::Ack(Seq(count))
            }
            other => panic!("{other:?}"),
        };
        let mut out = Vec::new();
        binary::encode_server(&answer, &mut out);
        websocket.send(Message::binary(out)).await.unwrap();
    }
    count
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn acceptor() -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(SERVER).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Frames of all sizes, more than any buffer on the way holds.
async fn send_many(device: &Device) -> u64 {
    let text = "0123456789".repeat(6000);
    for n in 0..2000_usize {
        device.send(frame(&text[..n * 37 % 60_000])).await.unwrap();
    }
    assert_eq!(device.close().await.unwrap().acked, Seq(2000));
    2000
}

#[tokio::test]
async fn frames_go_over_tcp() {
    let (listener, port) = listen().await;
    let server = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    let config = Config::new(format!("http://127.0.0.1:{port}"), "token");
    let device = timeout(DEADLINE, Device::connect(config)).await.unwrap().unwrap();
    let sent = timeout(DEADLINE, send_many(&device)).await.unwrap();
    assert_eq!(server.await.unwrap(), sent);
}

#[tokio::test]
async fn frames_go_over_tls_to_a_server_of_the_given_ca() {
    for host in ["localhost", "127.0.0.1"] {
        let (listener, port) = listen().await;
        let server = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            serve(acceptor().accept(tcp).await.unwrap()).await
        });
        let mut config = Config::new(format!("wss://{host}:{port}/v1/stream"), "token");
        config.tls = Some(Tls::with_roots_pem(CA).unwrap());
        let device = timeout(DEADLINE, Device::connect(config)).await.unwrap().unwrap();
        let sent = timeout(DEADLINE, send_many(&device)).await.unwrap();
        assert_eq!(server.await.unwrap(), sent);
    }
}

#[tokio::test]
async fn a_server_of_an_unknown_ca_gets_no_token() {
    let (listener, port) = listen().await;
    let server = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor().accept(tcp).await.err()
    });
    let device = Device::start(Config::new(format!("wss://localhost:{port}"), "token")).unwrap();
    let mut events = device.events();
    let event = timeout(DEADLINE, events.recv()).await.unwrap().unwrap();
    let Event::Disconnected { reason, retry_in: Some(_), .. } = event else { panic!("{event:?}") };
    assert!(reason.contains("certificate"), "{reason}");
    assert!(server.await.unwrap().is_some(), "the handshake failed");
}

#[tokio::test]
async fn nobody_listening_is_tried_again() {
    let (listener, port) = listen().await;
    drop(listener);
    let device = Device::start(Config::new(format!("ws://127.0.0.1:{port}"), "token")).unwrap();
    let mut events = device.events();
    for _ in 0..2 {
        let event = timeout(DEADLINE, events.recv()).await.unwrap().unwrap();
        let Event::Disconnected { code: None, reason, .. } = event else { panic!("{event:?}") };
        assert!(reason.contains("refused"), "{reason}");
    }
    // The address comes to life.
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    timeout(DEADLINE, device.connected()).await.unwrap().unwrap();
}

#[test]
fn what_is_no_certificate_is_refused() {
    for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(Tls::with_roots_pem(pem.as_bytes()), Err(ConfigError::Roots(_))), "{pem:?}");
    }
    assert!(Tls::with_roots_pem(CA).is_ok());
}

#[test]
fn a_runtime_of_one_thread_will_do_for_many_devices() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (listener, port) = listen().await;
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(tcp));
            }
        });
        let mut devices = Vec::new();
        for _ in 0..200 {
            devices.push(Device::start(Config::new(format!("ws://127.0.0.1:{port}"), "token")).unwrap());
        }
        for device in &devices {
            for text in ["1", "2", "3"] {
                device.send(frame(text)).await.unwrap();
            }
        }
        for device in &devices {
            assert_eq!(timeout(DEADLINE, device.close()).await.unwrap().unwrap().acked, Seq(3));
        }
    });
}
