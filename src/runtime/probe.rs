//! Whether a file is an ONNX Runtime that serves, and which version.

use std::ffi::{CStr, c_char};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Serialize;

/// The version of an ONNX Runtime library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1 in all releases so far.
    pub major: u32,
    /// What decides which functions there are.
    pub minor: u32,
    /// Corrections only.
    pub patch: u32,
}

/// The oldest version that serves: the functions the `ort` crate was told to use (`api-24`).
pub const MINIMUM_VERSION: Version = Version { major: 1, minor: 24, patch: 0 };

impl Version {
    /// Reads `1.31.1`, also with a suffix as in `1.24.0-dev`.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text
            .split('.')
            .map(|part| part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("").parse());
        Some(Self {
            major: numbers.next()?.ok()?,
            minor: numbers.next()?.ok()?,
            patch: numbers.next().and_then(Result::ok).unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a file does not serve as ONNX Runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// There is no such file, or no library in the folder.
    #[error("there is no such file")]
    Missing,
    /// The system's loader refuses it: no library, another processor's, or one whose own needs lack.
    #[error("it cannot be loaded: {0}")]
    NotLoadable(String),
    /// A file that ends before its own headers say it does. Linux's loader maps such a file, and the
    /// process dies of SIGBUS at the first touch of what is not there.
    #[error("it is incomplete: {found} of {expected} bytes")]
    Incomplete {
        /// The file's length in bytes.
        found: u64,
        /// The least length its headers ask for.
        expected: u64,
    },
    /// A library, but not ONNX Runtime.
    #[error("it is a library, but not ONNX Runtime (it does not export OrtGetApiBase)")]
    Foreign,
    /// An ONNX Runtime whose version cannot be read.
    #[error("its version cannot be read")]
    NoVersion,
    /// An ONNX Runtime that lacks functions we need.
    #[error("it is version {0}, but {MINIMUM_VERSION} or newer is needed")]
    TooOld(Version),
}

impl Serialize for Unfit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The head of ONNX Runtime's `OrtApiBase`: two function pointers, the same since 1.0.
#[repr(C)]
struct ApiBase {
    api: *const (),
    version: unsafe extern "system" fn() -> *const c_char,
}

/// Whether an ELF file is as long as its segments need. Anything else is left to the loader.
pub(super) fn check_length(path: &Path) -> Result<(), Unfit> {
    let unreadable = |error: std::io::Error| Unfit::NotLoadable(error.to_string());
    let mut file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?.len();
    let expected = file_length(&mut file).unwrap_or(0);
    if found < expected { Err(Unfit::Incomplete { found, expected }) } else { Ok(()) }
}

/// The end of the last segment of a 64-bit little-endian ELF file (System V ABI, figures 4-3 and 5-1),
/// which ONNX Runtime's builds for Linux all are.
fn file_length(file: &mut (impl Read + Seek)) -> Option<u64> {
    let mut header = [0; 64];
    file.read_exact(&mut header).ok()?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let start = u64::from_le_bytes(header[32..40].try_into().ok()?);
    let (size, count) = (usize::from(half(54)).max(56), usize::from(half(56)));
    let mut end = start.checked_add((size * count) as u64)?;
    let mut segment = vec![0; size];
    file.seek(SeekFrom::Start(start)).ok()?;
    for _ in 0..count {
        // Cut within the table itself: what was found so far says enough.
        if file.read_exact(&mut segment).is_err() {
            break;
        }
        let long = |at: usize| segment[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or(0);
        end = end.max(long(8).checked_add(long(32))?);
    }
    Some(end)
}

/// Loads a library just to ask its version.
pub(super) fn probe(path: &Path) -> Result<Version, Unfit> {
    if !path.is_file() {
        return Err(Unfit::Missing);
    }
    check_length(path)?;
    // SAFETY: loading runs the library's initialisers. The file was named by the user, by the system's
    // own library folders, or installed by us with its hash checked; the loader refuses what is none.
    let library = unsafe { libloading::Library::new(path) }
        .map_err(|error| Unfit::NotLoadable(loader_text(&error, path)))?;
    type GetApiBase = unsafe extern "system" fn() -> *const ApiBase;
    // SAFETY: the symbol has this signature in every ONNX Runtime (onnxruntime_c_api.h).
    let base =
        unsafe { library.get::<GetApiBase>(b"OrtGetApiBase\0") }.map_err(|_| Unfit::Foreign)?;
    // SAFETY: it takes nothing and gives a static table, or null.
    let base = unsafe { base() };
    if base.is_null() {
        return Err(Unfit::NoVersion);
    }
    // SAFETY: not null, and static as long as the library is loaded, which it is until this returns.
    let text = unsafe { CStr::from_ptr(((*base).version)()) };
    let version = text.to_str().ok().and_then(Version::parse).ok_or(Unfit::NoVersion)?;
    if version < MINIMUM_VERSION { Err(Unfit::TooOld(version)) } else { Ok(version) }
}

/// What the loader said, without the path that stands before it already.
fn loader_text(error: &libloading::Error, path: &Path) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    let text = source.unwrap_or_else(|| error.to_string());
    text.replace(&format!("{}: ", path.display()), "").trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("1.9.0") < version("1.24.0"));
        assert_eq!(version("1.31.1").to_string(), "1.31.1");
        assert_eq!(version("1.24.0-dev").to_string(), "1.24.0");
        assert_eq!(Version::parse("newest"), None);
    }

    #[test]
    fn a_text_file_and_a_foreign_library_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("libonnxruntime.so");
        std::fs::write(&text, "no library").unwrap();
        assert!(matches!(probe(&text), Err(Unfit::NotLoadable(_))));
        assert_eq!(probe(&dir.path().join("missing.so")), Err(Unfit::Missing));
        #[cfg(target_os = "linux")]
        {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let libc = maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap();
            assert_eq!(probe(Path::new(libc)), Err(Unfit::Foreign));
        }
    }
}
