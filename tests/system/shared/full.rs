//! memcached without room.
//!
//! 1. It has one MiB, evicts nothing (`-m 1 -M`), and is filled before anybody uses it. Devices stream, readers read,
//!    and a revocation ends a session, with nothing but delay.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use trough_device::Mode;
use trough_tests::cluster::{Cluster, Options, Shape};
use trough_tests::data;
use trough_tests::fleet::Fleet;
use trough_tests::ledger::assert_all_readable;
use trough_tests::servers::memcached::Memcached;
use trough_tests::wire::{Form, Wire};

/// Fills it with ever smaller items until it takes none of any size: every class of sizes has a page of its own.
fn fill(bus: &Memcached) {
    let mut stream = BufReader::new(TcpStream::connect(bus.at).unwrap());
    let sizes = std::iter::successors(Some(400_000), |size| (*size > 1).then_some(size * 5 / 6));
    for size in sizes {
        let item = "x".repeat(size);
        let refused = (0..100_000).find_map(|n| {
            let set = format!("set fill-{size}-{n} 0 0 {size}\r\n{item}\r\n");
            stream.get_mut().write_all(set.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_line(&mut answer).unwrap();
            (answer != "STORED\r\n").then_some(answer)
        });
        let refused = refused.expect("it is full some day");
        assert!(refused.contains("out of memory"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingest_and_reading_go_on() {
    let bus = Memcached::start(&["-m", "1", "-M", "-I", "512k"]).await;
    fill(&bus);
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("bus.key");
    std::fs::write(&key_file, [7; 32]).unwrap();
    let url = format!("memcached://{}", bus.at);
    let args = ["--bus", &url, "--bus-key-file", key_file.to_str().unwrap()];
    let args: Vec<String> = args.map(str::to_owned).into();
    let options = Options { feeders: 2, feeder_args: args.clone(), eater_args: args, ..Options::default() };
    let mut cluster = Cluster::start_with(Shape::Split, options).await;
    for (feeder, tracks) in data::gpsd()[..40].chunks(20).enumerate() {
        cluster.entrance.url = format!("ws://{}", cluster.feeders()[feeder]);
        let mut fleet = Fleet::start(&cluster, tracks.to_vec(), Mode::Binary).await;
        fleet.finish().await;
        assert_all_readable(&cluster.reader(), &fleet.tracks).await;
    }
    for (feeder, at) in cluster.feeders().into_iter().enumerate() {
        let device = format!("d-{feeder}");
        let token = cluster.add_device(&device).await;
        let (mut wire, _) = Wire::begin(at, Form::Binary, &token).await;
        cluster.admin(&["devices", "revoke", &device, "--bus", &url], "").await;
        let (code, reason, _) = wire.closed().await;
        assert_eq!(code, 4300, "{reason}");
        assert_eq!(Wire::open(at, Form::Binary, &token).await.unwrap_err().status, 403);
    }
    let ours = bus.keys().into_iter().find(|key| !key.starts_with("fill-"));
    assert_eq!(ours, None, "there was room for something");
}
