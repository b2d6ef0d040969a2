//! Files under a temporary name beside their final one, and folders.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir, TempPath};

use super::manifest::FileRecord;
use crate::error::{Error, Result};

/// A file that is being written. Dropped, it leaves nothing behind.
pub(super) struct Sink {
    file: BufWriter<NamedTempFile>,
    target: PathBuf,
}

/// A file that is whole and on disk, but not yet under its name.
pub(super) struct Durable {
    file: TempPath,
    target: PathBuf,
}

/// A folder that is being filled, under a temporary name beside its final one. Dropped, it leaves nothing behind.
pub(super) struct Folder {
    dir: TempDir,
    path: PathBuf,
    target: PathBuf,
}

impl Sink {
    pub(super) fn create(target: &Path) -> Result<Self> {
        let folder = folder_of(target);
        let mut builder = tempfile::Builder::new();
        builder.prefix(".likeness-export-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any program's files: the user's umask decides, not the 0600 of temporary ones.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(&folder).map_err(|source| no_folder(&folder, source))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 18, file), target: target.to_path_buf() })
    }

    /// For errors of writers that stand on top of this one.
    pub(super) fn failed(&self, source: io::Error) -> Error {
        Error::io("write", &self.target)(source)
    }

    /// Makes the file durable.
    pub(super) fn complete(self) -> Result<Durable> {
        let Self { file, target } = self;
        let file =
            file.into_inner().map_err(|error| Error::io("write", &target)(error.into_error()))?;
        file.as_file().sync_all().map_err(Error::io("write", &target))?;
        // An export of many files does not keep them all open.
        Ok(Durable { file: file.into_temp_path(), target })
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
        let name = self.target.strip_prefix(folder).unwrap_or(&self.target);
        let names = name.iter().map(|part| part.to_string_lossy());
        let name = names.collect::<Vec<_>>().join("/");
        Ok(FileRecord { name, bytes, blake3, rows })
    }

    /// Gives it its name; what had the name before is replaced.
    pub(super) fn publish(self) -> Result<PathBuf> {
        let Self { file, target } = self;
        file.persist(&target).map_err(|error| Error::io("rename to", &target)(error.error))?;
        sync(&folder_of(&target))?;
        Ok(target)
    }
}

impl Folder {
    /// Begins a folder with folders in it.
    pub(super) fn create(target: &Path, inside: &[&str]) -> Result<Self> {
        let parent = folder_of(target);
        let dir = tempfile::Builder::new()
            .prefix(".likeness-export-")
            .tempdir_in(&parent)
            .map_err(|source| no_folder(&parent, source))?;
        // In the temporary one, so that the user's umask decides who may read it.
        let path = dir.path().join("new");
        for name in std::iter::once("").chain(inside.iter().copied()) {
            let path = path.join(name);
            std::fs::create_dir(&path).map_err(Error::io("create", &path))?;
        }
        Ok(Self { dir, path, target: target.to_path_buf() })
    }

    /// Where it lies until it is published.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its name. An earlier one at its place is moved aside first, and back when that fails;
    /// a power cut between the two leaves it beside, under a temporary name.
    pub(super) fn publish(self) -> Result<PathBuf> {
        let Self { dir, path, target } = self;
        let failed = |source| Error::io("rename to", &target)(source);
        sync(&path)?;
        let earlier = dir.path().join("earlier");
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
        sync(&folder_of(&target))?;
        Ok(target)
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

pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
