//! Server-sent events, as the reader API sends them (WHATWG HTML, section 9.2): one field a line, one line of data an
//! event.

use anyhow::Result;

use crate::api::Lines;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its kind: `frame`, `gap` or `end`.
    pub kind: String,
    /// What it says, as JSON.
    pub data: String,
}

/// The events of an answer, as they come.
#[derive(Debug)]
pub struct Events {
    lines: Lines,
    fields: Fields,
}

/// What was read of the next event, and the last id.
#[derive(Debug, Default)]
struct Fields {
    kind: String,
    data: Option<String>,
    id: Option<String>,
    last_id: Option<String>,
}

impl Fields {
    /// Takes a line; an event, if the line ends one.
    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            if let Some(id) = self.id.take() {
                self.last_id = Some(id);
            }
            return self.data.take().map(|data| Event { kind, data });
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.kind),
            "data" => self.data = Some(value.to_owned()),
            "id" => self.id = Some(value.to_owned()),
            // A comment, or the server's advice when to come back.
            _ => {}
        }
        None
    }
}

impl Events {
    /// The events in these lines.
    pub fn new(lines: Lines) -> Self {
        Self { lines, fields: Fields::default() }
    }

    /// The next event; `None` at the end of the answer.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        while let Some(line) = self.lines.next().await? {
            if let Some(event) = self.fields.take(line) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// What to ask for to go on behind the last event.
    pub fn last_id(&self) -> Option<&str> {
        self.fields.last_id.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_with_an_empty_line_and_ids_count_without_data() {
        let mut fields = Fields::default();
        let text = "retry: 1000\n\n: alive\nid: A\n\nevent: frame\nid: B\ndata: {\"a\": 1}\n\nevent: end\ndata:x\n\nid: C\n";
        let events: Vec<_> = text.lines().filter_map(|line| fields.take(line)).collect();
        let event = |kind: &str, data: &str| Event { kind: kind.into(), data: data.into() };
        assert_eq!(events, [event("frame", "{\"a\": 1}"), event("end", "x")]);
        assert_eq!(fields.last_id.as_deref(), Some("B"), "what did not end counts for nothing");
    }
}
