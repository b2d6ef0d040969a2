//! The one error type of the library.
//!
//! Each message speaks of its own layer only: what failed, which thing, expected against found. The
//! causes stay typed behind `source()`, and [`Error::hint`] names the command that mends it. A photo
//! that cannot be read is not an error but data: see [`crate::record::Skipped`].

use std::io;
use std::path::{Path, PathBuf};

/// What the library's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the library cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- files -----------------------------------------------------------------------------------
    /// The operating system refused something on a file or folder.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `create`, `rename`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The caller asked to stop; finished work is kept.
    #[error("interrupted")]
    Cancelled,
}

impl Error {
    /// Wraps an operating system error with what was tried on which path.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// The command or step that mends it, as a sentence without a full stop; `None` where there is
    /// nothing better to say than the message itself.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Io { .. } | Error::Cancelled => None,
        }
    }
}
