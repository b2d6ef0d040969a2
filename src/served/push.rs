//! From the catalog to a collection: what is new, what changed, what is gone.

use serde::Serialize;

use super::{Label, record};
use crate::catalog::{ModelRecord, PushId};
use crate::error::{Error, Result};
use crate::library::Library;
use crate::progress::{Doing, Event, Watch};
use crate::record::ImageId;
use crate::remote::{Address, Collection, IndexKind, MAX_ROWS, Row};

/// How a library is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushOptions {
    /// The index of a collection that is made.
    pub index: IndexKind,
    /// Whether a collection that is there already must have that kind of index.
    pub insist: bool,
    /// Delete the collection first, if likeness made it.
    pub recreate: bool,
}

impl Default for PushOptions {
    /// HNSW with 16 neighbours and 200 candidates, where there is no other; nothing is deleted.
    fn default() -> Self {
        let index = IndexKind::Hnsw { m: 16, ef_construction: 200 };
        Self { index, insist: false, recreate: false }
    }
}

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PushReport {
    /// Whether the collection was made.
    pub created: bool,
    /// Rows that were sent: new ones, and those whose facts changed.
    pub sent: u64,
    /// Rows that were deleted, as no file holds their image any more.
    pub deleted: u64,
    /// Rows that were there already.
    pub unchanged: u64,
    /// Rows that the server counts in the end.
    pub count: u64,
}

/// Makes a collection hold the images of `library` that have features of `model`, and nothing else; sends what
/// changed since the last time. What the server acknowledged is written down at once: a push that fails or
/// is cancelled goes on there the next time.
///
/// # Errors
/// [`Error::Pushing`]; those of [`Collection`]; [`Error::RemoteForeign`] and
/// [`Error::RemoteHolds`] for a collection that is not of this library and model; [`Error::RemoteCount`]
/// when it does not hold what it acknowledged; [`Error::Catalog`], [`Error::StoredFeatures`].
pub fn push(
    library: &mut Library,
    model: &ModelRecord,
    client: &dyn Collection,
    options: PushOptions,
    watch: &Watch<'_>,
) -> Result<PushReport> {
    let _lock = library.push_lock()?;
    let (push, created) = prepare(library, model, client, options, watch)?;
    client.load(watch)?;

    let mut changed = Vec::new();
    let mut unchanged = 0;
    library.catalog().each_push_image(model.id, push, |image, before| {
        watch.check()?;
        match before {
            Some(before) if before == record::hash(&record::facts(&image)) => unchanged += 1,
            _ => changed.push(image.record.id),
        }
        Ok(())
    })?;
    let gone = library.catalog().vanished_since_push(push)?;

    let total = (changed.len() + gone.len()) as u64;
    let mut done = 0;
    let mut tell = |more: usize| {
        done += more as u64;
        watch.tell(Event::Vectors { doing: Doing::Pushing, done, total });
    };
    let mut sent = 0;
    for ids in changed.chunks(MAX_ROWS) {
        watch.check()?;
        let rows = rows(library, model, ids)?;
        tell(ids.len() - rows.len());
        client.upsert(&rows, model.width, watch, &mut |rows| {
            let mut batch = library.catalog_mut().batch()?;
            for row in rows {
                batch.pushed(push, row.id, &record::hash(&row.facts))?;
            }
            batch.commit()?;
            sent += rows.len() as u64;
            tell(rows.len());
            Ok(())
        })?;
    }
    for ids in gone.chunks(MAX_ROWS) {
        client.delete(ids, watch)?;
        let mut batch = library.catalog_mut().batch()?;
        for id in ids {
            batch.unpushed(push, *id)?;
        }
        batch.commit()?;
        tell(ids.len());
    }

    client.finish(total > 0, watch)?;
    let expected = library.catalog().count_pushed(push)?;
    let found = client.count(watch)?;
    if found != expected {
        let place = client.address().place();
        return Err(Error::RemoteCount { place, found, expected });
    }
    Ok(PushReport { created, sent, deleted: gone.len() as u64, unchanged, count: found })
}

/// The rows of images as they are now; without those that a file no longer holds.
fn rows(library: &Library, model: &ModelRecord, ids: &[ImageId]) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(ids.len());
    for &id in ids {
        let Some(image) = library.catalog().push_image(id)? else { continue };
        let Some(features) = library.catalog().features(model.id, id)? else { continue };
        rows.push(Row { id, embedding: features.embedding(), facts: record::facts(&image) });
    }
    Ok(rows)
}

/// Finds the collection, or makes it. Gives what the catalog knows of it, and whether it was made.
fn prepare(
    library: &mut Library,
    model: &ModelRecord,
    client: &dyn Collection,
    options: PushOptions,
    watch: &Watch<'_>,
) -> Result<(PushId, bool)> {
    let address = client.address();
    client.check(model.width, options.index)?;
    let uuid = library.catalog().uuid()?;
    let label = client.describe(watch)?.map(|said| Label::read(&address, &said));
    let label = label.transpose()?;
    if label.is_some() && options.recreate {
        client.drop_collection(watch)?;
    }
    let (push, created) = match label.filter(|_| !options.recreate) {
        None => (create(library, model, client, uuid, options.index, watch)?, true),
        Some(label) => {
            check(&label, model, &uuid, &address)?;
            let known = library.catalog().push_by_token(&label.token, model.id)?;
            let push = known.map_or_else(|| adopt(library, model, &label, &address, watch), Ok)?;
            (push, false)
        }
    };
    let there = client.index(options.index, watch)?;
    if options.insist && there != options.index.name() {
        let (held, wanted) = (format!("an index {there}"), options.index.name().to_owned());
        return Err(Error::RemoteHolds { place: address.place(), held, wanted });
    }
    Ok((push, created))
}

/// Makes the collection. Written down first: one that was made and is not known would be sent again.
fn create(
    library: &mut Library,
    model: &ModelRecord,
    client: &dyn Collection,
    uuid: String,
    index: IndexKind,
    watch: &Watch<'_>,
) -> Result<PushId> {
    let token = library.catalog().new_push_token()?;
    let mut batch = library.catalog_mut().batch()?;
    let push = batch.begin_push(&client.address().to_string(), model.id, &token)?;
    batch.commit()?;
    let label = Label {
        model: model.name.clone(),
        fingerprint: model.fingerprint,
        width: model.width,
        library: uuid,
        token,
    };
    client.create(model.width, &label.properties(), index, watch)?;
    Ok(push)
}

/// Takes up a collection that another copy of this library made.
fn adopt(
    library: &mut Library,
    model: &ModelRecord,
    label: &Label,
    address: &Address,
    watch: &Watch<'_>,
) -> Result<PushId> {
    watch.note("the library does not know what is in this collection: everything is sent again");
    let mut batch = library.catalog_mut().batch()?;
    let push = batch.begin_push(&address.to_string(), model.id, &label.token)?;
    batch.commit()?;
    Ok(push)
}

/// Whether the collection is of this model and library.
fn check(label: &Label, model: &ModelRecord, uuid: &str, address: &Address) -> Result<()> {
    let holds = |held: String, wanted: String| {
        Err(Error::RemoteHolds { place: address.place(), held, wanted })
    };
    if label.library != uuid {
        return holds(
            format!("the images of another library ({:.8}…)", label.library),
            format!("those of this one ({uuid:.8}…)"),
        );
    }
    if label.fingerprint != model.fingerprint {
        return holds(
            format!("vectors of model {} ({:.8}…)", label.model, label.fingerprint),
            format!("those of {} ({:.8}…)", model.name, model.fingerprint),
        );
    }
    Ok(())
}
