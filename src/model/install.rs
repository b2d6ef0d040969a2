//! Brings models into the user's folder: from a mirror, from the internet, from a file.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::digest::{CHUNK, Hasher, Sha256};
use super::fetch::{self, Failure, Wanted};
use super::installed::{ENTRY, FILE, Installed, ModelFile, read_installed};
use super::manifest::ModelEntry;
use super::mirror::Mirror;
use super::publish;
use super::store::ModelStore;
use crate::error::{Error, Result};
use crate::progress::{Event, Watch};

/// What came of a download so far.
const PARTIAL: &str = "model.onnx.partial";
/// Held by the process that is installing the model.
const LOCK: &str = "lock";

impl ModelStore {
    /// Brings a known model's file into the user's folder: what the user put there, a copy from the
    /// mirror, or a download.
    pub(super) fn install(&self, entry: &ModelEntry, watch: &Watch<'_>) -> Result<Installed> {
        let folder = self.config.folder.join(&entry.name);
        let _lock = self.lock(&entry.name, watch)?;
        if let Some(installed) = read_installed(&folder)? {
            return Ok(installed);
        }
        let place = folder.join(FILE);
        if place.is_file() {
            let found = Sha256::of_file(&place, watch)?;
            return match found == entry.sha256 {
                true => publish_entry(&folder, entry),
                false => Err(mismatch(entry, place.display(), found)),
            };
        }
        let mut urls = entry.urls.clone();
        let mut refused = None;
        match self.mirror(watch)? {
            Some((Mirror::Folder(mirror), _)) => match mirror.join(&entry.file) {
                source if source.is_file() => match self.copy(entry, &source, watch)? {
                    Ok(installed) => return Ok(installed),
                    Err(found) => refused = Some(mismatch(entry, source.display(), found)),
                },
                _ => {}
            },
            Some((Mirror::Http(base), _)) => urls.insert(0, format!("{base}/{}", entry.file)),
            None => {}
        }
        if self.config.offline || urls.is_empty() {
            let reason = if self.config.offline { "offline" } else { "no address is known for it" };
            return Err(refused.unwrap_or_else(|| missing(entry, reason, reason.into(), place)));
        }
        let wanted =
            Wanted { name: &entry.name, urls: &urls, bytes: entry.bytes, sha256: entry.sha256 };
        let partial = folder.join(PARTIAL);
        match fetch::download(&wanted, &partial, &self.limits, watch) {
            Ok(()) => {
                publish::rename(&partial, &place)?;
                publish_entry(&folder, entry)
            }
            Err(Failure::Here(error)) => Err(error),
            Err(Failure::Mismatch { url, found }) => Err(mismatch(entry, url, found)),
            Err(Failure::Unreachable(reasons)) => Err(refused.unwrap_or_else(|| {
                let each = reasons.iter().map(|(url, reason)| format!("{url}: {reason}"));
                missing(entry, &each.collect::<Vec<_>>().join("; "), brief(&reasons), place)
            })),
        }
    }

    /// Copies from a mirror folder; the inner error is the hash of a file that is another.
    fn copy(
        &self,
        entry: &ModelEntry,
        source: &Path,
        watch: &Watch<'_>,
    ) -> Result<Result<Installed, Sha256>> {
        let mut from = File::open(source).map_err(Error::io("open", source))?;
        let mut found = None;
        let copied = self.publish(entry, |to| {
            let mut hasher = Hasher::default();
            let mut buffer = vec![0; CHUNK];
            let mut done = 0;
            loop {
                watch.check()?;
                let read = from.read(&mut buffer).map_err(Error::io("read", source))?;
                if read == 0 {
                    break;
                }
                hasher.update(&buffer[..read]);
                to.write_all(&buffer[..read]).map_err(Error::io("write", &self.config.folder))?;
                done += read as u64;
                let (name, total) = (entry.name.clone(), Some(entry.bytes));
                watch.tell(Event::Transfer { name, done, total });
            }
            let hash = hasher.finish();
            found = Some(hash);
            if hash == entry.sha256 { Ok(()) } else { Err(mismatch(entry, source.display(), hash)) }
        });
        match (copied, found) {
            (Ok(installed), _) => Ok(Ok(installed)),
            (Err(Error::ModelMismatch { .. }), Some(found)) => Ok(Err(found)),
            (Err(error), _) => Err(error),
        }
    }

    /// Copies a file that is known to be of `entry` into the user's folder and writes its entry.
    pub(super) fn publish(
        &self,
        entry: &ModelEntry,
        fill: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<Installed> {
        let folder = self.config.folder.join(&entry.name);
        publish::write(&folder.join(FILE), fill)?;
        publish_entry(&folder, entry)
    }

    /// Waits until no other process installs the model `name`. Released when dropped.
    pub(super) fn lock(&self, name: &str, watch: &Watch<'_>) -> Result<File> {
        let folder = self.config.folder.join(name);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(Error::io("create", &path))?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) if !told => {
                    watch.note(format!("another likeness is installing {name}; waiting for it"));
                    told = true;
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
            watch.check()?;
        }
    }
}

/// Writes the entry of a model whose file lies in `folder`: from now on it is installed.
fn publish_entry(folder: &Path, entry: &ModelEntry) -> Result<Installed> {
    let entry = ModelEntry { file: FILE.into(), ..entry.clone() };
    let path = folder.join(ENTRY);
    let text = toml::to_string(&entry).expect("an entry is plain data");
    publish::write(&path, |file| {
        file.write_all(text.as_bytes()).map_err(Error::io("write", &path))
    })?;
    Ok(Installed { entry, file: ModelFile::Path(folder.join(FILE)) })
}

fn mismatch(entry: &ModelEntry, origin: impl ToString, found: Sha256) -> Error {
    Error::ModelMismatch {
        name: entry.name.clone(),
        origin: origin.to_string(),
        expected: entry.sha256.to_string(),
        found: found.to_string(),
    }
}

/// Why no address served a file: hosts instead of addresses, those with the same reason together.
fn brief(reasons: &[(String, String)]) -> String {
    let mut told: Vec<(String, &str)> = Vec::new();
    for (url, reason) in reasons {
        let host = url.split("://").last().and_then(|rest| rest.split('/').next()).unwrap_or(url);
        match told.iter_mut().find(|(_, known)| known == reason) {
            Some((hosts, _)) => *hosts += &format!(", {host}"),
            None => told.push((host.to_owned(), reason)),
        }
    }
    let each = told.iter().map(|(hosts, reason)| format!("{hosts}: {reason}"));
    each.collect::<Vec<_>>().join("; ")
}

fn missing(entry: &ModelEntry, reason: &str, brief: String, place: PathBuf) -> Error {
    Error::ModelMissing {
        name: entry.name.clone(),
        reason: reason.into(),
        brief: brief.into(),
        file: format!("{} ({})", entry.file, megabytes(entry.bytes)),
        urls: entry.urls.clone().into(),
        place,
    }
}

pub(super) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brief_reason_names_hosts_and_each_cause_once() {
        let told = [("https://a.org/x/y.onnx", "no route"), ("http://b.org:80/y", "no route")];
        let told = told.into_iter().chain([("https://c.org/y.onnx", "HTTP 404")]);
        let told: Vec<_> = told.map(|(url, why)| (url.to_owned(), why.to_owned())).collect();
        assert_eq!(brief(&told), "a.org, b.org:80: no route; c.org: HTTP 404");
    }
}
