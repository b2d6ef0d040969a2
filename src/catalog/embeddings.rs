//! Reading features back: one, those an index lacks, or all of them in a stream.

use rusqlite::{Row, params};

use super::report::details;
use super::{Catalog, ModelId, Passing};
use crate::embedding::Features;
use crate::error::{Error, Result};
use crate::record::{ContentHash, ExportRow, ImageId, PathBytes};

/// An image is alive while a file holds it; features of the others wait in case it comes back.
const ALIVE: &str = "EXISTS (SELECT 1 FROM files f WHERE f.image_id = e.image_id)";

/// An embedding's place in time: higher is newer, across all models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(pub i64);

/// Which images are exported.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chosen<'a> {
    /// Only those that pass a filter.
    pub passing: Option<&'a Passing>,
    /// Only those whose features came, or came back, at this time or later: seconds since 1970.
    pub since: Option<i64>,
}

/// The images that are exported, in the order of their ids.
pub struct ExportRows<'a> {
    /// How many there are.
    pub total: u64,
    /// They themselves.
    pub rows: &'a mut dyn Iterator<Item = Result<ExportRow>>,
}

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

    /// The images whose stored features of `model` are damaged.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn damaged_features(&self, model: ModelId) -> Result<Vec<ImageId>> {
        let rows = self.connection.prepare_cached(
            "SELECT e.image_id, e.features, m.width
             FROM embeddings e JOIN models m ON m.id = e.model_id WHERE e.model_id = ?1",
        );
        let mut damaged = Vec::new();
        rows.and_then(|mut statement| {
            let mut rows = statement.query(params![model.0])?;
            while let Some(row) = rows.next()? {
                let image = ImageId(row.get(0)?);
                let bytes = row.get_ref(1)?.as_blob().unwrap_or_default();
                if parse(image, bytes, row.get(2)?).is_err() {
                    damaged.push(image);
                }
            }
            Ok(damaged)
        })
        .map_err(|source| self.failed(source))
    }

    /// How many of those of [`Catalog::count_embedded`] have no time, as an earlier version wrote them down:
    /// [`Chosen::since`] leaves them out.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn count_timeless(&self, model: ModelId) -> Result<u64> {
        let sql = format!(
            "SELECT count(*) FROM embeddings e
             WHERE e.model_id = ?1 AND e.embedded_at IS NULL AND {ALIVE}"
        );
        let count = self.one(&sql, params![model.0], |row| row.get::<_, i64>(0))?;
        Ok(count.unwrap_or(0).cast_unsigned())
    }

    /// Hands `take` the images that a file holds and that are chosen, by id, with their first path (or the one
    /// that passes the filter) and their features of `model`. Both their number and they themselves are of one
    /// moment, whoever writes meanwhile. One at a time: memory does not grow with their number.
    ///
    /// # Errors
    /// [`Error::Catalog`], [`Error::StoredFeatures`], and whatever `take` gives.
    pub fn with_export_rows<T>(
        &self,
        model: ModelId,
        chosen: &Chosen<'_>,
        take: impl FnOnce(ExportRows<'_>) -> Result<T>,
    ) -> Result<T> {
        // Read only; ends with the function.
        let _moment =
            self.connection.unchecked_transaction().map_err(|source| self.failed(source))?;
        let passes = |id: &ImageId| chosen.passing.is_none_or(|passing| passing.contains_key(id));
        let mut total = 0;
        self.connection
            .prepare_cached(&format!(
                "SELECT e.image_id FROM embeddings e
                 WHERE e.model_id = ?1 AND {ALIVE} AND (?2 IS NULL OR e.embedded_at >= ?2)"
            ))
            .and_then(|mut statement| {
                let mut rows = statement.query(params![model.0, chosen.since])?;
                while let Some(row) = rows.next()? {
                    total += u64::from(passes(&ImageId(row.get(0)?)));
                }
                Ok(())
            })
            .map_err(|source| self.failed(source))?;

        // By way of the index of models and images, so that nothing is sorted.
        let sql =
            "SELECT i.id, i.content_hash, i.width, i.height, e.features, m.width, r.path, f.path,
                 i.format, i.taken_at, i.camera, i.lens, i.latitude, i.longitude, i.rating, i.keywords
             FROM embeddings e
             JOIN models m ON m.id = e.model_id
             JOIN images i ON i.id = e.image_id
             JOIN files f ON f.id = (SELECT min(g.id) FROM files g WHERE g.image_id = i.id)
             JOIN roots r ON r.id = f.root_id
             WHERE e.model_id = ?1 AND (?2 IS NULL OR e.embedded_at >= ?2)
             ORDER BY e.image_id";
        let mut statement =
            self.connection.prepare_cached(sql).map_err(|source| self.failed(source))?;
        let mut rows = statement
            .query(params![model.0, chosen.since])
            .map_err(|source| self.failed(source))?;
        let mut next = || -> Result<Option<ExportRow>> {
            let row = loop {
                let Some(row) = rows.next().map_err(|source| self.failed(source))? else {
                    return Ok(None);
                };
                if passes(&row.get(0).map(ImageId).map_err(|source| self.failed(source))?) {
                    break row;
                }
            };
            self.export_row(row, chosen).map(Some)
        };
        take(ExportRows { total, rows: &mut std::iter::from_fn(|| next().transpose()) })
    }

    fn export_row(&self, row: &Row<'_>, chosen: &Chosen<'_>) -> Result<ExportRow> {
        let read = || -> rusqlite::Result<_> {
            let root = PathBytes::from_bytes(row.get(6)?).to_path();
            let path = root.join(PathBytes::from_bytes(row.get(7)?).to_path());
            let hash = ContentHash::from_bytes(row.get(1)?);
            let identity = (ImageId(row.get(0)?), hash, path);
            Ok((identity, (row.get(2)?, row.get(3)?), row.get(5)?, row.get(8)?, details(row, 9)?))
        };
        let ((id, content_hash, path), (width, height), features_width, format, details) =
            read().map_err(|source| self.failed(source))?;
        let features = blob(self, row, 4, id, features_width)?;
        let shown = chosen.passing.and_then(|passing| passing.get(&id).copied());
        let image = shown.map(|file| self.image_of(id, Some(file))).transpose()?.flatten();
        let path = image.map_or(path, |image| image.path);
        Ok(ExportRow { id, path, content_hash, width, height, format, details, features })
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
