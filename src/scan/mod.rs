//! Folders → a stream of [`SourceFile`]s. Looks at names and file status only; opens nothing.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use walkdir::{DirEntry, WalkDir};

use crate::record::{PathBytes, Skipped, SourceFile};

/// Folders that hold no photos of the user's own: thumbnails of network drives, bins, packages.
/// Names that begin with a dot (`.git`, `._*`, `.thumbnails`) are left out by a rule of their own.
const SYSTEM_FOLDERS: [&str; 7] = [
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "__MACOSX",
    "lost+found",
    "node_modules",
];

/// Which files of a root are wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Take names that begin with a dot and system folders (`@eaDir`, `node_modules`, …) too.
    pub hidden: bool,
    /// Follow symbolic links to files and folders; loops are found and reported.
    pub follow_links: bool,
    /// What matches is left out: a pattern without `/` is held against every name on the way, one
    /// with `/` against the path below the folder that it was said of.
    pub exclude: Exclude,
    /// Where that folder lies below the root; empty for the root itself.
    #[serde(skip)]
    pub said_of: PathBuf,
}

impl Selection {
    /// Whether it leaves out and takes what it does where nothing is said.
    pub fn is_default(&self) -> bool {
        !self.hidden && !self.follow_links && self.exclude.is_empty()
    }

    /// Leaves out as well what `inner` leaves out of the folder that lies at `below`.
    ///
    /// # Errors
    /// As [`Exclude::new`].
    pub fn leave_out_too(&mut self, inner: &Selection, below: &Path) -> Result<(), globset::Error> {
        // Bytes that are not UTF-8 have no pattern but that of all: rather too much is left out than too little.
        let folder = globset::escape(&below.to_string_lossy()).replace('\u{fffd}', "*");
        let mut patterns = self.exclude.patterns.clone();
        patterns.extend(inner.exclude.patterns.iter().map(|pattern| {
            let pattern = pattern.trim_end_matches('/');
            match pattern.strip_prefix('/').unwrap_or(pattern) {
                path if pattern.contains('/') => format!("{folder}/{path}"),
                name => format!("{folder}/**/{name}"),
            }
        }));
        self.exclude = Exclude::new(&patterns)?;
        Ok(())
    }
}

/// In the words of somebody who chose it; empty for the default.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let without = (!self.exclude.is_empty())
            .then(|| format!("without {}", self.exclude.patterns.join(", ")));
        let hidden = self.hidden.then(|| "with hidden files".to_owned());
        let links = self.follow_links.then(|| "following links".to_owned());
        let parts: Vec<String> = [without, hidden, links].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// A set of exclusion patterns; as data, the patterns.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Exclude {
    patterns: Vec<String>,
    names: GlobSet,
    paths: GlobSet,
}

impl TryFrom<Vec<String>> for Exclude {
    type Error = globset::Error;

    fn try_from(patterns: Vec<String>) -> Result<Self, globset::Error> {
        Self::new(&patterns)
    }
}

impl From<Exclude> for Vec<String> {
    fn from(exclude: Exclude) -> Self {
        exclude.patterns
    }
}

impl Exclude {
    /// Compiles the patterns; `*` in a pattern with `/` stops at `/`, `**` does not.
    ///
    /// # Errors
    /// When a pattern is not a glob, or all together are too large.
    pub fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        let mut names = GlobSetBuilder::new();
        let mut paths = GlobSetBuilder::new();
        for pattern in patterns {
            let trimmed = pattern.trim_end_matches('/');
            if trimmed.contains('/') {
                paths.add(
                    globset::GlobBuilder::new(trimmed.trim_start_matches('/'))
                        .literal_separator(true)
                        .build()?,
                );
            } else {
                names.add(Glob::new(trimmed)?);
            }
        }
        let patterns = patterns.to_vec();
        Ok(Self { patterns, names: names.build()?, paths: paths.build()? })
    }

    fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    fn matches(&self, name: &OsStr, relative: &Path) -> bool {
        self.names.is_match(name) || self.paths.is_match(relative)
    }
}

/// What a walk comes upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A regular file.
    File(SourceFile),
    /// A file or folder that cannot be looked into. What was known below it is not gone.
    Unreadable {
        /// Its path below the root; empty for the root itself.
        relative: PathBytes,
        /// Its absolute path, and why.
        skipped: Skipped,
    },
}

/// Walks `root` (absolute), or only the folder `below` it, in ascending order of the paths' bytes, so
/// that a walk and a sorted list of paths can be read side by side.
///
/// Sockets, pipes and devices are passed over, as are symbolic links unless
/// [`Selection::follow_links`].
pub fn walk<'a>(
    root: &'a Path,
    below: &Path,
    selection: &'a Selection,
) -> impl Iterator<Item = Found> + 'a {
    list(root, below, selection).map(|listed| listed.look_up(root))
}

/// The same by what folders list. What files are besides is to be looked up, which takes most of the time.
pub fn list<'a>(
    root: &'a Path,
    below: &Path,
    selection: &'a Selection,
) -> impl Iterator<Item = Listed> + 'a {
    let start = if below.as_os_str().is_empty() { root.to_path_buf() } else { root.join(below) };
    let (follow_links, said_of) = (selection.follow_links, root.join(&selection.said_of));
    WalkDir::new(start)
        .follow_links(follow_links)
        .sort_by(move |a, b| in_order_of_paths(a, b, follow_links))
        .into_iter()
        .filter_entry(move |entry| wanted(entry, &said_of, selection))
        .filter(|entry| entry.as_ref().map_or(true, |entry| entry.file_type().is_file()))
        .map(Listed)
}

/// A regular file that is not looked up yet, or what cannot be.
#[derive(Debug)]
pub struct Listed(walkdir::Result<DirEntry>);

impl Listed {
    /// What it is; `root` is where the walk began.
    pub fn look_up(self, root: &Path) -> Found {
        match self.0 {
            Ok(entry) => file(root, &entry),
            Err(error) => unreadable(root, &error),
        }
    }
}

/// What lies in `a` begins with `a/`, which comes after `a-b` and before `a0`. Both lie in one folder, so
/// that whole paths can be compared: taking names out of paths was a tenth of a walk. Links are not followed yet when
/// they are sorted.
fn in_order_of_paths(a: &DirEntry, b: &DirEntry, follow_links: bool) -> Ordering {
    fn path(entry: &DirEntry) -> &[u8] {
        entry.path().as_os_str().as_encoded_bytes()
    }
    let common = path(a).len().min(path(b).len());
    let (a_start, a_rest) = path(a).split_at(common);
    let (b_start, b_rest) = path(b).split_at(common);
    let is_folder = |entry: &DirEntry| {
        let leads_to_one = || entry.path_is_symlink() && entry.path().is_dir();
        entry.file_type().is_dir() || (follow_links && leads_to_one())
    };
    let end = |entry: &DirEntry| is_folder(entry).then_some(b'/');
    let rest = |rest: &[u8], entry: &DirEntry| rest.first().copied().or(end(entry));
    a_start.cmp(b_start).then_with(|| rest(a_rest, a).cmp(&rest(b_rest, b)))
}

/// Whether an entry of a walk is wanted; `said_of` is the folder that patterns with a slash count from.
fn wanted(entry: &DirEntry, said_of: &Path, selection: &Selection) -> bool {
    // What the user named is wanted, whatever its name.
    if entry.depth() == 0 {
        return true;
    }
    let name = entry.file_name();
    if !selection.hidden {
        let dotted = name.as_encoded_bytes().starts_with(b".");
        let system = entry.file_type().is_dir() && SYSTEM_FOLDERS.iter().any(|s| name == *s);
        if dotted || system {
            return false;
        }
    }
    selection.exclude.is_empty()
        || !selection.exclude.matches(name, relative_to(said_of, entry.path()))
}

fn file(root: &Path, entry: &DirEntry) -> Found {
    let metadata = match entry.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return unreadable(root, &error),
    };
    Found::File(SourceFile {
        root: root.to_path_buf(),
        relative: PathBytes::from_path(relative_to(root, entry.path())),
        size: metadata.len(),
        mtime_ns: mtime_ns(&metadata),
    })
}

fn unreadable(root: &Path, error: &walkdir::Error) -> Found {
    let path = error.path().unwrap_or(root).to_path_buf();
    let reason = match (error.loop_ancestor(), error.io_error()) {
        (Some(ancestor), _) => format!("a link that leads back to {}", ancestor.display()),
        (None, Some(io)) => format!("cannot be read: {io}"),
        (None, None) => error.to_string(),
    };
    let relative = PathBytes::from_path(relative_to(root, &path));
    Found::Unreadable { relative, skipped: Skipped { path, reason } }
}

fn relative_to<'a>(root: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}

/// Nanoseconds since 1970 of the last modification, negative before; 0 where the file system keeps none.
pub fn mtime_ns(metadata: &Metadata) -> i64 {
    let Ok(modified) = metadata.modified() else { return 0 };
    match modified.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, std::ops::Neg::neg)
        }
    }
}

/// Whether a folder holds nothing at all, as the mount point of a drive that is not there.
///
/// # Errors
/// When the folder cannot be read.
pub fn is_empty(folder: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}

/// The absolute path with links resolved, as roots are stored.
///
/// # Errors
/// When the path does not exist or cannot be reached.
pub fn canonical(folder: &Path) -> std::io::Result<PathBuf> {
    folder.canonicalize()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(root: &Path, selection: &Selection) -> Vec<String> {
        let mut names: Vec<String> = walk(root, Path::new(""), selection)
            .filter_map(|found| match found {
                Found::File(file) => Some(file.relative.to_path().display().to_string()),
                Found::Unreadable { .. } => None,
            })
            .collect();
        names.sort();
        names
    }

    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        dir
    }

    #[test]
    fn hidden_files_and_system_folders_are_left_out_unless_asked_for() {
        let dir = tree(&["a.jpg", "._a.jpg", ".git/b.jpg", "@eaDir/c.jpg", "d/node_modules/e.jpg"]);
        assert_eq!(names(dir.path(), &Selection::default()), ["a.jpg"]);
        let all = Selection { hidden: true, ..Selection::default() };
        assert_eq!(names(dir.path(), &all).len(), 5);
    }

    #[test]
    fn files_come_in_the_order_of_their_paths() {
        let dir = tree(&["a/2.jpg", "a-b.jpg", "a.jpg", "a0.jpg", "a/b/1.jpg", "A.jpg", "a/b.jpg"]);
        let selection = Selection::default();
        let all = walk(dir.path(), Path::new(""), &selection);
        let paths: Vec<PathBytes> = all
            .map(|found| match found {
                Found::File(file) => file.relative,
                Found::Unreadable { skipped, .. } => panic!("{skipped:?}"),
            })
            .collect();
        assert_eq!(paths.len(), 7);
        assert!(paths.is_sorted(), "{paths:?}");
    }

    #[test]
    fn a_pattern_without_a_slash_is_held_against_every_name() {
        let dir = tree(&["a/raw/1.jpg", "raw/2.jpg", "b/3.tmp.jpg", "b/4.jpg"]);
        let exclude = Exclude::new(&["raw/".into(), "*.tmp.*".into()]).unwrap();
        let selection = Selection { exclude, ..Selection::default() };
        assert_eq!(names(dir.path(), &selection), ["b/4.jpg"]);
        let exclude = Exclude::new(&["/raw/*".into(), "b/**".into()]).unwrap();
        let selection = Selection { exclude, ..Selection::default() };
        assert_eq!(names(dir.path(), &selection), ["a/raw/1.jpg"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_only_when_asked_and_a_loop_is_found() {
        let dir = tree(&["a/1.jpg"]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/up")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("a/1.jpg"), dir.path().join("2.jpg")).unwrap();
        assert_eq!(names(dir.path(), &Selection::default()), ["a/1.jpg"]);
        let follow = Selection { follow_links: true, ..Selection::default() };
        assert_eq!(names(dir.path(), &follow), ["2.jpg", "a/1.jpg"]);
        let loops = walk(dir.path(), Path::new(""), &follow)
            .filter(|found| matches!(found, Found::Unreadable { skipped, .. } if skipped.reason.contains("leads back to")))
            .count();
        assert_eq!(loops, 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_is_sorted_as_one() {
        let dir = tree(&["o/1.jpg", "p/2019 trip/2.jpg", "p/2019-a.jpg", "p/2019.jpg"]);
        std::os::unix::fs::symlink(dir.path().join("o"), dir.path().join("p/2019")).unwrap();
        let selection = Selection { follow_links: true, ..Selection::default() };
        let paths: Vec<PathBytes> = walk(&dir.path().join("p"), Path::new(""), &selection)
            .map(|found| match found {
                Found::File(file) => file.relative,
                Found::Unreadable { skipped, .. } => panic!("{skipped:?}"),
            })
            .collect();
        assert_eq!(paths.len(), 4);
        assert!(paths.is_sorted(), "{paths:?}");
    }

    #[test]
    fn a_pattern_with_a_slash_counts_from_the_folder_that_it_was_said_of() {
        let dir = tree(&["2019/raw/1.jpg", "2019/2.jpg", "raw/3.jpg"]);
        let exclude = Exclude::new(&["raw/*".into()]).unwrap();
        let of_root = Selection { exclude, ..Selection::default() };
        assert_eq!(names(dir.path(), &of_root), ["2019/2.jpg", "2019/raw/1.jpg"]);
        let of_folder = Selection { said_of: "2019".into(), ..of_root };
        assert_eq!(names(dir.path(), &of_folder), ["2019/2.jpg", "raw/3.jpg"]);
    }

    #[test]
    fn a_folder_that_becomes_part_of_another_is_selected_from_as_before() {
        let dir = tree(&["raw/1.jpg", "a/raw/2.jpg", "a/b/raw/3.jpg", "a/x/4.jpg", "a/y/x/5.jpg"]);
        let exclude = Exclude::new(&["raw".into(), "/x/*".into()]).unwrap();
        let inner = Selection { exclude, ..Selection::default() };
        assert_eq!(inner.to_string(), "without raw, /x/*");
        let mut outer = Selection::default();
        outer.leave_out_too(&inner, Path::new("a")).unwrap();
        assert_eq!(names(dir.path(), &outer), ["a/y/x/5.jpg", "raw/1.jpg"]);
        let kept = serde_json::to_string(&outer).unwrap();
        let again: Selection = serde_json::from_str(&kept).unwrap();
        assert_eq!(names(dir.path(), &again), ["a/y/x/5.jpg", "raw/1.jpg"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_left_out_of_a_folder_with_an_odd_name_stays_so_inside_another() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tree(&["b/raw/2.jpg"]);
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9"));
        fs::create_dir_all(dir.path().join(odd).join("raw")).unwrap();
        fs::write(dir.path().join(odd).join("raw/1.jpg"), "").unwrap();
        let exclude = Exclude::new(&["raw".to_owned()]).unwrap();
        let mut outer = Selection::default();
        outer.leave_out_too(&Selection { exclude, ..Selection::default() }, odd).unwrap();
        assert_eq!(names(dir.path(), &outer), ["b/raw/2.jpg"]);
    }

    #[test]
    fn a_time_before_1970_is_negative() {
        let dir = tree(&["old.jpg"]);
        let path = dir.path().join("old.jpg");
        let before = SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(10);
        fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        assert_eq!(mtime_ns(&path.metadata().unwrap()), -10_000_000_000);
    }
}
