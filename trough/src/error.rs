//! How a command can end, and what the shell and the user see of it.

use std::io;
use std::process::ExitCode;

use crate::faults::Faults;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum CliError {
    /// Options that cannot be used: exit code 2, as for arguments that clap refuses.
    Config(Faults),
    /// Addresses that cannot be bound, all of them: exit code 1, as the options themselves are in order.
    Bind(Faults),
    /// Everything else: exit code 1.
    Failed(anyhow::Error),
    /// A check that could not be made, which tells neither yes nor no: exit code 2.
    Unclear(anyhow::Error),
    /// Whoever read our output has gone (`trough tail … | head`): that is no fault, exit code 0.
    OutputClosed,
}

impl From<Faults> for CliError {
    fn from(faults: Faults) -> Self {
        Self::Config(faults)
    }
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(anyhow::Error::new(error).context("cannot write the output")),
        }
    }
}

macro_rules! failed_from {
    ($($error:ty),*) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::Failed(error.into())
            }
        }
    )*};
}

failed_from!(
    trough_store::RegistryError,
    trough_store::CatalogError,
    trough_store::CommandError,
    trough_store::outbox::OutboxError
);

impl CliError {
    /// Tells the user, on standard error, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let (text, code) = self.text();
        if !text.is_empty() {
            use io::Write as _;
            // If nobody can be told, the exit code still speaks.
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
        code
    }

    fn text(&self) -> (String, ExitCode) {
        match self {
            Self::OutputClosed => (String::new(), ExitCode::SUCCESS),
            Self::Config(faults) => (lines_of(faults), ExitCode::from(2)),
            Self::Bind(faults) => (lines_of(faults), ExitCode::FAILURE),
            Self::Failed(error) => (text_of(error), ExitCode::FAILURE),
            Self::Unclear(error) => (text_of(error), ExitCode::from(2)),
        }
    }
}

fn text_of(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut shown = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors repeat their cause in their own text.
        if !shown.contains(&cause) {
            for line in cause.lines() {
                text.push_str(&format!("  caused by: {line}\n"));
            }
            shown = cause;
        }
    }
    text
}

fn lines_of(faults: &Faults) -> String {
    faults.lines().map(|line| format!("error: {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_and_the_causes_that_add_something() {
        let inner = io::Error::other("no space left");
        let error = anyhow::Error::new(inner).context("cannot write a: no space left").context("cannot save");
        let (text, _) = CliError::Failed(error).text();
        assert_eq!(text, "error: cannot save\n  caused by: cannot write a: no space left\n");
        assert_eq!(CliError::from(io::Error::from(io::ErrorKind::BrokenPipe)).text().0, "");
    }
}
