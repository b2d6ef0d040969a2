//! Models that are on this machine, and their files.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::digest::Sha256;
use super::import::read;
use super::manifest::{ModelEntry, is_name};
use crate::error::{Error, Result};
use crate::progress::Watch;

/// The network file of an installed model, in the folder of the model's name.
pub(super) const FILE: &str = "model.onnx";
/// Its manifest entry. Written last: a model without it is not installed.
pub(super) const ENTRY: &str = "model.toml";

/// A model whose file is on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Installed {
    /// What is known of it.
    pub entry: ModelEntry,
    /// The ONNX file, as it came.
    pub file: ModelFile,
}

/// Where the ONNX file of a model on this machine is.
#[derive(Clone, PartialEq, Eq)]
pub enum ModelFile {
    /// At this path.
    Path(PathBuf),
    /// In this program.
    BuiltIn(&'static [u8]),
}

impl ModelFile {
    /// Its path; `None` where it is part of this program.
    pub fn path(&self) -> Option<&Path> {
        match self {
            ModelFile::Path(path) => Some(path),
            ModelFile::BuiltIn(_) => None,
        }
    }

    /// All of it.
    pub(super) fn read(&self) -> Result<Cow<'static, [u8]>> {
        match self {
            ModelFile::Path(path) => read(path).map(Cow::Owned),
            ModelFile::BuiltIn(bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }

    /// Its SHA-256.
    pub(super) fn sha256(&self, watch: &Watch<'_>) -> Result<Sha256> {
        match self {
            ModelFile::Path(path) => Sha256::of_file(path, watch),
            ModelFile::BuiltIn(bytes) => Ok(Sha256::of_bytes(bytes)),
        }
    }

    /// What an error calls it.
    pub(super) fn named(&self) -> PathBuf {
        self.path().map_or_else(|| self.to_string().into(), Path::to_path_buf)
    }
}

/// The path, or that it is part of likeness.
impl fmt::Display for ModelFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelFile::Path(path) => write!(f, "{}", path.display()),
            ModelFile::BuiltIn(_) => write!(f, "part of likeness"),
        }
    }
}

impl fmt::Debug for ModelFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The model that lies in `folder`, when it is whole.
pub(super) fn read_installed(folder: &Path) -> Result<Option<Installed>> {
    let (path, origin) = (folder.join(FILE), folder.join(ENTRY));
    let text = match fs::read_to_string(&origin) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("read", &origin)(error)),
    };
    let mut entry = ModelEntry::parse(&text, &origin)?;
    // The folder's name is the model's: whoever renames the folder renames the model.
    if let Some(name) = folder.file_name().and_then(|name| name.to_str()).filter(|n| is_name(n)) {
        name.clone_into(&mut entry.name);
    }
    Ok(path.is_file().then_some(Installed { entry, file: ModelFile::Path(path) }))
}
