//! Rows are put in and taken out.

use std::pin::pin;

use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use super::super::Row;
use super::super::row::check_widths;
use super::client::{Client, Session, transaction};
use super::row;
use super::status::Failure;
use crate::error::Result;
use crate::progress::Watch;
use crate::record::ImageId;

/// The beginning of a transaction whose end is on disk, also where the server is set to promise that later.
pub(super) const BEGIN: &str = "BEGIN; SELECT set_config('synchronous_commit', 'on', true) \
                                WHERE current_setting('synchronous_commit') = 'off'";

impl Client {
    /// Puts rows in, in one transaction: by COPY; where the table has some of them, by way of another table, and so twice.
    pub(super) fn put(
        &self,
        rows: &[Row],
        width: usize,
        watch: &Watch<'_>,
        acknowledged: &mut dyn FnMut(&[Row]) -> Result<()>,
    ) -> Result<()> {
        check_widths(rows, width)?;
        if rows.is_empty() {
            return Ok(());
        }
        let table = self.address.quoted();
        let names = row::names();
        let columns = names.join(", ");
        let set = names[1..].iter().map(|name| format!("{name} = excluded.{name}"));
        let upsert = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM pg_temp.likeness_rows \
             ON CONFLICT (id) DO UPDATE SET {}",
            set.collect::<Vec<_>>().join(", ")
        );
        let aside = format!("CREATE TEMP TABLE likeness_rows (LIKE {table}) ON COMMIT DROP");
        let known = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE id = ANY ($1))");
        let ids: Vec<i64> = rows.iter().map(|row| row.id.0).collect();
        let count = self.call("take rows", watch, async |session: &Session| {
            transaction(session, BEGIN, async |session| {
                let known = session.query_typed_one(&known, &[(&ids, Type::INT8_ARRAY)]).await?;
                if !known.try_get::<_, bool>(0)? {
                    return copy(session, &table, &columns, rows).await;
                }
                session.batch_execute(&aside).await?;
                copy(session, "pg_temp.likeness_rows", &columns, rows).await?;
                Ok(session.execute_typed(&upsert, &[]).await?)
            })
            .await
        })?;
        if count != rows.len() as u64 {
            let reason = format!("of {} it took {count}", rows.len());
            return Err(Failure::Odd(reason).into_error(&self.address, "take rows"));
        }
        acknowledged(rows)
    }

    /// Deletes rows.
    pub(super) fn take(&self, ids: &[ImageId], watch: &Watch<'_>) -> Result<()> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let sql = format!("DELETE FROM {} WHERE id = ANY ($1)", self.address.quoted());
        self.call("delete rows", watch, async |session: &Session| {
            transaction(session, BEGIN, async |session| {
                Ok(session.execute_typed(&sql, &[(&ids, Type::INT8_ARRAY)]).await?)
            })
            .await
        })
        .map(drop)
    }
}

/// Copies rows into a table that has none of them.
async fn copy(session: &Session, table: &str, columns: &str, rows: &[Row]) -> Result<u64, Failure> {
    let sql = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
    let sink = session.copy_in(&sql).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &row::types()));
    for row in rows {
        let values = row::values(row);
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value).collect();
        writer.as_mut().write(&values).await?;
    }
    Ok(writer.finish().await?)
}
