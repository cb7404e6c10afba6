//! Which numbers a session may send next. No I/O: the rules of docs/protocol.md, and nothing else.

use trough_protocol::Seq;
use trough_protocol::close::CloseCode;
use trough_protocol::device::Skip;

use crate::presence::Ending;

/// What to do with a message that has numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one that was due.
    Take,
    /// It was sent before the device saw the rewind; it will be sent again.
    Discard,
}

/// The numbers of one session.
#[derive(Debug)]
pub struct Sequence {
    next: Seq,
    awaits_echo: Option<Seq>,
}

impl Sequence {
    /// A session in which `next` is due.
    pub fn new(next: Seq) -> Self {
        Self { next, awaits_echo: None }
    }

    /// The number that is due.
    pub fn next(&self) -> Seq {
        self.next
    }

    /// Frames from `first` on, `count` of them.
    ///
    /// # Errors
    /// The close of a session that jumps or goes back.
    pub fn frames(&mut self, first: Seq, count: u64) -> Result<Verdict, Ending> {
        if self.awaits_echo.is_some() {
            return Ok(Verdict::Discard);
        }
        self.expect(first)?;
        self.advance(first.0 + count - 1)
    }

    /// A declared loss.
    ///
    /// # Errors
    /// As for frames.
    pub fn skip(&mut self, skip: &Skip) -> Result<Verdict, Ending> {
        if self.awaits_echo.is_some() {
            return Ok(Verdict::Discard);
        }
        self.expect(skip.first)?;
        self.advance(skip.last.0)
    }

    /// What was sent is not durable from `next` on: the device sends it again after its echo.
    ///
    /// There is never a second rewind before the echo of the first: until then everything is discarded, so
    /// nothing is in flight, and a link that dies meanwhile concerns this session no more (`Flow::link_died`).
    pub fn rewind(&mut self, next: Seq) {
        self.next = next;
        self.awaits_echo = Some(next);
    }

    /// The device's echo of a rewind.
    ///
    /// # Errors
    /// The close of a session that echoes what was not said.
    pub fn echo(&mut self, next: Seq) -> Result<(), Ending> {
        match self.awaits_echo.take_if(|due| *due == next) {
            Some(_) => Ok(()),
            None => {
                let due = self.awaits_echo.map_or("none".to_owned(), |due| due.to_string());
                Err(Ending::new(CloseCode::OutOfOrder, format!("rewind {next} came, {due} was due")))
            }
        }
    }

    fn expect(&self, first: Seq) -> Result<(), Ending> {
        let (code, advice) = match first.cmp(&self.next) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Greater => (CloseCode::SeqGap, "declare lost frames with a skip"),
            std::cmp::Ordering::Less => (CloseCode::SeqBackwards, "resend only after a rewind or welcome"),
        };
        Err(Ending::new(code, format!("seq {first} came, {} was due; {advice}", self.next)))
    }

    fn advance(&mut self, last: u64) -> Result<Verdict, Ending> {
        // Beyond 2^53 - 1 no frame has a number; the device needs a new epoch.
        let last = Seq::check(last).map_err(|error| Ending::new(CloseCode::Malformed, error.to_string()))?;
        self.next = last.next();
        Ok(Verdict::Take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_protocol::device::SkipReason;

    #[test]
    fn only_the_due_number_is_taken() {
        let mut sequence = Sequence::new(Seq(5));
        assert_eq!(sequence.frames(Seq(5), 3), Ok(Verdict::Take));
        assert_eq!(sequence.frames(Seq(9), 1).unwrap_err().code, CloseCode::SeqGap);
        assert_eq!(sequence.frames(Seq(7), 1).unwrap_err().code, CloseCode::SeqBackwards);
        let skip = Skip { first: Seq(8), last: Seq(20), reason: SkipReason::OVERFLOW };
        assert_eq!(sequence.skip(&skip), Ok(Verdict::Take));
        assert_eq!(sequence.next(), Seq(21));
    }

    #[test]
    fn what_was_sent_before_the_echo_is_discarded() {
        let mut sequence = Sequence::new(Seq(5));
        sequence.frames(Seq(5), 3).unwrap();
        sequence.rewind(Seq(6));
        assert_eq!(sequence.frames(Seq(8), 1), Ok(Verdict::Discard));
        assert_eq!(sequence.echo(Seq(7)).unwrap_err().code, CloseCode::OutOfOrder);
        assert_eq!(sequence.echo(Seq(6)), Ok(()));
        assert_eq!(sequence.frames(Seq(6), 1), Ok(Verdict::Take));
        assert_eq!(sequence.echo(Seq(6)).unwrap_err().code, CloseCode::OutOfOrder, "said once");
    }

    #[test]
    fn numbers_end_at_two_to_the_53() {
        let mut sequence = Sequence::new(Seq((1 << 53) - 1));
        assert_eq!(sequence.frames(Seq((1 << 53) - 1), 2).unwrap_err().code, CloseCode::Malformed);
    }
}
