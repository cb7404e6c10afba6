//! How far long work has come: a bar on a terminal, plain lines elsewhere. Always on standard error, so that
//! the result on standard output stays clean.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::output::{grouped, note};

/// Plain lines come at most this often: a log of a CI run should not fill with them.
const LINE_EVERY: Duration = Duration::from_secs(2);
const WITH_TOTAL: &str = "{msg} {bar:20} {human_pos} of {human_len} {prefix}, {rate}";
const WITHOUT_TOTAL: &str = "{msg} {spinner} {human_pos} {prefix}, {rate}";

/// Progress of one piece of work. Shared by reference between the tasks that do it.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    unit: &'static str,
    /// 0 if it is not known.
    total: AtomicU64,
    done: AtomicU64,
    began: Instant,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    /// When the last line was written.
    Lines(Mutex<Instant>),
}

impl Progress {
    /// Begins. `what` is the work (`sending`), `unit` what is counted (`frames durable`); without a total there
    /// is no bar, only a count.
    pub fn new(what: &'static str, unit: &'static str, total: Option<u64>) -> Self {
        let shown = if std::io::stderr().is_terminal() {
            Shown::Bar(bar(what, unit, total))
        } else {
            Shown::Lines(Mutex::new(Instant::now()))
        };
        let total = AtomicU64::new(total.unwrap_or(0));
        Self { what, unit, total, done: AtomicU64::new(0), began: Instant::now(), shown }
    }

    /// So many more are done.
    pub fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
        match &self.shown {
            Shown::Bar(bar) => bar.inc(count),
            Shown::Lines(last) => self.line_if_due(last),
        }
    }

    /// So many are done, of so many: the total may become known, or grow, on the way.
    pub fn set_of(&self, done: u64, total: u64) {
        if let Shown::Bar(bar) = &self.shown
            && bar.length() != Some(total)
        {
            bar.set_length(total);
            bar.set_style(style(true));
        }
        self.total.store(total, Ordering::Relaxed);
        self.set(done);
    }

    /// So many are done in all.
    pub fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        match &self.shown {
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Lines(last) => self.line_if_due(last),
        }
    }

    /// Says something without disturbing the bar.
    pub fn note(&self, text: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| note(text)),
            _ => note(text),
        }
    }

    /// Ends without a word: the bar goes away.
    pub fn clear(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    /// How many are done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends: a bar goes away, the result says it all; elsewhere one last line stays.
    pub fn finish(&self) {
        match &self.shown {
            Shown::Bar(bar) => bar.finish_and_clear(),
            Shown::Lines(_) => note(self.line()),
        }
    }

    fn line_if_due(&self, last: &Mutex<Instant>) {
        // Whoever finds it locked has nothing to say that the holder is not saying.
        if let Ok(mut last) = last.try_lock()
            && last.elapsed() >= LINE_EVERY
        {
            *last = Instant::now();
            note(self.line());
        }
    }

    fn line(&self) -> String {
        let (done, seconds) = (self.done(), self.began.elapsed().as_secs_f64());
        let rate = grouped((done as f64 / seconds.max(1e-9)) as u64);
        let of = match self.total.load(Ordering::Relaxed) {
            0 => String::new(),
            total => format!(" of {}", grouped(total)),
        };
        let Self { what, unit, .. } = self;
        format!("{what}: {}{of} {unit}, {seconds:.1} s, {rate}/s", grouped(done))
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total { WITH_TOTAL } else { WITHOUT_TOTAL };
    ProgressStyle::with_template(template).expect("the templates are constants that parse").with_key(
        "rate",
        |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // A terminal that cannot be written to shows nothing anyway.
            let _ = write!(out, "{}/s", grouped(state.per_sec() as u64));
        },
    )
}

fn bar(what: &'static str, unit: &'static str, total: Option<u64>) -> ProgressBar {
    let style = style(total.is_some());
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10)).with_style(style);
    bar.set_message(what);
    bar.set_prefix(unit);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let progress = Progress::new("replaying", "frames durable", Some(45_377));
        progress.add(12_345);
        let line = progress.line();
        assert!(line.starts_with("replaying: 12,345 of 45,377 frames durable, "), "{line}");
    }

    #[test]
    fn the_templates_parse() {
        bar("a", "b", Some(1));
        bar("a", "b", None);
    }
}
