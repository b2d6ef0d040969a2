//! Temporary files of exports that were killed: the next export into the same folder removes them.
//!
//! An export holds a shared lock on the folders that its temporary files lie in, and the system takes it back however
//! the process ends. So whoever gets such a lock alone knows that nobody needs what lies there.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What temporary names begin with; six letters or digits follow.
pub(super) const PREFIX: &str = ".likeness-export-";

/// An earlier export that was moved aside, in a temporary folder: no leftover, but somebody's data.
pub(super) const EARLIER: &str = "earlier";

/// Times that a lock is tried for, and how long apart. Another export has it alone for a moment only; a program that
/// runs this one under it, as `flock DIR likeness export DIR/out.npy`, all the time, and keeps others away itself.
const TRIES: u32 = 50;
const APART: Duration = Duration::from_millis(20);

/// Removes what killed exports left in a folder, unless another export writes there; and as long as what it gives is
/// open, no other export takes for such what this one writes. Where folders cannot be locked, as on Windows, nothing
/// is removed.
pub(super) fn hold(folder: &Path) -> Option<File> {
    let held = File::open(folder).ok()?;
    if held.try_lock().is_ok() {
        sweep(folder);
        held.unlock().ok()?;
    }
    for _ in 0..TRIES {
        match held.try_lock_shared() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(APART),
            _ => break,
        }
    }
    Some(held)
}

/// What cannot be removed stays: that is no reason to export nothing.
fn sweep(folder: &Path) {
    for path in leftovers(folder) {
        let _ = match path.is_dir() {
            true => std::fs::remove_dir_all(path),
            false => std::fs::remove_file(path),
        };
    }
}

fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let Ok(inside) = folder.read_dir() else { return Vec::new() };
    let ours = inside.filter_map(Result::ok).filter(|entry| {
        entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(|rest| {
            rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    });
    ours.filter(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => !entry.path().join(EARLIER).exists(),
        Ok(kind) => kind.is_file(),
        Err(_) => false,
    })
    .map(|entry| entry.path())
    .collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_what_killed_exports_left_is_removed_and_only_when_nobody_writes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        for name in ["abc123/new/img_emb", "Def456/earlier"] {
            std::fs::create_dir_all(folder.join(format!("{PREFIX}{name}"))).unwrap();
        }
        for name in [".likeness-export-Ghi789", ".likeness-export-mine.txt", "photo.jpg"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("photo.jpg", folder.join(".likeness-export-link00")).unwrap();
        let left = || {
            let names = folder.read_dir().unwrap().map(|e| e.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        let all = left();
        let writes = File::open(folder).unwrap();
        writes.lock_shared().unwrap();
        assert!(hold(folder).is_some());
        assert_eq!(left(), all);
        drop(writes);
        assert!(hold(folder).is_some());
        let stays = [
            ".likeness-export-Def456",
            ".likeness-export-link00",
            ".likeness-export-mine.txt",
            "photo.jpg",
        ];
        assert_eq!(left(), stays);
        assert!(hold(&folder.join("missing")).is_none());
    }
}
