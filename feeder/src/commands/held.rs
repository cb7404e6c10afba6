//! What one session was sent.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trough_protocol::device::CommandId;

use crate::presence::Control;

/// Commands of a session that may be without an answer.
const IN_FLIGHT_MAX: usize = 4;
/// Commands of a session of which an answer is taken: also of some that have expired or were cancelled.
const KNOWN_MAX: usize = 16;
/// A command without an answer is sent again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What a session was sent and has not answered.
#[derive(Debug)]
pub struct Held {
    control: Arc<Control>,
    sent: Vec<(CommandId, Instant)>,
}

impl Held {
    /// Nothing yet.
    pub fn new(control: Arc<Control>) -> Self {
        Self { control, sent: Vec::new() }
    }

    /// Whose it is.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Which of the commands that are to be sent are sent now.
    pub fn choose(&self, pending: &[CommandId], now: Instant) -> Vec<CommandId> {
        let sent_at = |id: &CommandId| self.sent.iter().find(|(known, _)| known == id).map(|(_, at)| *at);
        let mut in_flight = pending.iter().filter(|id| sent_at(id).is_some()).count();
        let mut chosen = Vec::new();
        for id in pending {
            match sent_at(id) {
                Some(at) if now >= at + AGAIN_AFTER => chosen.push(*id),
                Some(_) => {}
                None if in_flight < IN_FLIGHT_MAX => {
                    in_flight += 1;
                    chosen.push(*id);
                }
                None => {}
            }
        }
        chosen
    }

    /// A command is sent.
    pub fn note(&mut self, id: CommandId, now: Instant) {
        self.forget(id);
        if self.sent.len() == KNOWN_MAX {
            self.sent.remove(0);
        }
        self.sent.push((id, now));
    }

    /// Whether it was sent, and is not answered.
    pub fn was_sent(&self, id: CommandId) -> bool {
        self.sent.iter().any(|(known, _)| *known == id)
    }

    /// It is answered.
    pub fn forget(&mut self, id: CommandId) {
        self.sent.retain(|(known, _)| *known != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_store::TokenId;

    fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<CommandId> {
        numbers.into_iter().map(|number| CommandId::new(number * 1000, [0; 8])).collect()
    }

    #[test]
    fn a_few_are_in_flight_and_come_again_when_there_is_no_answer() {
        let mut held = Held::new(Control::new(TokenId::random(), trough_protocol::LinkId([0; 16])));
        let (pending, start) = (ids(0..6), Instant::now());
        assert_eq!(held.choose(&pending, start), ids(0..4));
        held.choose(&pending, start).into_iter().for_each(|id| held.note(id, start));
        assert_eq!(held.choose(&pending, start + AGAIN_AFTER / 2), []);
        held.forget(pending[1]);
        let rest = ids([0, 2, 3, 4, 5]);
        assert_eq!(held.choose(&rest, start), ids([4]), "there is room for one");
        held.note(rest[3], start + AGAIN_AFTER / 2);
        assert_eq!(held.choose(&rest, start + AGAIN_AFTER), ids([0, 2, 3]));
        assert_eq!(held.choose(&[], start + AGAIN_AFTER), []);
        assert!(held.was_sent(rest[0]), "its answer counts, also when it has expired");
    }

    #[test]
    fn what_is_known_of_a_session_is_bounded() {
        let mut held = Held::new(Control::new(TokenId::random(), trough_protocol::LinkId([0; 16])));
        for id in ids(0..100) {
            held.note(id, Instant::now());
        }
        assert_eq!(held.sent.len(), KNOWN_MAX);
        assert!(held.was_sent(ids([99])[0]) && !held.was_sent(ids([0])[0]));
    }
}
