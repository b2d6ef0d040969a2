//! The manifest of a generation: what it is, and the size and hash of each of its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Calibration, Params, Unusable};
use crate::record::ModelFingerprint;

/// The format of the files; another one is built anew.
pub(super) const FORMAT: u32 = 7;

/// Since this one a person can say how many links there shall be; before, 16 were written down whatever the count.
const FORMAT_OF_M: u32 = 5;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const CODER: &str = "coder.bin";
pub(super) const CODES: &str = "codes.bin";
pub(super) const GRAPH: &str = "graph.bin";
pub(super) const IDS: &str = "ids.bin";
pub(super) const ROUGH: &str = "rough.bin";
pub(super) const FINE: &str = "fine.bin";

/// All files of a generation.
pub(super) const FILES: [&str; 6] = [CODER, CODES, GRAPH, IDS, ROUGH, FINE];

/// What codes are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Coding {
    /// Whether they are principal components of the library; else the vectors' own components.
    pub learned: bool,
    /// Components of a code, one byte each.
    pub code_width: usize,
    /// The share of the vectors' variance that the components keep, in [0, 1].
    pub kept: f32,
}

/// What a generation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) generation: String,
    pub(super) fingerprint: ModelFingerprint,
    pub(super) width: usize,
    pub(super) count: usize,
    pub(super) last_sequence: i64,
    pub(super) params: Params,
    /// What [`Params::m`] was for so many.
    pub(super) m: usize,
    pub(super) coding: Coding,
    pub(super) calibration: Calibration,
    pub(super) files: BTreeMap<String, FileRecord>,
}

/// A file as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub(super) bytes: u64,
    pub(super) blake3: String,
}

/// The newest embedding that the published generation in `folder` says it holds; `None` where there is
/// none for this model and version. Nothing but its manifest is read.
pub fn last_sequence(folder: &Path, fingerprint: ModelFingerprint) -> Option<i64> {
    ours(folder, fingerprint).map(|manifest| manifest.last_sequence)
}

/// How the published generation in `folder` was built, if it is of this model: in a former format, too, as what a
/// person chose is not in the catalog.
pub fn params(folder: &Path, fingerprint: ModelFingerprint) -> Option<Params> {
    /// What manifests of all formats have.
    #[derive(Deserialize)]
    struct Known {
        format: u32,
        fingerprint: ModelFingerprint,
        params: Params,
    }
    let text = fs::read(folder.join(MANIFEST)).ok()?;
    let known: Known = serde_json::from_slice(&text).ok()?;
    let m = known.params.m.filter(|_| known.format >= FORMAT_OF_M);
    (known.fingerprint == fingerprint).then_some(Params { m, ..known.params })
}

fn ours(folder: &Path, fingerprint: ModelFingerprint) -> Option<Manifest> {
    read(&folder.join(MANIFEST)).ok().filter(|manifest| manifest.fingerprint == fingerprint)
}

/// Reads a manifest of this version.
pub(super) fn read(path: &Path) -> Result<Manifest, Unusable> {
    let damaged = |what: String| Unusable::Damaged { path: path.to_path_buf(), what };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Unusable::Missing);
        }
        Err(error) => return Err(damaged(format!("cannot be read: {error}"))),
    };
    let no_manifest = |error: serde_json::Error| damaged(format!("is no manifest: {error}"));
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(no_manifest)?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0) as u32;
    if format == 0 {
        return Err(damaged("is no manifest: it has no format".to_owned()));
    }
    if format != FORMAT {
        return Err(Unusable::OtherFormat { found: format, known: FORMAT });
    }
    serde_json::from_value(value).map_err(no_manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_chose_outlives_the_format() {
        let dir = tempfile::tempdir().unwrap();
        let fingerprint = ModelFingerprint::from_bytes([5; 32]);
        let write = |format: u32| {
            let written = r#"{"m":16,"ef_construction":100,"code_width":128,"recall":0.95}"#;
            let text = format!(
                r#"{{"format":{format},"fingerprint":"{fingerprint}","params":{written}}}"#
            );
            fs::write(dir.path().join(MANIFEST), text).unwrap();
            params(dir.path(), fingerprint)
        };
        let chosen = Params { code_width: Some(128), recall: 0.95, ..Params::default() };
        assert_eq!(write(4), Some(chosen));
        for format in [5, FORMAT] {
            assert_eq!(write(format), Some(Params { m: Some(16), ..chosen }));
        }
        assert_eq!(params(dir.path(), ModelFingerprint::from_bytes([6; 32])), None);
    }
}
