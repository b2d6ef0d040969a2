//! Files under a temporary name beside their final one, and folders.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir, TempPath};

use super::leftover::{EARLIER, PREFIX};
use super::manifest::FileRecord;
use crate::error::{Error, Result};

/// A file that is being written. Dropped, it leaves nothing behind.
pub(super) struct Sink {
    file: BufWriter<NamedTempFile>,
    target: PathBuf,
    landing: PathBuf,
}

/// A file that is whole and on disk, but not yet under its name.
pub(super) struct Durable {
    file: TempPath,
    target: PathBuf,
    landing: PathBuf,
}

/// A folder that is being filled, under a temporary name beside its final one. Dropped, it leaves nothing behind.
pub(super) struct Folder {
    dir: TempDir,
    path: PathBuf,
    target: PathBuf,
}

impl Sink {
    /// Begins the file that is to be `target`, or where that leads to if it is a link.
    pub(super) fn create(target: &Path) -> Result<Self> {
        let landing = landing(target);
        let folder = folder_of(&landing);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        #[cfg(unix)]
        let earlier = landing.metadata().ok().map(|there| there.permissions());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any program's files: the user's umask decides, not the 0600 of temporary ones.
            let usual = std::fs::Permissions::from_mode(0o666);
            builder.permissions(earlier.clone().unwrap_or(usual));
        }
        let file = builder.tempfile_in(&folder).map_err(|source| no_folder(&folder, source))?;
        // Whoever may not read what is replaced, may not read this.
        #[cfg(unix)]
        if let Some(earlier) = earlier {
            file.as_file().set_permissions(earlier).map_err(Error::io("protect", target))?;
        }
        let (file, target) = (BufWriter::with_capacity(1 << 18, file), target.to_path_buf());
        Ok(Self { file, target, landing })
    }

    /// For errors of writers that stand on top of this one.
    pub(super) fn failed(&self, source: io::Error) -> Error {
        Error::io("write", &self.target)(source)
    }

    /// Makes the file durable.
    pub(super) fn complete(self) -> Result<Durable> {
        let Self { file, target, landing } = self;
        let file =
            file.into_inner().map_err(|error| Error::io("write", &target)(error.into_error()))?;
        file.as_file().sync_all().map_err(Error::io("write", &target))?;
        // An export of many files does not keep them all open.
        Ok(Durable { file: file.into_temp_path(), target, landing })
    }
}

impl Seek for Sink {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Durable {
    /// Where it lies until it is published.
    pub(super) fn path(&self) -> &Path {
        &self.file
    }

    /// The name that it will have.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Name below `folder`, size and hash of what is on disk.
    pub(super) fn record(&self, folder: &Path, rows: Option<u64>) -> Result<FileRecord> {
        let failed = |source| Error::io("read back", &self.target)(source);
        let bytes = std::fs::metadata(&self.file).map_err(failed)?.len();
        let blake3 = hash_of(&self.file).map_err(failed)?;
        Ok(FileRecord { name: name_below(folder, &self.target), bytes, blake3, rows })
    }

    /// Removes for good what has its name.
    pub(super) fn make_way(&self) -> Result<()> {
        match std::fs::remove_file(&self.landing) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.landing)(error))
            }
            _ => sync(&folder_of(&self.landing)),
        }
    }
}

/// Gives files their names, and makes these durable once all have them; what had the names before is replaced.
pub(super) fn publish(files: Vec<Durable>) -> Result<Vec<PathBuf>> {
    let (mut folders, mut targets) = (BTreeSet::new(), Vec::new());
    for Durable { file, target, landing } in files {
        file.persist(&landing).map_err(|error| Error::io("rename to", &landing)(error.error))?;
        folders.insert(folder_of(&landing));
        targets.push(target);
    }
    folders.iter().try_for_each(|folder| sync(folder))?;
    Ok(targets)
}

impl Folder {
    /// Begins a folder with folders in it.
    pub(super) fn create(target: &Path, inside: &[&str]) -> Result<Self> {
        let parent = folder_of(target);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&parent)
            .map_err(|source| no_folder(&parent, source))?;
        // In the temporary one, so that the user's umask decides who may read it.
        let path = dir.path().join("new");
        for name in std::iter::once("").chain(inside.iter().copied()) {
            let path = path.join(name);
            std::fs::create_dir(&path).map_err(Error::io("create", &path))?;
        }
        #[cfg(unix)]
        if let Ok(earlier) = target.metadata() {
            let protected = std::fs::set_permissions(&path, earlier.permissions());
            protected.map_err(Error::io("protect", &path))?;
        }
        Ok(Self { dir, path, target: target.to_path_buf() })
    }

    /// Where it lies until it is published.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The name that it will have.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Gives the folder its name. An earlier one at its place is moved aside first, and back when that fails;
    /// a power cut between the two leaves it beside, under a temporary name.
    pub(super) fn publish(self) -> Result<()> {
        let Self { dir, path, target } = self;
        let failed = |source| Error::io("rename to", &target)(source);
        sync(&path)?;
        let earlier = dir.path().join(EARLIER);
        match std::fs::rename(&target, &earlier) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        if let Err(error) = std::fs::rename(&path, &target) {
            // The first failure is the one that is told. What cannot go back must not be deleted.
            if earlier.exists() && std::fs::rename(&earlier, &target).is_err() {
                let _ = dir.keep();
            }
            return Err(failed(error));
        }
        sync(&folder_of(&target))
    }
}

fn no_folder(folder: &Path, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::NotFound {
        Error::ExportFolder { folder: folder.to_path_buf() }
    } else {
        Error::io("create a file in", folder)(source)
    }
}

/// The BLAKE3 of a file, hexadecimal. Read, not mapped: what is mapped counts as memory of the process.
pub(super) fn hash_of(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_string())
}

/// Makes names in a folder durable.
fn sync(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let opened = File::open(folder).map_err(Error::io("open", folder))?;
        opened.sync_all().map_err(Error::io("sync", folder))?;
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Where something that is written under this name lands: a link is followed, whether or not it leads to something.
pub(super) fn landing(path: &Path) -> PathBuf {
    let mut path = path.to_path_buf();
    // As many links one behind the other as Linux follows: what stays a link then is told as one that goes round.
    for _ in 0..40 {
        let Ok(leads_to) = path.read_link() else { break };
        path = folder_of(&path).join(leads_to);
    }
    path
}

/// What a manifest in a folder calls a file below it.
pub(super) fn name_below(folder: &Path, path: &Path) -> String {
    let name = path.strip_prefix(folder).unwrap_or(path);
    let names = name.iter().map(|part| part.to_string_lossy());
    names.collect::<Vec<_>>().join("/")
}

pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
