//! 1. A device that takes commands says so, and is given each once, however often it comes; its answer comes again.
//! 2. One that does not, does not say so.
//! 3. A command that was dropped without an answer comes again.

use trough_device::{CommandId, CommandStatus, ContentType, Device};
use trough_protocol::device::{Command, Features, ServerMessage};

use crate::feeder::{MODES, Said, feeder};

fn command(number: u64) -> (CommandId, ServerMessage) {
    let id = CommandId::new(number * 1000, [0; 8]);
    let (content_type, payload) = ("text/plain; charset=utf-8".into(), format!("do {number}").into_bytes());
    (id, ServerMessage::Command(Box::new(Command { id, expires: 1, content_type, payload })))
}

#[tokio::test(start_paused = true)]
async fn a_command_is_done_once_and_answered_as_often_as_it_comes() {
    for mode in MODES {
        let (mut feeder, mut config) = feeder();
        (config.mode, config.commands) = (mode, true);
        let device = Device::start(config).unwrap();
        let (mut session, hello) = feeder.welcome(1, 1).await;
        assert!(hello.features.has(Features::COMMANDS));
        let (first, say_first) = command(1);
        session.say(say_first.clone()).await;
        let mut given = device.next_command().await.unwrap();
        assert_eq!(
            (given.id(), given.payload(), given.content_type()),
            (first, &b"do 1"[..], ContentType::Text)
        );
        session.say(say_first.clone()).await;
        let (second, say_second) = command(2);
        session.say(say_second).await;
        assert_eq!(device.next_command().await.unwrap().id(), second, "the first one is being done");
        assert!(given.respond(CommandStatus::Done, ContentType::Json, &[b' '; 4097]).is_err());
        given.respond(CommandStatus::Done, ContentType::Json, b"[1]").unwrap();
        assert_eq!(session.said().await, Said::Result(first, CommandStatus::Done, "[1]".into()));
        session.close(1012, "restart").await;

        let (mut session, _) = feeder.welcome(1, 1).await;
        session.say(say_first).await;
        assert_eq!(session.said().await, Said::Result(first, CommandStatus::Done, "[1]".into()));
        let (third, say_third) = command(3);
        session.say(say_third).await;
        device.next_command().await.unwrap().reject("too hot");
        assert_eq!(session.said().await, Said::Result(third, CommandStatus::Rejected, "too hot".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_takes_none_does_not_say_so() {
    let (mut feeder, config) = feeder();
    let _device = Device::start(config).unwrap();
    let (_session, hello) = feeder.welcome(1, 1).await;
    assert_eq!(hello.features, Features::NONE);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_comes_again() {
    let (mut feeder, mut config) = feeder();
    config.commands = true;
    let device = Device::start(config).unwrap();
    let (mut session, _) = feeder.welcome(1, 1).await;
    let (id, say) = command(1);
    session.say(say.clone()).await;
    drop(device.next_command().await.unwrap());
    session.say(say).await;
    device.next_command().await.unwrap().done();
    assert_eq!(session.said().await, Said::Result(id, CommandStatus::Done, String::new()));
}
