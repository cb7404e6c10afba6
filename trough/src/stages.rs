//! What long work with many parts is doing: a line that changes on a terminal, plain lines elsewhere. Always on
//! standard error.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, note};

/// Shared by reference; dropping it leaves the last line.
#[derive(Debug)]
pub struct Stages(Option<ProgressBar>);

impl Stages {
    /// Begins.
    pub fn begin() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}")
            .expect("the template is a constant that parses");
        let bar =
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10)).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Some(bar))
    }

    /// What is done now.
    pub fn enter(&self, text: &str) {
        match &self.0 {
            Some(bar) => bar.set_message(text.to_owned()),
            None => note(text),
        }
    }

    /// Puts a part of the result on standard output, without disturbing the line.
    pub fn print(&self, text: &str) {
        // A reader that has gone is noticed when the rest is printed.
        let print = || drop(output::line(text));
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Ends: the line goes away.
    pub fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
