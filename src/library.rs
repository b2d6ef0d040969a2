//! A library folder: the catalog, and the search index that can always be made again from it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::catalog::{Catalog, ModelRecord, Sequence};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::index::{self, Contents, Index, Params, Unusable};
use crate::progress::Watch;
use crate::record::ImageId;

/// The index is made again when this share of it has changed: photos that came since sit in a tail
/// that is scanned exactly, photos that went are filtered from the answers.
pub const REBUILD_SHARE: f64 = 0.1;

/// Below this many changes the index is left as it is, however small the library.
pub const REBUILD_CHANGES: u64 = 100;

/// How often it is looked whether another process is done with the index.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An open library.
#[derive(Debug)]
pub struct Library {
    folder: PathBuf,
    catalog: Catalog,
}

/// The right to change a library, or to push from it, held by one process at a time; given back when dropped.
#[derive(Debug)]
pub struct WriteLock(#[expect(dead_code, reason = "held open for its lock")] File);

/// A model that answers because the default could not be had; see [`Library::stand_in`].
#[derive(Debug, Clone, PartialEq)]
pub struct StandIn {
    /// The model that answers.
    pub model: ModelRecord,
    /// The name of the one that it stands in for.
    pub wanted: String,
    /// Once that has features of some images.
    pub successor: Option<Successor>,
}

/// How far the model is that is to replace a stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Successor {
    /// Images of which only the stand-in has features.
    pub lacking: u64,
    /// Images of which only the successor has features: the stand-in does not find them.
    pub ahead: u64,
}

/// How the search index of a model stands against the catalog.
#[derive(Debug)]
pub enum IndexState {
    /// It serves.
    Ready {
        /// The index.
        index: Box<Index>,
        /// Photos newer than the index: they are scanned exactly.
        tail: u64,
        /// Photos in the index that no file holds any more: they are left out of answers.
        dead: u64,
    },
    /// There is none, or none that can be trusted.
    Unusable(Unusable),
}

impl Library {
    /// Opens the library in `folder`, and makes it where there is none.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be made; the errors of [`Catalog::open`].
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let catalog = Catalog::open(&catalog_path(folder))?;
        Ok(Self { folder: folder.to_path_buf(), catalog })
    }

    /// Opens a library that is there already.
    ///
    /// # Errors
    /// [`Error::NoLibrary`] when there is none; the errors of [`Catalog::open`].
    pub fn open_existing(folder: &Path) -> Result<Self> {
        let catalog = Catalog::open_existing(&catalog_path(folder))?
            .ok_or_else(|| Error::NoLibrary { folder: folder.to_path_buf() })?;
        Ok(Self { folder: folder.to_path_buf(), catalog })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The catalog, for reading.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(crate) fn catalog_mut(&mut self) -> &mut Catalog {
        &mut self.catalog
    }

    /// Takes the right to change the library.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it.
    pub fn lock(&self) -> Result<WriteLock> {
        self.lock_file("lock", || Error::Locked { folder: self.folder.clone() })
    }

    /// Takes the right to push: beside it, the library may be changed.
    ///
    /// # Errors
    /// [`Error::Pushing`] when another process has it.
    pub fn push_lock(&self) -> Result<WriteLock> {
        self.lock_file("push.lock", || Error::Pushing { folder: self.folder.clone() })
    }

    fn lock_file(&self, name: &str, taken: impl FnOnce() -> Error) -> Result<WriteLock> {
        let path = self.folder.join(name);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(WriteLock(file)),
            Err(TryLockError::WouldBlock) => Err(taken()),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
        }
    }

    /// The model to ask with: the one named, by name or by the beginning of its fingerprint, else the
    /// one of the last run of `index`.
    ///
    /// # Errors
    /// [`Error::NothingIndexed`] when the library holds no features at all,
    /// [`Error::ModelNotIndexed`] when it holds none of the model named.
    pub fn model(&self, name: Option<&str>) -> Result<ModelRecord> {
        let nothing = || Error::NothingIndexed { folder: self.folder.clone() };
        let Some(name) = name else { return self.catalog.current_model()?.ok_or_else(nothing) };
        let models = self.catalog.models()?;
        // Newest first: a name may have stood for another network before.
        let matches = |model: &&ModelRecord| {
            model.name == name
                || (name.len() >= 8 && model.fingerprint.to_string().starts_with(name))
        };
        if let Some(model) = models.iter().rev().find(matches) {
            return Ok(model.clone());
        }
        if models.is_empty() {
            return Err(nothing());
        }
        let held = models.into_iter().map(|model| model.name).collect();
        Err(Error::ModelNotIndexed { wanted: name.to_owned(), held })
    }

    /// What [`Library::model`] gives where no name is given, when nobody chose it: it was taken because the
    /// default could not be had, and answers until a run of `index` has given all images features of that.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn stand_in(&self) -> Result<Option<StandIn>> {
        let Some(wanted) = self.catalog.stands_in_for()? else { return Ok(None) };
        let Some(model) = self.catalog.current_model()? else { return Ok(None) };
        let models = self.catalog.models()?;
        let successor = models.iter().rev().find(|m| m.name == wanted && m.id != model.id);
        let successor = match successor {
            Some(next) if self.catalog.count_embedded(next.id)? > 0 => Some(Successor {
                lacking: self.catalog.count_lacking(model.id, next.id)?,
                ahead: self.catalog.count_lacking(next.id, model.id)?,
            }),
            _ => None,
        };
        Ok(Some(StandIn { model, wanted, successor }))
    }

    /// Opens the index of a model and compares it with the catalog.
    ///
    /// # Errors
    /// [`Error::Catalog`]; an index that is missing or damaged is a state, not an error.
    pub fn index_state(&self, model: &ModelRecord) -> Result<IndexState> {
        let index = match self.try_index(model) {
            Ok(index) => index,
            Err(unusable) => return Ok(IndexState::Unusable(unusable)),
        };
        let alive = self.catalog.count_embedded(model.id)?;
        let tail = self.catalog.count_newer(model.id, Sequence(index.last_sequence()))?;
        let indexed_alive = alive.saturating_sub(tail);
        let dead = (index.len() as u64).saturating_sub(indexed_alive);
        Ok(IndexState::Ready { index: Box::new(index), tail, dead })
    }

    /// Whether the index of a model is missing, or lacks more photos than [`REBUILD_CHANGES`]. Looks at
    /// its manifest only: a run that finds nothing new does not read the index.
    pub(crate) fn index_is_behind(&self, model: &ModelRecord) -> Result<bool> {
        match index::last_sequence(&self.index_folder(model), model.fingerprint) {
            None => Ok(true),
            Some(last) => Ok(self.catalog.count_newer(model.id, Sequence(last))? > REBUILD_CHANGES),
        }
    }

    /// Makes the index of a model again when it is missing, cannot be trusted, or has changed by more
    /// than [`REBUILD_SHARE`]. No inference: the features come from the catalog.
    ///
    /// # Errors
    /// As [`Library::rebuild_index`].
    pub fn refresh_index(&self, model: &ModelRecord, watch: &Watch<'_>) -> Result<()> {
        match self.index_state(model)? {
            IndexState::Ready { index, tail, dead } => {
                let allowed = (index.len() as f64 * REBUILD_SHARE) as u64;
                if tail + dead <= allowed.max(REBUILD_CHANGES) {
                    return Ok(());
                }
            }
            IndexState::Unusable(Unusable::Missing) => {}
            IndexState::Unusable(reason) => {
                watch.note(format!("making the search index again from the catalog: {reason}"));
            }
        }
        self.rebuild_index(model, watch).map(drop)
    }

    /// Forgets features of a model that are damaged in the catalog, as by a failing disk: one would keep the index of all
    /// others from being made. `index` then embeds their photos again. Returns how many there were.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn forget_damaged(&mut self, model: &ModelRecord, watch: &Watch<'_>) -> Result<usize> {
        let damaged = self.catalog.damaged_features(model.id)?;
        if damaged.is_empty() {
            return Ok(0);
        }
        let mut batch = self.catalog.batch()?;
        for image in &damaged {
            batch.forget_features(*image, model.id)?;
        }
        batch.commit()?;
        let count = damaged.len();
        watch.note(format!(
            "the stored features of {count} images were damaged and are forgotten: `likeness index` embeds them again"
        ));
        Ok(count)
    }

    /// How the index of a model was built, if there is one of this version: it is built so again.
    pub fn index_params(&self, model: &ModelRecord) -> Option<Params> {
        index::params(&self.index_folder(model), model.fingerprint)
    }

    /// The index of a model, made from the catalog unless another process has made it meanwhile. One builds at a time, and
    /// does not need the right to change the library.
    ///
    /// # Errors
    /// As [`Library::rebuild_index`].
    pub(crate) fn make_index(&self, model: &ModelRecord, watch: &Watch<'_>) -> Result<Index> {
        let lock = self.build_lock(watch)?;
        match self.try_index(model) {
            Ok(index) => Ok(index),
            Err(_) => {
                self.build_index(model, self.index_params(model).unwrap_or_default(), watch, &lock)
            }
        }
    }

    /// Waits until no other process builds an index of this library: whoever publishes one deletes all others, also those
    /// that are not finished.
    fn build_lock(&self, watch: &Watch<'_>) -> Result<WriteLock> {
        let mut is_told = false;
        loop {
            match self.lock_file("index.lock", || Error::Locked { folder: self.folder.clone() }) {
                Err(Error::Locked { .. }) => {}
                done => return done,
            }
            if watch.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if !is_told {
                watch.note("waiting for the search index, which another process makes");
                is_told = true;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Makes the index of a model again from the catalog, as it was built before, else by the defaults.
    /// The old one serves until the new one is whole and on disk.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written, [`Error::Cancelled`], [`Error::Catalog`].
    pub fn rebuild_index(&self, model: &ModelRecord, watch: &Watch<'_>) -> Result<Index> {
        self.rebuild_index_as(model, self.index_params(model).unwrap_or_default(), watch)
    }

    /// As [`Library::rebuild_index`], in the way that is said; later ones are made so, too.
    ///
    /// # Errors
    /// As [`Library::rebuild_index`].
    pub fn rebuild_index_as(
        &self,
        model: &ModelRecord,
        params: Params,
        watch: &Watch<'_>,
    ) -> Result<Index> {
        let lock = self.build_lock(watch)?;
        self.build_index(model, params, watch, &lock)
    }

    fn build_index(
        &self,
        model: &ModelRecord,
        params: Params,
        watch: &Watch<'_>,
        _lock: &WriteLock,
    ) -> Result<Index> {
        let each = |take: &mut dyn FnMut(i64, ImageId, Embedding) -> Result<()>| {
            self.catalog.each_embedding(model.id, Sequence(0), |sequence, id, features| {
                take(sequence.0, id, features.embedding())
            })
        };
        let contents =
            Contents { fingerprint: model.fingerprint, width: model.width, embeddings: &each };
        index::build(&self.index_folder(model), &contents, params, watch)
    }

    /// The images that are newer than an index, with their embeddings.
    pub(crate) fn each_newer(
        &self,
        model: &ModelRecord,
        after: Sequence,
        mut each: impl FnMut(ImageId, Embedding) -> Result<()>,
    ) -> Result<()> {
        self.catalog
            .each_embedding(model.id, after, |_, id, features| each(id, features.embedding()))
    }

    /// The index of a model as it lies there.
    pub(crate) fn try_index(&self, model: &ModelRecord) -> Result<Index, Unusable> {
        index::open(&self.index_folder(model), model.fingerprint, model.width)
    }

    pub(crate) fn index_folder(&self, model: &ModelRecord) -> PathBuf {
        self.folder.join("index").join(format!("{:.16}", model.fingerprint))
    }
}

fn catalog_path(folder: &Path) -> PathBuf {
    folder.join("catalog.sqlite")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::sample;

    #[test]
    fn who_finds_another_process_building_takes_its_index() {
        let dir = tempfile::tempdir().unwrap();
        let mut library = Library::open(dir.path()).unwrap();
        let mut batch = library.catalog_mut().batch().unwrap();
        let model = batch.add_model(&sample::network(2)).unwrap();
        batch.use_model(Some(model), None).unwrap();
        batch.commit().unwrap();
        let model = library.model(None).unwrap();
        let silent = Watch::none();
        let building = library.build_lock(&silent).unwrap();
        let waiting = std::thread::spawn({
            let (folder, model) = (dir.path().to_path_buf(), model.clone());
            move || {
                let index = Library::open(&folder).unwrap().make_index(&model, &Watch::none());
                index.unwrap().generation().to_owned()
            }
        });
        let built = library.build_index(&model, Params::default(), &silent, &building).unwrap();
        drop(building);
        assert_eq!(waiting.join().unwrap(), built.generation());
    }
}
