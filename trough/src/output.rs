//! Writing for people and for pipes.

use std::fmt::Display;
use std::io::{self, Write};

use crate::error::CliError;

/// One line on standard output: what the command is asked for.
///
/// # Errors
/// [`CliError::OutputClosed`] when the reader has gone, so that the command ends quietly.
pub fn line(text: impl Display) -> Result<(), CliError> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// One value on standard output, on one line.
///
/// # Errors
/// As [`line`].
pub fn json(value: &impl serde::Serialize) -> Result<(), CliError> {
    line(serde_json::to_string(value).expect("what is printed has only string keys, and no map that fails"))
}

/// One line on standard error: what explains the result. It must not be lost in a `$(…)`, and if nobody reads it
/// the command goes on.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// How this program was called, for commands that are shown to be copied.
pub fn program() -> String {
    match std::env::args().next() {
        Some(path) if path.contains('/') => quoted(&path),
        _ => "trough".to_owned(),
    }
}

/// An argument for a shell, in quotes if it needs them.
pub fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

/// Rows under headings, aligned; the last column is not padded.
pub fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&headings.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// 45377 as `45,377`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 line`, `2,000 lines`.
pub fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

/// A time as RFC 3339, to the second: for tables.
pub fn instant(at: trough_protocol::Micros) -> String {
    i64::try_from(at)
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
        .map_or_else(|| format!("{at} µs"), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_a_shell() {
        for (argument, expected) in
            [("./trough-data", "./trough-data"), ("my data", "'my data'"), ("it's", "'it'\\''s'")]
        {
            assert_eq!(quoted(argument), expected);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [["bus-1".into(), "a".into()], ["b".into(), String::new()]];
        assert_eq!(table(["ID", "GROUPS"], &rows), "ID     GROUPS\nbus-1  a\nb\n");
    }

    #[test]
    fn numbers_and_times_are_readable() {
        let numbers = [0, 999, 1000, 45_377, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "45,377", "1,234,567"]);
        assert_eq!(instant(1_490_072_402_000_000), "2017-03-21 05:00:02Z");
    }
}
