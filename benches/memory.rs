//! Peak memory of `likeness index` over 1,000 and over 5,000 photos: it must not grow with the folder.
//!
//! ```text
//! cargo bench --bench memory [-- PHOTOS-FOLDER]
//! ```
//!
//! The photos are those of the folder (by default `../shared/photos/categories`), as often as it takes,
//! each with a comment of its own behind its first marker: other bytes, the same pixels. ONNX Runtime and
//! the model are found, or installed, as `likeness index` does it.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const COUNTS: [usize; 2] = [1_000, 5_000];
const ROUNDS: usize = 1;

fn main() -> io::Result<()> {
    let folder = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let folder = folder.map_or_else(|| "../shared/photos/categories".into(), PathBuf::from);
    let photos = photos(&folder)?;
    if photos.is_empty() {
        println!("there are no JPEG photos in {}; name a folder that has some", folder.display());
        return Ok(());
    }
    println!("peak memory of one process, in MB; {} different photos", photos.len());
    let mut peaks = COUNTS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (count, peaks) in COUNTS.into_iter().zip(&mut peaks) {
            let peak = index(&photos, count)?;
            println!("{count:>6} photos {peak:>8.1}");
            peaks.push(peak);
        }
    }
    let [few, many] = peaks.map(|peaks| peaks.into_iter().fold(0.0, f64::max));
    println!("{:.3} times as much for {} as for {}", many / few, COUNTS[1], COUNTS[0]);
    Ok(())
}

/// All JPEG files below a folder, in the order of their names.
fn photos(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(photos(&path)?);
        } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jpg")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Indexes `count` photos into a new library and returns the peak of the process, in MB.
fn index(photos: &[PathBuf], count: usize) -> io::Result<f64> {
    let dir = tempfile::tempdir()?;
    let folder = dir.path().join("photos");
    fs::create_dir(&folder)?;
    for (number, photo) in photos.iter().cycle().take(count).enumerate() {
        let bytes = fs::read(photo)?;
        let comment = format!("{number:08}");
        // SOI, then COM: a marker, its length with these two bytes, the text.
        let mut other = bytes[..2].to_vec();
        other.extend([0xff, 0xfe, 0, 2 + comment.len() as u8]);
        other.extend(comment.as_bytes());
        other.extend(&bytes[2..]);
        fs::write(folder.join(format!("{number}.jpg")), other)?;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_likeness"));
    command.arg("index").arg(&folder).arg("--library").arg(dir.path().join("library"));
    peak_of(command.stdin(Stdio::null()).stdout(Stdio::null()))
}

#[cfg(unix)]
fn peak_of(command: &mut Command) -> io::Result<f64> {
    let child = command.spawn()?;
    let mut status = 0;
    // SAFETY: all bytes of an rusage may be zero.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the child is ours, nobody else waits for it, and both pointers are valid for writing.
    let waited = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    if waited < 0 {
        return Err(io::Error::last_os_error());
    }
    assert_eq!(status, 0, "likeness index failed: its reason stands above");
    let unit = if cfg!(target_os = "macos") { 1.0 } else { 1024.0 };
    Ok(usage.ru_maxrss as f64 * unit / 1e6)
}

#[cfg(not(unix))]
fn peak_of(_: &mut Command) -> io::Result<f64> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "peak memory is read on Unix only"))
}
