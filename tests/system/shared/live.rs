//! Live streams of a deployment of many processes: two eaters commit at once, a client of either sees all of it.
//!
//! 1. memcached is flushed, killed and comes back while all devices send; clients go from eater to eater, one of them
//!    through NGINX; at last an eater is killed. Each frame comes once and in order.

use rand::Rng;
use trough_device::Mode;
use trough_tests::cluster::Role;
use trough_tests::data;
use trough_tests::faults::{EATERS, Fault, Victim};
use trough_tests::fleet::Fleet;
use trough_tests::ledger::Track;
use trough_tests::live::Follower;
use trough_tests::poll::{LATER, until};
use trough_tests::reader::client_trusting;
use trough_tests::seed;
use trough_tests::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_eater_shows_what_both_commit() {
    let mut rng = seed::rng("live stage");
    let mut stage = Stage::start().await;
    let tracks: Vec<Track> = data::buses().into_iter().take(60).collect();
    let mut fleet = Fleet::start(&stage.cluster, tracks, Mode::Binary).await;
    let readers = stage.cluster.readers();
    let client = client_trusting(&stage.nginx.certificate_pem);
    let by_nginx = readers[0].through(client, format!("https://{}", stage.nginx.at));
    let mut followers = Vec::new();
    for at in [&readers[..1], &readers[1..], &[by_nginx][..]] {
        followers.push(Follower::start(at.to_vec(), "/v1/live", None).await);
    }
    followers.push(Follower::start(readers.clone(), "/v1/live", Some(seed::rng("cut stage"))).await);
    let bus = Fault::Kill(Victim::Bus);
    let victim = Fault::Kill(Victim::Process(Role::Eater(rng.random_range(0..EATERS))));
    let faults = [Fault::Flush, bus, Fault::Flush, victim];
    for (n, fault) in (1..).zip(faults) {
        fleet.let_go(n * 200);
        let due = fleet.due();
        until("most of it is acknowledged", LATER, async || (fleet.acked() >= due / 2).then_some(())).await;
        stage.begin(fault).await;
        stage.end(fault).await;
        until("all of it is acknowledged", LATER, async || (fleet.acked() >= due).then_some(())).await;
    }
    fleet.finish().await;
    let tracks: Vec<&Track> = fleet.tracks.iter().collect();
    for follower in &followers {
        follower.has(&tracks).await;
    }
    let connected: Vec<u64> = followers.iter().map(Follower::connected).collect();
    println!("connections: {connected:?}");
}
