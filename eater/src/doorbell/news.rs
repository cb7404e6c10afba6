//! What a doorbell says, and how it stands on the bus: as JSON, of which a reader passes over the fields that it does
//! not know.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trough_protocol::Micros;
use trough_store::object_catalog::Incarnation;

/// What there is to be read that was not there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// An eater's journal objects, those numbered from `first` to `last`, are in the catalog.
    Objects {
        /// The eater's life.
        incarnation: Incarnation,
        /// The lowest number.
        first: u64,
        /// The highest.
        last: u64,
    },
    /// The local journal has groups that were received until then.
    Groups {
        /// Of the last one.
        received_at: Micros,
    },
}

impl News {
    /// Takes in what came later from the same journal.
    pub(super) fn add(&mut self, later: Self) {
        match (self, later) {
            (Self::Objects { last, .. }, Self::Objects { last: later, .. }) => *last = later.max(*last),
            (Self::Groups { received_at }, Self::Groups { received_at: later }) => {
                *received_at = later.max(*received_at);
            }
            // A process has one journal.
            (this, later) => *this = later,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Message {
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<Objects>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Groups>,
}

#[derive(Serialize, Deserialize)]
struct Objects {
    incarnation: String,
    first: u64,
    last: u64,
}

#[derive(Serialize, Deserialize)]
struct Groups {
    received_at: Micros,
}

/// As it is published. `from` is whoever rings.
pub(super) fn encode(from: &str, news: &News) -> Bytes {
    let (objects, groups) = match *news {
        News::Objects { incarnation, first, last } => {
            (Some(Objects { incarnation: incarnation.to_string(), first, last }), None)
        }
        News::Groups { received_at } => (None, Some(Groups { received_at })),
    };
    let message = Message { from: from.to_owned(), objects, groups };
    serde_json::to_vec(&message).expect("strings and numbers always serialise").into()
}

/// Who rang, and what it said; the news is `None` if it is of a kind that this release does not know.
pub(super) fn decode(message: &[u8]) -> Option<(String, Option<News>)> {
    let Message { from, objects, groups } = serde_json::from_slice(message).ok()?;
    let objects = objects.and_then(|Objects { incarnation, first, last }| {
        let incarnation = incarnation_of(&incarnation)?;
        (first <= last).then_some(News::Objects { incarnation, first, last })
    });
    let groups = groups.map(|Groups { received_at }| News::Groups { received_at });
    Some((from, objects.or(groups)))
}

fn incarnation_of(hex: &str) -> Option<Incarnation> {
    let number = u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32 && !hex.starts_with('+'))?;
    Some(Incarnation(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INCARNATION: Incarnation = Incarnation([0x0a; 16]);

    #[test]
    fn as_the_document_shows_them() {
        let hex = "0a".repeat(16);
        let objects = News::Objects { incarnation: INCARNATION, first: 7, last: 9 };
        let text = format!(r#"{{"from":"me","objects":{{"incarnation":"{hex}","first":7,"last":9}}}}"#);
        assert_eq!(encode("me", &objects), text);
        let groups = News::Groups { received_at: 5 };
        assert_eq!(encode("me", &groups), r#"{"from":"me","groups":{"received_at":5}}"#);
        for news in [objects, groups] {
            assert_eq!(decode(&encode("me", &news)), Some(("me".into(), Some(news))));
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_news() {
        assert_eq!(decode(b"{"), None);
        for odd in [
            r#"{"from":"me","segments":7}"#,
            r#"{"from":"me","objects":{"incarnation":"0a","first":1,"last":2}}"#,
            &format!(
                r#"{{"from":"me","objects":{{"incarnation":"{}","first":3,"last":2}}}}"#,
                "0a".repeat(16)
            ),
            &format!(
                r#"{{"from":"me","objects":{{"incarnation":"+{}","first":1,"last":2}}}}"#,
                "0".repeat(31)
            ),
        ] {
            assert_eq!(decode(odd.as_bytes()), Some(("me".into(), None)), "{odd}");
        }
    }

    #[test]
    fn later_news_is_taken_in() {
        let objects = |first, last| News::Objects { incarnation: INCARNATION, first, last };
        let mut news = objects(3, 3);
        news.add(objects(4, 4));
        news.add(objects(5, 6));
        assert_eq!(news, objects(3, 6));
        let mut news = News::Groups { received_at: 5 };
        news.add(News::Groups { received_at: 9 });
        assert_eq!(news, News::Groups { received_at: 9 });
    }
}
