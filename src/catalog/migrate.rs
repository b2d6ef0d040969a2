//! Brings a catalog up to date.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Error, Result};

/// What a released version shipped is never edited; a change is another file.
const MIGRATIONS: [&str; 7] = [
    include_str!("../../migrations/01-catalog.sql"),
    include_str!("../../migrations/02-photo-details.sql"),
    include_str!("../../migrations/03-processor.sql"),
    include_str!("../../migrations/04-stand-in.sql"),
    include_str!("../../migrations/05-pushes.sql"),
    include_str!("../../migrations/06-embedded-at.sql"),
    include_str!("../../migrations/07-selection.sql"),
];

/// "like" in ASCII, so that `file` and we can tell a catalog from any other SQLite database.
const APPLICATION_ID: i32 = 0x6c69_6b65;

/// Runs what is missing, all of it or nothing.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let failed = |source| Error::Catalog { path: path.to_path_buf(), source };
    let (found, known) = (version(connection).map_err(failed)?, MIGRATIONS.len());
    if found == known {
        return Ok(());
    }
    if (1..known).contains(&found) && connection.is_readonly(rusqlite::MAIN_DB).map_err(failed)? {
        return Err(Error::CatalogTooOld { path: path.to_path_buf(), found, known });
    }
    // Immediate, and the version read again inside: two processes may open a new library at once.
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let done = version(&transaction).map_err(failed)?;
    if done > MIGRATIONS.len() {
        return Err(Error::CatalogTooNew {
            path: path.to_path_buf(),
            found: done,
            known: MIGRATIONS.len(),
        });
    }
    let application: i32 =
        transaction.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
    let tables: i64 = transaction
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(Error::NotACatalog { path: path.to_path_buf() });
    }
    for migration in &MIGRATIONS[done..] {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {};",
            MIGRATIONS.len()
        ))
        .and_then(|()| transaction.commit())
        .map_err(failed)
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // A negative number is nobody's version: the table check below refuses the file.
    Ok(usize::try_from(version).unwrap_or(0))
}
