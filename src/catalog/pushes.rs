//! What was pushed to other systems, row by row.

use rusqlite::params;

use super::report::details;
use super::{Batch, Catalog, ImageRecord, ModelId};
use crate::error::Result;
use crate::record::{ContentHash, ImageId, PathBytes};

/// A push's number in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PushId(pub(crate) i64);

/// An image as it is pushed.
#[derive(Debug, Clone, PartialEq)]
pub struct PushImage {
    /// The image and where it lies.
    pub record: ImageRecord,
    /// The hash of its content.
    pub content_hash: ContentHash,
    /// The format of its content.
    pub format: String,
}

/// A hash of what was sent beside the vector.
pub type FactsHash = [u8; 16];

impl Catalog {
    /// The push that made the collection with this token, or found it; `None` when it was not from here.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`], as every method here.
    pub fn push_by_token(&self, token: &str, model: ModelId) -> Result<Option<PushId>> {
        let sql = "SELECT id FROM pushes WHERE token = ?1 AND model_id = ?2";
        self.one(sql, params![token, model.0], |row| row.get(0).map(PushId))
    }

    /// 32 hexadecimal digits that no push had before.
    pub fn new_push_token(&self) -> Result<String> {
        let token = self.one("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))?;
        Ok(token.expect("it gives one row"))
    }

    /// How many rows a collection acknowledged that were not deleted since.
    pub fn count_pushed(&self, push: PushId) -> Result<u64> {
        let sql = "SELECT count(*) FROM pushed WHERE push_id = ?1";
        let count = self.one(sql, params![push.0], |row| row.get::<_, i64>(0))?;
        Ok(count.unwrap_or(0).cast_unsigned())
    }

    /// Gives each image that a file holds and that has features of `model` to `each`, by id, with the hash
    /// of what was pushed of it, if it was. One at a time: memory does not grow with their number.
    pub fn each_push_image(
        &self,
        model: ModelId,
        push: PushId,
        mut each: impl FnMut(PushImage, Option<FactsHash>) -> Result<()>,
    ) -> Result<()> {
        let failed = |source| self.failed(source);
        let sql =
            "SELECT i.id, r.path, f.path, i.content_hash, i.format, p.facts, i.width, i.height,
                 i.taken_at, i.camera, i.lens, i.latitude, i.longitude, i.rating, i.keywords
             FROM embeddings e
             JOIN images i ON i.id = e.image_id
             JOIN files f ON f.image_id = i.id
             JOIN roots r ON r.id = f.root_id
             LEFT JOIN pushed p ON p.push_id = ?2 AND p.image_id = i.id
             WHERE e.model_id = ?1 ORDER BY i.id, f.id";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params![model.0, push.0]).map_err(failed)?;
        let mut waiting: Option<(PushImage, Option<FactsHash>)> = None;
        while let Some(row) = rows.next().map_err(failed)? {
            let read = || -> rusqlite::Result<_> {
                let root = PathBytes::from_bytes(row.get(1)?).to_path();
                let path = root.join(PathBytes::from_bytes(row.get(2)?).to_path());
                Ok((ImageId(row.get(0)?), root, path))
            };
            let (id, root, path) = read().map_err(failed)?;
            // One row a file: those of an image stand together.
            match &mut waiting {
                Some((image, _)) if image.record.id == id => image.record.copies.push(path),
                _ => {
                    let read = || -> rusqlite::Result<_> {
                        let record = ImageRecord {
                            id,
                            width: row.get(6)?,
                            height: row.get(7)?,
                            root,
                            path,
                            copies: Vec::new(),
                            details: details(row, 8)?,
                        };
                        let content_hash = ContentHash::from_bytes(row.get(3)?);
                        Ok((PushImage { record, content_hash, format: row.get(4)? }, row.get(5)?))
                    };
                    let next = read().map_err(failed)?;
                    if let Some((image, facts)) = waiting.replace(next) {
                        each(image, facts)?;
                    }
                }
            }
        }
        waiting.map_or(Ok(()), |(image, facts)| each(image, facts))
    }

    /// One of those; `None` when no file holds it (any more).
    pub fn push_image(&self, id: ImageId) -> Result<Option<PushImage>> {
        let Some(record) = self.image(id)? else { return Ok(None) };
        let sql = "SELECT content_hash, format FROM images WHERE id = ?1";
        self.one(sql, params![id.0], |row| {
            let content_hash = ContentHash::from_bytes(row.get(0)?);
            Ok(PushImage { record, content_hash, format: row.get(1)? })
        })
    }

    /// The images that were pushed and that no file holds any more, by id.
    pub fn vanished_since_push(&self, push: PushId) -> Result<Vec<ImageId>> {
        self.all(
            "SELECT p.image_id FROM pushed p WHERE p.push_id = ?1
             AND NOT EXISTS (SELECT 1 FROM files f WHERE f.image_id = p.image_id)
             ORDER BY p.image_id",
            params![push.0],
            |row| row.get(0).map(ImageId),
        )
    }
}

impl Batch<'_> {
    /// Begins with a collection of which nothing is known yet; what was known of one at the same address is
    /// forgotten, as it is no more.
    ///
    /// # Errors
    /// [`crate::error::Error::Catalog`], as every method here.
    pub fn begin_push(&mut self, address: &str, model: ModelId, token: &str) -> Result<PushId> {
        for table in [
            "DELETE FROM pushed WHERE push_id IN (SELECT id FROM pushes WHERE address = ?1)",
            "DELETE FROM pushes WHERE address = ?1",
        ] {
            self.run(table, params![address])?;
        }
        self.run(
            "INSERT INTO pushes (token, address, model_id) VALUES (?1, ?2, ?3)",
            params![token, address, model.0],
        )?;
        Ok(PushId(self.last_id()))
    }

    /// Writes down that a row was acknowledged.
    pub fn pushed(&mut self, push: PushId, image: ImageId, facts: &FactsHash) -> Result<()> {
        self.run(
            "INSERT INTO pushed (push_id, image_id, facts) VALUES (?1, ?2, ?3)
             ON CONFLICT (push_id, image_id) DO UPDATE SET facts = excluded.facts",
            params![push.0, image.0, facts],
        )
        .map(drop)
    }

    /// Writes down that a row is deleted.
    pub fn unpushed(&mut self, push: PushId, image: ImageId) -> Result<()> {
        self.run(
            "DELETE FROM pushed WHERE push_id = ?1 AND image_id = ?2",
            params![push.0, image.0],
        )
        .map(drop)
    }
}
