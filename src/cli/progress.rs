//! Progress on stderr: a bar for people, JSON lines for programs, or nothing.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use likeness::progress::{Doing, Event};

use super::args::ProgressMode;
use super::render::shown;

/// Shows events; clones share the one bar.
#[derive(Clone)]
pub(crate) struct Progress {
    mode: Mode,
    bar: Arc<Mutex<Option<(Kind, ProgressBar)>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Bar,
    Notes,
    Json,
    Silent,
}

/// What the one bar on the screen is about; another kind replaces it.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Transfer,
    Photos,
    Calibrating,
    Building,
    Vectors,
}

impl Progress {
    pub(crate) fn new(mode: ProgressMode) -> Self {
        let mode = match mode {
            ProgressMode::Auto if std::io::stderr().is_terminal() => Mode::Bar,
            ProgressMode::Auto => Mode::Notes,
            ProgressMode::Json => Mode::Json,
            ProgressMode::None => Mode::Silent,
        };
        Self { mode, bar: Arc::default() }
    }

    /// Shows one event.
    pub(crate) fn show(&self, event: Event) {
        match self.mode {
            Mode::Silent => {}
            Mode::Json => say(&serde_json::to_string(&event).expect("events are plain data")),
            Mode::Notes => {
                if let Event::Note { text } = event {
                    say(&shown(text));
                }
            }
            Mode::Bar => self.draw(event),
        }
    }

    /// Takes the bar away, so that what is printed next stands on clean lines.
    pub(crate) fn clear(&self) {
        if let Some((_, bar)) = self.lock().take() {
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Kind, ProgressBar)>> {
        self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn draw(&self, event: Event) {
        match event {
            Event::Note { text } => match &*self.lock() {
                Some((_, bar)) => bar.suspend(|| say(&shown(text))),
                None => say(&shown(text)),
            },
            Event::Transfer { name, done, total } => {
                self.with_bar(
                    Kind::Transfer,
                    "{msg}  {bytes}/{total_bytes}  {binary_bytes_per_sec}  {wide_bar}  {eta}",
                    |bar| {
                        bar.set_message(shown(&name));
                        if let Some(total) = total {
                            bar.set_length(total);
                        }
                        bar.set_position(done);
                    },
                );
                if total == Some(done) {
                    self.clear();
                }
            }
            Event::Photos { found, done, embedded, scanned } => self.with_bar(
                Kind::Photos,
                "{pos}/{len}{msg}  {wide_bar}  {rate}  {eta} left",
                |bar| {
                    // Until the folders are walked to their end, the length is what was found so far.
                    let more = if scanned { "" } else { "+" };
                    bar.set_message(format!("{more} photos, {embedded} embedded"));
                    bar.set_length(found);
                    bar.set_position(done);
                },
            ),
            Event::Calibrating { done, total } => {
                self.with_bar(
                    Kind::Calibrating,
                    "choosing the scales  {pos}/{len} photos  {wide_bar}  {eta}",
                    |bar| {
                        bar.set_length(total);
                        bar.set_position(done);
                    },
                );
                if done == total {
                    self.clear();
                }
            }
            Event::Vectors { doing, done, total } => {
                self.with_bar(
                    Kind::Vectors,
                    "{msg}  {pos}/{len}  {wide_bar}  {rate}  {eta}",
                    |bar| {
                        bar.set_message(match doing {
                            Doing::Importing => "importing",
                            Doing::Pushing => "pushing",
                            _ => "exporting",
                        });
                        bar.set_length(total);
                        bar.set_position(done);
                    },
                );
                if done == total {
                    self.clear();
                }
            }
            Event::Building { done, total } => {
                self.with_bar(
                    Kind::Building,
                    "building the index  {pos}/{len}  {wide_bar}  {eta}",
                    |bar| {
                        bar.set_length(total);
                        bar.set_position(done);
                    },
                );
                if done == total {
                    self.clear();
                }
            }
            _ => {}
        }
    }

    fn with_bar(&self, kind: Kind, template: &str, update: impl FnOnce(&ProgressBar)) {
        let mut slot = self.lock();
        if slot.as_ref().is_none_or(|(shown, _)| *shown != kind) {
            if let Some((_, old)) = slot.take() {
                old.finish_and_clear();
            }
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(template).expect("the template is ours");
            bar.set_style(style.with_key("rate", rate));
            *slot = Some((kind, bar));
        }
        let (_, bar) = slot.as_ref().expect("put there above");
        update(bar);
    }
}

/// Three digits say enough; indicatif's own `per_sec` has four behind the point.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // Nobody is there to be told of a failure to draw.
    let _ = write!(out, "{:.1}/s", state.per_sec());
}

fn say(line: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}
