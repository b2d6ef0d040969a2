//! Tables are looked at, made and deleted. What likeness says of one stands in its comment.

use std::collections::BTreeMap;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::super::{Description, IndexKind};
use super::client::{Client, Session, transaction};
use super::row::{self, COLUMNS};
use super::status::Failure;
use super::write::BEGIN;
use crate::error::{Error, Result};
use crate::progress::Watch;

/// How the comment of a table of ours begins; what follows is an object in JSON.
const MARK: &str = "likeness ";

/// The property that says which index the table has, as `hnsw 16 200` or `flat`.
const INDEX_KEY: &str = "likeness.index";

/// The widest vectors that pgvector stores, that its indexes take in single precision, and in half.
const MAX_WIDTH: usize = 16_000;
const MAX_SINGLE: usize = 2_000;
const MAX_HALF: usize = 4_000;

impl Client {
    pub(super) fn fits(&self, width: usize, index: IndexKind) -> Result<()> {
        let server = || self.address.server();
        let unfit =
            |reason: String, remedy| Err(Error::RemoteUnfit { server: server(), reason, remedy });
        let refused = |reason: String| Err(Error::RemoteIndex { server: server(), reason });
        let Some(version) = self.vectors else {
            return unfit("it has no pgvector".into(), INSTALL);
        };
        if width > MAX_WIDTH {
            let reason =
                format!("pgvector holds up to {MAX_WIDTH} features, and there are {width}");
            return unfit(reason, "push the vectors of another model: `--model NAME`");
        }
        match index {
            IndexKind::Flat => Ok(()),
            IndexKind::Hnsw { .. } if width > MAX_HALF => {
                refused(format!("HNSW takes up to {MAX_HALF} features, and there are {width}"))
            }
            IndexKind::Hnsw { .. } if width > MAX_SINGLE && version < (0, 7) => unfit(
                format!(
                    "its pgvector is {}.{}, and indexes over {width} features need 0.7 or newer",
                    version.0, version.1
                ),
                "bring pgvector up to date and run `ALTER EXTENSION vector UPDATE`, or do without: `--index flat`",
            ),
            IndexKind::Hnsw { .. } if version < (0, 5) => unfit(
                format!("its pgvector is {}.{}, and HNSW needs 0.5 or newer", version.0, version.1),
                "bring pgvector up to date and run `ALTER EXTENSION vector UPDATE`, or do without: `--index flat`",
            ),
            IndexKind::Hnsw { m, ef_construction } => {
                if !(2..=100).contains(&m) {
                    return refused(format!("pgvector takes 2 to 100 neighbours, not {m}"));
                }
                if !(4..=1000).contains(&ef_construction) || ef_construction < 2 * m {
                    return refused(format!(
                        "pgvector takes 4 to 1000 candidates, at least twice the neighbours, not {ef_construction}"
                    ));
                }
                Ok(())
            }
            other => refused(format!("pgvector has no {}", other.name())),
        }
    }

    /// What is known of the table; without properties where it is not ours, or no table.
    pub(super) fn said(&self, watch: &Watch<'_>) -> Result<Option<Description>> {
        let name = self.address.quoted();
        let sql = "SELECT relkind = 'r', obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass($1)";
        let said = self.call("describe a table", watch, async |session: &Session| {
            let row = session.query_typed_opt(sql, &[(&name, Type::TEXT)]).await?;
            let Some(row) = row else { return Ok(None) };
            Ok(Some((row.try_get::<_, bool>(0)?, row.try_get::<_, Option<String>>(1)?)))
        })?;
        Ok(said.map(|(is_table, comment)| {
            let object = comment.as_deref().filter(|_| is_table).and_then(|c| c.strip_prefix(MARK));
            let properties = object.and_then(|object| serde_json::from_str(object).ok());
            Description { properties: properties.unwrap_or_default() }
        }))
    }

    /// Makes the table, and pgvector available where it is not yet.
    pub(super) fn make(
        &self,
        width: usize,
        properties: &[(&'static str, String)],
        index: IndexKind,
        watch: &Watch<'_>,
    ) -> Result<()> {
        const ACTION: &str = "make a table";
        let mut said: BTreeMap<String, String> = BTreeMap::new();
        for (key, value) in properties {
            said.insert((*key).to_owned(), value.clone());
        }
        said.insert(INDEX_KEY.to_owned(), text_of(index));
        let json = serde_json::to_string(&said).expect("texts are plain data");
        let comment = format!("{MARK}{json}").replace('\\', "\\\\").replace('\'', "''");
        let table = self.address.quoted();
        let columns: String =
            COLUMNS.iter().map(|column| format!("{} {}, ", column.name, column.sql)).collect();
        let sql = format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, {columns}record json NOT NULL, \
             embedding vector({width}) NOT NULL); \
             CREATE INDEX ON {table} (content_hash); \
             COMMENT ON TABLE {table} IS E'{comment}'"
        );
        self.enable(watch)?;
        let made = self.call(ACTION, watch, async |session: &Session| {
            let made = transaction(session, BEGIN, async |session| {
                Ok(session.batch_execute(&sql).await?)
            });
            match made.await {
                // Perhaps by ourselves, and the answer was lost.
                Err(failure) if failure.code() == Some(&SqlState::DUPLICATE_TABLE) => Ok(false),
                made => made.map(|()| true),
            }
        })?;
        if !made && self.said(watch)?.is_none_or(|there| there.properties != said) {
            let reason = "somebody else made one of that name at this moment".to_owned();
            return Err(Failure::Odd(reason).into_error(&self.address, ACTION));
        }
        Ok(())
    }

    fn enable(&self, watch: &Watch<'_>) -> Result<()> {
        self.call("make pgvector available", watch, async |session: &Session| {
            let made = session.batch_execute("CREATE EXTENSION IF NOT EXISTS vector").await;
            let failure = match made.map_err(Failure::from) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let remedy = match failure.code() {
                // Another session made it at the same moment.
                Some(&SqlState::UNIQUE_VIOLATION | &SqlState::DUPLICATE_OBJECT) => return Ok(()),
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                    "ask who may to run `CREATE EXTENSION vector` in this database, once"
                }
                Some(&SqlState::UNDEFINED_FILE | &SqlState::FEATURE_NOT_SUPPORTED) => INSTALL,
                _ => return Err(failure),
            };
            let Failure::Sql(error) = &failure else { return Err(failure) };
            let said = error.as_db_error().map_or("", |said| said.message()).to_owned();
            Err(Failure::Known(Error::RemoteUnfit {
                server: self.address.server(),
                reason: format!("pgvector is not in the database: {said}"),
                remedy,
            }))
        })
    }

    /// Deletes the table, if it is ours still.
    pub(super) fn forget(&self, watch: &Watch<'_>) -> Result<()> {
        let table = self.address.quoted();
        self.call("delete a table", watch, async |session: &Session| {
            transaction(session, BEGIN, async |session| {
                let sql = "SELECT obj_description(to_regclass($1), 'pg_class') LIKE $2 || '%'";
                let mark = MARK.to_owned();
                let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
                    [(&table, Type::TEXT), (&mark, Type::TEXT)];
                let row = session.query_typed_one(sql, &parameters).await?;
                if row.try_get::<_, Option<bool>>(0)? == Some(true) {
                    session.batch_execute(&format!("DROP TABLE {table}")).await?;
                }
                Ok(())
            })
            .await
        })
    }

    /// The index that was chosen when the table was made.
    pub(super) fn chosen(&self, watch: &Watch<'_>) -> Result<IndexKind> {
        let said = self.said(watch)?.unwrap_or(Description { properties: BTreeMap::new() });
        let index = said.properties.get(INDEX_KEY).and_then(|text| index_of(text));
        index.ok_or_else(|| Error::RemoteForeign {
            place: super::super::Address::Postgres(self.address.clone()).place(),
            reason: format!("it has no property `{INDEX_KEY}`"),
        })
    }

    /// Makes the index that was chosen, where it is missing, after the rows: that is faster by far. Then tells the
    /// planner what is in the table.
    pub(super) fn settle(&self, changed: bool, watch: &Watch<'_>) -> Result<()> {
        let index = self.chosen(watch)?;
        let shape = self.shape(watch)?;
        if let IndexKind::Hnsw { m, ef_construction } = index
            && !shape.indexed
        {
            watch.note("the server makes the index");
            let (key, operators) = shape.key();
            let sql = format!(
                "CREATE INDEX ON {} USING hnsw (({key}) {operators}) \
                 WITH (m = {m}, ef_construction = {ef_construction})",
                self.address.quoted()
            );
            let begin = format!("{BEGIN}; SET LOCAL statement_timeout = 0");
            // However long it takes.
            self.call_within(None, "make the index", watch, async |session: &Session| {
                transaction(session, &begin, async |session| {
                    Ok(session.batch_execute(&sql).await?)
                })
                .await
            })?;
        }
        if changed {
            let names = row::names();
            let sql = format!(
                "ANALYZE {} ({})",
                self.address.quoted(),
                names[..names.len() - 1].join(", ")
            );
            self.call("count what is there", watch, async |session: &Session| {
                Ok(session.batch_execute(&sql).await?)
            })?;
        }
        Ok(())
    }

    /// How wide the vectors are, and whether there is an index over them.
    pub(super) fn shape(&self, watch: &Watch<'_>) -> Result<Shape> {
        const ACTION: &str = "describe the vectors";
        let sql = "SELECT atttypmod, EXISTS (SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                   JOIN pg_am a ON a.oid = c.relam \
                   WHERE i.indrelid = attrelid AND a.amname = 'hnsw' AND i.indisvalid) \
                   FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'embedding'";
        let table = self.address.quoted();
        self.call(ACTION, watch, async |session: &Session| {
            let row = session.query_typed_opt(sql, &[(&table, Type::TEXT)]).await?;
            let row = row.ok_or_else(|| Failure::Odd("there is no column `embedding`".into()))?;
            let width = usize::try_from(row.try_get::<_, i32>(0)?);
            let width = width.map_err(|_| Failure::Odd("its vectors have no width".into()))?;
            Ok(Shape { width, indexed: row.try_get(1)? })
        })
    }
}

/// What stands between a vector and its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) width: usize,
    pub(super) indexed: bool,
}

impl Shape {
    /// What is indexed, and by which operators: of wide vectors their halves, as indexes take no more.
    pub(super) fn key(self) -> (String, &'static str) {
        match self.width {
            0..=MAX_SINGLE => ("embedding".to_owned(), "vector_cosine_ops"),
            width => (format!("embedding::halfvec({width})"), "halfvec_cosine_ops"),
        }
    }

    /// The first parameter of a statement as a vector, and as what the index knows.
    pub(super) fn asked(self) -> (String, String) {
        let width = self.width;
        let whole = format!("$1::float4[]::vector({width})");
        let half = format!("{whole}::halfvec({width})");
        let key = if width > MAX_SINGLE { half } else { whole.clone() };
        (whole, key)
    }
}

/// What a person may do where there is no pgvector.
const INSTALL: &str =
    "install pgvector 0.7 or newer on the server (Debian: `apt install postgresql-18-pgvector`)";

fn text_of(index: IndexKind) -> String {
    match index {
        IndexKind::Hnsw { m, ef_construction } => format!("hnsw {m} {ef_construction}"),
        _ => "flat".to_owned(),
    }
}

fn index_of(text: &str) -> Option<IndexKind> {
    let mut words = text.split(' ');
    match (words.next()?, words.next(), words.next()) {
        ("flat", None, None) => Some(IndexKind::Flat),
        ("hnsw", Some(m), Some(ef_construction)) => {
            let (m, ef_construction) = (m.parse().ok()?, ef_construction.parse().ok()?);
            Some(IndexKind::Hnsw { m, ef_construction })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_known_by_its_text() {
        for index in [IndexKind::Flat, IndexKind::Hnsw { m: 16, ef_construction: 200 }] {
            assert_eq!(index_of(&text_of(index)), Some(index));
        }
        for text in ["", "hnsw", "hnsw 16", "hnsw x 200", "flat 1"] {
            assert_eq!(index_of(text), None, "{text}");
        }
    }
}
