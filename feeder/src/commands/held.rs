//! What one session was sent.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trough_protocol::device::CommandId;
use trough_store::commands::PENDING_MAX;

use crate::presence::Control;

/// Commands that a session may be sent before it answers.
const IN_FLIGHT_MAX: usize = 4;
/// Commands of a session of which an answer is taken: all that may wait, and some that have expired or were cancelled.
const KNOWN_MAX: usize = PENDING_MAX + 28;
/// A command without an answer is sent again after this, and others get its place meanwhile.
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

    /// Which of the commands that are to be sent are sent now: first those that the session was not sent, in their order, then
    /// those that it has left without an answer for too long, which leave half of the room to the first, and get all that
    /// these do not need. So a command that a device does not answer keeps none from it.
    pub fn choose(&self, pending: &[CommandId], now: Instant) -> Vec<CommandId> {
        let (mut new, mut overdue, mut in_flight) = (Vec::new(), Vec::new(), 0);
        for id in pending {
            match self.sent.iter().find(|(known, _)| known == id) {
                None => new.push(*id),
                Some((_, at)) if now >= *at + AGAIN_AFTER => overdue.push((*at, *id)),
                Some(_) => in_flight += 1,
            }
        }
        overdue.sort_unstable();
        let room = IN_FLIGHT_MAX.saturating_sub(in_flight);
        let of_new = new.len().min(room.div_ceil(2).max(room.saturating_sub(overdue.len())));
        let overdue = overdue.into_iter().map(|(_, id)| id).take(room - of_new);
        new.into_iter().take(of_new).chain(overdue).collect()
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

    fn held() -> Held {
        Held::new(Control::new(TokenId::random(), trough_protocol::LinkId([0; 16])))
    }

    #[test]
    fn a_few_are_in_flight_and_come_again_when_there_is_no_answer() {
        let mut held = held();
        let (pending, start) = (ids(0..5), Instant::now());
        assert_eq!(held.choose(&pending, start), ids(0..4));
        held.choose(&pending, start).into_iter().for_each(|id| held.note(id, start));
        assert_eq!(held.choose(&pending, start + AGAIN_AFTER / 2), []);
        held.forget(pending[1]);
        let rest = ids([0, 2, 3, 4]);
        assert_eq!(held.choose(&rest, start), ids([4]), "there is room for one");
        held.note(rest[3], start + AGAIN_AFTER / 2);
        assert_eq!(held.choose(&rest, start + AGAIN_AFTER), ids([0, 2, 3]));
        assert_eq!(held.choose(&[], start + AGAIN_AFTER), []);
        assert!(held.was_sent(rest[0]), "its answer counts, also when it has expired");
    }

    #[test]
    fn what_is_not_answered_keeps_nothing_from_the_device() {
        let mut held = held();
        let (pending, mut now) = (ids(0..PENDING_MAX as u64), Instant::now());
        let mut sends = vec![0; PENDING_MAX];
        // The device answers none of them.
        for _ in 0..PENDING_MAX {
            let chosen = held.choose(&pending, now);
            assert_eq!(chosen.len(), IN_FLIGHT_MAX);
            for id in chosen {
                held.note(id, now);
                sends[pending.iter().position(|known| *known == id).unwrap()] += 1;
            }
            now += AGAIN_AFTER;
        }
        assert!(sends.iter().all(|sends| *sends >= 2), "each has its turn: {sends:?}");
        // New ones come at once, and go before those; but not all of them.
        let mixed = ids((0..4).chain(200..204));
        assert_eq!(held.choose(&mixed, now)[..2], ids([200, 201]));
        assert_eq!(held.choose(&mixed, now).len(), IN_FLIGHT_MAX);
        assert_eq!(held.choose(&ids((0..1).chain(200..204)), now), ids([200, 201, 202, 0]));
    }

    #[test]
    fn what_is_known_of_a_session_is_bounded() {
        let mut held = held();
        for id in ids(0..1000) {
            held.note(id, Instant::now());
        }
        assert_eq!(held.sent.len(), KNOWN_MAX);
        assert!(held.was_sent(ids([999])[0]) && !held.was_sent(ids([0])[0]));
    }
}
