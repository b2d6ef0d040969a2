//! Rows are counted, looked up, and searched among.

use tokio_postgres::Row as SqlRow;
use tokio_postgres::types::{ToSql, Type};

use super::super::{FoundRow, Search};
use super::client::{Client, Session, transaction};
use super::condition::Condition;
use super::status::Failure;
use super::table::Shape;
use crate::embedding::Embedding;
use crate::error::Result;
use crate::progress::Watch;
use crate::record::{ContentHash, Hit, ImageId};

/// The most candidates that pgvector's HNSW keeps in view.
const MAX_EF: usize = 1_000;

/// The version of pgvector that goes on searching where a filter lets too little pass.
const ITERATIVE: (u32, u32) = (0, 8);

impl Client {
    /// How many rows there are.
    pub(super) fn counted(&self, watch: &Watch<'_>) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", self.address.quoted());
        self.call("count rows", watch, async |session: &Session| {
            let count: i64 = session.query_typed_one(&sql, &[]).await?.try_get(0)?;
            Ok(count.cast_unsigned())
        })
    }

    /// The vector of an image; `None` where there is no such row.
    pub(super) fn vector_of(&self, id: ImageId, watch: &Watch<'_>) -> Result<Option<Embedding>> {
        let found = self.vector("id = $1", (&id.0, Type::INT8), watch)?;
        Ok(found.map(|(_, embedding)| embedding))
    }

    /// The image with this content, and its vector.
    pub(super) fn vector_with(
        &self,
        hash: &ContentHash,
        watch: &Watch<'_>,
    ) -> Result<Option<(ImageId, Embedding)>> {
        self.vector("content_hash = $1", (&hash.to_string(), Type::TEXT), watch)
    }

    fn vector(
        &self,
        condition: &str,
        value: (&(dyn ToSql + Sync), Type),
        watch: &Watch<'_>,
    ) -> Result<Option<(ImageId, Embedding)>> {
        let sql = format!(
            "SELECT id, embedding::float4[] FROM {} WHERE {condition} ORDER BY id LIMIT 1",
            self.address.quoted()
        );
        self.call("look up a row", watch, async |session: &Session| {
            let row = session.query_typed_opt(&sql, std::slice::from_ref(&value)).await?;
            row.map(|row| Ok((ImageId(row.try_get(0)?), embedding(&row, 1)?))).transpose()
        })
    }

    /// The record of an image; `None` where there is no such row.
    pub(super) fn record_of(&self, id: ImageId, watch: &Watch<'_>) -> Result<Option<String>> {
        let sql = format!("SELECT record::text FROM {} WHERE id = $1", self.address.quoted());
        self.call("look up a row", watch, async |session: &Session| {
            let row = session.query_typed_opt(&sql, &[(&id.0, Type::INT8)]).await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
    }

    /// The rows most similar to a vector. The index chooses candidates, if there is one, and the vectors order them;
    /// where it gives too few, as among those that pass a filter, every row that passes is compared.
    pub(super) fn nearest(&self, search: Search<'_>, watch: &Watch<'_>) -> Result<Vec<FoundRow>> {
        let shape = match self.shape.get() {
            Some(shape) => *shape,
            None => {
                let shape = self.shape(watch)?;
                *self.shape.get_or_init(|| shape)
            }
        };
        let iterative = self.vectors.is_some_and(|version| version >= ITERATIVE);
        if shape.indexed && (search.filter.is_none() || iterative) {
            let (begin, sql) = self.by_index(shape, &search, iterative);
            let found = self.ask(&begin, &sql, &search, watch)?;
            if found.len() >= search.k {
                return Ok(found);
            }
        }
        let (whole, _) = shape.asked();
        let sql = format!(
            "SELECT id, record, embedding FROM {} WHERE {} ORDER BY embedding <=> {whole}, id LIMIT {}",
            self.address.quoted(),
            Condition::of(search.filter, 2).sql,
            search.k
        );
        // HNSW is an index scan and nothing else.
        self.ask("BEGIN READ ONLY; SET LOCAL enable_indexscan = off", &sql, &search, watch)
    }

    /// A transaction's beginning and a statement that asks the index.
    fn by_index(&self, shape: Shape, search: &Search<'_>, iterative: bool) -> (String, String) {
        let candidates = (search.k * 4).max(128);
        let mut begin =
            format!("BEGIN READ ONLY; SET LOCAL hnsw.ef_search = {}", candidates.min(MAX_EF));
        if iterative {
            // Their order need not be strict: the vectors give them another.
            let most = (candidates * 4).clamp(20_000, i32::MAX as usize);
            begin += "; SET LOCAL hnsw.iterative_scan = relaxed_order";
            begin += &format!("; SET LOCAL hnsw.max_scan_tuples = {most}");
        }
        if search.filter.is_none() {
            // The planner does not see that vectors lie outside of the table, and takes reading all for cheap.
            begin += "; SET LOCAL enable_seqscan = off";
        }
        let (key, _) = shape.key();
        let (whole, asked) = shape.asked();
        let sql = format!(
            "SELECT id, record, embedding FROM (\
             SELECT id, record, embedding FROM {} WHERE {} ORDER BY {key} <=> {asked} LIMIT {candidates}\
             ) AS candidates ORDER BY embedding <=> {whole}, id LIMIT {}",
            self.address.quoted(),
            Condition::of(search.filter, 2).sql,
            search.k
        );
        (begin, sql)
    }

    /// Asks, and orders what comes by the true cosine: the server's is summed in single precision.
    fn ask(
        &self,
        begin: &str,
        sql: &str,
        search: &Search<'_>,
        watch: &Watch<'_>,
    ) -> Result<Vec<FoundRow>> {
        // Outside of it, so that only what is found is turned into what is sent.
        let sql = format!("SELECT id, record::text, embedding::float4[] FROM ({sql}) AS found");
        let condition = Condition::of(search.filter, 2);
        let query = search.query.as_slice();
        let mut found = self.call("search", watch, async |session: &Session| {
            transaction(session, begin, async |session| {
                let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> =
                    vec![(&query, Type::FLOAT4_ARRAY)];
                parameters.extend(condition.parameters());
                let rows = session.query_typed(&sql, &parameters).await?;
                let found = |row: &SqlRow| {
                    let score = search.query.cosine(&embedding(row, 2)?);
                    let hit = Hit { id: ImageId(row.try_get(0)?), score };
                    Ok(FoundRow { hit, record: row.try_get(1)? })
                };
                rows.iter().map(found).collect::<Result<Vec<_>, Failure>>()
            })
            .await
        })?;
        found.sort_by(|a, b| Hit::best_first(&a.hit, &b.hit));
        Ok(found)
    }
}

/// A vector as it was sent.
fn embedding(row: &SqlRow, column: usize) -> Result<Embedding, Failure> {
    let values: Vec<f32> = row.try_get(column)?;
    Embedding::normalised(&values).map_err(|_| Failure::Odd("a vector there is not sound".into()))
}
