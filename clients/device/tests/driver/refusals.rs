//! How a device meets refusals, silence and absence.
//!
//! 1. Every close code is obeyed: whether and when the device connects again.
//! 2. A stop fails every pending and later call with the code, the reason and a remedy; a restart goes on.
//! 3. HTTP answers to the upgrade: 401, 403 and 400 stop, Retry-After is obeyed, others are tried again.
//! 4. A feeder that cannot be reached, or does not answer: back-off with jitter, and a deadline.
//! 5. A link that went dead without a word is noticed; pings keep a quiet one.
//! 6. A token is never shown.

use std::time::Duration;

use crate::feeder::{elapsed, feeder, frame};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use trough_device::{
    Advice, ConfigError, Device, Event, SendError, Seq, StartError, Status, Stopped, Token, WaitError,
};
use trough_protocol::close::{CloseCode, advice, reason};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn stopped(error: WaitError) -> Stopped {
    match error {
        WaitError::Stopped(stopped) => (*stopped).clone(),
        WaitError::Ended => panic!("it only stopped"),
    }
}

// 1
#[tokio::test(start_paused = true)]
async fn every_close_code_is_obeyed() {
    let unknown = [1000, 1001, 1002, 1011, 4042, 4142, 4242, 4342, 4442, 4999];
    let codes = CloseCode::ALL.iter().map(|code| code.code()).chain(unknown);
    for code in codes {
        let (mut feeder, config) = feeder();
        let device = Device::start(config).unwrap();
        let mut events = device.events();
        device.send(frame("held")).await.unwrap();
        let (mut session, _) = feeder.welcome(1, 1).await;
        session.frames(1).await;
        let paced = matches!(code, 1012 | 4100..=4199);
        let text = reason(CloseCode::Restart, paced.then_some(12_345), "because");
        let advice = advice(Some((code, &text)));
        session.close(code, &text).await;
        let left = Instant::now();
        let event = loop {
            match events.recv().await.unwrap() {
                Event::Connected { .. } => {}
                event => break event,
            }
        };
        let Event::Disconnected { code: told, reason: because, advice: given, retry_in } = event else {
            panic!("{code}: {event:?}")
        };
        assert_eq!((told, because, given), (Some(code), text.clone(), advice), "{code}");
        if advice == Advice::Stop {
            assert_eq!(retry_in, None);
            let error = stopped(device.flush().await.unwrap_err());
            assert_eq!((error.code, error.reason), (Some(code), text), "{code}");
            assert!(feeder.silent_for(HOUR).await, "{code}: it must not come again");
            continue;
        }
        let (_, hello) = feeder.welcome(1, 1).await;
        let waited = left.elapsed();
        let (expected, epoch) = match advice {
            Advice::ReconnectAfter(ms) => {
                (Duration::from_millis(ms)..Duration::from_millis(ms * 12 / 10 + 2), 1)
            }
            Advice::NewEpoch => (Duration::from_millis(90)..Duration::from_millis(202), 0),
            _ => (Duration::from_millis(90)..Duration::from_millis(202), 1),
        };
        assert!(expected.contains(&waited), "{code}: {waited:?} instead of {expected:?}");
        assert_eq!(hello.epoch.0, epoch, "{code}");
    }
}

// 2
#[tokio::test(start_paused = true)]
async fn a_stop_fails_every_call_and_a_restart_goes_on() {
    let (mut feeder, mut config) = feeder();
    config.buffer_bytes = 1024;
    let device = std::sync::Arc::new(Device::start(config).unwrap());
    let (mut session, _) = feeder.welcome(1, 1).await;
    while device.try_send(frame(&"x".repeat(100))).is_ok() {}
    let held = device.state();
    let (sending, flushing) = (device.clone(), device.clone());
    let send = tokio::spawn(async move { sending.send(frame(&"y".repeat(100))).await });
    let flush = tokio::spawn(async move { flushing.flush().await });
    tokio::task::yield_now().await;
    session.frames(8).await;
    session.close(4300, "token_revoked by the operator").await;

    let error = flush.await.unwrap().unwrap_err();
    let text = error.to_string();
    for part in ["4300", "token_revoked by the operator", "valid token"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(matches!(send.await.unwrap(), Err(SendError::Stopped(_))));
    assert!(matches!(device.try_send(frame("z")), Err(SendError::Stopped(_))));
    assert!(matches!(device.connected().await, Err(WaitError::Stopped(_))));
    assert!(matches!(device.close().await, Err(WaitError::Stopped(_))));
    assert!(matches!(*device.watch_status().borrow(), Status::Stopped(_)));
    assert_eq!(device.state().acked, held.acked);

    assert!(matches!(device.restart(Some(Token::new("no token"))), Err(ConfigError::Token(_))));
    device.restart(Some(Token::new("another"))).unwrap();
    let (mut session, _) = feeder.welcome(1, 1).await;
    assert_eq!(session.authorization, "Bearer another");
    assert_eq!(session.frames(8).await.0, 1);
    session.ack(8).await;
    assert_eq!(device.close().await.unwrap().acked, Seq(8), "it was asked to close before");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_device_with_nothing_held_can_be_closed() {
    let (mut feeder, config) = feeder();
    let device = Device::start(config).unwrap();
    feeder.welcome(1, 1).await.0.close(4300, "token_revoked").await;
    assert!(device.connected().await.is_err());
    assert!(device.flush().await.is_ok());
    assert!(device.close().await.is_ok());
    assert_eq!(device.connected().await, Err(WaitError::Ended));
}

// 3
#[tokio::test(start_paused = true)]
async fn an_upgrade_that_is_refused_for_good_stops_the_device() {
    let problem = r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"unknown token"}"#;
    let cases = [
        (401, problem, "401 Unauthorized: unknown token", "token"),
        (403, "{\"title\":\"not\\nyours\"}", "403 Forbidden: notyours", "write here"),
        (400, "use trough.v1", "400 Bad Request: use trough.v1", "url"),
        (400, "", "400 Bad Request", "url"),
    ];
    for (status, body, reason, remedy) in cases {
        let (mut feeder, config) = feeder();
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (result, ()) = tokio::join!(Device::connect(config), feeder.answer(&answer));
        let Err(StartError::Wait(error)) = result else { panic!("{status}: {result:?}") };
        let error = stopped(error);
        assert_eq!((error.code, error.reason.as_str()), (Some(status), reason));
        assert!(error.remedy.contains(remedy), "{}", error.remedy);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_is_refused_for_now_is_tried_again_when_told() {
    let backoff = Duration::from_millis(90)..Duration::from_millis(202);
    let cases = [
        ("503 Later\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy", 7 * SECOND..9 * SECOND),
        ("503 Later\r\nRetry-After: 999999\r\n\r\n", HOUR..HOUR * 13 / 10),
        ("429 Later\r\nRetry-After: 7\r\n\r\n", 7 * SECOND..9 * SECOND),
        ("503 Later\r\n\r\n", backoff.clone()),
        ("502 Bad Gateway\r\nContent-Length: 100000\r\n\r\nshort", backoff.clone()),
        ("404 Not Found\r\n\r\n", backoff.clone()),
        ("302 Found\r\nLocation: /elsewhere\r\nRetry-After: 7\r\n\r\n", backoff.clone()),
        ("200 OK\r\n\r\n", backoff.clone()),
        (
            "101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
            backoff.clone(),
        ),
        ("SSH-2.0", backoff.clone()),
        ("", backoff),
    ];
    for (answer, expected) in cases {
        let (mut feeder, config) = feeder();
        let device = Device::start(config).unwrap();
        let answer = if answer.len() < 10 { answer.to_owned() } else { format!("HTTP/1.1 {answer}") };
        feeder.answer(&answer).await;
        let waited = elapsed(feeder.connection()).await;
        assert!(expected.contains(&waited), "{answer:?}: {waited:?}");
        drop(device);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_answer_is_not_read_to_its_end() {
    let (mut feeder, config) = feeder();
    let device = Device::start(config).unwrap();
    let mut events = device.events();
    let head = format!("HTTP/1.1 503 Later\r\n{}", "X-Filler: yes\r\n".repeat(2000));
    feeder.answer(&head).await;
    let Ok(Event::Disconnected { reason, .. }) = events.recv().await else { panic!("refused") };
    assert!(reason.contains("16 KiB") || reason.contains("HTTP"), "{reason}");
    drop(device);
}

// 4
#[tokio::test(start_paused = true)]
async fn the_delays_grow_and_a_good_session_resets_them() {
    let (mut feeder, config) = feeder();
    feeder.fail(40);
    let device = Device::start(config).unwrap();
    let mut events = device.events();
    device.send(frame("1")).await.unwrap();
    let mut delays = Vec::new();
    let retry = async |events: &mut tokio::sync::broadcast::Receiver<Event>| loop {
        if let Event::Disconnected { retry_in: Some(delay), .. } = events.recv().await.unwrap() {
            return delay;
        }
    };
    for failure in 1..=40_u32 {
        let delay = retry(&mut events).await;
        let bound = Duration::from_millis(100 * (1 << failure.min(9))).min(30 * SECOND);
        assert!((Duration::from_millis(100)..=bound).contains(&delay), "{failure}: {delay:?}");
        delays.push(delay);
    }
    assert!(delays.iter().max() > Some(&(20 * SECOND)), "{delays:?}");
    assert!(delays[20..].iter().min() < Some(&(10 * SECOND)), "no jitter: {delays:?}");

    let (mut session, _) = feeder.welcome(1, 1).await;
    session.frames(1).await;
    session.ack(1).await;
    device.flush().await.unwrap();
    drop(session);
    assert!(retry(&mut events).await <= Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn a_feeder_that_does_not_answer_the_upgrade_is_given_up_after_the_deadline() {
    let (mut feeder, config) = feeder();
    let device = Device::start(config).unwrap();
    let mut events = device.events();
    let _silent = feeder.connection().await;
    let waited = elapsed(async {
        let Ok(Event::Disconnected { code, reason, .. }) = events.recv().await else { panic!("given up") };
        assert_eq!(code, None);
        assert!(reason.contains("feeder.test did not answer within 10s"), "{reason}");
    });
    let waited = waited.await;
    assert!((9 * SECOND..11 * SECOND).contains(&waited), "{waited:?}");
}

// 5
#[tokio::test(start_paused = true)]
async fn a_dead_link_is_noticed_and_a_quiet_one_is_kept() {
    let (mut feeder, config) = feeder();
    let device = Device::start(config).unwrap();
    let mut events = device.events();
    let (mut session, _) = feeder.welcome(1, 1).await;
    for _ in 0..20 {
        // Answers to pings are read on the way.
        assert!(session.silent_for(20 * SECOND).await);
        session.send(Message::Ping("still there".into())).await;
    }
    assert!(matches!(events.try_recv(), Ok(Event::Connected { .. })));
    assert!(events.try_recv().is_err(), "a quiet session is a good one");

    // From here on not a byte comes, and the socket does not say that it is dead.
    let waited = elapsed(async {
        let Ok(Event::Disconnected { code, reason, .. }) = events.recv().await else { panic!("noticed") };
        assert_eq!((code, reason.as_str()), (None, "nothing came from the feeder for 30s"));
    });
    let waited = waited.await;
    assert!((29 * SECOND..31 * SECOND).contains(&waited), "{waited:?}");
    feeder.welcome(1, 1).await;
    drop(session);
}

// 6
#[tokio::test(start_paused = true)]
async fn a_token_is_never_shown() {
    let (mut feeder, config) = feeder();
    let shown = format!("{config:?}");
    assert!(shown.contains("***") && !shown.contains("secret-token"), "{shown}");
    let device = Device::start(config).unwrap();
    feeder.welcome(1, 1).await;
    let shown = format!("{device:?}");
    assert!(!shown.contains("secret-token"), "{shown}");

    let (_, mut config) = crate::feeder::feeder();
    config.token = Token::new("sneaky\r\nX-Header: 1");
    let error = Device::start(config).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("sneaky"), "{error}");
    let (_, mut config) = crate::feeder::feeder();
    config.url = "wss://name:hunter2@feeder.test".into();
    let error = Device::start(config).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}
