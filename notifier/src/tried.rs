//! What a try to deliver came to, whichever way it went.

use std::time::Duration;

/// Longest text of a try that is kept, in bytes.
const SAID_BYTES_MAX: usize = 512;

/// A try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// What follows from it.
    pub verdict: Verdict,
    /// What it says of the endpoint.
    pub endpoint: Standing,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// In words, for whoever looks at the delivery.
    pub said: String,
}

/// What follows from a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken.
    Delivered,
    /// Try again by the schedule, but not before this time is over.
    Again(Option<Duration>),
    /// The same request would be refused every time.
    Never,
    /// Nothing was sent, by a fault of this deployment's own: it waits until that is mended, and has lost no try.
    Ours,
    /// Nobody is there any more: the subscription, or the phone, is to be given up.
    Gone,
}

/// What a try says of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answers.
    Answers,
    /// It does not, or is broken.
    Fails,
    /// It was not asked.
    Unknown,
}

impl Tried {
    /// There was an answer. One that asks for time asks one subscription, or one phone, for it: others of the same host are
    /// none of its business, and whoever is asked waits anyway.
    pub fn answered(status: u16, verdict: Verdict, said: impl Into<String>) -> Self {
        let asks = status == 429 || (status == 503 && matches!(verdict, Verdict::Again(Some(_))));
        let fails = status >= 500 && !asks;
        let endpoint = if fails { Standing::Fails } else { Standing::Answers };
        Self { verdict, endpoint, status: Some(status), said: cut(said.into()) }
    }

    /// There was none.
    pub fn unanswered(said: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Again(None),
            endpoint: Standing::Fails,
            status: None,
            said: cut(said.into()),
        }
    }

    /// Nothing was sent.
    pub fn unsent(verdict: Verdict, said: impl Into<String>) -> Self {
        Self { verdict, endpoint: Standing::Unknown, status: None, said: cut(said.into()) }
    }
}

/// One line, and not too long: it comes from somebody else, and is shown on terminals.
fn cut(said: String) -> String {
    let mut line: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > SAID_BYTES_MAX {
        let mut end = SAID_BYTES_MAX - '…'.len_utf8();
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_one_short_line() {
        let tried = Tried::unanswered(format!("a\r\n\x1b[31m{}", "ü".repeat(400)));
        assert!(tried.said.len() <= SAID_BYTES_MAX && tried.said.ends_with('…'), "{}", tried.said.len());
        assert!(tried.said.starts_with("a   [31m"), "{}", tried.said);
    }

    #[test]
    fn an_endpoint_that_refuses_answers_all_the_same() {
        assert_eq!(Tried::answered(404, Verdict::Again(None), "").endpoint, Standing::Answers);
        assert_eq!(Tried::answered(503, Verdict::Again(None), "").endpoint, Standing::Fails);
    }

    #[test]
    fn one_that_is_asked_for_patience_says_nothing_of_the_others() {
        let asked = Verdict::Again(Some(Duration::from_secs(60)));
        for (status, verdict) in [(429, asked), (429, Verdict::Again(None)), (503, asked)] {
            assert_eq!(Tried::answered(status, verdict, "").endpoint, Standing::Answers, "{status}");
        }
        assert_eq!(Tried::answered(500, asked, "").endpoint, Standing::Fails);
    }
}
