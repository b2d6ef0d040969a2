//! Milvus: a thin client over the part of its protocol that is used here, whose code was generated once
//! (`tools/milvus-proto`).

mod address;
mod client;
mod expression;
mod near;
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, dead_code)]
mod proto;
mod read;
mod row;
mod status;
mod write;

pub use address::Address;
pub use client::Client;

use super::{Collection, Description, FoundRow, IndexKind, Row, Search};
use crate::embedding::Embedding;
use crate::error::Result;
use crate::progress::Watch;
use crate::record::{ContentHash, ImageId};

impl Collection for Client {
    fn address(&self) -> super::Address {
        super::Address::Milvus(self.address.clone())
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn describe(&self, watch: &Watch<'_>) -> Result<Option<Description>> {
        self.said(watch)
    }

    /// Milvus itself says what its indexes take, when one is made.
    fn check(&self, _width: usize, _index: IndexKind) -> Result<()> {
        Ok(())
    }

    fn create(
        &self,
        width: usize,
        properties: &[(&'static str, String)],
        index: IndexKind,
        watch: &Watch<'_>,
    ) -> Result<()> {
        self.make(width, properties, watch)?;
        self.create_index(index, watch)
    }

    fn drop_collection(&self, watch: &Watch<'_>) -> Result<()> {
        self.forget(watch)
    }

    fn index(&self, wanted: IndexKind, watch: &Watch<'_>) -> Result<String> {
        if let Some(there) = self.index_name(watch)? {
            return Ok(there);
        }
        self.create_index(wanted, watch)?;
        Ok(wanted.name().to_owned())
    }

    fn load(&self, watch: &Watch<'_>) -> Result<()> {
        self.ready(watch)
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
        if changed {
            self.settle(watch)?;
            // A server that was started anew meanwhile may not have loaded it yet.
            self.ready(watch)?;
        }
        Ok(())
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
