use std::io::ErrorKind;

use super::*;
use crate::poll::{SOON, ends, until};

/// Says back what it is told, until the other side is done.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    at
}

async fn connected(proxy: &Proxy) -> TcpStream {
    let mut socket = TcpStream::connect(proxy.at).await.unwrap();
    assert_eq!(says_back(&mut socket, b"hello").await.unwrap(), b"hello");
    socket
}

async fn says_back(socket: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    socket.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    ends("the echo comes back", SOON, socket.read_exact(&mut answer)).await?;
    Ok(answer)
}

async fn is_reset(mut socket: TcpStream) {
    let read = ends("the connection ends", SOON, socket.read(&mut [0; 64])).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn passes_bytes_and_ends_both_ways() {
    let proxy = Proxy::start(echo().await).await;
    let mut socket = connected(&proxy).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    let (mut from, mut to) = socket.split();
    let mut read = Vec::new();
    let (wrote, got) = tokio::join!(
        async {
            to.write_all(&sent).await?;
            to.shutdown().await
        },
        ends("the end comes back", SOON, from.read_to_end(&mut read))
    );
    wrote.unwrap();
    got.unwrap();
    assert!(read == sent, "{} bytes came back", read.len());
}

#[tokio::test]
async fn refuses_new_connections_only_and_keeps_its_address() {
    let mut proxy = Proxy::start(echo().await).await;
    let mut open = connected(&proxy).await;
    proxy.refuse().await;
    let refused = TcpStream::connect(proxy.at).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(says_back(&mut open, b"still").await.unwrap(), b"still");
    proxy.heal().await;
    connected(&proxy).await;
}

#[tokio::test]
async fn resets_what_is_open_and_takes_new_ones() {
    let proxy = Proxy::start(echo().await).await;
    let open = connected(&proxy).await;
    proxy.reset();
    is_reset(open).await;
    connected(&proxy).await;
}

#[tokio::test]
async fn a_reset_of_one_side_reaches_the_other() {
    let proxy = Proxy::start("127.0.0.1:1".parse().unwrap()).await;
    is_reset(TcpStream::connect(proxy.at).await.unwrap()).await;
}

#[tokio::test]
async fn a_black_hole_swallows_and_its_connections_do_not_survive_it() {
    let mut proxy = Proxy::start(echo().await).await;
    let mut open = connected(&proxy).await;
    let mut idle = connected(&proxy).await;
    proxy.black_hole();
    let mut new = TcpStream::connect(proxy.at).await.unwrap();
    for socket in [&mut open, &mut new] {
        // More than the sockets could hold: somebody reads it.
        ends("all is taken", SOON, socket.write_all(&vec![7; 16_000_000])).await.unwrap();
        let nothing = socket.try_read(&mut [0; 64]).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    }
    proxy.heal().await;
    is_reset(open).await;
    is_reset(new).await;
    assert_eq!(says_back(&mut idle, b"it has lost nothing").await.unwrap(), b"it has lost nothing");
}

#[tokio::test]
async fn an_end_does_not_pass_a_black_hole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut proxy = Proxy::start(listener.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(proxy.at).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    proxy.black_hole();
    client.shutdown().await.unwrap();
    // Once this is swallowed the end has had its time, too.
    ends("all is taken", SOON, server.write_all(&vec![7; 16_000_000])).await.unwrap();
    assert_eq!(server.try_read(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock);
    proxy.heal().await;
    is_reset(server).await;
}

#[tokio::test]
async fn delays_each_way_and_keeps_the_order() {
    let mut proxy = Proxy::start(echo().await).await;
    let mut socket = connected(&proxy).await;
    proxy.delay(Duration::from_millis(60));
    let began = Instant::now();
    socket.write_all(b"first ").await.unwrap();
    // What is under way is not overtaken by what comes later without a delay.
    until("the first is under way", SOON, async || {
        (began.elapsed() > Duration::from_millis(20)).then_some(())
    })
    .await;
    proxy.heal().await;
    socket.write_all(b"second").await.unwrap();
    let mut answer = [0; 12];
    ends("both come back", SOON, socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"first second");
    assert!(began.elapsed() >= Duration::from_millis(60), "{:?}", began.elapsed());
    proxy.delay(Duration::from_millis(60));
    let began = Instant::now();
    says_back(&mut socket, b"x").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(120), "{:?}", began.elapsed());
}

#[tokio::test]
async fn cuts_each_connection_after_so_many_bytes() {
    let mut proxy = Proxy::start(echo().await).await;
    let open = connected(&proxy).await;
    proxy.cut_after(150);
    for mut socket in [open, TcpStream::connect(proxy.at).await.unwrap()] {
        socket.write_all(&[7; 100]).await.unwrap();
        let mut read = Vec::new();
        ends("the connection ends", SOON, socket.read_to_end(&mut read)).await.unwrap();
        assert_eq!(read.len(), 50, "100 bytes up, and the first 50 down");
    }
    proxy.heal().await;
    connected(&proxy).await;
}
