//! Generations: each in a folder of its own, published by one rename of the manifest that names it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::manifest::{FILES, FileRecord, MANIFEST, Manifest};
use crate::error::{Error, Result};

/// A generation that is being written; its folder goes away again unless it is published.
pub(super) struct Draft {
    folder: PathBuf,
    generation: String,
    draft: tempfile::TempDir,
}

impl Draft {
    /// Begins a generation in `folder`.
    pub(super) fn begin(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let draft = tempfile::Builder::new()
            .prefix("generation-")
            .rand_bytes(8)
            .tempdir_in(folder)
            .map_err(Error::io("create a folder in", folder))?;
        let name = draft.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { folder: folder.to_path_buf(), generation: name, draft })
    }

    /// Begins one of its files.
    pub(super) fn create(&self, name: &str) -> Result<DraftFile> {
        let path = self.draft.path().join(name);
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        Ok(DraftFile { file: BufWriter::with_capacity(1 << 20, file), path })
    }

    /// Writes a file whole.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.create(name)?;
        file.write(bytes)?;
        file.finish()
    }

    /// Maps a file that is complete.
    pub(super) fn map(&self, name: &str) -> Result<Mmap> {
        let path = self.draft.path().join(name);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        // SAFETY: the draft folder is ours alone, and the file is complete.
        unsafe { Mmap::map(&file) }.map_err(Error::io("map", &path))
    }

    /// Deletes a file that is not to be published.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.draft.path().join(name);
        fs::remove_file(&path).map_err(Error::io("delete", &path))
    }

    /// Publishes it: from the rename of the manifest on, it is the index. What came before is deleted.
    pub(super) fn publish(self, mut manifest: Manifest) -> Result<()> {
        for name in FILES {
            let path = self.draft.path().join(name);
            let bytes = self.map(name)?;
            let blake3 = blake3::Hasher::new().update_rayon(&bytes).finalize().to_string();
            let record = FileRecord { bytes: bytes.len() as u64, blake3 };
            manifest.files.insert(name.to_owned(), record);
            let file = File::options().write(true).open(&path).map_err(Error::io("open", &path))?;
            file.sync_all().map_err(Error::io("write", &path))?;
        }
        manifest.generation.clone_from(&self.generation);
        sync_folder(self.draft.path())?;
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        let (temporary, path) = (self.folder.join("manifest.new"), self.folder.join(MANIFEST));
        let mut file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
        file.write_all(&text)
            .and_then(|()| file.sync_all())
            .map_err(Error::io("write", &temporary))?;
        let _kept = self.draft.keep();
        fs::rename(&temporary, &path).map_err(Error::io("rename to", &path))?;
        sync_folder(&self.folder)?;
        remove_others(&self.folder, &self.generation);
        Ok(())
    }
}

/// A file of a draft, written from its beginning to its end.
pub(super) struct DraftFile {
    file: BufWriter<File>,
    path: PathBuf,
}

impl DraftFile {
    /// Writes what comes next.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))
    }

    /// Ends the file; it is made durable when the draft is published.
    pub(super) fn finish(mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    // Windows has no such thing; its rename is journaled.
    if cfg!(unix) {
        let opened = File::open(folder).map_err(Error::io("open", folder))?;
        opened.sync_all().map_err(Error::io("sync", folder))?;
    }
    Ok(())
}

/// Deletes other generations, also those that a killed build left. What cannot be deleted now, as a
/// file that is open on Windows, goes next time.
fn remove_others(folder: &Path, keep: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("generation-") && name != keep {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
