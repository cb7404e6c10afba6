//! What a device does when a session goes well, and when it does not.
//!
//! 1.  Frames arrive in order and are acknowledged; close flushes and says goodbye.
//! 2.  A full buffer slows the caller; a dropped call leaves nothing behind.
//! 3.  A lost connection: what is not acknowledged is sent again, from where the welcome says.
//! 4.  A rewind is echoed, and everything from there is sent again.
//! 5.  Another epoch: what is held is renumbered.
//! 6.  A program that starts again from its stored state.
//! 7.  The window bounds what is on the wire.
//! 8.  What the feeder would refuse is refused before it gets a number.
//! 9.  A feeder that breaks the protocol is left, and tried again.
//! 10. close in every situation; a handle that is dropped.

use std::time::Duration;

use crate::feeder::{FRAME_BYTES, MESSAGE_BYTES, MODES, Said, WINDOW_BYTES, elapsed, feeder, frame};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use trough_device::{
    ContentType, Device, Epoch, Event, Frame, FrameBuf, ResumeState, SendError, Seq, SkipReason, Status,
};
use trough_protocol::device::{Hello, Skip};

const SECOND: Duration = Duration::from_secs(1);

// 1
#[tokio::test(start_paused = true)]
async fn frames_are_sent_acknowledged_and_flushed() {
    for mode in MODES {
        let (mut feeder, mut config) = feeder();
        config.mode = mode;
        let device = Device::start(config).unwrap();
        assert_eq!(device.epoch(), Epoch::NONE);
        assert_eq!(device.send(frame("one")).await, Ok(Seq(1)));
        assert_eq!(device.send(frame("two")).await, Ok(Seq(2)));
        let (mut session, hello) = feeder.welcome(3, 1).await;
        assert_eq!(hello, Hello::NEW);
        assert_eq!(session.authorization, "Bearer secret-token");
        assert!(session.user_agent.starts_with("trough-device/"), "{}", session.user_agent);
        assert_eq!(session.path, "/v1/stream");
        assert_eq!(session.frames(2).await, (1, vec!["one".into(), "two".into()]));
        device.connected().await.unwrap();

        assert!(timeout(SECOND, device.flush()).await.is_err(), "nothing is durable yet");
        let mut acks = device.watch_acks();
        session.ack(1).await;
        acks.changed().await.unwrap();
        assert_eq!((acks.borrow().epoch, acks.borrow().seq, acks.borrow().frames), (Epoch(3), Seq(1), 1));
        session.ack(2).await;
        device.flush().await.unwrap();
        assert_eq!((device.acked(), device.epoch(), device.buffered_bytes()), (Seq(2), Epoch(3), 0));

        assert_eq!(device.send(frame("three")).await, Ok(Seq(3)));
        assert_eq!(device.skip(4, SkipReason::OVERFLOW).await, Ok((Seq(4), Seq(7))));
        assert_eq!(session.frames(1).await, (3, vec!["three".into()]));
        let skip = Skip { first: Seq(4), last: Seq(7), reason: SkipReason::OVERFLOW };
        assert_eq!(session.said().await, Said::Skip(skip));
        let (closed, ()) = tokio::join!(device.close(), async {
            session.ack(7).await;
            assert_eq!(session.said().await, Said::Close(1000, "normal".into()));
            assert_eq!(session.said().await, Said::Gone);
        });
        assert_eq!(closed, Ok(ResumeState { epoch: Epoch(3), acked: Seq(7), sent: Seq(7) }));
        assert_eq!(device.send(frame("late")).await, Err(SendError::Closed));
        assert_eq!(*device.watch_status().borrow(), Status::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_wait_together_travel_together() {
    for mode in MODES {
        let (mut feeder, mut config) = feeder();
        config.mode = mode;
        config.frames_per_message = 100;
        let device = Device::start(config).unwrap();
        let mut frames = FrameBuf::new();
        (0..250).for_each(|n| frames.push(&frame(&n.to_string())).unwrap());
        assert_eq!(device.send_all(&mut frames).await, Ok(Seq(250)));
        assert!(frames.is_empty());
        let (mut session, _) = feeder.welcome(1, 1).await;
        let mut next = 1;
        let mut messages = 0;
        while next <= 250 {
            let Said::Frames(first, payloads) = session.said().await else { panic!("frames are due") };
            assert_eq!(first, next);
            let expected: Vec<_> = (first - 1..).take(payloads.len()).map(|n| n.to_string()).collect();
            assert_eq!(payloads, expected);
            next += payloads.len() as u64;
            messages += 1;
        }
        // JSON is larger and has to be cut where the feeder's limit is.
        assert!(messages <= if mode == trough_device::Mode::Json { 6 } else { 3 }, "{messages} messages");
    }
}

// 2
#[tokio::test(start_paused = true)]
async fn a_full_buffer_slows_the_caller_and_drops_nothing() {
    let (mut feeder, mut config) = feeder();
    config.buffer_bytes = 1024;
    let device = Device::start(config).unwrap();
    let text = "x".repeat(300);
    let mut taken = 0;
    while device.try_send(frame(&text)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 3);
    assert_eq!(device.try_send(frame(&text)), Err(SendError::Full));
    assert!(timeout(SECOND, device.send(frame("dropped call"))).await.is_ok(), "a small one fits");
    assert!(timeout(SECOND, device.send(frame(&text))).await.is_err(), "the call is dropped here");

    let (mut session, _) = feeder.welcome(1, 1).await;
    let (first, payloads) = session.frames(4).await;
    assert_eq!((first, payloads[3].as_str()), (1, "dropped call"));
    let (sent, ()) = tokio::join!(device.send(frame("waited")), async {
        session.ack(4).await;
    });
    assert_eq!(sent, Ok(Seq(5)), "what the dropped call had in hand got no number");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_send_all_keeps_what_was_not_taken() {
    let (mut feeder, mut config) = feeder();
    config.buffer_bytes = 1024;
    let device = Device::start(config).unwrap();
    let mut frames = FrameBuf::new();
    (0..100).for_each(|n| frames.push(&frame(&format!("{n:0>50}"))).unwrap());
    assert!(timeout(SECOND, device.send_all(&mut frames)).await.is_err());
    let left = frames.len();
    assert!((1..100).contains(&left), "{left} left");
    assert!(frames.bytes() > 0);
    let (mut session, _) = feeder.welcome(1, 1).await;
    let collect = async {
        let mut all = Vec::new();
        while all.len() < 100 {
            let Said::Frames(first, payloads) = session.said().await else { panic!("frames are due") };
            assert_eq!(first, all.len() as u64 + 1);
            all.extend(payloads);
            session.ack(all.len() as u64).await;
        }
        all
    };
    let (last, all) = tokio::join!(device.send_all(&mut frames), collect);
    assert_eq!(last, Ok(Seq(100)));
    assert_eq!(all, (0..100).map(|n| format!("{n:0>50}")).collect::<Vec<_>>());
}

// 3
#[tokio::test(start_paused = true)]
async fn after_a_lost_connection_what_is_not_durable_is_sent_again() {
    for mode in MODES {
        let (mut feeder, mut config) = feeder();
        config.mode = mode;
        let device = Device::start(config).unwrap();
        let (mut session, _) = feeder.welcome(1, 1).await;
        for text in ["1", "2", "3", "4"] {
            device.send(frame(text)).await.unwrap();
        }
        session.frames(4).await;
        session.ack(1).await;
        drop(session);
        device.send(frame("5")).await.unwrap();

        let (mut session, hello) = feeder.welcome(1, 3).await;
        assert_eq!((hello.epoch, hello.acked, hello.oldest), (Epoch(1), Seq(1), Seq(2)));
        assert!((Seq(5)..=Seq(6)).contains(&hello.next), "{hello:?}");
        assert_eq!(session.frames(3).await, (3, vec!["3".into(), "4".into(), "5".into()]));
        assert_eq!(device.acked(), Seq(2), "the welcome acknowledges what is below resume");
        session.ack(5).await;
        device.flush().await.unwrap();
    }
}

// 4
#[tokio::test(start_paused = true)]
async fn a_rewind_is_echoed_and_obeyed() {
    for mode in MODES {
        let (mut feeder, mut config) = feeder();
        config.mode = mode;
        let device = Device::start(config).unwrap();
        let mut events = device.events();
        let (mut session, _) = feeder.welcome(1, 1).await;
        for text in ["1", "2", "3"] {
            device.send(frame(text)).await.unwrap();
        }
        session.frames(3).await;
        session.ack(1).await;
        session.rewind(2).await;
        assert_eq!(session.said().await, Said::Rewind(2));
        assert_eq!(session.frames(2).await, (2, vec!["2".into(), "3".into()]));
        session.ack(3).await;
        device.flush().await.unwrap();
        assert!(matches!(events.recv().await, Ok(Event::Connected { .. })));
        assert_eq!(events.recv().await, Ok(Event::Rewound(Seq(2))));
    }
}

// 5
#[tokio::test(start_paused = true)]
async fn another_epoch_renumbers_what_is_held() {
    let (mut feeder, config) = feeder();
    let device = Device::start(config).unwrap();
    let mut events = device.events();
    let (mut session, _) = feeder.welcome(1, 1).await;
    for text in ["1", "2", "3"] {
        device.send(frame(text)).await.unwrap();
    }
    session.frames(3).await;
    session.ack(2).await;
    drop(session);
    let (mut session, _) = feeder.welcome(2, 1).await;
    assert_eq!(session.frames(1).await, (1, vec!["3".into()]));
    session.ack(1).await;
    device.flush().await.unwrap();
    assert_eq!((device.epoch(), device.acked()), (Epoch(2), Seq(1)));
    assert_eq!(device.watch_acks().borrow().frames, 3, "counted across epochs");
    loop {
        if let Event::EpochChanged { old, new, first } = events.recv().await.unwrap() {
            assert_eq!((old, new, first), (Epoch(1), Epoch(2), Seq(3)));
            break;
        }
    }
    assert_eq!(device.send(frame("4")).await, Ok(Seq(2)));
}

// 6
#[tokio::test(start_paused = true)]
async fn a_stored_state_lets_another_run_go_on() {
    let (mut feeder, mut config) = feeder();
    config.resume = Some(ResumeState { epoch: Epoch(4), acked: Seq(10), sent: Seq(14) });
    let device = Device::start(config).unwrap();
    let (mut session, hello) = feeder.welcome(4, 13).await;
    let expected = Hello { epoch: Epoch(4), oldest: Seq(11), next: Seq(15), acked: Seq(10), ..Hello::NEW };
    assert_eq!(hello, expected);
    device.connected().await.unwrap();
    // 11 and 12 had arrived, 13 is given again, 14 is lost.
    for text in ["11", "12", "13"] {
        device.send(frame(text)).await.unwrap();
    }
    assert_eq!(device.skip(1, SkipReason::STORAGE_LOST).await, Ok((Seq(14), Seq(14))));
    assert_eq!(device.send(frame("15")).await, Ok(Seq(15)));
    assert_eq!(session.frames(1).await, (13, vec!["13".into()]));
    let skip = Skip { first: Seq(14), last: Seq(14), reason: SkipReason::STORAGE_LOST };
    assert_eq!(session.said().await, Said::Skip(skip));
    assert_eq!(session.frames(1).await, (15, vec!["15".into()]));
    assert_eq!(device.state(), ResumeState { epoch: Epoch(4), acked: Seq(12), sent: Seq(15) });
}

// 7
#[tokio::test(start_paused = true)]
async fn no_more_than_the_window_is_on_the_wire() {
    let (mut feeder, config) = feeder();
    let device = Device::start(config).unwrap();
    let text = "x".repeat(1000);
    for _ in 0..200 {
        device.send(frame(&text)).await.unwrap();
    }
    let (mut session, _) = feeder.welcome(1, 1).await;
    let bytes_of_a_frame = 14 + 4 + 1000;
    let in_window = WINDOW_BYTES as usize / bytes_of_a_frame;
    session.frames(in_window).await;
    assert!(session.silent_for(SECOND).await);
    session.ack(10).await;
    assert_eq!(session.frames(10).await.0, in_window as u64 + 1);
    assert!(session.silent_for(SECOND).await);
}

// 8
#[tokio::test(start_paused = true)]
async fn what_would_be_refused_gets_no_number() {
    for mode in MODES {
        let (mut feeder, mut config) = feeder();
        config.mode = mode;
        let device = Device::start(config).unwrap();
        let bad_channel = Frame { channel: "no blanks", ..frame("x") };
        assert!(matches!(device.send(bad_channel).await, Err(SendError::Invalid(_))));
        assert!(matches!(device.send(Frame { ts: 0, ..frame("x") }).await, Err(SendError::Invalid(_))));
        assert_eq!(device.skip(0, SkipReason::OVERFLOW).await, Err(SendError::SkipRange(0)));
        let huge = "x".repeat(2 * 1024 * 1024);
        assert!(matches!(device.send(frame(&huge)).await, Err(SendError::TooLarge { .. })));

        // Above the usual limit: only a feeder can say.
        let large = "x".repeat(100 * 1024);
        assert_eq!(device.try_send(frame(&large)), Err(SendError::Full));
        let (sent, (mut session, _)) = tokio::join!(device.send(frame(&large)), feeder.welcome(1, 1));
        let limit = FRAME_BYTES as usize;
        let refused = SendError::TooLarge { what: "frame payload", bytes: 100 * 1024, max: limit };
        assert_eq!(sent, Err(refused.clone()));
        let mut frames = FrameBuf::new();
        frames.push(&frame(&large)).unwrap();
        assert_eq!(device.send_all(&mut frames).await, Err(refused));

        // Within the limit, but not as JSON, where a control character takes six bytes.
        let escaped = "\u{1}".repeat(limit);
        let bytes = Frame { content_type: ContentType::Bytes, ..frame(&escaped) };
        assert_eq!(device.send(bytes).await, Ok(Seq(1)));
        assert_eq!(session.frames(1).await.0, 1);
        if mode == trough_device::Mode::Json {
            let refused = device.send(frame(&escaped)).await;
            assert!(
                matches!(refused, Err(SendError::TooLarge { max, .. }) if max == MESSAGE_BYTES as usize),
                "{refused:?}"
            );
        }
        assert_eq!(device.send(frame("fine")).await, Ok(Seq(2)));
    }
}

// 9
#[tokio::test(start_paused = true)]
async fn a_feeder_that_breaks_the_protocol_is_left_and_tried_again() {
    let (mut feeder, config) = feeder();
    let device = Device::start(config).unwrap();
    device.send(frame("1")).await.unwrap();
    let breaches: [(&str, Message); 4] = [
        ("text", Message::text(r#"{"type":"ack","seq":1}"#)),
        ("unknown type", Message::binary(vec![99])),
        ("ack of what was never sent", Message::binary([&[130][..], &9_u64.to_le_bytes()].concat())),
        ("rewind above", Message::binary([&[131][..], &9_u64.to_le_bytes()].concat())),
    ];
    let mut resume_epoch = 0;
    for (breach, message) in breaches {
        let (mut session, hello) = feeder.welcome(1, 1).await;
        assert_eq!(hello.epoch, Epoch(resume_epoch), "{breach}");
        resume_epoch = 1;
        assert_eq!(session.frames(1).await, (1, vec!["1".into()]), "{breach}");
        session.send(message).await;
        assert!(matches!(session.said().await, Said::Close(1002, _)), "{breach}");
    }
    assert_eq!(device.acked(), Seq::ZERO);
}

// 10
#[tokio::test(start_paused = true)]
async fn close_delivers_first_what_is_held_even_from_afar() {
    let (mut feeder, config) = feeder();
    feeder.fail(5);
    let device = Device::start(config).unwrap();
    device.send(frame("1")).await.unwrap();
    let (closed, ()) = tokio::join!(device.close(), async {
        let (mut session, _) = feeder.welcome(1, 1).await;
        session.frames(1).await;
        drop(session);
        let (mut session, _) = feeder.welcome(1, 1).await;
        session.frames(1).await;
        session.ack(1).await;
        assert_eq!(session.said().await, Said::Close(1000, "normal".into()));
    });
    assert_eq!(closed.unwrap().acked, Seq(1));
    assert_eq!(feeder.failures_left(), 0);
}

#[tokio::test(start_paused = true)]
async fn close_with_nothing_held_does_not_wait_for_a_feeder() {
    let (feeder, config) = feeder();
    feeder.fail(u32::MAX);
    let device = Device::start(config).unwrap();
    tokio::time::sleep(10 * SECOND).await;
    let closing = elapsed(async { assert_eq!(device.close().await, Ok(ResumeState::default())) }).await;
    assert!(closing < SECOND, "{closing:?}");
}

#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_ever_for_the_answer() {
    let (mut feeder, config) = feeder();
    let device = Device::start(config).unwrap();
    let (_session, _) = feeder.welcome(1, 1).await;
    device.connected().await.unwrap();
    let closing = elapsed(async { device.close().await.unwrap() }).await;
    assert!((4 * SECOND..6 * SECOND).contains(&closing), "{closing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_ends_the_session() {
    let (mut feeder, config) = feeder();
    let device = Device::start(config).unwrap();
    let (mut session, _) = feeder.welcome(1, 1).await;
    device.connected().await.unwrap();
    drop(device);
    assert_eq!(session.said().await, Said::Gone);
}
