//! How a run ends: exit codes, and errors printed once with their hint.

use std::io::Write;
use std::process::ExitCode;

use likeness::error::Error;

use super::render;

/// How a command ended when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Done,
    /// The answer to a question asked by exit code is no (`runtime status`, `model verify`).
    Failed,
    /// Finished, but some files were skipped.
    Skipped,
    /// The user ended it.
    Interrupted,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Skipped => 3,
            Exit::Interrupted => 130,
        }
    }
}

/// Prints an error, if there is one, and gives the exit code.
pub(crate) fn finish(result: anyhow::Result<Exit>) -> ExitCode {
    let exit = match result {
        // Whoever read our output has had enough of it: `likeness find … | head -1`.
        _ if render::stdout_is_closed() => Exit::Done,
        Ok(exit) => exit,
        Err(error) if is_cancelled(&error) => {
            complain(&interrupted(&error), None);
            Exit::Interrupted
        }
        Err(error) => {
            complain(&format!("{error:#}"), hint(&error));
            Exit::Failed
        }
    };
    ExitCode::from(exit.code())
}

fn is_cancelled(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::Cancelled))
}

/// What is left of the work. A command that keeps nothing says so in the context of its error.
fn interrupted(error: &anyhow::Error) -> String {
    match error.chain().count() {
        1 => "interrupted; finished work is kept".into(),
        _ => error.to_string(),
    }
}

/// What mends it, if anything in its chain knows.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| cause.downcast_ref::<Error>()?.hint())
}

fn complain(message: &str, hint: Option<String>) {
    let mut stderr = std::io::stderr().lock();
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(stderr, "error: {}", render::shown_lines(message));
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "hint: {}", render::shown_lines(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_keeps_what_was_finished_unless_the_command_says_otherwise() {
        let error = anyhow::Error::from(Error::Cancelled);
        assert_eq!(interrupted(&error), "interrupted; finished work is kept");
        let error = error.context("interrupted; nothing was exported");
        assert!(is_cancelled(&error));
        assert_eq!(interrupted(&error), "interrupted; nothing was exported");
    }
}
