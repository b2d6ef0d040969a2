//! Wheels, fetched by the ordinary pip client.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::locate::PYTHONS;
use super::wheel::Wheel;
use crate::error::{Error, Result};
use crate::progress::Watch;

/// Lets pip fetch wheels into `folder`, and returns their paths in order.
///
/// # Errors
/// [`Error::Pip`]; [`Error::Cancelled`]; [`Error::Io`].
pub(super) fn download(wheels: &[Wheel], folder: &Path, watch: &Watch<'_>) -> Result<Vec<PathBuf>> {
    let failed = |reason: &str, said: String| Error::Pip { reason: reason.to_owned(), said };
    let log = folder.join("pip.log");
    let mut child = start(wheels, folder, &log)?;
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
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let find = |wheel: &Wheel| {
        wheel.among(&paths).ok_or_else(|| failed("it left no wheel behind", said.clone()))
    };
    wheels.iter().map(find).collect()
}

fn start(wheels: &[Wheel], folder: &Path, log: &Path) -> Result<Child> {
    let failed = |reason: &str, said: String| Error::Pip { reason: reason.to_owned(), said };
    for python in PYTHONS {
        let output = File::create(log).map_err(Error::io("create", log))?;
        let errors = output.try_clone().map_err(Error::io("open", log))?;
        let mut command = Command::new(python);
        command
            .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"])
            .args(["--progress-bar", "off", "--disable-pip-version-check"])
            .args(["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]);
        let mut platforms: Vec<_> = wheels.iter().map(|wheel| wheel.platform).collect();
        platforms.sort_unstable();
        platforms.dedup();
        for platform in platforms {
            command.args(["--platform", platform]);
        }
        if wheels.len() > 1 {
            // More than a gigabyte: not once more in pip's cache, nor on a small /tmp.
            command.arg("--no-cache-dir").env("TMPDIR", folder);
        }
        command.arg("--dest").arg(folder);
        command.args(wheels.iter().map(|wheel| format!("{}=={}", wheel.package, wheel.version)));
        match command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn() {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("it cannot be started", error.to_string())),
        }
    }
    Err(failed("there is no python3 on PATH", String::new()))
}
