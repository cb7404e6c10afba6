//! What a feeder does when its eater misbehaves, which a real eater hardly can.
//!
//! 1. Frames are acknowledged when the eater says ATE, and not before.
//! 2. A link that dies with frames in flight: the device is told to rewind to the last ack + 1, what it sends
//!    before its echo is discarded, and what it sends again arrives on the next link.
//! 3. A refused batch: its session is closed with 4406, another session of the link is rewound and goes on.
//! 4. GOAWAY: what is in flight is still acknowledged, what follows goes over the next link.
//! 5. An eater that falls silent with frames in flight is left after 4 s.
//! 6. Raw frames in flight at a link's death are sent again by the feeder, with the same numbers.
//! 7. The feeder stops: what was received is acknowledged, then comes 1012 with a delay.
//! 8. An eater that lives and does not find a head: the device is told so, and not that there is no eater.
//! 9. A device that gave up waiting, and went on elsewhere, does not lose its epoch to the hello that it left behind.

use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;
use trough_protocol::device::{ClientMessage, Hello, ServerMessage};
use trough_protocol::link::{LinkCode, LinkMessage};
use trough_protocol::{Epoch, Seq};

use crate::harness::{Feeder, soon};

#[tokio::test]
async fn acks_come_after_ate_and_not_before() {
    let mut feeder = Feeder::start(1).await;
    let mut eater = feeder.eater().await;
    let mut device = feeder.open(&mut eater, 0).await;
    device.frame(1).await;
    device.frame(2).await;
    let (number, runs) = eater.batch().await;
    assert_eq!(runs[0].2, 1);
    device.hears_nothing().await;
    let last = runs[0].3;
    eater.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(last)));
}

#[tokio::test]
async fn a_dead_link_rewinds_the_device_which_sends_again() {
    let mut feeder = Feeder::start(1).await;
    let mut eater = feeder.eater().await;
    let mut device = feeder.open(&mut eater, 0).await;
    device.frame(1).await;
    let (number, _) = eater.batch().await;
    eater.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(1)));
    device.frame(2).await;
    eater.batch().await;
    drop(eater);
    assert_eq!(device.receive().await, ServerMessage::Rewind(Seq(2)));
    let mut eater = feeder.eater().await;
    device.frame(3).await;
    device.send(&ClientMessage::Rewind(Seq(2))).await;
    device.frame(2).await;
    let (number, runs) = eater.batch().await;
    assert_eq!(runs, [("device-0".to_owned(), Epoch(1), 2, 2)], "frame 3 came before the echo");
    eater.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(2)));
}

#[tokio::test]
async fn a_refused_batch_closes_its_session_and_rewinds_the_others() {
    let mut feeder = Feeder::start(2).await;
    let mut eater = feeder.eater().await;
    let mut sick = feeder.open(&mut eater, 0).await;
    let mut well = feeder.open(&mut eater, 1).await;
    sick.frame(1).await;
    let (refused, runs) = eater.batch().await;
    assert_eq!(runs[0].0, "device-0");
    well.frame(1).await;
    eater.batch().await;
    let (code, text) = (LinkCode::DAMAGED, "no good".to_owned());
    eater.send(&LinkMessage::Reject { number: refused, code, text }).await;
    let (code, reason) = sick.close().await;
    assert_eq!(code, 4406);
    assert!(reason.contains("no good"), "{reason}");
    drop(eater);
    assert_eq!(well.receive().await, ServerMessage::Rewind(Seq(1)));
}

#[tokio::test]
async fn after_goaway_what_is_in_flight_is_acknowledged_and_the_rest_goes_elsewhere() {
    let mut feeder = Feeder::start(1).await;
    let mut old = feeder.eater().await;
    let mut device = feeder.open(&mut old, 0).await;
    device.frame(1).await;
    let (number, _) = old.batch().await;
    let text = "bye".to_owned();
    old.send(&LinkMessage::Goaway { code: LinkCode::DRAINING, retry_after_ms: 1, text }).await;
    device.hears_nothing().await;
    device.frame(2).await;
    old.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(1)));
    let mut new = feeder.eater().await;
    let (number, runs) = new.batch().await;
    assert_eq!((runs[0].2, runs[0].3), (2, 2));
    new.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(2)), "no rewind: nothing was lost");
}

#[tokio::test]
async fn a_silent_eater_is_left() {
    let mut feeder = Feeder::start(1).await;
    let mut silent = feeder.eater().await;
    silent.answers_pings = false;
    let mut device = feeder.open(&mut silent, 0).await;
    device.frame(1).await;
    silent.batch().await;
    silent.receive(|message| matches!(message, LinkMessage::Ping { .. }).then_some(())).await;
    assert_eq!(device.receive().await, ServerMessage::Rewind(Seq(1)));
    feeder.eater().await;
}

#[tokio::test]
async fn raw_frames_are_sent_again_by_the_feeder() {
    let mut feeder = Feeder::start(1).await;
    let mut eater = feeder.eater().await;
    let mut device = feeder.connect(0, "/v1/raw?channel=log").await;
    eater.answer_question().await;
    device.socket.send(Message::Text("one".into())).await.unwrap();
    let (_, first) = eater.batch().await;
    drop(eater);
    let mut eater = feeder.eater().await;
    let (number, again) = eater.batch().await;
    assert_eq!(first, again);
    device.socket.send(Message::Binary(vec![1].into())).await.unwrap();
    device.socket.close(None).await.unwrap();
    let (last, runs) = eater.batch().await;
    assert_eq!((runs[0].2, runs[0].3), (2, 2), "what came before the goodbye still goes");
    assert!(last > number);
}

#[tokio::test]
async fn a_feeder_that_stops_acknowledges_first() {
    let mut feeder = Feeder::start(1).await;
    let mut eater = feeder.eater().await;
    let mut device = feeder.open(&mut eater, 0).await;
    device.frame(1).await;
    let (number, _) = eater.batch().await;
    device.hears_nothing().await;
    feeder.shutdown.begin();
    eater.send(&LinkMessage::Ate { number }).await;
    assert_eq!(device.receive().await, ServerMessage::Ack(Seq(1)));
    let (code, reason) = device.close().await;
    assert_eq!(code, 1012);
    assert!(reason.contains("retry_after_ms="), "{reason}");
    drop(device);
    soon("the end", feeder.served).await.unwrap();
}

#[tokio::test]
async fn an_eater_that_finds_no_head_is_not_taken_for_one_that_cannot_be_reached() {
    let mut feeder = Feeder::start(1).await;
    let mut eater = feeder.eater().await;
    let mut device = feeder.connect(0, "/v1/stream").await;
    device.send(&ClientMessage::Hello(Hello::NEW)).await;
    let (code, reason) = tokio::select! {
        close = device.close() => close,
        // It answers pings, and not the question.
        () = eater.receive(|_| None) => unreachable!("nothing is picked"),
    };
    assert_eq!(code, 4101, "{reason}");
    assert!(reason.contains("last frame within 8 s"), "{reason}");
}

#[tokio::test]
async fn an_old_hello_takes_no_epoch_away() {
    let mut feeder = Feeder::start(1).await;
    let mut eater = feeder.eater().await;
    drop(feeder.open(&mut eater, 0).await);
    let hello = |next: u64| Hello { epoch: Epoch(1), oldest: Seq(next), next: Seq(next), ..Hello::NEW };
    let mut old = feeder.connect(0, "/v1/stream").await;
    old.send(&ClientMessage::Hello(hello(5))).await;
    let query = eater.question().await;
    // By then it has sent more, by another feeder.
    drop(old);
    eater.send(&LinkMessage::Head { query, seq: Seq(9) }).await;
    let mut device = feeder.connect(0, "/v1/stream").await;
    device.send(&ClientMessage::Hello(hello(10))).await;
    let query = eater.question().await;
    eater.send(&LinkMessage::Head { query, seq: Seq(9) }).await;
    let ServerMessage::Welcome(welcome) = device.receive().await else { panic!("a welcome was due") };
    assert_eq!((welcome.epoch, welcome.resume), (Epoch(1), Seq(10)));
}
