//! Logs: events with fields, to standard error.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// What cannot be understood in the telemetry settings.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not a format.
    #[error("log format {0:?} is not known: use text or json")]
    Format(String),
    /// Not a filter.
    #[error(
        "log filter {filter:?} is not valid ({reason}): use directives such as info or warn,trough_feeder=debug"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser says.
        reason: String,
    },
}

impl FromStr for Format {
    type Err = TelemetryError;
    fn from_str(s: &str) -> Result<Self, TelemetryError> {
        match s {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(TelemetryError::Format(s.to_owned())),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Starts logging to standard error. A second call checks its filter and otherwise changes nothing, so that
/// several tests of one process may each make it.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| TelemetryError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    let installed = match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        Format::Json => builder.with_ansi(false).json().flatten_event(true).finish().try_init(),
    };
    if installed.is_err() {
        tracing::debug!("logging was already started, its settings stay");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_is_once_and_a_bad_filter_is_named() {
        init(Format::Text, "warn").unwrap();
        init(Format::Json, "info,trough_runtime=debug").unwrap();
        let error = init(Format::Text, "trough=shout").unwrap_err().to_string();
        assert!(error.contains("trough=shout"), "{error}");
        assert!("xml".parse::<Format>().unwrap_err().to_string().contains("text or json"));
    }
}
