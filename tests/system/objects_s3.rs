//! The object store over S3, as SeaweedFS speaks it.

use trough_tests::servers::seaweed::Seaweed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_store_starts_again() {
    let mut server = Seaweed::start().await;
    server.kill();
    server.restart().await;
}
