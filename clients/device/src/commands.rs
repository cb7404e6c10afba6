//! Commands: each comes to the program once, however often the feeder sends it.

use std::collections::VecDeque;
use std::sync::Arc;

use trough_protocol::device::{Command as Received, CommandId, CommandResult, CommandStatus};
use trough_protocol::limits::COMMAND_RESULT_BYTES_MAX;
use trough_protocol::wire::{WireError, cut_text};
use trough_protocol::{ContentType, Micros};

use crate::shared::Shared;

/// Commands that the program has not answered; further ones are left to the feeder, which sends them again.
const OPEN_MAX: usize = 64;
/// Answers that are remembered, so that a command which comes again is answered and not done again.
const ANSWERS_MAX: usize = 128;
/// Longest reason of a rejection, in bytes; longer ones are cut.
const REASON_BYTES_MAX: usize = 255;

/// What was answered to a command.
#[derive(Debug)]
struct Answer {
    status: CommandStatus,
    content_type: String,
    payload: Vec<u8>,
}

/// Under the lock of [`Shared`].
#[derive(Debug, Default)]
pub(crate) struct Commands {
    /// For the program.
    waiting: VecDeque<Received>,
    /// Waiting, or with the program.
    open: Vec<CommandId>,
    /// The newest are at the back.
    answers: VecDeque<(CommandId, Answer)>,
    /// Answers that the feeder is to be told.
    owed: VecDeque<CommandId>,
    /// Without a session nothing is owed: the next feeder asks.
    in_session: bool,
}

impl Commands {
    /// A session has begun, or ended.
    pub fn set_in_session(&mut self, in_session: bool) {
        self.in_session = in_session;
        self.owed.clear();
    }

    /// Takes a command that has come. Whether the program has a new one.
    pub fn receive(&mut self, command: Received) -> bool {
        if self.answers.iter().any(|(id, _)| *id == command.id) {
            self.owe(command.id);
            return false;
        }
        if self.open.contains(&command.id) || self.open.len() >= OPEN_MAX {
            return false;
        }
        self.open.push(command.id);
        self.waiting.push_back(command);
        true
    }

    /// The next one for the program.
    pub fn take(&mut self) -> Option<Received> {
        self.waiting.pop_front()
    }

    /// The next answer for the feeder.
    pub fn next_result(&mut self) -> Option<CommandResult<'_>> {
        loop {
            let id = self.owed.pop_front()?;
            let Some(at) = self.answers.iter().position(|(known, _)| *known == id) else { continue };
            let Answer { status, content_type, payload } = &self.answers[at].1;
            let content_type = ContentType::parse(content_type).unwrap_or(ContentType::Bytes);
            return Some(CommandResult { id, status: *status, content_type, payload });
        }
    }

    fn answer(&mut self, id: CommandId, answer: Answer) {
        self.forget(id);
        if self.answers.len() == ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back((id, answer));
        self.owe(id);
    }

    fn forget(&mut self, id: CommandId) {
        self.open.retain(|open| *open != id);
    }

    fn owe(&mut self, id: CommandId) {
        if self.in_session && !self.owed.contains(&id) {
            self.owed.push_back(id);
        }
    }
}

/// A command to be done. Answer it: dropped without an answer, it comes again.
#[derive(Debug)]
pub struct Command {
    command: Received,
    shared: Arc<Shared>,
    is_answered: bool,
}

impl Command {
    pub(crate) fn new(command: Received, shared: Arc<Shared>) -> Self {
        Self { command, shared, is_answered: false }
    }

    /// Names it.
    pub fn id(&self) -> CommandId {
        self.command.id
    }

    /// It is not to be begun after this time, by the server's clock.
    pub fn expires(&self) -> Micros {
        self.command.expires
    }

    /// What the payload is.
    pub fn content_type(&self) -> ContentType<'_> {
        ContentType::parse(&self.command.content_type).unwrap_or(ContentType::Bytes)
    }

    /// What to do.
    pub fn payload(&self) -> &[u8] {
        &self.command.payload
    }

    /// It was done, and there is nothing to say about it.
    pub fn done(mut self) {
        self.settle(Answer {
            status: CommandStatus::Done,
            content_type: ContentType::Bytes.as_str().to_owned(),
            payload: Vec::new(),
        });
    }

    /// It was not done, and will not be: why, in up to 255 bytes.
    pub fn reject(mut self, reason: &str) {
        self.settle(Answer {
            status: CommandStatus::Rejected,
            content_type: ContentType::Text.as_str().to_owned(),
            payload: cut_text(reason, REASON_BYTES_MAX).as_bytes().to_vec(),
        });
    }

    /// How it went, and what there is to say about it. The first answer counts.
    ///
    /// # Errors
    /// More than 4096 bytes, or a content type that is none. It is not answered then.
    pub fn respond(
        &mut self,
        status: CommandStatus,
        content_type: ContentType<'_>,
        payload: &[u8],
    ) -> Result<(), WireError> {
        ContentType::parse(content_type.as_str())?;
        if payload.len() > COMMAND_RESULT_BYTES_MAX {
            let (value, max) = (payload.len() as u64, COMMAND_RESULT_BYTES_MAX as u64);
            return Err(WireError::TooLarge { what: "command result", value, max });
        }
        let content_type = content_type.as_str().to_owned();
        self.settle(Answer { status, content_type, payload: payload.to_vec() });
        Ok(())
    }

    fn settle(&mut self, answer: Answer) {
        if !std::mem::replace(&mut self.is_answered, true) {
            self.shared.lock().commands.answer(self.command.id, answer);
            self.shared.work.notify_one();
        }
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if !self.is_answered {
            self.shared.lock().commands.forget(self.command.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(number: u64) -> Received {
        let id = CommandId::new(number * 1000, [0; 8]);
        Received { id, expires: 1, content_type: "text/plain".into(), payload: b"go".to_vec() }
    }

    fn done() -> Answer {
        Answer { status: CommandStatus::Done, content_type: "a/b".into(), payload: b"ok".to_vec() }
    }

    #[test]
    fn one_that_comes_again_is_answered_and_not_done_again() {
        let mut commands = Commands::default();
        commands.set_in_session(true);
        assert!(commands.receive(command(1)) && !commands.receive(command(1)));
        assert_eq!(commands.take(), Some(command(1)));
        assert!(!commands.receive(command(1)), "the program has it");
        assert_eq!(commands.next_result(), None);
        commands.answer(command(1).id, done());
        assert_eq!(commands.next_result().map(|result| result.payload), Some(&b"ok"[..]));
        assert_eq!(commands.next_result(), None, "told once");
        assert!(!commands.receive(command(1)));
        assert_eq!(commands.next_result().map(|result| result.id), Some(command(1).id), "told again");
        assert_eq!(commands.take(), None);
    }

    #[test]
    fn an_answer_without_a_session_waits_until_it_is_asked_for() {
        let mut commands = Commands::default();
        commands.set_in_session(true);
        commands.receive(command(1));
        commands.set_in_session(false);
        commands.answer(command(1).id, done());
        assert_eq!(commands.next_result(), None);
        commands.set_in_session(true);
        assert_eq!(commands.next_result(), None, "this feeder may not know of it");
        commands.receive(command(1));
        assert!(commands.next_result().is_some());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut commands = Commands::default();
        let taken = (0..1000).filter(|number| commands.receive(command(*number))).count();
        assert_eq!(taken, OPEN_MAX);
        for number in 0..1000 {
            commands.answer(command(number).id, done());
        }
        assert_eq!((commands.answers.len(), commands.open.len()), (ANSWERS_MAX, 0));
    }
}
