//! A place the user named that holds model files: a folder, or an http(s) address.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::fetch::{Limits, fetch_text};
use super::manifest::Manifest;
use crate::error::{Error, Result};

/// The manifest's name in a mirror.
const MANIFEST: &str = "models.toml";

/// A mirror: model files, and optionally a manifest of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mirror {
    Folder(PathBuf),
    Http(String),
}

impl Mirror {
    /// Understands what the user gave: an http(s) address, else a folder.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text.split_once("://") {
            Some(("http" | "https", _)) => Ok(Mirror::Http(text.trim_end_matches('/').to_owned())),
            Some((scheme, _)) => Err(Error::ModelMirror {
                address: text.to_owned(),
                reason: format!("`{scheme}` is not supported"),
            }),
            None => Ok(Mirror::Folder(PathBuf::from(text))),
        }
    }

    /// The mirror's manifest, an empty one when it has none. `Err` in the inner place: the mirror
    /// itself is not there, with the reason.
    ///
    /// # Errors
    /// [`Error::ModelManifest`] when it is there and makes no sense; [`Error::Io`] when it is there
    /// and cannot be read.
    pub(crate) fn manifest(&self, limits: &Limits) -> Result<Result<Manifest, String>> {
        let (text, origin) = match self {
            Mirror::Folder(folder) if !folder.is_dir() => {
                return Ok(Err("there is no such folder".into()));
            }
            Mirror::Folder(folder) => {
                let path = folder.join(MANIFEST);
                match fs::read_to_string(&path) {
                    Ok(text) => (Some(text), path.display().to_string()),
                    Err(error) if error.kind() == ErrorKind::NotFound => (None, String::new()),
                    Err(error) => return Err(Error::io("read", &path)(error)),
                }
            }
            Mirror::Http(base) => {
                let url = format!("{base}/{MANIFEST}");
                match fetch_text(&url, limits) {
                    Ok(text) => (text, url),
                    Err(reason) => return Ok(Err(reason)),
                }
            }
        };
        match text {
            Some(text) => Manifest::parse(&text, &origin).map(Ok),
            None => Ok(Ok(Manifest { default: None, models: vec![] })),
        }
    }
}

impl std::fmt::Display for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mirror::Folder(folder) => write!(f, "{}", folder.display()),
            Mirror::Http(base) => write!(f, "{base}"),
        }
    }
}
