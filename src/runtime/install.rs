//! Installs ONNX Runtime: the official wheel, by the ordinary pip client, its hash checked.
//!
//! The library inside the wheel stands on its own; Python is only the courier. One wheel a platform is
//! pinned, whatever the local Python's version, as the library in all of them is the same. The build with CUDA
//! lies in a folder of its own, beside NVIDIA's libraries.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::locate::in_folder;
use super::wheel::{Build, PINNED_VERSION, Wheel};
use super::{pip, probe};
use crate::error::{Error, Result};
use crate::progress::Watch;

/// Where the wheels come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The Python package index that the local pip is set up for.
    PyPi,
    /// Wheels that were fetched already: for [`Build::Cpu`] one, for [`Build::Cuda`] all by their own names.
    Wheels(Vec<PathBuf>),
}

/// The folder of an installed runtime.
fn folder(data: &Path, build: Build) -> PathBuf {
    data.join("runtime").join(build.folder())
}

/// The library that [`install`] put into the data folder, if it did; whether it serves is not asked.
pub fn installed(data: &Path, build: Build) -> Option<PathBuf> {
    in_folder(&folder(data, build)).into_iter().next()
}

/// Installs ONNX Runtime into `data/runtime` and returns the library's path. What is there already is
/// replaced; another build stays. Two processes may do so at once: both unpack, the last rename stays.
///
/// # Errors
/// [`Error::RuntimePlatform`] where there is no wheel; [`Error::Pip`] when there is no Python with pip
/// or it cannot fetch; [`Error::WheelMissing`] when not all wheels were named; [`Error::WheelHash`] when one is
/// not the pinned one; [`Error::Wheel`] when it cannot be unpacked; [`Error::Io`]; [`Error::Cancelled`].
pub fn install(data: &Path, build: Build, source: &Source, watch: &Watch<'_>) -> Result<PathBuf> {
    let wheels = build.wheels()?;
    let runtime = data.join("runtime");
    fs::create_dir_all(&runtime).map_err(Error::io("create", &runtime))?;
    let temporary = tempfile::Builder::new()
        .prefix(".installing-")
        .tempdir_in(&runtime)
        .map_err(Error::io("create a folder in", &runtime))?;
    let files = match source {
        Source::Wheels(files) => named(wheels, files)?,
        Source::PyPi => {
            let megabytes = build.download_bytes()? / 1_000_000;
            watch.note(match build {
                Build::Cpu => format!(
                    "installing ONNX Runtime {PINNED_VERSION} with pip ({megabytes} MB, once)"
                ),
                Build::Cuda => format!(
                    "installing ONNX Runtime {PINNED_VERSION} with CUDA with pip: {megabytes} MB are \
                     downloaded once, and take 2,100 MB on disk"
                ),
            });
            pip::download(wheels, temporary.path(), watch)?
        }
    };
    let unpacked = temporary.path().join("unpacked");
    fs::create_dir_all(&unpacked).map_err(Error::io("create", &unpacked))?;
    for (file, wheel) in files.iter().zip(wheels) {
        watch.check()?;
        check(file, wheel)?;
        unpack(file, wheel, &unpacked)?;
        if *source == Source::PyPi {
            // The large ones need not lie on the disk twice. What stays goes with the folder.
            let _ = fs::remove_file(file);
        }
    }
    let folder = folder(data, build);
    publish(&unpacked, &folder)?;
    let library = installed(data, build).ok_or_else(|| Error::Wheel {
        path: files[0].clone(),
        source: "it holds no ONNX Runtime library".into(),
    })?;
    probe::probe(&library).map_err(|reason| Error::RuntimeUnfit {
        path: library.clone(),
        reason: reason.to_string(),
    })?;
    watch.note(format!("ONNX Runtime {PINNED_VERSION} is in {}", folder.display()));
    Ok(library)
}

/// The files for the wheels, in their order. A single wheel may have any name: its hash decides.
fn named(wheels: &[Wheel], files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if let ([_], [file]) = (wheels, files) {
        return Ok(vec![file.clone()]);
    }
    let find = |wheel: &Wheel| {
        let (package, version) = (wheel.package, wheel.version);
        wheel.among(files).ok_or(Error::WheelMissing { package, version })
    };
    wheels.iter().map(find).collect()
}

fn check(file: &Path, wheel: &Wheel) -> Result<()> {
    let mut hasher = Sha256::new();
    let mut reader = File::open(file).map_err(Error::io("open", file))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut buffer).map_err(Error::io("read", file))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == wheel.sha256 {
        return Ok(());
    }
    let expected = wheel.sha256.to_owned();
    Err(Error::WheelHash { path: file.to_path_buf(), expected, found })
}

/// Takes what is wanted out of a wheel, and nothing else.
fn unpack(file: &Path, wheel: &Wheel, target: &Path) -> Result<()> {
    let damaged = |error: zip::result::ZipError| Error::Wheel {
        path: file.to_path_buf(),
        source: Box::new(error),
    };
    let opened = File::open(file).map_err(Error::io("open", file))?;
    let mut archive = zip::ZipArchive::new(opened).map_err(damaged)?;
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        let Some(name) = wheel.kept(&name) else { continue };
        let path = target.join(name);
        let mut out = File::create(&path).map_err(Error::io("create", &path))?;
        io::copy(&mut entry, &mut out)
            .and_then(|_| out.flush())
            .and_then(|()| out.sync_all())
            .map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// Puts the unpacked folder in its place. A folder that is there is moved away first.
fn publish(unpacked: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        let old = unpacked.with_file_name("old");
        fs::rename(folder, &old).map_err(Error::io("move away", folder))?;
    }
    match fs::rename(unpacked, folder) {
        Ok(()) => {}
        // Another process was faster; its files passed the same check.
        Err(_) if !in_folder(folder).is_empty() => {}
        Err(error) => return Err(Error::io("rename to", folder)(error)),
    }
    #[cfg(unix)]
    if let Some(parent) = folder.parent() {
        let opened = File::open(parent).map_err(Error::io("open", parent))?;
        opened.sync_all().map_err(Error::io("sync", parent))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_with_another_hash_is_refused_and_nothing_is_installed() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("onnxruntime.whl");
        fs::write(&wheel, "not the pinned wheel").unwrap();
        let data = dir.path().join("data");
        let source = Source::Wheels(vec![wheel]);
        let error = install(&data, Build::Cpu, &source, &Watch::none()).unwrap_err();
        assert!(matches!(error, Error::WheelHash { .. }), "{error}");
        assert_eq!(installed(&data, Build::Cpu), None);
        assert_eq!(fs::read_dir(data.join("runtime")).unwrap().count(), 0);
    }
}
