//! The table on a terminal, as it changes.

use std::io;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row as Cells, Table};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::source::{Row, State, Watch};
use super::table::{self, HEADINGS, Order};

/// How often the keyboard's thread looks whether anybody still listens.
const KEYS_EVERY: Duration = Duration::from_millis(200);
/// Names are cut to this width.
const NAME_WIDTH_MAX: usize = 40;
/// Above this part of its limit a figure is shown as one to look at.
const CLOSE_TO_LIMIT: f64 = 0.85;

/// What is shown.
#[derive(Debug, Default)]
pub struct Screen {
    rows: Vec<Row>,
    /// Why there are no newer ones.
    fault: Option<String>,
    has_looked: bool,
    order: Order,
    is_reversed: bool,
}

impl Screen {
    /// Nothing yet.
    pub fn new(order: Order) -> Self {
        Self { order, ..Self::default() }
    }

    /// What a look has found.
    pub fn found(&mut self, found: Result<Vec<Row>>) {
        self.has_looked = true;
        match found {
            Ok(rows) => {
                (self.rows, self.fault) = (rows, None);
                self.sort();
            }
            Err(error) => self.fault = Some(format!("{error:#}")),
        }
    }

    fn sort(&mut self) {
        self.order.sort(&mut self.rows);
        if self.is_reversed {
            self.rows.reverse();
        }
    }

    /// A key was pressed. Whether that was to end.
    pub fn press(&mut self, key: KeyEvent) -> bool {
        let KeyCode::Char(pressed) = key.code else { return key.code == KeyCode::Esc };
        if pressed == 'q' || (pressed == 'c' && key.modifiers.contains(KeyModifiers::CONTROL)) {
            return true;
        }
        let order = Order::ALL.into_iter().find(|order| order.name().starts_with(pressed));
        if let Some(order) = order {
            self.is_reversed = order == self.order && !self.is_reversed;
            self.order = order;
            self.sort();
        }
        false
    }

    /// Draws all of it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(2), Constraint::Min(3), Constraint::Length(1)])
                .areas(frame.area());
        frame.render_widget(Paragraph::new(self.head()), head);
        let rows = self.rows.iter().map(|row| {
            let cells = table::cells(row).map(Cell::from);
            Cells::new(cells).style(style(row))
        });
        let headings = HEADINGS.map(|heading| match heading == self.order.heading() {
            true => Cell::from(heading).underlined(),
            false => Cell::from(heading),
        });
        let total = Cells::new(table::total_cells(&self.rows)).bold();
        let table = Table::new(rows, self.widths()).header(Cells::new(headings).bold()).footer(total);
        frame.render_widget(table, body);
        let keys =
            "q quit   sort by: n name  s sessions  f frames/s  l lag  e errors   again: the other way round";
        frame.render_widget(Paragraph::new(keys).dim(), foot);
    }

    /// The state takes what is left.
    fn widths(&self) -> [Constraint; 11] {
        let longest = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let name = Constraint::Length(longest.clamp(12, NAME_WIDTH_MAX) as u16);
        let [service, state] = [Constraint::Length(8), Constraint::Fill(1)];
        let [sessions, frames, lag, credit, queue] = [15, 10, 8, 6, 10].map(Constraint::Length);
        let [errors, cpu, memory] = [8, 5, 8].map(Constraint::Length);
        [name, service, state, sessions, frames, lag, credit, queue, errors, cpu, memory]
    }

    fn head(&self) -> Line<'_> {
        match &self.fault {
            Some(fault) => Line::from(fault.as_str()).red(),
            None if !self.has_looked => Line::from("looking for processes…"),
            None if self.rows.is_empty() => Line::from("there are no processes here"),
            None => Line::from(format!("Trough: {}", kinds(&self.rows))),
        }
    }
}

/// `2 feeders, 1 eater`.
fn kinds(rows: &[Row]) -> String {
    let mut kinds: Vec<(&str, u64)> = Vec::new();
    for row in rows {
        let name = row.service.name();
        match kinds.iter_mut().find(|(kind, _)| *kind == name) {
            Some((_, count)) => *count += 1,
            None => kinds.push((name, 1)),
        }
    }
    kinds.sort_unstable();
    let words = kinds.into_iter().map(|(kind, count)| crate::output::counted(count, kind));
    words.collect::<Vec<_>>().join(", ")
}

/// What is wrong stands out, and what may become so.
fn style(row: &Row) -> Style {
    let figures = &row.figures;
    let sessions =
        figures.sessions.zip(figures.sessions_max).map(|(part, whole)| part as f64 / whole.max(1) as f64);
    let is_close = [sessions, figures.credit_used].into_iter().flatten().any(|part| part > CLOSE_TO_LIMIT);
    match &row.state {
        State::Silent(_) => Style::new().red(),
        State::Answers(readiness) if readiness.status != "ready" || !readiness.degraded.is_empty() => {
            Style::new().yellow()
        }
        State::Answers(_) if is_close => Style::new().yellow(),
        State::Answers(_) => Style::new(),
    }
}

/// Gives the terminal back.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows what `watch` sees every so often, until a key ends it, or `stop`.
///
/// # Errors
/// The terminal cannot be used.
pub async fn run(watch: Watch, order: Order, every: Duration, stop: CancellationToken) -> Result<()> {
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let _restore = Restore;
    let (mut found, mut keys) = (look_again(watch, every), keyboard());
    let mut screen = Screen::new(order);
    loop {
        terminal.draw(|frame| screen.draw(frame)).context("cannot draw")?;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(rows) = found.rows.recv() => screen.found(rows),
            key = keys.recv() => match key {
                Some(Ok(Event::Key(key))) => {
                    if key.kind != KeyEventKind::Release && screen.press(key) {
                        return Ok(());
                    }
                }
                // The size has changed: it is drawn anew.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("cannot read the keyboard"),
                None => return Ok(()),
            },
        }
    }
}

/// Looks, one after another; the task ends with its handle.
struct Looking {
    rows: mpsc::Receiver<Result<Vec<Row>>>,
    _task: AbortOnDropHandle<()>,
}

fn look_again(mut watch: Watch, every: Duration) -> Looking {
    let (sender, rows) = mpsc::channel(1);
    let task = tokio::spawn(async move {
        let mut next = Instant::now();
        loop {
            next = (next + every).max(Instant::now());
            if sender.send(watch.look().await).await.is_err() {
                return;
            }
            sleep_until(next).await;
        }
    });
    Looking { rows, _task: AbortOnDropHandle::new(task) }
}

/// What is pressed, on a thread of its own, which ends when nobody listens.
fn keyboard() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, keys) = mpsc::channel(16);
    thread::spawn(move || {
        while !sender.is_closed() {
            let pressed = match event::poll(KEYS_EVERY) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let is_over = pressed.is_err();
            if sender.blocking_send(pressed).is_err() || is_over {
                return;
            }
        }
    });
    keys
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::style::Color;

    use super::*;

    fn drawn(screen: &Screen) -> (String, Vec<Color>) {
        let mut terminal = Terminal::new(TestBackend::new(150, 9)).unwrap();
        let frame = terminal.draw(|frame| screen.draw(frame)).unwrap();
        let lines = frame.buffer.content.chunks(150).map(|line| {
            let text: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
            text.trim_end().to_owned()
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let colors = frame.buffer.content.chunks(150).map(|line| line[0].fg).collect();
        (text, colors)
    }

    fn press(screen: &mut Screen, key: char) -> bool {
        screen.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE))
    }

    #[test]
    fn everything_is_on_one_screen_and_what_is_wrong_stands_out() {
        let mut screen = Screen::new(Order::Name);
        assert!(drawn(&screen).0.starts_with("looking for processes…"));
        screen.found(Ok(table::tests::rows()));
        let (text, colors) = drawn(&screen);
        println!("{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Trough: 1 eater, 1 feeder, 1 notifier");
        assert!(lines[2].starts_with("NAME ") && lines[2].ends_with("MEMORY"), "{}", lines[2]);
        assert!(lines[3].contains("1,200/16,384") && lines[3].contains("12,345"), "{}", lines[3]);
        assert!(lines[4].contains("no answer: connection refused"), "{}", lines[4]);
        assert!(
            lines[7].starts_with("3 processes ") && lines[7].contains("1 without an answer"),
            "{}",
            lines[7]
        );
        assert!(lines[8].starts_with("q quit"), "{}", lines[8]);
        assert_eq!((colors[3], colors[4], colors[5]), (Color::Yellow, Color::Red, Color::Reset));
    }

    #[test]
    fn keys_sort_and_the_same_key_turns_it_round() {
        let mut screen = Screen::new(Order::Name);
        screen.found(Ok(table::tests::rows()));
        let first = |screen: &Screen| screen.rows[0].name.clone();
        assert!(!press(&mut screen, 'l'));
        assert_eq!(first(&screen), "notifier-a");
        press(&mut screen, 'l');
        assert_eq!(first(&screen), "eater-a", "the other way round");
        press(&mut screen, 's');
        assert_eq!(first(&screen), "feeder-a");
        assert!(!press(&mut screen, 'x') && press(&mut screen, 'q'));
        assert!(screen.press(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE)));
        assert!(screen.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }

    #[test]
    fn a_fault_is_told_and_what_was_known_stays() {
        let mut screen = Screen::new(Order::Name);
        screen.found(Ok(table::tests::rows()));
        screen.found(Err(anyhow::anyhow!("kubectl get pods: Unauthorized")));
        let (text, colors) = drawn(&screen);
        assert!(text.starts_with("kubectl get pods: Unauthorized"), "{text}");
        assert!(text.contains("feeder-a") && colors[0] == Color::Red);
    }
}
