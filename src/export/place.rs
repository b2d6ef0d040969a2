//! Where an export goes: the names of its files, what may be there already, and how they get their names.

use std::collections::{BTreeSet, HashSet};
use std::fs::{File, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::import::{earlier_manifest, is_export_folder};
use super::jsonl::ids_beside;
use super::manifest::Manifest;
use super::sink::{Durable, Folder, folder_of, landing, name_below, publish};
use super::{Format, Options, beside, clip_retrieval, leftover};
use crate::error::{Error, Result};
use crate::progress::Watch;

const NEW_NAME: &str = "name a file that need not be there yet, as `embeddings.npy`; or for a format that is a \
                        folder, one that is empty or holds nothing but an earlier export";
const DELETE_FIRST: &str =
    "name another file, or delete this one first: only what a manifest names beside it is replaced";
const ELSEWHERE: &str =
    "name a place outside of the folder that `likeness status` calls the library";

/// Held while files get their names.
static PUBLISHING: Mutex<()> = Mutex::new(());

/// Waits until no export of this process is giving its files their names, and lets none begin to while the guard is
/// held: for a program that ends while other threads of its work.
pub fn hold_publishing() -> MutexGuard<'static, ()> {
    PUBLISHING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an export goes.
pub(super) struct Place {
    kind: Kind,
    format: Format,
    /// Nothing is written in here.
    library: Option<PathBuf>,
    /// The folders that are written to, so that no other export takes what lies there for a leftover.
    held: Vec<File>,
}

enum Kind {
    /// A file, and others beside it that are named after it.
    File(PathBuf),
    Folder {
        /// As it was named.
        out: PathBuf,
        folder: Folder,
    },
}

impl Place {
    /// The place that `out` names; `shards` is how many numbered files there will be, if they are numbered.
    ///
    /// # Errors
    /// [`Error::ExportTarget`] when something else than an earlier export would be replaced, or the library be
    /// written to; [`Error::ExportFolder`].
    pub(super) fn new(out: &Path, shards: Option<u64>, options: &Options<'_>) -> Result<Self> {
        let format = options.format;
        let library = options.library.map(Path::to_path_buf);
        if out.file_name().is_none() {
            return Err(refused(out, format, "it names no file", NEW_NAME));
        }
        if !format.is_folder() {
            let kind = Kind::File(out.to_path_buf());
            let mut place = Self { kind, format, library, held: Vec::new() };
            let names = place.names(shards);
            place.check(&names)?;
            let folders: BTreeSet<PathBuf> =
                names.iter().map(|name| folder_of(&landing(name))).collect();
            place.held = folders.iter().filter_map(|folder| leftover::hold(folder)).collect();
            return Ok(place);
        }
        let at = resting(out)?;
        check_folder(&at, format, library.as_deref())?;
        let held = leftover::hold(&folder_of(&at)).into_iter().collect();
        let inside = match format {
            Format::ClipRetrieval => &clip_retrieval::INSIDE[..],
            _ => &[],
        };
        let kind = Kind::Folder { out: out.to_path_buf(), folder: Folder::create(&at, inside)? };
        Ok(Self { kind, format, library, held })
    }

    /// What names in the manifest are below of.
    pub(super) fn folder(&self) -> &Path {
        match &self.kind {
            Kind::File(out) => out.parent().unwrap_or(Path::new("")),
            Kind::Folder { folder, .. } => folder.path(),
        }
    }

    pub(super) fn manifest(&self) -> PathBuf {
        match &self.kind {
            Kind::File(out) => beside(out, "manifest.json"),
            Kind::Folder { folder, .. } => folder.path().join("manifest.json"),
        }
    }

    /// The file of one shard, if it is one of several: `out.npy` → `out-00003.npy`.
    pub(super) fn file(&self, shard: Option<u64>) -> PathBuf {
        match (&self.kind, shard) {
            (Kind::File(out), None) => out.clone(),
            (Kind::File(out), Some(shard)) => {
                let mut name = out.file_stem().unwrap_or_default().to_owned();
                name.push(format!("-{shard:05}"));
                if let Some(extension) = out.extension() {
                    name.push(".");
                    name.push(extension);
                }
                out.with_file_name(name)
            }
            (Kind::Folder { folder, .. }, _) => folder.path().to_path_buf(),
        }
    }

    /// The names that the files of a format that is no folder will have, the manifest's last.
    pub(super) fn names(&self, shards: Option<u64>) -> Vec<PathBuf> {
        let numbers: Vec<Option<u64>> =
            shards.map_or(vec![None], |shards| (0..shards).map(Some).collect());
        let mut names = Vec::new();
        for number in numbers {
            let file = self.file(number);
            let ids = self.format.has_ids_beside().then(|| ids_beside(&file));
            names.extend([file].into_iter().chain(ids));
        }
        names.push(self.manifest());
        names
    }

    /// Refuses to write where something else is than an earlier export, whose manifest it gives.
    fn check<P: AsRef<Path>>(&self, names: &[P]) -> Result<Option<Manifest>> {
        let manifest = self.manifest();
        let earlier = earlier_manifest(&manifest);
        let files = earlier.iter().flat_map(|manifest| &manifest.files);
        let known: HashSet<&str> = files.map(|file| file.name.as_str()).collect();
        for path in names.iter().map(AsRef::as_ref) {
            let ours = match path == manifest {
                true => earlier.is_some(),
                false => known.contains(name_below(self.folder(), path).as_str()),
            };
            check_file(path, ours, self.format, self.library.as_deref())?;
        }
        Ok(earlier)
    }

    /// Gives all files their names. Between the first and the last there is no manifest, so that a failure or a
    /// power cut among them leaves no export, rather than one of two halves that looks whole.
    pub(super) fn publish(
        self,
        files: Vec<Durable>,
        manifest: Durable,
        watch: &Watch<'_>,
    ) -> Result<Vec<PathBuf>> {
        let _uncut = hold_publishing();
        match self.kind {
            Kind::File(_) => {
                let all = files.iter().chain([&manifest]);
                // Something may have come there while this one was written.
                let earlier = self.check(&all.map(Durable::target).collect::<Vec<_>>())?;
                if earlier.is_some() {
                    manifest.make_way()?;
                }
                let mut published = publish(files)?;
                published.extend(publish(vec![manifest])?);
                if let Some(earlier) = earlier {
                    self.remove_rest(&earlier, &published, watch);
                }
                Ok(published)
            }
            Kind::Folder { out, folder } => {
                check_folder(folder.target(), self.format, self.library.as_deref())?;
                publish(files)?;
                publish(vec![manifest])?;
                folder.publish()?;
                Ok(vec![out])
            }
        }
    }

    /// Removes what an earlier export had and this one has not, as its last shards. Only what likeness itself names
    /// so: a manifest can be written by anybody, and must not choose what is deleted.
    fn remove_rest(&self, earlier: &Manifest, files: &[PathBuf], watch: &Watch<'_>) {
        let named: HashSet<&str> = earlier.files.iter().map(|file| file.name.as_str()).collect();
        let files: HashSet<&Path> = files.iter().map(PathBuf::as_path).collect();
        let numbers = (0..earlier.files.len() as u64).map(Some);
        for file in std::iter::once(None).chain(numbers).map(|number| self.file(number)) {
            for path in [ids_beside(&file), file] {
                let rest = named.contains(name_below(self.folder(), &path).as_str())
                    && !files.contains(path.as_path())
                    && path.symlink_metadata().is_ok_and(|there| there.is_file());
                if rest && let Err(error) = std::fs::remove_file(&path) {
                    watch.note(format!("{} of the earlier export stays: {error}", path.display()));
                }
            }
        }
    }

    /// That there were more or fewer rows than were told.
    pub(super) fn changed(&self) -> Error {
        let what = "another number of rows came than was counted".into();
        Error::ExportReadBack { path: self.manifest(), what }
    }
}

fn check_file(path: &Path, ours: bool, format: Format, library: Option<&Path>) -> Result<()> {
    check_outside(path, format, library)?;
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("look at", path)(error)),
        Ok(there) if !there.is_file() => {
            Err(refused(path, format, name_of(there.file_type()), NEW_NAME))
        }
        Ok(_) if ours => Ok(()),
        Ok(_) => {
            let why = "it is there already, and no manifest says that it is an earlier export";
            Err(refused(path, format, why, DELETE_FIRST))
        }
    }
}

/// Where a folder lies, by a way that does not lead through the folder itself, as `out/../out` does: it is moved
/// aside before the new one gets its name. A slash at the end would keep a link from being followed.
fn resting(out: &Path) -> Result<PathBuf> {
    let name = out.file_name().expect("looked at before");
    let at = landing(&folder_of(out).join(name));
    if let Ok(there) = at.canonicalize() {
        return Ok(there);
    }
    let folder = folder_of(&at);
    match (folder.canonicalize(), at.file_name()) {
        (Ok(folder), Some(name)) => Ok(folder.join(name)),
        (Err(error), _) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("open", &folder)(error))
        }
        _ => Err(Error::ExportFolder { folder }),
    }
}

/// `at` is no link.
fn check_folder(at: &Path, format: Format, library: Option<&Path>) -> Result<()> {
    check_outside(at, format, library)?;
    match at.symlink_metadata() {
        Ok(there) if !there.is_dir() => Err(refused(at, format, "it is no folder", NEW_NAME)),
        Ok(_) if !is_export_folder(at) => {
            let why = "it holds something else than an earlier export";
            Err(refused(at, format, why, NEW_NAME))
        }
        _ => Ok(()),
    }
}

fn check_outside(path: &Path, format: Format, library: Option<&Path>) -> Result<()> {
    let inside = |library: &Path| {
        let folder = folder_of(&landing(path)).canonicalize();
        folder
            .ok()
            .zip(library.canonicalize().ok())
            .is_some_and(|(f, library)| f.starts_with(library))
    };
    match library.is_some_and(inside) {
        true => Err(refused(path, format, "it would lie in the library's own folder", ELSEWHERE)),
        false => Ok(()),
    }
}

fn refused(path: &Path, format: Format, why: &'static str, remedy: &'static str) -> Error {
    Error::ExportTarget { path: path.to_path_buf(), format: format.name(), why, remedy }
}

/// What is no regular file, for a person.
fn name_of(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "it is a pipe";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "it is a device";
        }
    }
    if kind.is_dir() { "it is a folder" } else { "it is no regular file" }
}
