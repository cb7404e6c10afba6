//! The object store over OpenStack Swift's S3 API: it does what every store does. Only in the long form.

use trough_tests::seed::long;
use trough_tests::servers::swift::{ACCESS, Swift};

use crate::objects_s3::fixture;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swift_does_what_every_store_does() {
    if !long("OpenStack Swift as the object store") {
        return;
    }
    let server = Swift::start().await;
    let mut places = (0..).map(|n| server.url(&format!("case-{n}/deep")));
    trough_store::objects_suite!(in_one, fixture(places.next().unwrap(), ACCESS.credentials()));
}
