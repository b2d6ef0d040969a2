//! Reading features back: one, those an index lacks, or all of them in a stream.

use rusqlite::{Row, params};

use super::{Catalog, ModelId, Passing};
use crate::embedding::Features;
use crate::error::{Error, Result};
use crate::record::{ContentHash, ExportRow, ImageId, PathBytes};

/// An image is alive while a file holds it; features of the others wait in case it comes back.
const ALIVE: &str = "EXISTS (SELECT 1 FROM files f WHERE f.image_id = e.image_id)";

/// An embedding's place in time: higher is newer, across all models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(pub i64);

impl Catalog {
    /// The features of one image, whether or not a file still holds it.
    ///
    /// # Errors
    /// [`Error::Catalog`]; [`Error::StoredFeatures`] when the stored bytes are damaged.
    pub fn features(&self, model: ModelId, image: ImageId) -> Result<Option<Features>> {
        let blob = self.one(
            "SELECT e.features, m.width FROM embeddings e JOIN models m ON m.id = e.model_id
             WHERE e.model_id = ?1 AND e.image_id = ?2",
            params![model.0, image.0],
            |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)),
        )?;
        blob.map(|(bytes, width)| parse(image, &bytes, width)).transpose()
    }

    /// How many images that a file holds have features of `model`.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn count_embedded(&self, model: ModelId) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM embeddings e WHERE e.model_id = ?1 AND {ALIVE}");
        let count = self.one(&sql, params![model.0], |row| row.get::<_, i64>(0))?;
        Ok(count.unwrap_or(0).cast_unsigned())
    }

    /// How many images that a file holds have features of `model` and none of `other`.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn count_lacking(&self, model: ModelId, other: ModelId) -> Result<u64> {
        let sql = format!(
            "SELECT count(*) FROM embeddings e WHERE e.model_id = ?1 AND {ALIVE} AND NOT EXISTS
                 (SELECT 1 FROM embeddings o WHERE o.model_id = ?2 AND o.image_id = e.image_id)"
        );
        let count = self.one(&sql, params![model.0, other.0], |row| row.get::<_, i64>(0))?;
        Ok(count.unwrap_or(0).cast_unsigned())
    }

    /// How many of those of [`Catalog::count_embedded`] are newer than `after`.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn count_newer(&self, model: ModelId, after: Sequence) -> Result<u64> {
        let sql = format!(
            "SELECT count(*) FROM embeddings e WHERE e.model_id = ?1 AND e.id > ?2 AND {ALIVE}"
        );
        let count = self.one(&sql, params![model.0, after.0], |row| row.get::<_, i64>(0))?;
        Ok(count.unwrap_or(0).cast_unsigned())
    }

    /// Gives each image that a file holds, with its features of `model`, to `each`, oldest first;
    /// only those newer than `after`. One at a time: memory does not grow with their number.
    ///
    /// # Errors
    /// [`Error::Catalog`], [`Error::StoredFeatures`], and whatever `each` gives.
    pub fn each_embedding(
        &self,
        model: ModelId,
        after: Sequence,
        mut each: impl FnMut(Sequence, ImageId, Features) -> Result<()>,
    ) -> Result<()> {
        let sql = format!(
            "SELECT e.id, e.image_id, e.features, m.width
             FROM embeddings e JOIN models m ON m.id = e.model_id
             WHERE e.model_id = ?1 AND e.id > ?2 AND {ALIVE} ORDER BY e.id"
        );
        let mut statement =
            self.connection.prepare_cached(&sql).map_err(|source| self.failed(source))?;
        let mut rows =
            statement.query(params![model.0, after.0]).map_err(|source| self.failed(source))?;
        while let Some(row) = rows.next().map_err(|source| self.failed(source))? {
            let read = || -> rusqlite::Result<_> {
                Ok((Sequence(row.get(0)?), ImageId(row.get(1)?), row.get(3)?))
            };
            let (sequence, image, width) = read().map_err(|source| self.failed(source))?;
            each(sequence, image, blob(self, row, 2, image, width)?)?;
        }
        Ok(())
    }

    /// Hands `take` an iterator over the images that a file holds, by id, with their first path and
    /// their features of `model`; of those that `passing` names, if it is given, with the path that passes.
    /// One at a time: memory does not grow with their number.
    ///
    /// # Errors
    /// [`Error::Catalog`], [`Error::StoredFeatures`], and whatever `take` gives.
    pub fn with_export_rows<T>(
        &self,
        model: ModelId,
        passing: Option<&Passing>,
        take: impl FnOnce(&mut dyn Iterator<Item = Result<ExportRow>>) -> Result<T>,
    ) -> Result<T> {
        let sql =
            "SELECT i.id, i.content_hash, i.width, i.height, e.features, m.width, r.path, f.path
             FROM embeddings e
             JOIN models m ON m.id = e.model_id
             JOIN images i ON i.id = e.image_id
             JOIN files f ON f.id = (SELECT min(g.id) FROM files g WHERE g.image_id = i.id)
             JOIN roots r ON r.id = f.root_id
             WHERE e.model_id = ?1 ORDER BY i.id";
        let mut statement =
            self.connection.prepare_cached(sql).map_err(|source| self.failed(source))?;
        let mut rows = statement.query(params![model.0]).map_err(|source| self.failed(source))?;
        let mut next = || -> Result<Option<ExportRow>> {
            let row = loop {
                let Some(row) = rows.next().map_err(|source| self.failed(source))? else {
                    return Ok(None);
                };
                let id = row.get(0).map(ImageId).map_err(|source| self.failed(source))?;
                if passing.is_none_or(|passing| passing.contains_key(&id)) {
                    break row;
                }
            };
            let read = || -> rusqlite::Result<_> {
                let root = PathBytes::from_bytes(row.get(6)?).to_path();
                let path = root.join(PathBytes::from_bytes(row.get(7)?).to_path());
                let hash = ContentHash::from_bytes(row.get(1)?);
                Ok((ImageId(row.get(0)?), hash, row.get(2)?, row.get(3)?, row.get(5)?, path))
            };
            let (id, content_hash, width, height, features_width, path) =
                read().map_err(|source| self.failed(source))?;
            let features = blob(self, row, 4, id, features_width)?;
            let shown = passing.and_then(|passing| passing.get(&id).copied());
            let image = shown.map(|file| self.image_of(id, Some(file))).transpose()?.flatten();
            let path = image.map_or(path, |image| image.path);
            Ok(Some(ExportRow { id, path, content_hash, width, height, features }))
        };
        take(&mut std::iter::from_fn(|| next().transpose()))
    }
}

fn blob(
    catalog: &Catalog,
    row: &Row<'_>,
    column: usize,
    image: ImageId,
    width: i64,
) -> Result<Features> {
    let value = row.get_ref(column).map_err(|source| catalog.failed(source))?;
    parse(image, value.as_blob().unwrap_or_default(), width)
}

fn parse(image: ImageId, bytes: &[u8], width: i64) -> Result<Features> {
    Features::from_le_bytes(bytes, usize::try_from(width).unwrap_or(0))
        .map_err(|source| Error::StoredFeatures { image, source })
}
