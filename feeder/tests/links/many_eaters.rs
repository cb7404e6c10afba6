//! What a feeder does with several eaters, and with several links.
//!
//! 1. Two eaters: a device's question and frames go to the eater that it belongs to.
//! 2. An eater falls silent: its device rewinds and goes on with the other one; the other's device notices nothing.
//! 3. An eater is new: its share of the devices moves there, what is in flight lands first, the others stay.
//! 4. A load balancer: two links to one address reach two eaters; a second link to a known eater is given back.
//! 5. A link is old: another replaces it, what is in flight lands first, nothing is rewound.
//! 6. GOAWAY of one eater: its device moves when what it has in flight is acknowledged; the other's stays.
//! 7. A name loses an address: its devices move, and the link ends in order.
//! 8. A session in flight at the deaths of two different eaters travels alone.
//! 9. Raw frames in flight at an eater's death are sent again to the other one, with the same numbers.
//! 10. A question that dies with its link is asked again at the other eater.
//! 11. One link of two is missing: the feeder says so, and says that an eater is missing only when both are.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::SinkExt;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use trough_feeder::discovery::Lookup;
use trough_feeder::{Config, Eaters};
use trough_protocol::device::{ClientMessage, ServerMessage};
use trough_protocol::link::{LinkCode, LinkMessage};
use trough_protocol::{Epoch, Seq};

use crate::harness::{Device, Eater, Feeder, soon};

const A: u8 = 1;
const B: u8 = 2;
const DEVICES: usize = 16;
const CREDIT: u64 = 8 << 20;

/// The choice that docs/protocol.md describes.
fn belongs_to(index: usize, eaters: &[u8]) -> u8 {
    let score = |id: u8| {
        let hash = Sha256::new().chain_update([id; 16]).chain_update(format!("device-{index}"));
        u64::from_be_bytes(*hash.finalize().first_chunk().unwrap())
    };
    *eaters.iter().max_by_key(|id| score(**id)).unwrap()
}

/// A device of A and one of B.
fn one_of_each() -> (usize, usize) {
    let first = |id| (0..DEVICES).find(|index| belongs_to(*index, &[A, B]) == id).unwrap();
    (first(A), first(B))
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn quick(config: &mut Config) {
    config.links_per_address = 1;
    config.resolve_interval = Duration::from_millis(20);
    config.move_spread = Duration::from_millis(20);
}

async fn welcomed(listener: &TcpListener, id: u8) -> Eater {
    let mut eater = Eater::accept(listener).await;
    eater.welcome(id, CREDIT).await;
    eater
}

/// A feeder with links to A and B, each up.
async fn two_eaters() -> (Feeder, [TcpListener; 2], [Eater; 2]) {
    let ((at_a, a), (at_b, b)) = (listen().await, listen().await);
    let feeder = Feeder::with_eaters(DEVICES, Eaters::named(vec![a, b]), quick).await;
    let eaters = [welcomed(&at_a, A).await, welcomed(&at_b, B).await];
    until("both links are up", || feeder.metrics.eaters.get() == 2).await;
    (feeder, [at_a, at_b], eaters)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The next batch has this frame of this device and nothing else.
async fn feeds(eater: &mut Eater, index: usize, seq: u64) -> u64 {
    let (number, runs) = eater.batch().await;
    assert_eq!(runs, [(format!("device-{index}"), Epoch(1), seq, seq)]);
    number
}

/// A frame arrives at this eater and its ack at the device.
async fn passes(device: &mut Device, eater: &mut Eater, index: usize, seq: u64) {
    device.frame(seq).await;
    let number = feeds(eater, index, seq).await;
    eater.ate(number).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(seq)));
}

/// The device is told to rewind to `seq` and echoes that.
async fn rewinds(device: &mut Device, seq: u64) {
    assert_eq!(device.receive().await, ServerMessage::Rewind(Seq(seq)));
    device.send(&ClientMessage::Rewind(Seq(seq))).await;
}

#[tokio::test]
async fn a_device_belongs_to_one_eater() {
    let (feeder, _listeners, [mut a, mut b]) = two_eaters().await;
    for index in 0..DEVICES {
        let eater = if belongs_to(index, &[A, B]) == A { &mut a } else { &mut b };
        let mut device = feeder.open(eater, index).await;
        passes(&mut device, eater, index, 1).await;
    }
}

#[tokio::test]
async fn the_devices_of_a_silent_eater_move_and_no_others() {
    let (feeder, _listeners, [mut a, mut b]) = two_eaters().await;
    let (of_a, of_b) = one_of_each();
    let mut moves = feeder.open(&mut a, of_a).await;
    let mut stays = feeder.open(&mut b, of_b).await;
    stays.frame(1).await;
    let number = feeds(&mut b, of_b, 1).await;
    a.answers_pings = false;
    moves.frame(1).await;
    feeds(&mut a, of_a, 1).await;
    // B answers its pings meanwhile.
    tokio::join!(rewinds(&mut moves, 1), async {
        while feeder.metrics.moved_for("silence") == 0 {
            b.has_no_batch().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    passes(&mut moves, &mut b, of_a, 1).await;
    b.ate(number).await;
    assert_eq!(stays.receive().await, ServerMessage::Ack(Seq(1)), "it was never rewound");
}

async fn moves_of(feeder: &Feeder, reason: &'static str, count: u64) {
    until("sessions move", || feeder.metrics.moved_for(reason) == count).await;
}

/// A name whose addresses the test changes.
fn changing(addresses: &[&TcpListener]) -> (Eaters, impl Fn(&[&TcpListener]) + use<>) {
    let of =
        |listeners: &[&TcpListener]| listeners.iter().map(|l| l.local_addr().unwrap()).collect::<Vec<_>>();
    let answer = Arc::new(Mutex::new(of(addresses)));
    let told = answer.clone();
    let lookup: Lookup = Arc::new(move |_| {
        let found = told.lock().unwrap().clone();
        Box::pin(async move { Ok(found) })
    });
    let eaters = Eaters::Named(vec!["eaters.test:8082".to_owned()], lookup);
    (eaters, move |listeners: &[&TcpListener]| *answer.lock().unwrap() = of(listeners))
}

#[tokio::test]
async fn a_new_eater_takes_its_share_when_what_is_in_flight_has_landed() {
    let ((at_a, _), (at_b, _)) = (listen().await, listen().await);
    let (eaters, change) = changing(&[&at_a]);
    let feeder = Feeder::with_eaters(DEVICES, eaters, quick).await;
    let mut a = welcomed(&at_a, A).await;
    let (of_a, of_b) = one_of_each();
    let mut stays = feeder.open(&mut a, of_a).await;
    let mut moves = feeder.open(&mut a, of_b).await;
    moves.frame(1).await;
    let number = feeds(&mut a, of_b, 1).await;
    change(&[&at_a, &at_b]);
    let mut b = welcomed(&at_b, B).await;
    moves_of(&feeder, "new_eater", 1).await;
    moves.frame(2).await;
    moves.hears_nothing().await;
    a.has_no_batch().await;
    b.has_no_batch().await;
    a.ate(number).await;
    assert_eq!(moves.receive().await, ServerMessage::Ack(Seq(1)));
    let number = feeds(&mut b, of_b, 2).await;
    b.ate(number).await;
    assert_eq!(moves.receive().await, ServerMessage::Ack(Seq(2)), "no rewind: nothing was lost");
    passes(&mut stays, &mut a, of_a, 1).await;
}

#[tokio::test]
async fn links_to_a_load_balancer_reach_different_eaters() {
    let (balancer, address) = listen().await;
    let feeder = Feeder::with_eaters(DEVICES, Eaters::named(vec![address]), |_| ()).await;
    let mut a = welcomed(&balancer, A).await;
    let mut again = welcomed(&balancer, A).await;
    assert_eq!(again.farewell().await, LinkCode::AGED, "one link to A is enough");
    let mut b = welcomed(&balancer, B).await;
    until("both eaters are known", || feeder.metrics.eaters.get() == 2).await;
    let (of_a, of_b) = one_of_each();
    let mut one = feeder.open(&mut a, of_a).await;
    let mut other = feeder.open(&mut b, of_b).await;
    passes(&mut one, &mut a, of_a, 1).await;
    passes(&mut other, &mut b, of_b, 1).await;
    // A link to A that ends is opened again, and may well lead to B: then all devices go there.
    one.frame(2).await;
    feeds(&mut a, of_a, 2).await;
    drop(a);
    rewinds(&mut one, 2).await;
    passes(&mut one, &mut b, of_a, 2).await;
}

#[tokio::test]
async fn an_old_link_is_replaced_and_loses_nothing() {
    let (listener, address) = listen().await;
    let adjust = |config: &mut Config| {
        quick(config);
        config.link_age_min = Duration::from_millis(300);
        config.link_age_max = Duration::from_millis(400);
    };
    let feeder = Feeder::with_eaters(1, Eaters::named(vec![address]), adjust).await;
    let mut old = welcomed(&listener, A).await;
    let mut device = feeder.open(&mut old, 0).await;
    device.frame(1).await;
    let number = feeds(&mut old, 0, 1).await;
    let mut new = Eater::accept(&listener).await;
    // Until the new link is up, the old one serves.
    device.frame(2).await;
    let number = number.max(feeds(&mut old, 0, 2).await);
    new.welcome(A, CREDIT).await;
    moves_of(&feeder, "aged", 1).await;
    device.frame(3).await;
    device.hears_nothing().await;
    new.has_no_batch().await;
    old.ate(number).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(2)));
    assert_eq!(old.farewell().await, LinkCode::AGED);
    let number = feeds(&mut new, 0, 3).await;
    new.ate(number).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(3)));
    assert_eq!(feeder.metrics.rewinds.get(), 0);
}

#[tokio::test]
async fn the_devices_of_an_eater_that_says_goodbye_move_when_they_have_landed() {
    let (feeder, _listeners, [mut a, mut b]) = two_eaters().await;
    let (of_a, of_b) = one_of_each();
    let mut moves = feeder.open(&mut a, of_a).await;
    let mut stays = feeder.open(&mut b, of_b).await;
    moves.frame(1).await;
    let number = feeds(&mut a, of_a, 1).await;
    stays.frame(1).await;
    let of_neighbour = feeds(&mut b, of_b, 1).await;
    a.goaway(LinkCode::DRAINING).await;
    moves_of(&feeder, "goaway", 1).await;
    moves.frame(2).await;
    moves.hears_nothing().await;
    b.has_no_batch().await;
    a.ate(number).await;
    assert_eq!(moves.receive().await, ServerMessage::Ack(Seq(1)));
    let number = feeds(&mut b, of_a, 2).await;
    b.ate(number).await;
    assert_eq!(stays.receive().await, ServerMessage::Ack(Seq(1)));
    assert_eq!(moves.receive().await, ServerMessage::Ack(Seq(2)));
    assert!(of_neighbour < number);
    assert_eq!(feeder.metrics.rewinds.get(), 0);
}

#[tokio::test]
async fn a_link_whose_address_is_gone_ends_in_order() {
    let ((at_a, _), (at_b, _)) = (listen().await, listen().await);
    let (eaters, change) = changing(&[&at_a, &at_b]);
    let feeder = Feeder::with_eaters(DEVICES, eaters, quick).await;
    let (mut a, mut b) = (welcomed(&at_a, A).await, welcomed(&at_b, B).await);
    until("both links are up", || feeder.metrics.eaters.get() == 2).await;
    let (of_a, _) = one_of_each();
    let mut device = feeder.open(&mut a, of_a).await;
    device.frame(1).await;
    let number = feeds(&mut a, of_a, 1).await;
    change(&[&at_b]);
    moves_of(&feeder, "address_gone", 1).await;
    a.ate(number).await;
    assert_eq!(a.farewell().await, LinkCode::AGED);
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(1)));
    passes(&mut device, &mut b, of_a, 2).await;
    // The last link stays, whatever the name says.
    change(&[&at_a]);
    passes(&mut device, &mut b, of_a, 3).await;
}

#[tokio::test]
async fn a_suspect_travels_alone_whichever_eaters_died() {
    let (feeder, [at_a, at_b], [mut a, mut b]) = two_eaters().await;
    let (suspect, neighbour) = one_of_each();
    let mut sick = feeder.open(&mut a, suspect).await;
    let mut well = feeder.open(&mut b, neighbour).await;
    sick.frame(1).await;
    feeds(&mut a, suspect, 1).await;
    drop((a, at_a));
    rewinds(&mut sick, 1).await;
    sick.frame(1).await;
    feeds(&mut b, suspect, 1).await;
    drop(b);
    rewinds(&mut sick, 1).await;
    // Credit for one batch: what comes while it is on its way is together in the next one, or is not.
    let mut c = Eater::accept(&at_b).await;
    c.welcome(3, 1).await;
    well.frame(1).await;
    let number = feeds(&mut c, neighbour, 1).await;
    well.frame(2).await;
    well.hears_nothing().await;
    sick.frame(1).await;
    sick.hears_nothing().await;
    c.ate(number).await;
    let number = feeds(&mut c, neighbour, 2).await;
    c.ate(number).await;
    let number = feeds(&mut c, suspect, 1).await;
    c.ate(number).await;
    assert_eq!(sick.receive().await, ServerMessage::Ack(Seq(1)));
}

#[tokio::test]
async fn raw_frames_are_sent_again_to_the_other_eater() {
    let (feeder, _listeners, [mut a, mut b]) = two_eaters().await;
    let (of_a, _) = one_of_each();
    let mut device = feeder.connect(of_a, "/v1/raw?channel=log").await;
    a.answer_question().await;
    device.socket.send(Message::Text("one".into())).await.unwrap();
    feeds(&mut a, of_a, 1).await;
    device.socket.send(Message::Text("two".into())).await.unwrap();
    feeds(&mut a, of_a, 2).await;
    drop(a);
    let mut due = 1;
    while due <= 2 {
        let (number, runs) = b.batch().await;
        for (_, epoch, first, last) in runs {
            assert_eq!((epoch, first), (Epoch(1), due));
            due = last + 1;
        }
        b.ate(number).await;
    }
    device.socket.send(Message::Text("three".into())).await.unwrap();
    feeds(&mut b, of_a, 3).await;
}

#[tokio::test]
async fn health_says_how_many_links_are_up() {
    let (feeder, [at_a, at_b], [a, b]) = two_eaters().await;
    let parts = || feeder.health.degraded().into_iter().map(|(part, _)| part).collect::<Vec<_>>();
    until("nothing is degraded", || parts().is_empty()).await;
    drop((a, at_a));
    until("a link is missing", || parts() == ["links"]).await;
    assert_eq!(feeder.health.degraded()[0].1, "1 of 2 links are up");
    drop((b, at_b));
    until("the eater is missing", || parts() == ["eater"]).await;
    assert!(feeder.health.degraded()[0].1.starts_with("no link to 127.0.0.1:"));
}

#[tokio::test]
async fn a_question_that_died_with_its_link_is_asked_elsewhere() {
    let (feeder, _listeners, [mut a, mut b]) = two_eaters().await;
    let (of_a, _) = one_of_each();
    let asked = |message: &LinkMessage<'_>| matches!(message, LinkMessage::Locate { .. }).then_some(());
    let opening = feeder.connect(of_a, "/v1/raw?channel=log");
    let (mut device, ()) = tokio::join!(opening, async {
        a.receive(asked).await;
        drop(a);
        b.answer_question().await;
    });
    device.socket.send(Message::Text("one".into())).await.unwrap();
    feeds(&mut b, of_a, 1).await;
}
