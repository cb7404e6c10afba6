//! Several callers, one device, and a feeder whose sessions end badly all the time. Everything arrives once and in
//! each caller's order. Time is paused, so that the delays cost nothing.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Duration, timeout};
use trough_device::{Device, Mode};

use crate::feeder::{Feeder, MODES, Said, Session, feeder, frame};

const CALLERS: usize = 3;
const FRAMES: usize = 400;
const SEEDS: u64 = 20;

/// How a session ends.
enum Fate {
    Drop,
    Close(u16, &'static str),
}

/// Takes in frames until the session's fate; only what is in `durable` survives it.
async fn session(mut session: Session, durable: &mut Vec<String>, rng: &mut StdRng) -> Option<()> {
    let fate = match rng.random_range(0..4) {
        0 | 1 => Fate::Drop,
        2 => Fate::Close(4000, "pong_timeout"),
        _ => Fate::Close(1012, "restart retry_after_ms=50"),
    };
    let mut received = Vec::new();
    for _ in 0..rng.random_range(1..30) {
        match session.said().await {
            Said::Frames(first, payloads) => {
                assert_eq!(first as usize, durable.len() + received.len() + 1, "the number that is due");
                received.extend(payloads);
            }
            Said::Close(1000, _) => return None,
            // It has sent all it has, no acknowledgement comes, and after 30 s it gives the session up.
            Said::Gone => {
                durable.append(&mut received);
                return Some(());
            }
            other => panic!("{other:?}"),
        }
        if rng.random_bool(0.6) {
            let kept = rng.random_range(0..=received.len());
            durable.extend(received.drain(..kept));
            session.ack(durable.len() as u64).await;
        }
        if rng.random_bool(0.1) {
            received.clear();
            let from = durable.len() as u64 + 1;
            session.rewind(from).await;
            loop {
                match session.said().await {
                    Said::Rewind(seq) if seq == from => break,
                    Said::Frames(..) => {}
                    Said::Close(1000, _) => return None,
                    other => panic!("{other:?} instead of the echo"),
                }
            }
        }
    }
    // The device may never hear of this one.
    durable.append(&mut received);
    match fate {
        Fate::Drop => drop(session),
        Fate::Close(code, reason) => session.close(code, reason).await,
    }
    Some(())
}

async fn run(feeder: &mut Feeder, mut rng: StdRng) -> Vec<String> {
    let mut durable = Vec::new();
    loop {
        if rng.random_bool(0.2) {
            feeder.fail(rng.random_range(1..4));
        }
        let (open, _) = feeder.welcome(1, durable.len() as u64 + 1).await;
        if session(open, &mut durable, &mut rng).await.is_none() {
            return durable;
        }
        if durable.len() == CALLERS * FRAMES {
            // Nothing is left to say; the device closes by itself.
            let (mut last, _) = feeder.welcome(1, durable.len() as u64 + 1).await;
            assert_eq!(last.said().await, Said::Close(1000, "normal".into()));
            return durable;
        }
    }
}

async fn one(seed: u64, mode: Mode) {
    let (mut feeder, mut config) = feeder();
    config.mode = mode;
    config.seed = Some(seed);
    config.buffer_bytes = 4096;
    config.frames_per_message = 7;
    let device = Arc::new(Device::start(config).unwrap());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let device = device.clone();
            tokio::spawn(async move {
                for n in 0..FRAMES {
                    device.send(frame(&format!("{caller} {n}"))).await.unwrap();
                }
            })
        })
        .collect();
    let closing = tokio::spawn(async move {
        for caller in callers {
            caller.await.unwrap();
        }
        device.close().await.unwrap()
    });
    let durable = run(&mut feeder, StdRng::seed_from_u64(seed)).await;
    assert_eq!(durable.len(), CALLERS * FRAMES);
    for caller in 0..CALLERS {
        let prefix = format!("{caller} ");
        let numbers = durable.iter().filter_map(|text| text.strip_prefix(&prefix));
        assert!(numbers.eq((0..FRAMES).map(|n| n.to_string())), "caller {caller}");
    }
    assert_eq!(closing.await.unwrap().acked.0 as usize, durable.len());
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_the_sessions_everything_arrives_once() {
    for seed in 0..SEEDS {
        for mode in MODES {
            println!("seed {seed} {mode:?}");
            let day = Duration::from_secs(24 * 3600);
            timeout(day, one(seed, mode)).await.expect("it ends");
        }
    }
}
