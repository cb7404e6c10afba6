//! Questions for heads, and when they may be answered.
//!
//! A device that comes back asks where its head is. Frames of its last session may still be on their way to the
//! disk, perhaps over another link: a head that leaves them out would let a device that lost its memory number new
//! frames like those, and they would be taken for old ones. So a question waits until everything that was submitted
//! before it is decided. The journal commits in the order of submission, so the last one speaks for all.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use trough_protocol::{DeviceId, Epoch};

use super::sink::LinkSink;

/// The batch that was submitted last, over all links of this thread.
#[derive(Debug, Clone, Default)]
pub struct LastSubmitted(Rc<RefCell<Option<Submitted>>>);

type Submitted = (Arc<LinkSink>, u64);

impl LastSubmitted {
    /// Takes note of a batch.
    pub fn set(&self, sink: &Arc<LinkSink>, number: u64) {
        let mut last = self.0.borrow_mut();
        match &mut *last {
            Some((known, last)) if Arc::ptr_eq(known, sink) => *last = number,
            other => *other = Some((sink.clone(), number)),
        }
    }
}

/// One question.
#[derive(Debug)]
pub struct Question {
    /// To be repeated in the answer.
    pub query: u32,
    /// Whose head.
    pub device: DeviceId,
    /// In which epoch.
    pub epoch: Epoch,
    after: Option<Submitted>,
}

/// The questions of one link that wait, in the order in which they came.
#[derive(Debug, Default)]
pub struct Questions {
    waiting: VecDeque<Question>,
}

impl Questions {
    /// Takes in a question that comes after what `last` says.
    pub fn ask(&mut self, query: u32, device: DeviceId, epoch: Epoch, last: &LastSubmitted) {
        let after = last.0.borrow().clone();
        self.waiting.push_back(Question { query, device, epoch, after });
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The next question that may be answered now.
    pub fn next_ready(&mut self) -> Option<Question> {
        let first = self.waiting.front()?;
        let ready = first.after.as_ref().is_none_or(|(sink, number)| sink.has_decided(*number));
        if ready { self.waiting.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::traces::Traces;
    use super::*;
    use crate::journal::CommitSink as _;
    use trough_protocol::link::LinkCode;

    #[test]
    fn a_question_waits_for_what_was_submitted_before_it() {
        let (last, mut questions) = (LastSubmitted::default(), Questions::default());
        let device = DeviceId::new("d").unwrap();
        questions.ask(1, device.clone(), Epoch(1), &last);
        let sink = LinkSink::new(Traces::default());
        last.set(&sink, 7);
        questions.ask(2, device.clone(), Epoch(1), &last);
        last.set(&sink, 8);
        assert_eq!(questions.next_ready().unwrap().query, 1, "nothing was submitted before it");
        assert!(questions.next_ready().is_none());
        sink.committed(6);
        assert!(questions.next_ready().is_none());
        sink.committed(7);
        assert_eq!(questions.next_ready().unwrap().query, 2, "it does not wait for what came later");
        questions.ask(3, device, Epoch(1), &last);
        sink.rejected(8, LinkCode::DAMAGED, "no good");
        assert_eq!(questions.next_ready().unwrap().query, 3, "refused is decided, too");
        assert!(questions.is_empty());
    }
}
