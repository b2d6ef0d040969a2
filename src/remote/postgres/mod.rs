//! PostgreSQL with pgvector: a table is a collection.

mod address;
mod client;
mod condition;
mod read;
mod row;
mod status;
mod table;
mod tls;
mod write;

pub use address::{Address, Host, Tls};
pub use client::Client;

use super::{Collection, Description, FoundRow, IndexKind, Row, Search};
use crate::embedding::Embedding;
use crate::error::Result;
use crate::progress::Watch;
use crate::record::{ContentHash, ImageId};

impl Collection for Client {
    fn address(&self) -> super::Address {
        super::Address::Postgres(self.address.clone())
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn describe(&self, watch: &Watch<'_>) -> Result<Option<Description>> {
        self.said(watch)
    }

    fn check(&self, width: usize, index: IndexKind) -> Result<()> {
        self.fits(width, index)
    }

    fn create(
        &self,
        width: usize,
        properties: &[(&'static str, String)],
        index: IndexKind,
        watch: &Watch<'_>,
    ) -> Result<()> {
        self.make(width, properties, index, watch)
    }

    fn drop_collection(&self, watch: &Watch<'_>) -> Result<()> {
        self.forget(watch)
    }

    /// Chosen when the table was made; it is there after the first push.
    fn index(&self, _wanted: IndexKind, watch: &Watch<'_>) -> Result<String> {
        Ok(self.chosen(watch)?.name().to_owned())
    }

    /// A table is always ready.
    fn load(&self, _watch: &Watch<'_>) -> Result<()> {
        Ok(())
    }

    fn upsert(
        &self,
        rows: &[Row],
        width: usize,
        watch: &Watch<'_>,
        acknowledged: &mut dyn FnMut(&[Row]) -> Result<()>,
    ) -> Result<()> {
        self.put(rows, width, watch, acknowledged)
    }

    fn delete(&self, ids: &[ImageId], watch: &Watch<'_>) -> Result<()> {
        self.take(ids, watch)
    }

    fn finish(&self, changed: bool, watch: &Watch<'_>) -> Result<()> {
        self.settle(changed, watch)
    }

    fn count(&self, watch: &Watch<'_>) -> Result<u64> {
        self.counted(watch)
    }

    fn embedding(&self, id: ImageId, watch: &Watch<'_>) -> Result<Option<Embedding>> {
        self.vector_of(id, watch)
    }

    fn by_content(
        &self,
        hash: &ContentHash,
        watch: &Watch<'_>,
    ) -> Result<Option<(ImageId, Embedding)>> {
        self.vector_with(hash, watch)
    }

    fn record(&self, id: ImageId, watch: &Watch<'_>) -> Result<Option<String>> {
        self.record_of(id, watch)
    }

    fn search(&self, search: Search<'_>, watch: &Watch<'_>) -> Result<Vec<FoundRow>> {
        self.nearest(search, watch)
    }
}
