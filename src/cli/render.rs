//! What goes to stdout.

use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether a write found that nobody reads stdout any more.
pub(crate) fn stdout_is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Text that people read, on one line: names of files may hold what moves a terminal's cursor, rings or breaks lines.
/// Control characters are written as in a Rust string, `\u{1b}`.
pub(crate) fn shown(text: impl Display) -> String {
    escaped(&text.to_string(), |_| false)
}

/// As [`shown`], of several lines.
pub(crate) fn shown_lines(text: impl Display) -> String {
    escaped(&text.to_string(), |c| c == '\n')
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && !stays(c) {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped
}

/// Buffered stdout that remembers when its reader has gone, so that a closed pipe counts as success.
/// Flushed by [`Stdout::finish`], or when dropped.
pub(crate) struct Stdout(BufWriter<StdoutLock<'static>>);

impl Stdout {
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Writes one JSON value, indented for reading, and a newline.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *self, value)?;
        writeln!(self)
    }

    /// Writes one JSON value on a line of its own.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self, value)?;
        writeln!(self)
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).inspect_err(note_closed).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().inspect_err(note_closed).map_err(named)
    }
}

impl Drop for Stdout {
    fn drop(&mut self) {
        // The commands write and return; what is left in the buffer goes out here.
        let _ = self.flush();
    }
}

/// What was done before may well have been done: it is the answer that has no place.
fn named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to stdout: {error}"))
}

fn note_closed(error: &io::Error) {
    if error.kind() == io::ErrorKind::BrokenPipe {
        CLOSED.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(shown("\u{1b}[2J\u{7}a\n\u{9b}é.jpg"), r"\u{1b}[2J\u{7}a\n\u{9b}é.jpg");
        assert_eq!(shown_lines("a\r\n\tb"), "a\\r\n\\tb");
        assert_eq!(shown(r"C:\new"), r"C:\new");
    }
}
