//! The nouns every room shares: ids, hashes, files, hits.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// An image's number: the catalog's row id, never reused. The index uses the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub i64);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// BLAKE3 of a whole file: two files with the same hash are the same image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

/// What decides whether two embeddings may be compared: BLAKE3 over the network's bytes after
/// surgery, its preprocessing, output name and width. Vectors of different fingerprints never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelFingerprint([u8; 32]);

/// Gives a 32-byte hash its constructor, its bytes and its lower-case hexadecimal form.
macro_rules! hash_newtype {
    ($name:ident) => {
        impl $name {
            /// Takes the 32 bytes of the hash as they are.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the hash.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Reads 64 hexadecimal digits; `None` for anything else.
            pub fn from_hex(hex: &str) -> Option<Self> {
                Some(Self(*blake3::Hash::from_hex(hex).ok()?.as_bytes()))
            }
        }

        impl fmt::Display for $name {
            /// Writes 64 lower-case hexadecimal digits; a precision cuts them short (`{:.8}`).
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let hex = blake3::Hash::from_bytes(self.0).to_hex();
                f.pad(&hex)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self:.8}…)", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let hex = String::deserialize(deserializer)?;
                Self::from_hex(&hex)
                    .ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
            }
        }
    };
}

hash_newtype!(ContentHash);
hash_newtype!(ModelFingerprint);

impl ContentHash {
    /// That of a file, which is mapped for it and hashed by all threads.
    pub(crate) fn of_mapped(path: &Path) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap_rayon(path)?;
        Ok(Self(*hasher.finalize().as_bytes()))
    }
}

/// A path below a root, as the raw bytes the file system gave: names that are not UTF-8 survive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathBytes(Vec<u8>);

impl PathBytes {
    /// Takes bytes that [`PathBytes::as_bytes`] once gave.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes of `path`: exact on Unix; elsewhere UTF-8, with what is not Unicode replaced.
    pub fn from_path(path: &Path) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            Self(path.as_os_str().as_bytes().to_vec())
        }
        #[cfg(not(unix))]
        {
            Self(path.to_string_lossy().into_owned().into_bytes())
        }
    }

    /// The bytes, as stored in the catalog.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path these bytes name.
    pub fn to_path(&self) -> PathBuf {
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            PathBuf::from(std::ffi::OsStr::from_bytes(&self.0))
        }
        #[cfg(not(unix))]
        {
            PathBuf::from(String::from_utf8_lossy(&self.0).into_owned())
        }
    }
}

/// A path's own bytes in hexadecimal, where it is not UTF-8 and its text has to replace some.
pub fn path_bytes(path: &Path) -> Option<String> {
    let hex = || PathBytes::from_path(path).as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    path.to_str().is_none().then(hex)
}

/// Serialises a path as text, what is not UTF-8 replaced: serde's own way is an error there.
pub(crate) fn lossy<P: AsRef<Path>, S: Serializer>(path: &P, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.as_ref().display())
}

/// A regular file found below a root: where it is and how it looked when it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The absolute folder it was found under.
    pub root: PathBuf,
    /// Its path below the root.
    pub relative: PathBytes,
    /// Its size in bytes.
    pub size: u64,
    /// Its modification time in nanoseconds since 1970, negative before.
    pub mtime_ns: i64,
}

impl SourceFile {
    /// The absolute path.
    pub fn path(&self) -> PathBuf {
        self.root.join(self.relative.to_path())
    }
}

/// What is known of an image besides its pixels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhotoFacts {
    /// Width in pixels, upright (after the EXIF orientation); of a camera RAW file, its preview's.
    pub width: u32,
    /// Height in pixels, upright; of a camera RAW file, its preview's.
    pub height: u32,
    /// The format the content has, whatever the name says: `jpeg`, `heic`, `raw`, … (`likeness formats`).
    pub format: &'static str,
    /// What cameras and people wrote into it.
    #[serde(flatten)]
    pub details: PhotoDetails,
}

/// What cameras and people wrote into a photo (EXIF, XMP); nothing where they wrote nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PhotoDetails {
    /// When it was taken, in the form of ISO 8601: `2024-05-01T12:34:56+02:00`. Without the offset where
    /// the camera wrote none: then it is the time on its clock.
    pub taken_at: Option<String>,
    /// Make and model, the make once.
    pub camera: Option<String>,
    /// The lens's model.
    pub lens: Option<String>,
    /// Degrees, north positive, in [-90, 90]; there whenever `longitude` is.
    pub latitude: Option<f64>,
    /// Degrees, east positive, in [-180, 180].
    pub longitude: Option<f64>,
    /// 1 to 5 stars, 0 unrated, -1 rejected.
    pub rating: Option<i8>,
    /// In the order they are written.
    pub keywords: Vec<String>,
}

/// A file that was found but could not be indexed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The absolute path.
    pub path: PathBuf,
    /// Why, for a person to read: lower case, no full stop.
    pub reason: String,
}

impl Serialize for Skipped {
    /// `path` and `reason`; `path_bytes`, too, where the path is not UTF-8.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bytes = path_bytes(&self.path);
        let mut fields = to.serialize_struct("Skipped", 2 + usize::from(bytes.is_some()))?;
        fields.serialize_field("path", &self.path.to_string_lossy())?;
        match bytes {
            Some(bytes) => fields.serialize_field("path_bytes", &bytes)?,
            None => fields.skip_field("path_bytes")?,
        }
        fields.serialize_field("reason", &self.reason)?;
        fields.end()
    }
}

/// One answer of a search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Hit {
    /// The image.
    pub id: ImageId,
    /// The cosine of query and image, in [-1, 1].
    pub score: f32,
}

impl Hit {
    /// Best first; equal scores by ascending id. A total order, as a score is never NaN.
    pub fn best_first(a: &Hit, b: &Hit) -> std::cmp::Ordering {
        b.score.total_cmp(&a.score).then(a.id.cmp(&b.id))
    }
}

/// One row of an export: an image, its best-known path and its raw features.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportRow {
    /// The image.
    pub id: ImageId,
    /// The absolute path of its first file.
    pub path: PathBuf,
    /// The hash of its content.
    pub content_hash: ContentHash,
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// The format the content has: `jpeg`, `heic`, `raw`, ….
    pub format: String,
    /// What cameras and people wrote into it.
    pub details: PhotoDetails,
    /// The raw pooled features.
    pub features: crate::embedding::Features,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_survives_its_hexadecimal_form() {
        let hash = ContentHash::from_bytes(*blake3::hash(b"photo").as_bytes());
        assert_eq!(ContentHash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(format!("{hash:.8}").len(), 8);
        assert_eq!(ContentHash::from_hex("12"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_unicode_survives() {
        let bytes = PathBytes::from_bytes(b"caf\xe9/1.jpg".to_vec());
        assert_eq!(PathBytes::from_path(&bytes.to_path()), bytes);
    }

    #[cfg(unix)]
    #[test]
    fn a_skipped_file_that_is_not_unicode_is_json() {
        let told = |name: &[u8]| {
            let path = PathBytes::from_bytes(name.to_vec()).to_path();
            serde_json::to_string(&Skipped { path, reason: "damaged".into() }).unwrap()
        };
        assert_eq!(told(b"/a.jpg"), r#"{"path":"/a.jpg","reason":"damaged"}"#);
        let lossy = "{\"path\":\"/\u{fffd}\",\"path_bytes\":\"2fe9\",\"reason\":\"damaged\"}";
        assert_eq!(told(b"/\xe9"), lossy);
    }

    #[test]
    fn hits_are_ordered_best_first_and_ties_by_id() {
        let hit = |id, score| Hit { id: ImageId(id), score };
        let mut hits = vec![hit(3, 0.5), hit(2, 0.9), hit(1, 0.5)];
        hits.sort_by(Hit::best_first);
        assert_eq!(hits, [hit(2, 0.9), hit(1, 0.5), hit(3, 0.5)]);
    }
}
