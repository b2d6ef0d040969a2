//! What the catalog tells people: images by number, models, roots, counts, skipped files.

use std::path::PathBuf;

use rusqlite::{Row, params};
use serde::Serialize;

use super::{Catalog, FileId, ModelId};
use crate::error::{Error, Result};
use crate::network::Preprocessing;
use crate::record::{ContentHash, ImageId, ModelFingerprint, PathBytes, PhotoDetails, Skipped};

/// An image and where it lies.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// The image.
    pub id: ImageId,
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// The root of its first file.
    pub root: PathBuf,
    /// The absolute path of its first file: the one known longest, or the one that passed a filter.
    pub path: PathBuf,
    /// The absolute paths of the other files with the same content.
    pub copies: Vec<PathBuf>,
    /// What cameras and people wrote into it.
    pub details: PhotoDetails,
}

/// A model whose features the catalog holds or held.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRecord {
    /// Its number.
    pub id: ModelId,
    /// Its name when it was last used.
    pub name: String,
    /// What decides whether vectors may be compared.
    pub fingerprint: ModelFingerprint,
    /// The number of features an image gets.
    pub width: usize,
    /// What happens to pixels first.
    pub preprocessing: Preprocessing,
    /// What it ran on the last time, as `cpu`; `None` where that was not written down.
    pub ran_on: Option<String>,
}

/// A root and how many files are known below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootRecord {
    /// The absolute path.
    pub path: PathBuf,
    /// Indexed files.
    pub files: u64,
    /// See [`Catalog::selection_of`].
    pub selection: Option<String>,
}

/// How much the catalog holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Indexed files.
    pub files: u64,
    /// Different images that a file holds.
    pub images: u64,
    /// Images whose files are all gone; their features wait in case they come back.
    pub orphans: u64,
    /// Files that claimed to be pictures and were left out.
    pub skipped: u64,
}

/// Columns of a row from `first` on: taken_at, camera, lens, latitude, longitude, rating, keywords.
pub(super) fn details(row: &Row<'_>, first: usize) -> rusqlite::Result<PhotoDetails> {
    let keywords: Option<String> = row.get(first + 6)?;
    Ok(PhotoDetails {
        taken_at: row.get(first)?,
        camera: row.get(first + 1)?,
        lens: row.get(first + 2)?,
        latitude: row.get(first + 3)?,
        longitude: row.get(first + 4)?,
        rating: row.get(first + 5)?,
        // Nobody's answer fails because somebody wrote into the catalog by hand.
        keywords: keywords.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
    })
}

impl Catalog {
    /// The library's own number, made with it: 32 hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::Catalog`], as every method here.
    pub fn uuid(&self) -> Result<String> {
        Ok(self.one("SELECT uuid FROM library", [], |row| row.get(0))?.unwrap_or_default())
    }

    /// An image and its files; `None` when no file holds it (any more).
    pub fn image(&self, id: ImageId) -> Result<Option<ImageRecord>> {
        self.image_of(id, None)
    }

    /// The same, with the file `shown` before the others, where it is one of them.
    pub fn image_of(&self, id: ImageId, shown: Option<FileId>) -> Result<Option<ImageRecord>> {
        let files = self.all(
            "SELECT r.path, f.path FROM files f JOIN roots r ON r.id = f.root_id
             WHERE f.image_id = ?1 ORDER BY f.id IS NOT ?2, f.id",
            params![id.0, shown.map(|file| file.0)],
            |row| {
                let root = PathBytes::from_bytes(row.get(0)?).to_path();
                let path = root.join(PathBytes::from_bytes(row.get(1)?).to_path());
                Ok((root, path))
            },
        )?;
        let mut files = files.into_iter();
        let Some((root, path)) = files.next() else { return Ok(None) };
        let copies = files.map(|(_, path)| path).collect();
        self.one(
            "SELECT width, height, taken_at, camera, lens, latitude, longitude, rating, keywords
             FROM images WHERE id = ?1",
            params![id.0],
            |row| {
                Ok(ImageRecord {
                    id,
                    width: row.get(0)?,
                    height: row.get(1)?,
                    root,
                    path,
                    copies,
                    details: details(row, 2)?,
                })
            },
        )
    }

    /// The image with this content, if it was ever indexed.
    pub fn image_with_content(&self, hash: &ContentHash) -> Result<Option<ImageId>> {
        let sql = "SELECT id FROM images WHERE content_hash = ?1";
        self.one(sql, params![hash.as_bytes()], |row| Ok(ImageId(row.get(0)?)))
    }

    /// The models whose features the catalog holds or held, oldest first.
    pub fn models(&self) -> Result<Vec<ModelRecord>> {
        let sql =
            "SELECT id, name, fingerprint, width, preprocessing, ran_on FROM models ORDER BY id";
        let rows = self.all(sql, [], |row| {
            let fingerprint = ModelFingerprint::from_bytes(row.get(2)?);
            let width = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
            let (id, name, ran_on) = (ModelId(row.get(0)?), row.get(1)?, row.get(5)?);
            Ok((id, name, fingerprint, width, row.get::<_, String>(4)?, ran_on))
        })?;
        rows.into_iter()
            .map(|(id, name, fingerprint, width, preprocessing, ran_on)| {
                let preprocessing = serde_json::from_str(&preprocessing)
                    .map_err(|source| Error::StoredModel { fingerprint, source })?;
                Ok(ModelRecord { id, name, fingerprint, width, preprocessing, ran_on })
            })
            .collect()
    }

    /// The name of the model that the current one stands in for: nobody chose that, and it gives way.
    pub fn stands_in_for(&self) -> Result<Option<String>> {
        let name = self.one("SELECT stands_in_for FROM library", [], |row| row.get(0))?;
        Ok(name.flatten())
    }

    /// The model that `find` uses when none is named: that of the last run of `index`, or what stood in for
    /// it before and is not replaced yet.
    pub fn current_model(&self) -> Result<Option<ModelRecord>> {
        let current: Option<Option<i64>> =
            self.one("SELECT current_model FROM library", [], |row| row.get(0))?;
        let Some(id) = current.flatten() else { return Ok(None) };
        Ok(self.models()?.into_iter().find(|model| model.id.0 == id))
    }

    /// The roots and how many files are known below each.
    pub fn root_records(&self) -> Result<Vec<RootRecord>> {
        self.all(
            "SELECT r.path, count(f.id), r.selection FROM roots r LEFT JOIN files f ON f.root_id = r.id
             GROUP BY r.id ORDER BY r.id",
            [],
            |row| {
                let path = PathBytes::from_bytes(row.get(0)?).to_path();
                let files = row.get::<_, i64>(1)?.cast_unsigned();
                Ok(RootRecord { path, files, selection: row.get(2)? })
            },
        )
    }

    /// How much the catalog holds.
    pub fn counts(&self) -> Result<Counts> {
        let counts = self.one(
            "SELECT (SELECT count(*) FROM files),
                    (SELECT count(DISTINCT image_id) FROM files),
                    (SELECT count(*) FROM images),
                    (SELECT count(*) FROM skipped WHERE worth_telling)",
            [],
            |row| {
                let [files, images, known, skipped] =
                    [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?].map(i64::cast_unsigned);
                Ok(Counts { files, images, orphans: known - images, skipped })
            },
        )?;
        Ok(counts.expect("a query of counts gives one row"))
    }

    /// The files that claimed to be pictures and were left out, by path.
    pub fn skipped(&self) -> Result<Vec<Skipped>> {
        self.all(
            "SELECT r.path, s.path, s.reason FROM skipped s JOIN roots r ON r.id = s.root_id
             WHERE s.worth_telling ORDER BY r.path, s.path",
            [],
            |row| {
                let root = PathBytes::from_bytes(row.get(0)?).to_path();
                let path = root.join(PathBytes::from_bytes(row.get(1)?).to_path());
                Ok(Skipped { path, reason: row.get(2)? })
            },
        )
    }
}
