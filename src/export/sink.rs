//! A file under a temporary name beside its final one.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::manifest::FileRecord;
use crate::error::{Error, Result};

/// A file that is being written. Dropped, it leaves nothing behind.
pub(super) struct Sink {
    file: BufWriter<NamedTempFile>,
    target: PathBuf,
}

/// A file that is whole and on disk, but not yet under its name.
pub(super) struct Durable {
    file: NamedTempFile,
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
        let file = builder.tempfile_in(&folder).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                Error::ExportFolder { folder: folder.clone() }
            } else {
                Error::io("create a file in", &folder)(source)
            }
        })?;
        Ok(Self { file: BufWriter::with_capacity(1 << 18, file), target: target.to_path_buf() })
    }

    /// Overwrites the beginning of the file.
    pub(super) fn rewrite_head(&mut self, head: &[u8]) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(head))
            .map_err(Error::io("write", &self.target))
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
        Ok(Durable { file, target })
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
    /// Name, size and hash of what is on disk.
    pub(super) fn record(&self) -> Result<FileRecord> {
        let failed = |source| Error::io("read back", &self.target)(source);
        let file = File::open(self.file.path()).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).map_err(failed)?;
        let name = self.target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(FileRecord { name, bytes, blake3: hasher.finalize().to_string() })
    }

    /// Gives it its name; what had the name before is replaced.
    pub(super) fn publish(self) -> Result<PathBuf> {
        let Self { file, target } = self;
        file.persist(&target).map_err(|error| Error::io("rename to", &target)(error.error))?;
        #[cfg(unix)]
        {
            let folder = folder_of(&target);
            let opened = File::open(&folder).map_err(Error::io("open", &folder))?;
            opened.sync_all().map_err(Error::io("sync", &folder))?;
        }
        Ok(target)
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
