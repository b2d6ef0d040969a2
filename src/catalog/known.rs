//! What is known of the files of a scope, read side by side with a walk.

use std::cmp::Ordering;
use std::collections::VecDeque;

use rusqlite::{Row, params};

use super::roots::path_range;
use super::{Catalog, FileId, ModelId, Scope};
use crate::error::Result;
use crate::record::PathBytes;

/// Rows read at once. In pages, and not in one long query: a reader that stays keeps SQLite from
/// emptying its write-ahead log, which would grow as long as the run.
const PAGE: usize = 4_096;

/// What is known of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownFile {
    /// It was indexed.
    Indexed {
        /// The file's number.
        id: FileId,
        /// The size in bytes when it was read.
        size: u64,
        /// The modification time when it was read.
        mtime_ns: i64,
        /// Whether its image has features of the model asked about.
        embedded: bool,
    },
    /// It was looked at and left out.
    Skipped {
        /// The size in bytes when it was read.
        size: u64,
        /// The modification time when it was read.
        mtime_ns: i64,
        /// The version of the decoders that refused it.
        decoder: u32,
        /// Whether it claimed to be a picture.
        worth_telling: bool,
    },
}

/// All that is known below a scope, in the order of the paths' bytes.
#[derive(Debug)]
pub struct KnownFiles<'a> {
    catalog: &'a Catalog,
    scope: &'a Scope,
    model: ModelId,
    page: VecDeque<(Vec<u8>, KnownFile)>,
    /// Indexed files that were passed over.
    passed: Vec<(FileId, PathBytes)>,
    /// Where the next page begins: behind this path, or at the scope's beginning.
    last: Option<Vec<u8>>,
    at_end: bool,
}

impl Catalog {
    /// What is known of the files of a scope, as far as `model` is concerned.
    pub fn known_files<'a>(&'a self, scope: &'a Scope, model: ModelId) -> KnownFiles<'a> {
        let (page, passed) = (VecDeque::new(), Vec::new());
        KnownFiles { catalog: self, scope, model, page, passed, last: None, at_end: false }
    }
}

impl KnownFiles<'_> {
    /// What is known of `path`. Paths must be asked for in ascending order of their bytes, as
    /// [`crate::scan::walk`] gives them: what lies before the last one asked for is not found any more,
    /// and its file would be opened once too often.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`].
    pub fn find(&mut self, path: &PathBytes) -> Result<Option<KnownFile>> {
        loop {
            while let Some((known_path, known)) = self.page.pop_front() {
                match known_path.as_slice().cmp(path.as_bytes()) {
                    Ordering::Less => self.pass_over(known_path, known),
                    Ordering::Equal => return Ok(Some(known)),
                    Ordering::Greater => {
                        self.page.push_front((known_path, known));
                        return Ok(None);
                    }
                }
            }
            if self.at_end {
                return Ok(None);
            }
            self.read_page()?;
        }
    }

    /// The indexed files that nobody asked for, with their paths below the root: when all files that
    /// are there were asked for, these are gone.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`].
    pub fn not_found(mut self) -> Result<Vec<(FileId, PathBytes)>> {
        loop {
            while let Some((path, known)) = self.page.pop_front() {
                self.pass_over(path, known);
            }
            if self.at_end {
                return Ok(self.passed);
            }
            self.read_page()?;
        }
    }

    fn pass_over(&mut self, path: Vec<u8>, known: KnownFile) {
        if let KnownFile::Indexed { id, .. } = known {
            self.passed.push((id, PathBytes::from_bytes(path)));
        }
    }

    fn read_page(&mut self) -> Result<()> {
        let (first, end) = path_range(&self.scope.below);
        // Behind the last path comes what is longer by a zero.
        let from = match self.last.take() {
            Some(mut last) => {
                last.push(0);
                last
            }
            None => first,
        };
        let rows = self.catalog.all(
            "SELECT f.path, 1, f.size, f.mtime_ns, f.id, EXISTS (
                 SELECT 1 FROM embeddings e WHERE e.model_id = ?4 AND e.image_id = f.image_id)
             FROM files f WHERE f.root_id = ?1 AND f.path >= ?2 AND (?3 IS NULL OR f.path < ?3)
             UNION ALL
             SELECT path, 0, size, mtime_ns, decoder, worth_telling
             FROM skipped WHERE root_id = ?1 AND path >= ?2 AND (?3 IS NULL OR path < ?3)
             ORDER BY 1 LIMIT ?5",
            params![self.scope.root.0, from, end, self.model.0, PAGE as i64],
            known,
        )?;
        self.at_end = rows.len() < PAGE;
        self.last = rows.last().map(|(path, _)| path.clone());
        self.page = rows.into();
        Ok(())
    }
}

fn known(row: &Row<'_>) -> rusqlite::Result<(Vec<u8>, KnownFile)> {
    let (size, mtime_ns) = (row.get::<_, i64>(2)?.cast_unsigned(), row.get(3)?);
    let known = match row.get(1)? {
        true => {
            KnownFile::Indexed { id: FileId(row.get(4)?), size, mtime_ns, embedded: row.get(5)? }
        }
        false => {
            KnownFile::Skipped { size, mtime_ns, decoder: row.get(4)?, worth_telling: row.get(5)? }
        }
    };
    Ok((row.get(0)?, known))
}
