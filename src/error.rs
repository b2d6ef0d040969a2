//! The one error type of the library.
//!
//! Each message speaks of its own layer only: what failed, which thing, expected against found. The
//! causes stay typed behind `source()`, and [`Error::hint`] names the command that mends it. A photo
//! that cannot be read is not an error but data: see [`crate::record::Skipped`].

use std::io;
use std::path::{Path, PathBuf};

use crate::embedding::InvalidVector;
use crate::record::{ImageId, ModelFingerprint};

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

    // --- catalog ---------------------------------------------------------------------------------
    /// SQLite refused something.
    #[error("the catalog {} cannot be used", path.display())]
    Catalog {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A later version of likeness made the catalog.
    #[error("the catalog {} has version {found}, this likeness knows up to {known}", path.display())]
    CatalogTooNew {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The newest version known here.
        known: usize,
    },
    /// An SQLite database, but of another program.
    #[error("{} is a database of another program, not a likeness catalog", path.display())]
    NotACatalog {
        /// The database file.
        path: PathBuf,
    },
    /// Stored features are damaged.
    #[error("the stored features of image {image} are damaged")]
    StoredFeatures {
        /// The image.
        image: ImageId,
        /// What is wrong with them.
        source: InvalidVector,
    },
    /// A stored model description is damaged.
    #[error("the stored description of model {fingerprint:.8}… is damaged")]
    StoredModel {
        /// The model.
        fingerprint: ModelFingerprint,
        /// What is wrong with it.
        source: serde_json::Error,
    },
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
            Error::CatalogTooNew { .. } => {
                Some("use a newer likeness, or another `--library`".into())
            }
            Error::NotACatalog { .. } => Some("name another folder with `--library`".into()),
            Error::StoredFeatures { .. } | Error::StoredModel { .. } => Some(
                "restore the library folder from a backup, or index into a fresh `--library`"
                    .into(),
            ),
            _ => None,
        }
    }
}
