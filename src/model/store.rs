//! Which models there are, and where they lie.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;

use super::digest::Sha256;
use super::fetch::Limits;
use super::installed::{ENTRY, Installed, ModelFile, read_installed};
use super::manifest::{Manifest, ModelEntry, is_name};
use super::mirror::Mirror;
use super::starter;
use crate::error::{Error, Result};
use crate::progress::Watch;
use crate::record::lossy;

/// Where a [`ModelStore`] looks.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The user's model folder, `<data>/models`: new models go here.
    pub folder: PathBuf,
    /// A library's own model folder, searched first and never written to.
    pub library_folder: Option<PathBuf>,
    /// A folder or an http(s) address with model files and perhaps a `models.toml`; asked after the
    /// folders and before the pinned addresses. A folder that does not exist is passed over with a
    /// note.
    pub mirror: Option<String>,
    /// Never use the network.
    pub offline: bool,
    /// Where networks without their classifier are kept, `<data>/networks`. May be deleted at any
    /// time.
    pub cache: PathBuf,
}

/// The models of this machine, and the way to more of them.
#[derive(Debug)]
pub struct ModelStore {
    pub(super) config: StoreConfig,
    pub(super) limits: Limits,
    builtin: Manifest,
    mirror: OnceLock<Option<(Mirror, Manifest)>>,
}

/// A model, and whether it is here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    /// What is known of it.
    #[serde(flatten)]
    pub entry: ModelEntry,
    /// Where it is.
    pub place: Place,
    /// Whether it is taken when the user names none.
    pub is_default: bool,
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// On this machine, in this file.
    Installed(#[serde(serialize_with = "lossy")] PathBuf),
    /// In this program.
    BuiltIn,
    /// In the mirror; taken from there when it is asked for.
    Mirror,
    /// On the internet; downloaded when it is asked for.
    Internet,
}

/// Whether an installed file is still what was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The model's name.
    pub name: String,
    /// The ONNX file.
    pub file: ModelFile,
    /// The SHA-256 it must have.
    pub expected: Sha256,
    /// The one it has.
    pub found: Sha256,
}

impl Verdict {
    /// Whether the file is what was installed.
    pub fn is_sound(&self) -> bool {
        self.expected == self.found
    }
}

impl ModelStore {
    /// Looks at nothing yet.
    pub fn new(config: StoreConfig) -> Self {
        let (limits, builtin) = (Limits::default(), Manifest::builtin());
        Self { config, limits, builtin, mirror: OnceLock::new() }
    }

    /// Finds a model's file, and fetches it where it is not on this machine. `name` is the name of a
    /// model or the path of an ONNX file (anything with a path separator, or an existing `*.onnx`).
    /// Without a name it is the mirror's default, else likeness's own.
    ///
    /// A file named by its path stays where it is. When its hash is that of a known model, that
    /// model's manifest entry holds, else the one that `likeness model import` would write.
    ///
    /// # Errors
    /// [`Error::ModelUnknown`], [`Error::ModelName`]; [`Error::ModelMissing`] when no source has it,
    /// within about two seconds when there is no network; [`Error::ModelMismatch`] when one offers
    /// another file; those of [`ModelStore::import`] for a path; [`Error::Cancelled`].
    pub fn obtain(&self, name: Option<&str>, watch: &Watch<'_>) -> Result<Installed> {
        match self.on_this_machine(name, watch)? {
            Ok(installed) => Ok(installed),
            Err(entry) => self.install(&entry, watch),
        }
    }

    /// As [`ModelStore::obtain`], but fetches nothing: the inner error is what is known of a model that
    /// is not on this machine.
    ///
    /// # Errors
    /// As [`ModelStore::obtain`], those of fetching left out.
    pub fn on_this_machine(
        &self,
        name: Option<&str>,
        watch: &Watch<'_>,
    ) -> Result<Result<Installed, ModelEntry>> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.default_name(watch)?,
        };
        if is_path(&name) {
            return self.at_path(Path::new(&name), watch).map(Ok);
        }
        if !is_name(&name) {
            return Err(Error::ModelName { name });
        }
        Ok(match self.installed(&name)? {
            Some(installed) => Ok(installed),
            None => Err(self.known(&name, watch)?.clone()),
        })
    }

    /// The model of this name when it is installed, or part of this program.
    pub(super) fn installed(&self, name: &str) -> Result<Option<Installed>> {
        if let Some(built_in) = self.built_in(name) {
            return Ok(Some(built_in));
        }
        for folder in self.folders() {
            if let Some(installed) = read_installed(&folder.join(name))? {
                return Ok(Some(installed));
            }
        }
        Ok(None)
    }

    /// The model of this name when it is part of this program: its name means that one always.
    fn built_in(&self, name: &str) -> Option<Installed> {
        let (entry, bytes) = self.builtin.find(name).zip(starter::bytes_of(name))?;
        Some(Installed { entry: entry.clone(), file: ModelFile::BuiltIn(bytes) })
    }

    /// All models: the built-in one, the installed, those of the mirror, those likeness knows by itself; each name
    /// once, in alphabetical order.
    ///
    /// # Errors
    /// Those of the mirror's manifest; [`Error::Io`]. A damaged installed entry is passed over with a
    /// note.
    pub fn list(&self, watch: &Watch<'_>) -> Result<Vec<Listed>> {
        let mut listed: Vec<(ModelEntry, Place)> = Vec::new();
        let built_in = self.builtin.models.iter().filter_map(|entry| self.built_in(&entry.name));
        listed.extend(built_in.map(|model| (model.entry, Place::BuiltIn)));
        for Installed { entry, file } in self.all_installed(watch)? {
            if let ModelFile::Path(path) = file
                && listed.iter().all(|(known, _)| known.name != entry.name)
            {
                listed.push((entry, Place::Installed(path)));
            }
        }
        let mirror = self.mirror(watch)?.map(|(_, manifest)| (manifest, Place::Mirror));
        for (manifest, place) in mirror.into_iter().chain([(&self.builtin, Place::Internet)]) {
            for entry in &manifest.models {
                if listed.iter().all(|(known, _)| known.name != entry.name) {
                    listed.push((entry.clone(), place.clone()));
                }
            }
        }
        listed.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let default = self.default_name(watch)?;
        let listed = listed.into_iter().map(|(entry, place)| {
            let is_default = entry.name == default;
            Listed { entry, place, is_default }
        });
        Ok(listed.collect())
    }

    /// Hashes the file of one installed model, or of all, and compares it with the hash it was
    /// installed with.
    ///
    /// # Errors
    /// [`Error::ModelNotInstalled`]; [`Error::Io`] when a file cannot be read.
    pub fn verify(&self, name: Option<&str>, watch: &Watch<'_>) -> Result<Vec<Verdict>> {
        let models = match name {
            Some(name) => vec![self.need_installed(name)?],
            None => self.all_installed(watch)?,
        };
        let verdict = |Installed { entry, file }: Installed| {
            let found = file.sha256(watch)?;
            Ok(Verdict { name: entry.name, file, expected: entry.sha256, found })
        };
        models.into_iter().map(verdict).collect()
    }

    /// Deletes a model from the user's folder, and its network from the cache. Vectors already made
    /// with it stay usable, and it may be installed again under any name.
    ///
    /// # Errors
    /// [`Error::ModelNotInstalled`]; [`Error::ModelOfLikeness`]; [`Error::Io`].
    pub fn remove(&self, name: &str) -> Result<()> {
        let folder = self.config.folder.join(name);
        if !is_name(name) || !folder.is_dir() {
            if name == starter::STARTER {
                return Err(Error::ModelOfLikeness { name: name.to_owned() });
            }
            return Err(Error::ModelNotInstalled { name: name.to_owned() });
        }
        if let Ok(Some(installed)) = read_installed(&folder) {
            self.forget_prepared(&installed)?;
        }
        // The entry goes first: a removal that is cut short leaves no half a model.
        match fs::remove_file(folder.join(ENTRY)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", folder.join(ENTRY))(error));
            }
            _ => {}
        }
        fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))
    }

    /// The installed model of this name, or an error that says it is not.
    pub(super) fn need_installed(&self, name: &str) -> Result<Installed> {
        let found = if is_name(name) { self.installed(name)? } else { None };
        found.ok_or_else(|| Error::ModelNotInstalled { name: name.to_owned() })
    }

    /// The entry of a model that is not installed, by its name.
    fn known(&self, name: &str, watch: &Watch<'_>) -> Result<&ModelEntry> {
        let mirror = self.mirror(watch)?.map(|(_, manifest)| manifest);
        let mut manifests = mirror.into_iter().chain([&self.builtin]);
        manifests.find_map(|manifest| manifest.find(name)).ok_or_else(|| {
            let listed = self.list(watch).unwrap_or_default();
            let known = listed.into_iter().map(|listed| listed.entry.name).collect();
            Error::ModelUnknown { name: name.to_owned(), known }
        })
    }

    /// The entry of the known model whose file has this hash; what somebody said of a file that was imported is not
    /// known of the file. A mirror on the network is not asked: this is about a file that is here already.
    pub(super) fn known_by_hash(
        &self,
        sha256: Sha256,
        installed: &[Installed],
        watch: &Watch<'_>,
    ) -> Result<Option<ModelEntry>> {
        let installed = installed.iter().map(|installed| &installed.entry);
        let installed = installed.filter(|entry| !entry.imported);
        let mirror = match &self.config.mirror {
            Some(mirror) if matches!(Mirror::parse(mirror)?, Mirror::Folder(_)) => {
                self.mirror(watch)?.map(|(_, manifest)| manifest)
            }
            _ => None,
        };
        let listed = mirror.into_iter().chain([&self.builtin]).flat_map(|m| &m.models);
        Ok(listed.chain(installed).find(|entry| entry.sha256 == sha256).cloned())
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        self.config.library_folder.as_deref().into_iter().chain([self.config.folder.as_path()])
    }

    fn default_name(&self, watch: &Watch<'_>) -> Result<String> {
        let mirror = self.mirror(watch)?.and_then(|(_, manifest)| manifest.default.clone());
        let builtin = || self.builtin.default.clone().expect("a test reads it");
        Ok(mirror.unwrap_or_else(builtin))
    }

    /// The mirror with its manifest, asked for once; `None` where there is none.
    pub(super) fn mirror(&self, watch: &Watch<'_>) -> Result<Option<&(Mirror, Manifest)>> {
        if self.mirror.get().is_none() {
            let found = self.read_mirror(watch)?;
            let _ = self.mirror.set(found);
        }
        Ok(self.mirror.get().and_then(Option::as_ref))
    }

    fn read_mirror(&self, watch: &Watch<'_>) -> Result<Option<(Mirror, Manifest)>> {
        let Some(text) = &self.config.mirror else { return Ok(None) };
        let mirror = Mirror::parse(text)?;
        if self.config.offline && matches!(mirror, Mirror::Http(_)) {
            return Ok(None);
        }
        match mirror.manifest(&self.limits)? {
            Ok(manifest) => Ok(Some((mirror, manifest))),
            Err(reason) => {
                watch.note(format!("the model mirror {mirror} is passed over: {reason}"));
                Ok(None)
            }
        }
    }

    pub(super) fn all_installed(&self, watch: &Watch<'_>) -> Result<Vec<Installed>> {
        let mut found: Vec<Installed> = Vec::new();
        for folder in self.folders() {
            let entries = match fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("read", folder)(error)),
            };
            for entry in entries {
                let path = entry.map_err(Error::io("read", folder))?.path();
                match read_installed(&path) {
                    Ok(Some(installed))
                        if found.iter().all(|known| known.entry.name != installed.entry.name) =>
                    {
                        found.push(installed);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        let cause = cause.unwrap_or_default();
                        watch.note(format!("passed over: {error}: {}", cause.trim_end()));
                    }
                }
            }
        }
        found.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        Ok(found)
    }
}

/// Whether the user means a file rather than a name.
fn is_path(name: &str) -> bool {
    name.contains(std::path::is_separator)
        || name.to_ascii_lowercase().ends_with(".onnx") && Path::new(name).is_file()
}
