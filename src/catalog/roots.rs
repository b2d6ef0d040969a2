//! Folders the user named. No root lies inside another, so that no file has two rows.

use std::path::{Path, PathBuf};

use rusqlite::params;

use super::{Batch, Catalog};
use crate::error::Result;
use crate::record::PathBytes;

/// A root's number in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootId(pub(crate) i64);

/// A root, or a folder below one: what one run looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The root.
    pub root: RootId,
    /// Its absolute path.
    pub root_path: PathBuf,
    /// The folder below the root; empty for all of it.
    pub below: PathBuf,
}

impl Scope {
    /// The absolute folder.
    pub fn path(&self) -> PathBuf {
        if self.below.as_os_str().is_empty() {
            self.root_path.clone()
        } else {
            self.root_path.join(&self.below)
        }
    }
}

impl Catalog {
    /// All roots with their paths, in the order they were named.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`].
    pub fn roots(&self) -> Result<Vec<(RootId, PathBuf)>> {
        self.all("SELECT id, path FROM roots ORDER BY id", [], |row| {
            Ok((RootId(row.get(0)?), PathBytes::from_bytes(row.get(1)?).to_path()))
        })
    }

    /// What is wanted of a root, in words of whoever walks it; `None` where nothing was said.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`].
    pub fn selection_of(&self, root: RootId) -> Result<Option<String>> {
        let selection =
            self.one("SELECT selection FROM roots WHERE id = ?1", params![root.0], |row| {
                row.get(0)
            })?;
        Ok(selection.flatten())
    }

    /// The scope of an absolute folder that is a root or lies below one.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`].
    pub fn scope_of(&self, folder: &Path) -> Result<Option<Scope>> {
        let roots = self.roots()?;
        Ok(roots.into_iter().find_map(|(root, root_path)| {
            let below = folder.strip_prefix(&root_path).ok()?.to_path_buf();
            Some(Scope { root, root_path, below })
        }))
    }

    /// How many files are known in a scope.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`].
    pub fn count_files(&self, scope: &Scope) -> Result<u64> {
        let (first, end) = path_range(&scope.below);
        let count = self.one(
            "SELECT count(*) FROM files WHERE root_id = ?1 AND path >= ?2 AND (?3 IS NULL OR path < ?3)",
            params![scope.root.0, first, end],
            |row| row.get::<_, i64>(0),
        )?;
        Ok(count.unwrap_or(0).cast_unsigned())
    }
}

impl Batch<'_> {
    /// The scope of an absolute folder: below a known root, or a root of its own from now on. Roots
    /// inside a new one become part of it, with all that is known of their files.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`].
    pub fn enter(&mut self, folder: &Path, known: Option<Scope>) -> Result<Scope> {
        if let Some(scope) = known {
            return Ok(scope);
        }
        let bytes = PathBytes::from_path(folder);
        self.run("INSERT INTO roots (path) VALUES (?1)", params![bytes.as_bytes()])?;
        let root = RootId(self.last_id());
        let (first, end) = path_range(folder);
        let inner: Vec<(i64, Vec<u8>)> = self.all(
            "SELECT id, path FROM roots WHERE path >= ?1 AND (?2 IS NULL OR path < ?2)",
            params![first, end],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        for (inner_root, path) in inner {
            let path = PathBytes::from_bytes(path).to_path();
            let below = path.strip_prefix(folder).unwrap_or(&path);
            let prefix = PathBytes::from_path(&below.join("")).as_bytes().to_vec();
            for table in ["files", "skipped"] {
                self.run(
                    &format!(
                        "UPDATE {table} SET root_id = ?1, path = CAST(?2 || path AS BLOB) WHERE root_id = ?3"
                    ),
                    params![root.0, prefix, inner_root],
                )?;
            }
            self.run("DELETE FROM roots WHERE id = ?1", params![inner_root])?;
        }
        Ok(Scope { root, root_path: folder.to_path_buf(), below: PathBuf::new() })
    }

    /// Keeps what is wanted of a root.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`].
    pub fn keep_selection(&mut self, root: RootId, selection: Option<&str>) -> Result<()> {
        self.run(
            "UPDATE roots SET selection = ?2 WHERE id = ?1 AND selection IS NOT ?2",
            params![root.0, selection],
        )
        .map(drop)
    }

    /// Forgets a scope: its files leave the results. Images and features stay, in case the folder
    /// comes back. Returns how many files were forgotten.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`].
    pub fn forget(&mut self, scope: &Scope) -> Result<u64> {
        let (first, end) = path_range(&scope.below);
        let mut forgotten = 0;
        for table in ["skipped", "files"] {
            forgotten = self.run(
                &format!(
                    "DELETE FROM {table} WHERE root_id = ?1 AND path >= ?2 AND (?3 IS NULL OR path < ?3)"
                ),
                params![scope.root.0, first, end],
            )?;
        }
        if scope.below.as_os_str().is_empty() {
            self.run("DELETE FROM roots WHERE id = ?1", params![scope.root.0])?;
        }
        Ok(forgotten as u64)
    }
}

/// The stored paths that lie below `folder`: `first <= path < end`, with no end for the root itself.
///
/// Below `a/b` lies all that begins with `a/b/`; the next string that does not is `a/b0`, as 0 follows
/// the slash in ASCII.
pub(super) fn path_range(folder: &Path) -> (Vec<u8>, Option<Vec<u8>>) {
    if folder.as_os_str().is_empty() {
        return (Vec::new(), None);
    }
    let first = PathBytes::from_path(&folder.join("")).as_bytes().to_vec();
    let mut end = first.clone();
    *end.last_mut().expect("ends in a slash") += 1;
    (first, Some(end))
}
