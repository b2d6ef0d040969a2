//! Where ONNX Runtime may lie: named by the user, beside the program, installed by us, installed with
//! the system, or inside a Python package.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use super::probe::{Unfit, Version, probe};
use super::{Build, RuntimeConfig, cuda, install};
use crate::error::{Error, Result};
use crate::record::lossy;

/// How a library was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The user named it.
    Explicit,
    /// It lies beside the program.
    BesideProgram,
    /// likeness installed it.
    Data,
    /// It lies in one of the system's library folders.
    System,
    /// It is part of the `onnxruntime` package of the Python on PATH.
    Python,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Origin::Explicit => "named by --onnxruntime or ORT_DYLIB_PATH",
            Origin::BesideProgram => "beside the program",
            Origin::Data => "installed by likeness",
            Origin::System => "in the system's library folders",
            Origin::Python => "in the Python package onnxruntime",
        })
    }
}

/// A library that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The file.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// How it was found.
    pub origin: Origin,
    /// Its version.
    pub version: Version,
    /// Whether CUDA lies beside it.
    pub cuda: bool,
}

impl Candidate {
    fn at(path: PathBuf, origin: Origin) -> Result<Self, (PathBuf, Unfit)> {
        match probe(&path) {
            Ok(version) => Ok(Self { cuda: cuda::is_beside(&path), path, origin, version }),
            Err(reason) => Err((path, reason)),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The first library that serves, in the order of [`Origin`]; where CUDA is wanted, the first that has it.
    pub found: Option<Candidate>,
    /// Those that came before it and do not serve, and why.
    pub passed_over: Vec<(PathBuf, Unfit)>,
}

/// The name of the library on this system.
const LIBRARY: &str = if cfg!(windows) {
    "onnxruntime.dll"
} else if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// Looks for a library that serves. Nothing is installed.
///
/// # Errors
/// [`Error::RuntimeUnfit`] when the user named one and it does not serve: quietly taking another would
/// hide the mistake.
pub fn locate(config: &RuntimeConfig) -> Result<Located> {
    if let Some(named) = &config.explicit {
        let path = if named.is_dir() { in_folder(named).pop() } else { Some(named.clone()) };
        let path = path.unwrap_or_else(|| named.join(LIBRARY));
        return match Candidate::at(path, Origin::Explicit) {
            Ok(found) => Ok(Located { found: Some(found), passed_over: Vec::new() }),
            Err((path, reason)) => Err(Error::RuntimeUnfit { path, reason: reason.to_string() }),
        };
    }
    let prefers_cuda = config.device.prefers_cuda();
    // The build with CUDA serves the CPU as well, where it is the only one.
    let builds = if prefers_cuda { [Build::Cuda, Build::Cpu] } else { [Build::Cpu, Build::Cuda] };
    let in_data = || builds.iter().filter_map(|b| install::installed(&config.data, *b)).collect();
    let (mut without_cuda, mut passed_over) = (None, Vec::new());
    // Lazily, from cheap to dear: the last one starts a Python.
    let places: [(Origin, &dyn Fn() -> Vec<PathBuf>); 4] = [
        (Origin::BesideProgram, &beside_program),
        (Origin::Data, &in_data),
        (Origin::System, &in_system),
        (Origin::Python, &in_python),
    ];
    for (origin, candidates) in places {
        for path in candidates() {
            match Candidate::at(path, origin) {
                Ok(found) if found.cuda || !prefers_cuda => {
                    return Ok(Located { found: Some(found), passed_over });
                }
                Ok(found) => drop(without_cuda.get_or_insert(found)),
                Err(unfit) => passed_over.push(unfit),
            }
        }
    }
    Ok(Located { found: without_cuda, passed_over })
}

fn beside_program() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    program.as_deref().and_then(Path::parent).map(in_folder).unwrap_or_default()
}

fn in_system() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let variable = if cfg!(windows) {
        "PATH"
    } else if cfg!(target_os = "macos") {
        "DYLD_LIBRARY_PATH"
    } else {
        "LD_LIBRARY_PATH"
    };
    folders.extend(std::env::var_os(variable).iter().flat_map(std::env::split_paths));
    #[cfg(unix)]
    folders.extend(
        ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/lib", "/opt/homebrew/lib"]
            .map(PathBuf::from),
    );
    #[cfg(target_os = "linux")]
    {
        folders.push(format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH).into());
        folders.extend(ld_so_folders(Path::new("/etc/ld.so.conf.d")));
    }
    folders.iter().filter(|f| f.is_absolute()).flat_map(|folder| in_folder(folder)).collect()
}

/// The folders that the system's loader was told about.
#[cfg(target_os = "linux")]
fn ld_so_folders(configuration: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(configuration) else { return Vec::new() };
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts
        .flat_map(|text| {
            text.lines()
                .map(str::trim)
                .filter(|l| l.starts_with('/'))
                .map(PathBuf::from)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Asks the Python on PATH where its `onnxruntime` package lies, without importing it.
fn in_python() -> Vec<PathBuf> {
    const SCRIPT: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
                          print(s.submodule_search_locations[0] if s else '')";
    for python in PYTHONS {
        let Ok(output) = Command::new(python)
            .args(["-c", SCRIPT])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
        else {
            continue;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && !text.trim().is_empty() {
            return in_folder(&Path::new(text.trim()).join("capi"));
        }
    }
    Vec::new()
}

/// The names a Python 3 has on PATH.
pub(super) const PYTHONS: [&str; 2] = ["python3", "python"];

/// The ONNX Runtime libraries in a folder: the plain name first, else by version, newest first.
pub(super) fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let plain = folder.join(LIBRARY);
    if plain.is_file() {
        return vec![plain];
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| is_versioned_library(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    paths.sort_by_key(|path| std::cmp::Reverse(numbers_in(path)));
    paths
}

/// `libonnxruntime.so.1.31.1`, `libonnxruntime.1.31.1.dylib`; not `libonnxruntime_providers_shared.so`.
fn is_versioned_library(name: &str) -> bool {
    let version = if cfg!(target_os = "macos") {
        name.strip_prefix("libonnxruntime.").and_then(|rest| rest.strip_suffix(".dylib"))
    } else {
        name.strip_prefix("libonnxruntime.so.")
    };
    version.is_some_and(|v| v.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

fn numbers_in(path: &Path) -> Vec<u32> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Device;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_newest_version_in_a_folder_comes_first_and_providers_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.31.1",
            "libonnxruntime_providers_shared.so",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = in_folder(dir.path());
        assert_eq!(found.len(), 2);
        assert!(found[0].ends_with("libonnxruntime.so.1.31.1"));
    }

    #[test]
    fn one_that_was_named_and_does_not_serve_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("nothing.so");
        let config = RuntimeConfig {
            explicit: Some(named.clone()),
            data: dir.path().to_path_buf(),
            offline: true,
            device: Device::Auto,
        };
        let error = locate(&config).unwrap_err();
        assert!(matches!(&error, Error::RuntimeUnfit { path, .. } if *path == named), "{error}");
    }
}
