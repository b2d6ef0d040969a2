//! One transaction of changes.

use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Transaction, params};

use super::roots::path_range;
use super::{FileId, ModelId, RootId, Scope};
use crate::embedding::Features;
use crate::error::{Error, Result};
use crate::network::FeatureNetwork;
use crate::record::{ContentHash, ImageId, PathBytes, PhotoDetails, PhotoFacts, SourceFile};

/// One transaction: nothing is seen by others, or survives, until [`Batch::commit`].
#[derive(Debug)]
pub struct Batch<'a> {
    transaction: Transaction<'a>,
    path: &'a Path,
}

/// A path of an image, beside the one being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherFile {
    /// The file's number.
    pub id: FileId,
    /// The absolute path of its root.
    pub root: PathBuf,
    /// The absolute path.
    pub path: PathBuf,
}

/// Why a file was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skip<'a> {
    /// The version of the decoders that refused it, or a number for the limits that it is over; 0 when it must be tried
    /// again every time.
    pub decoder: u32,
    /// Whether it claimed to be a picture.
    pub worth_telling: bool,
    /// The reason, for a person.
    pub reason: &'a str,
}

/// The embeddings of an image but for the newest of all. By way of the models, as the index of embeddings begins
/// with them: without it every photo that is added would cost a look at all that are there.
pub(super) const OLDER_EMBEDDINGS: &str =
    "SELECT e.id FROM models m CROSS JOIN embeddings e ON e.model_id = m.id AND e.image_id = ?1
     WHERE e.id < (SELECT max(id) FROM embeddings)";

impl<'a> Batch<'a> {
    pub(super) fn new(transaction: Transaction<'a>, path: &'a Path) -> Self {
        Self { transaction, path }
    }

    /// Makes the changes durable: they survive a power cut from here on.
    ///
    /// # Errors
    /// [`Error::Catalog`], as every method here; with the disk full, nothing of the batch happened.
    pub fn commit(self) -> Result<()> {
        let path = self.path;
        self.transaction
            .commit()
            .map_err(|source| Error::Catalog { path: path.to_path_buf(), source })
    }

    /// The number of a model, which is written down if it is new. Its name may change.
    pub fn add_model(&mut self, network: &FeatureNetwork) -> Result<ModelId> {
        let preprocessing = serde_json::to_string(&network.preprocessing)
            .expect("preprocessing is plain numbers and words");
        self.run(
            "INSERT INTO models (fingerprint, name, width, preprocessing) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (fingerprint) DO UPDATE SET name = excluded.name
             WHERE name IS NOT excluded.name",
            params![
                network.fingerprint.as_bytes(),
                network.name,
                network.width as i64,
                preprocessing
            ],
        )?;
        let id = self.one(
            "SELECT id FROM models WHERE fingerprint = ?1",
            params![network.fingerprint.as_bytes()],
        )?;
        Ok(ModelId(id.expect("written above")))
    }

    /// Makes `model` the one that `find` uses when none is named, if any. With the name of another, it only stands
    /// in for that.
    pub fn use_model(&mut self, model: Option<ModelId>, stands_in_for: Option<&str>) -> Result<()> {
        // What is so already is not written again: a run that finds nothing new waits for no disk.
        self.run(
            "UPDATE library SET current_model = ?1, stands_in_for = ?2
             WHERE current_model IS NOT ?1 OR stands_in_for IS NOT ?2",
            params![model.map(|model| model.0), stands_in_for],
        )
        .map(drop)
    }

    /// Writes down what the network of `model` ran on.
    pub fn ran_on(&mut self, model: ModelId, processor: &str) -> Result<()> {
        self.run(
            "UPDATE models SET ran_on = ?2 WHERE id = ?1 AND ran_on IS NOT ?2",
            params![model.0, processor],
        )
        .map(drop)
    }

    /// The number of the image with this content, which is written down if it is new. What is known of
    /// it is written down anew: a later version may read more.
    pub fn add_image(&mut self, hash: &ContentHash, facts: &PhotoFacts) -> Result<ImageId> {
        let PhotoFacts { width, height, format, details } = facts;
        self.write_image(
            "DO UPDATE SET
                 width = excluded.width, height = excluded.height, format = excluded.format,
                 taken_at = excluded.taken_at, camera = excluded.camera, lens = excluded.lens,
                 latitude = excluded.latitude, longitude = excluded.longitude,
                 rating = excluded.rating, keywords = excluded.keywords",
            hash,
            (*width, *height, format),
            details,
        )
    }

    /// As [`Batch::add_image`], by what another library knew of it: of an image that is known here, nothing
    /// changes.
    pub fn add_image_from_elsewhere(
        &mut self,
        hash: &ContentHash,
        size_and_format: (u32, u32, &str),
        details: &PhotoDetails,
    ) -> Result<ImageId> {
        self.write_image("DO NOTHING", hash, size_and_format, details)
    }

    fn write_image(
        &mut self,
        where_known: &str,
        hash: &ContentHash,
        (width, height, format): (u32, u32, &str),
        details: &PhotoDetails,
    ) -> Result<ImageId> {
        let keywords = (!details.keywords.is_empty())
            .then(|| serde_json::to_string(&details.keywords).expect("texts are plain data"));
        self.run(
            &format!(
                "INSERT INTO images (content_hash, width, height, format, taken_at, camera, lens,
                     latitude, longitude, rating, keywords)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (content_hash) {where_known}"
            ),
            params![
                hash.as_bytes(),
                width,
                height,
                format,
                details.taken_at,
                details.camera,
                details.lens,
                details.latitude,
                details.longitude,
                details.rating,
                keywords
            ],
        )?;
        let id =
            self.one("SELECT id FROM images WHERE content_hash = ?1", params![hash.as_bytes()])?;
        Ok(ImageId(id.expect("written above")))
    }

    /// Writes an image's features down; those that are there already stay. Whether there were none.
    pub fn add_features(
        &mut self,
        image: ImageId,
        model: ModelId,
        features: &Features,
    ) -> Result<bool> {
        self.run(
            "INSERT INTO embeddings (image_id, model_id, features, embedded_at)
             VALUES (?1, ?2, ?3, unixepoch())
             ON CONFLICT (model_id, image_id) DO NOTHING",
            params![image.0, model.0, features.to_le_bytes()],
        )
        .map(|rows| rows > 0)
    }

    /// Forgets an image's features of a model: the next run of `index` embeds it again.
    pub fn forget_features(&mut self, image: ImageId, model: ModelId) -> Result<()> {
        self.run(
            "DELETE FROM embeddings WHERE image_id = ?1 AND model_id = ?2",
            params![image.0, model.0],
        )
        .map(drop)
    }

    /// Says that a file holds an image. Returns the image that its path held before, if any.
    pub fn link(
        &mut self,
        root: RootId,
        file: &SourceFile,
        image: ImageId,
    ) -> Result<Option<ImageId>> {
        let path = file.relative.as_bytes();
        let before = self.one(
            "SELECT image_id FROM files WHERE root_id = ?1 AND path = ?2",
            params![root.0, path],
        )?;
        self.revive(image)?;
        self.run(
            "INSERT INTO files (root_id, path, size, mtime_ns, image_id) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (root_id, path) DO UPDATE SET
                 size = excluded.size, mtime_ns = excluded.mtime_ns, image_id = excluded.image_id",
            params![root.0, path, file.size.cast_signed(), file.mtime_ns, image.0],
        )?;
        self.run("DELETE FROM skipped WHERE root_id = ?1 AND path = ?2", params![root.0, path])?;
        Ok(before.map(ImageId))
    }

    /// Makes the features of an image that no file held newer than every index, as an index that was
    /// built while no file held it does not contain it; and newer than every export.
    fn revive(&mut self, image: ImageId) -> Result<()> {
        let held = self
            .one("SELECT 1 FROM files WHERE image_id = ?1 LIMIT 1", params![image.0])?
            .is_some();
        if held {
            return Ok(());
        }
        // The newest of all keeps its number. It may just have been written: then its time is right, and the row
        // is not written twice.
        self.run(
            "UPDATE embeddings SET embedded_at = unixepoch()
             WHERE id = (SELECT max(id) FROM embeddings) AND image_id = ?1
               AND coalesce(embedded_at, 0) < unixepoch() - 5",
            params![image.0],
        )?;
        let waiting: Vec<i64> = self.all(OLDER_EMBEDDINGS, params![image.0], |row| row.get(0))?;
        for embedding in waiting {
            self.run(
                "UPDATE embeddings
                 SET id = (SELECT max(id) + 1 FROM embeddings), embedded_at = unixepoch()
                 WHERE id = ?1",
                params![embedding],
            )?;
        }
        Ok(())
    }

    /// Other files that held the same image before this run began (`newest_before`), a few of them:
    /// whoever has a thousand copies of one picture does not want them looked at a thousand times each.
    pub fn older_files(
        &self,
        image: ImageId,
        root: RootId,
        path: &PathBytes,
        newest_before: FileId,
    ) -> Result<Vec<OtherFile>> {
        self.all(
            "SELECT f.id, r.path, f.path FROM files f JOIN roots r ON r.id = f.root_id
             WHERE f.image_id = ?1 AND f.id <= ?4 AND NOT (f.root_id = ?2 AND f.path = ?3)
             ORDER BY f.id LIMIT 16",
            params![image.0, root.0, path.as_bytes(), newest_before.0],
            |row| {
                let root = PathBytes::from_bytes(row.get(1)?).to_path();
                let path = root.join(PathBytes::from_bytes(row.get(2)?).to_path());
                Ok(OtherFile { id: FileId(row.get(0)?), root, path })
            },
        )
    }

    /// Forgets a file; its image and features stay. Whether it was known.
    pub fn unlink(&mut self, file: FileId) -> Result<bool> {
        Ok(self.run("DELETE FROM files WHERE id = ?1", params![file.0])? > 0)
    }

    /// Forgets what a path held; its image and features stay.
    pub fn unlink_path(&mut self, root: RootId, path: &PathBytes) -> Result<()> {
        self.run(
            "DELETE FROM files WHERE root_id = ?1 AND path = ?2",
            params![root.0, path.as_bytes()],
        )
        .map(drop)
    }

    /// Remembers that a file was left out, and why, so that it is not opened again until it changes
    /// or `decoder` is not the present version any more.
    pub fn skip(&mut self, root: RootId, file: &SourceFile, skip: &Skip<'_>) -> Result<()> {
        self.run(
            "INSERT OR REPLACE INTO skipped
                 (root_id, path, size, mtime_ns, decoder, worth_telling, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                root.0,
                file.relative.as_bytes(),
                file.size.cast_signed(),
                file.mtime_ns,
                skip.decoder,
                skip.worth_telling,
                skip.reason
            ],
        )
        .map(drop)
    }

    /// Forgets files that are gone, but for those below a path that could not be read. Returns how many
    /// were still known.
    pub fn forget_files(
        &mut self,
        gone: &[(FileId, PathBytes)],
        spared: &[PathBytes],
    ) -> Result<u64> {
        let mut forgotten = 0;
        for (id, _) in gone.iter().filter(|(_, path)| !is_below_any(path, spared)) {
            forgotten += u64::from(self.unlink(*id)?);
        }
        Ok(forgotten)
    }

    /// How many files of a scope are remembered as left out, pictures or not.
    pub fn count_skips(&self, scope: &Scope) -> Result<u64> {
        let (first, end) = path_range(&scope.below);
        let count = self.one(
            "SELECT count(*) FROM skipped
             WHERE root_id = ?1 AND path >= ?2 AND (?3 IS NULL OR path < ?3)",
            params![scope.root.0, first, end],
        )?;
        Ok(count.unwrap_or(0).cast_unsigned())
    }

    /// Forgets the skipped files of a scope for which `exists` says no. Their number is not told: they
    /// were never in the results.
    pub fn forget_vanished_skips(
        &mut self,
        scope: &Scope,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<()> {
        let (first, end) = path_range(&scope.below);
        let paths: Vec<Vec<u8>> = self.all(
            "SELECT path FROM skipped
             WHERE root_id = ?1 AND path >= ?2 AND (?3 IS NULL OR path < ?3)",
            params![scope.root.0, first, end],
            |row| row.get(0),
        )?;
        for path in paths {
            let relative = PathBytes::from_bytes(path);
            if !exists(&scope.root_path.join(relative.to_path())) {
                self.run(
                    "DELETE FROM skipped WHERE root_id = ?1 AND path = ?2",
                    params![scope.root.0, relative.as_bytes()],
                )?;
            }
        }
        Ok(())
    }

    pub(super) fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map_err(|source| self.failed(source))
    }

    pub(super) fn last_id(&self) -> i64 {
        self.transaction.last_insert_rowid()
    }

    fn one(&self, sql: &str, params: impl rusqlite::Params) -> Result<Option<i64>> {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(params, |row| row.get(0)).optional())
            .map_err(|source| self.failed(source))
    }

    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(params, read)?.collect())
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Catalog { path: self.path.to_path_buf(), source }
    }
}

fn is_below_any(path: &PathBytes, folders: &[PathBytes]) -> bool {
    let path = path.to_path();
    folders.iter().any(|folder| path.starts_with(folder.to_path()))
}
