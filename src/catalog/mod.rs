//! The truth: what is known of files, images and their features. The only room that speaks SQL.
//!
//! One SQLite file in WAL mode with `synchronous=FULL`: a batch that was committed survives a power
//! cut. [`Catalog`] reads; [`Batch`] is one transaction of changes.

mod batch;
mod embeddings;
mod filter;
mod known;
mod migrate;
mod pushes;
mod report;
mod roots;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

pub use batch::{Batch, OtherFile, Skip};
pub use embeddings::{Chosen, ExportRows, Sequence};
pub use filter::Passing;
pub use known::{KnownFile, KnownFiles};
pub use pushes::{FactsHash, PushId, PushImage};
pub use report::{Counts, ImageRecord, ModelRecord, RootRecord};
pub use roots::{RootId, Scope};

use crate::error::{Error, Result};
use crate::record::{ContentHash, ImageId, PathBytes};

/// A model's number in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModelId(pub(crate) i64);

/// A file's number in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub(crate) i64);

/// A connection to the catalog. Several may be open at once, also in several processes; one writes.
#[derive(Debug)]
pub struct Catalog {
    connection: Connection,
    path: PathBuf,
}

impl Catalog {
    /// Opens the catalog at `path`, makes it where it is missing, and brings it up to date.
    ///
    /// # Errors
    /// [`Error::Catalog`] when the file cannot be opened or is none of ours,
    /// [`Error::CatalogTooNew`] when a later version of likeness made it.
    pub fn open(path: &Path) -> Result<Self> {
        let mut catalog = Self::connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
        migrate::migrate(&mut catalog.connection, path)?;
        Ok(catalog)
    }

    /// Opens a catalog that is there already; `None` where there is none. Where nothing can be written, as on a
    /// full or read-only disk or in another user's folder, it can be read.
    ///
    /// # Errors
    /// As [`Catalog::open`]; [`Error::CatalogTooOld`].
    pub fn open_existing(path: &Path) -> Result<Option<Self>> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => {
                let mut catalog = Self::connect_existing(path)?;
                migrate::migrate(&mut catalog.connection, path)?;
                Ok(Some(catalog))
            }
            Err(source) => Err(Error::io("look for", path)(source)),
        }
    }

    fn connect_existing(path: &Path) -> Result<Self> {
        match Self::connect(path, OpenFlags::empty()) {
            Err(Error::Catalog { source, path }) if cannot_write(&source) => {
                Self::connect_to_read(&path).map_err(|_| Error::Catalog { source, path })
            }
            connected => connected,
        }
    }

    /// Opens a catalog without writing, not even the files that processes tell each other their locks by.
    fn connect_to_read(path: &Path) -> rusqlite::Result<Self> {
        let read = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let with_suffix = |suffix: &str| {
            let mut name = path.as_os_str().to_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let is_complete = with_suffix("-wal").metadata().map_or(true, |log| log.len() == 0);
        let connection = if is_complete {
            let mut uri = b"file:".to_vec();
            for &byte in PathBytes::from_path(path).as_bytes() {
                match byte {
                    b'%' | b'?' | b'#' => uri.extend(format!("%{byte:02x}").bytes()),
                    _ => uri.push(byte),
                }
            }
            uri.extend(b"?immutable=1");
            let uri = PathBytes::from_bytes(uri).to_path();
            Connection::open_with_flags(uri, read | OpenFlags::SQLITE_OPEN_URI)?
        } else {
            Connection::open_with_flags(path, read)?
        };
        // Opening alone reads nothing.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(Self { connection, path: path.to_path_buf() })
    }

    fn connect(path: &Path, create: OpenFlags) -> Result<Self> {
        let failed = |source| Error::Catalog { path: path.to_path_buf(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(30)).map_err(failed)?;
        // FULL, not the default NORMAL: replaying power cuts, NORMAL lost the newest batches.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
            )
            .map_err(failed)?;
        Ok(Self { connection, path: path.to_path_buf() })
    }

    /// Another connection to the same catalog, for another thread.
    ///
    /// # Errors
    /// [`Error::Catalog`] when it cannot be opened.
    pub fn reopen(&self) -> Result<Self> {
        Self::connect_existing(&self.path)
    }

    /// Starts a transaction of changes; dropped without [`Batch::commit`], nothing happened.
    ///
    /// # Errors
    /// [`Error::Catalog`] when another process holds the catalog for longer than 30 seconds.
    pub fn batch(&mut self) -> Result<Batch<'_>> {
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let transaction = self
            .connection
            .transaction_with_behavior(behavior)
            .map_err(|source| Error::Catalog { path: self.path.clone(), source })?;
        Ok(Batch::new(transaction, &self.path))
    }

    /// The image with this content, and whether it has features of `model`.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn image_by_hash(
        &self,
        hash: &ContentHash,
        model: ModelId,
    ) -> Result<Option<(ImageId, bool)>> {
        self.one(
            "SELECT i.id, EXISTS (
                 SELECT 1 FROM embeddings e WHERE e.model_id = ?2 AND e.image_id = i.id)
             FROM images i WHERE i.content_hash = ?1",
            params![hash.as_bytes(), model.0],
            |row| Ok((ImageId(row.get(0)?), row.get(1)?)),
        )
    }

    /// The highest file number so far: what is linked later is newer.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn newest_file(&self) -> Result<FileId> {
        let id = self.one("SELECT coalesce(max(id), 0) FROM files", [], |row| row.get(0))?;
        Ok(FileId(id.unwrap_or(0)))
    }

    /// Has SQLite look at the file, which it reads whole.
    ///
    /// # Errors
    /// [`Error::CatalogDamaged`] with the first that it finds; [`Error::Catalog`] when it cannot even look.
    pub fn check(&self) -> Result<()> {
        let said = self.one("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?;
        match said.filter(|said| said != "ok") {
            None => Ok(()),
            Some(said) => {
                let what = said.trim_start_matches("*** in database main ***").trim().to_owned();
                Err(Error::CatalogDamaged { path: self.path.clone(), what })
            }
        }
    }

    /// Runs a query that gives one row or none; its statement stays prepared.
    fn one<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(params, read).optional())
            .map_err(|source| self.failed(source))
    }

    /// Runs a query and gives all its rows.
    fn all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(params, read)?.collect())
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Catalog { path: self.path.clone(), source }
    }
}

/// Whether SQLite gave up for want of a place to write; on a full disk the file of locks (`-shm`) cannot grow.
fn cannot_write(source: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DiskFull, ReadOnly};
    source.sqlite_error().is_some_and(|error| {
        matches!(error.code, CannotOpen | DiskFull | ReadOnly)
            || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    })
}

#[cfg(test)]
mod tests;
