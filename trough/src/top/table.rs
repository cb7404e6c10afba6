//! Processes as lines of text.

use super::figures::Figures;
use super::source::{Row, State};
use crate::output::{self, grouped};

/// Columns.
pub const HEADINGS: [&str; 11] = [
    "NAME", "SERVICE", "STATE", "SESSIONS", "FRAMES/S", "LAG", "CREDIT", "QUEUE", "ERRORS/S", "CPU", "MEMORY",
];

/// By what rows are put in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Service and name.
    #[default]
    Name,
    /// Most sessions first.
    Sessions,
    /// Most frames first.
    Frames,
    /// Those that lag most first.
    Lag,
    /// Most errors first.
    Errors,
}

impl Order {
    /// All of them, in the order of their columns.
    pub const ALL: [Self; 5] = [Self::Name, Self::Sessions, Self::Frames, Self::Lag, Self::Errors];

    /// As an option names it; its first letter is its key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Sessions => "sessions",
            Self::Frames => "frames",
            Self::Lag => "lag",
            Self::Errors => "errors",
        }
    }

    /// The heading of its column.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Name => HEADINGS[0],
            Self::Sessions => HEADINGS[3],
            Self::Frames => HEADINGS[4],
            Self::Lag => HEADINGS[5],
            Self::Errors => HEADINGS[8],
        }
    }

    /// Puts rows in this order. Those that have nothing there are last, and equal ones stay as they are.
    pub fn sort(self, rows: &mut [Row]) {
        let value = |row: &Row| match self {
            Self::Name => None,
            Self::Sessions => row.figures.sessions.map(|sessions| sessions as f64),
            Self::Frames => row.figures.frames_per_second,
            Self::Lag => row.figures.lag_seconds,
            Self::Errors => row.figures.errors_per_second,
        };
        let of = |row: &Row| value(row).unwrap_or(-1.0);
        match self {
            Self::Name => rows.sort_by(|a, b| (a.service, &a.name).cmp(&(b.service, &b.name))),
            _ => rows.sort_by(|a, b| of(b).total_cmp(&of(a))),
        }
    }
}

/// How a process is, in a word or some.
pub fn state(state: &State) -> String {
    match state {
        State::Silent(reason) => format!("no answer: {reason}"),
        State::Answers(readiness) if readiness.degraded.is_empty() => readiness.status.clone(),
        State::Answers(readiness) => {
            let parts: Vec<_> = readiness.degraded.iter().map(|part| part.part.as_str()).collect();
            format!("{}, without {}", readiness.status, parts.join(" "))
        }
    }
}

/// One process.
pub fn cells(row: &Row) -> [String; 11] {
    let [sessions, frames, lag, credit, queue, errors, cpu, memory] = figures(&row.figures);
    let (name, service, state) = (row.name.clone(), row.service.name().to_owned(), state(&row.state));
    [name, service, state, sessions, frames, lag, credit, queue, errors, cpu, memory]
}

/// All of them.
pub fn total_cells(rows: &[Row]) -> [String; 11] {
    let [sessions, frames, lag, credit, queue, errors, cpu, memory] = figures(&total(rows));
    let silent = rows.iter().filter(|row| matches!(row.state, State::Silent(_))).count();
    let state = if silent == 0 { String::new() } else { format!("{silent} without an answer") };
    let name = output::counted(rows.len() as u64, "process").replace("processs", "processes");
    [name, String::new(), state, sessions, frames, lag, credit, queue, errors, cpu, memory]
}

/// The figures of all together.
pub fn total(rows: &[Row]) -> Figures {
    Figures::total(rows.iter().map(|row| (row.service, &row.figures)))
}

/// The table, for pipes.
pub fn text(rows: &[Row]) -> String {
    let mut lines: Vec<_> = rows.iter().map(cells).collect();
    if rows.len() > 1 {
        lines.push(total_cells(rows));
    }
    output::table(HEADINGS, &lines)
}

fn figures(figures: &Figures) -> [String; 8] {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let sessions = match (figures.sessions, figures.sessions_max) {
        (Some(sessions), Some(most)) => Some(format!("{}/{}", grouped(sessions), grouped(most))),
        (sessions, _) => sessions.map(grouped),
    };
    let queue = match (figures.queue_bytes, figures.deliveries.filter(|waiting| *waiting > 0)) {
        (Some(bytes), _) => Some(bytes_text(bytes)),
        (None, Some(waiting)) => Some(format!("{} to tell", grouped(waiting))),
        (None, None) => None,
    };
    [
        shown(sessions),
        shown(figures.frames_per_second.map(|rate| grouped(rate.round() as u64))),
        shown(figures.lag_seconds.map(seconds_text)),
        shown(figures.credit_used.map(|part| format!("{:.0}%", part * 100.0))),
        shown(queue),
        shown(
            figures
                .errors_per_second
                .map(|rate| if rate == 0.0 { "0".to_owned() } else { format!("{rate:.1}") }),
        ),
        shown(figures.cpu.map(|cpu| format!("{:.0}%", cpu * 100.0))),
        shown(figures.memory_bytes.map(bytes_text)),
    ]
}

fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

fn seconds_text(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 100.0 => format!("{s:.1} s"),
        s => format!("{} s", grouped(s.round() as u64)),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::top::sample::{Part, Readiness, Service};

    /// Three processes, one of which does not answer.
    pub fn rows() -> Vec<Row> {
        let ready = |degraded: &[&str]| {
            let part = |name: &&str| Part { part: (*name).to_owned() };
            State::Answers(Readiness {
                status: "ready".into(),
                degraded: degraded.iter().map(part).collect(),
            })
        };
        let row =
            |name: &str, service, state, figures| Row { name: name.to_owned(), service, state, figures };
        let feeder = Figures {
            sessions: Some(1200),
            sessions_max: Some(16_384),
            frames_per_second: Some(12_345.4),
            lag_seconds: Some(0.0421),
            queue_bytes: Some(3_500_000),
            errors_per_second: Some(0.25),
            cpu: Some(0.314),
            memory_bytes: Some(200 << 20),
            ..Figures::default()
        };
        let notifier = Figures { deliveries: Some(7), lag_seconds: Some(130.0), ..Figures::default() };
        vec![
            row("feeder-a", Service::Feeder, ready(&["bus"]), feeder),
            row("eater-a", Service::Eater, State::Silent("connection refused".into()), Figures::default()),
            row("notifier-a", Service::Notifier, ready(&[]), notifier),
        ]
    }

    #[test]
    fn every_process_has_a_line_and_all_have_one() {
        assert_eq!(
            text(&rows()),
            "\
NAME         SERVICE   STATE                          SESSIONS      FRAMES/S  LAG    CREDIT  QUEUE      ERRORS/S  CPU  MEMORY
feeder-a     feeder    ready, without bus             1,200/16,384  12,345    42 ms  -       3.3 MiB    0.2       31%  200 MiB
eater-a      eater     no answer: connection refused  -             -         -      -       -          -         -    -
notifier-a   notifier  ready                          -             -         130 s  -       7 to tell  -         -    -
3 processes            1 without an answer            1,200/16,384  12,345    42 ms  -       3.3 MiB    0.2       31%  200 MiB
"
        );
    }

    #[test]
    fn rows_are_put_in_order() {
        let names = |order: Order| {
            let mut rows = rows();
            order.sort(&mut rows);
            rows.into_iter().map(|row| row.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Order::Name), ["feeder-a", "eater-a", "notifier-a"]);
        assert_eq!(names(Order::Lag), ["notifier-a", "feeder-a", "eater-a"]);
        assert_eq!(names(Order::Sessions)[0], "feeder-a");
    }

    #[test]
    fn values_are_short() {
        assert_eq!(
            [0, 1023, 1024, 1 << 20, 12 << 30].map(bytes_text),
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "12 GiB"]
        );
        assert_eq!([0.0, 0.0421, 1.25, 130.4].map(seconds_text), ["0 ms", "42 ms", "1.2 s", "130 s"]);
    }
}
