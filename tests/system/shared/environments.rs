//! Two deployments on one memcached with one key: production and sandbox.
//!
//! 1. The same tokens are in both registries, and revoked in that of sandbox. While production has them in the cache,
//!    sandbox refuses them, to a device and to a reader.
//! 2. A token that sandbox has in the cache is unknown to production, and refused there.

use trough_tests::cluster::{Cluster, Options, Role, Shape};
use trough_tests::poll::{SOON, until};
use trough_tests::servers::memcached::Memcached;
use trough_tests::wire::{Form, Wire};

async fn prepare(bus: &Memcached, key_file: &str, environment: &str) -> Cluster {
    let url = format!("memcached://{}", bus.at);
    let args = ["--bus", &url, "--bus-key-file", key_file, "--environment", environment];
    let args: Vec<String> = args.map(str::to_owned).into();
    let options = Options { feeder_args: args.clone(), eater_args: args, ..Options::default() };
    Cluster::prepare(Shape::Split, options).await
}

async fn start(cluster: &mut Cluster) {
    for role in [Role::Eater(0), Role::Feeder(0)] {
        cluster.spawn(role);
    }
    cluster.ready().await;
}

/// What a reader with this token is answered.
async fn status(cluster: &Cluster, token: &str) -> u16 {
    let reader = cluster.reader().with_token(token);
    reader.get("/v1/devices", "application/json").await.unwrap().status().as_u16()
}

/// Waits until a grant of this kind lies on the bus.
async fn is_cached(bus: &Memcached, prefix: &str) {
    until(prefix, SOON, async || bus.keys().iter().any(|key| key.starts_with(prefix)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_and_sandbox_never_share_what_is_cached() {
    let bus = Memcached::start(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("bus.key");
    std::fs::write(&key_file, [7; 32]).unwrap();
    let key_file = key_file.to_str().unwrap();
    let mut production = prepare(&bus, key_file, "production").await;
    let mut sandbox = prepare(&bus, key_file, "sandbox").await;
    let device = production.add_device("d").await;
    let reader = production.add_reader("r", &[]).await;
    // Somebody copied the one to have data for the other, as happens.
    for file in std::fs::read_dir(production.data_dir()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), sandbox.data_dir().join(file.file_name())).unwrap();
    }
    sandbox.admin(&["devices", "revoke", "d"], "").await;
    sandbox.admin(&["readers", "revoke", "r"], "").await;
    let other = sandbox.add_device("other").await;

    start(&mut production).await;
    Wire::begin(production.at.devices, Form::Binary, &device).await.0.close().await;
    assert_eq!(status(&production, &reader).await, 200);
    is_cached(&bus, "v:production:grant:device:").await;
    is_cached(&bus, "v:production:grant:reader:").await;

    start(&mut sandbox).await;
    let refused = Wire::open(sandbox.at.devices, Form::Binary, &device).await.unwrap_err();
    assert_eq!(refused.status, 403);
    assert_eq!(status(&sandbox, &reader).await, 401);
    Wire::begin(sandbox.at.devices, Form::Binary, &other).await.0.close().await;
    is_cached(&bus, "v:sandbox:grant:device:").await;
    let refused = Wire::open(production.at.devices, Form::Binary, &other).await.unwrap_err();
    assert_eq!((refused.status, refused.code()), (401, "token_invalid"));
    // They were good all the time.
    Wire::begin(production.at.devices, Form::Binary, &device).await.0.close().await;
    assert_eq!(status(&production, &reader).await, 200);
}
