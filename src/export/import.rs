//! An export that is read back: what it says of itself, whether it is whole, and its rows.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::manifest::Manifest;
use super::sink::hash_of;
use super::vectors::{Dtype, Shape, invalid};
use super::{FileRecord, Format, beside, jsonl, npy, parquet};
use crate::embedding::Features;
use crate::error::{Error, Result};
use crate::progress::Watch;
use crate::record::{ContentHash, PhotoDetails};

/// An export and its manifest, looked at and found fit to be read into a library.
#[derive(Debug)]
pub struct Import {
    manifest: Manifest,
    folder: PathBuf,
}

/// An export whose files are all as its manifest says.
#[derive(Debug, Clone, Copy)]
pub struct Verified<'a>(&'a Import);

/// An image of an export.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedImage {
    /// The hash of its content.
    pub content_hash: ContentHash,
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// The format the content has.
    pub format: String,
    /// What cameras and people wrote into it.
    pub details: PhotoDetails,
    /// The raw pooled features.
    pub features: Features,
}

impl Import {
    /// Opens an export by its manifest, or by the file that the manifest stands beside.
    ///
    /// # Errors
    /// [`Error::ImportManifest`] when there is no manifest or it is none; [`Error::ImportUnsuited`] when the
    /// export does not hold what a library keeps: raw features in single precision.
    pub fn open(path: &Path) -> Result<Self> {
        let is_manifest = path.to_string_lossy().ends_with("manifest.json");
        let manifest_path = match path {
            _ if path.is_dir() => path.join("manifest.json"),
            _ if is_manifest => path.to_path_buf(),
            _ => beside(path, "manifest.json"),
        };
        let manifest: Manifest = read_manifest(&manifest_path)
            .map_err(|source| Error::ImportManifest { path: manifest_path.clone(), source })?;
        let refused = |what: &str, remedy: &str| Error::ImportUnsuited {
            path: path.to_path_buf(),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        };
        if !matches!(manifest.format, Format::Npy | Format::Parquet) {
            return Err(refused(
                &format!("{} is not read back", manifest.format.name()),
                "export npy or parquet",
            ));
        }
        if manifest.normalized {
            return Err(refused(
                "its vectors were scaled to length 1, and a library keeps the raw features",
                "export without `--normalized`",
            ));
        }
        if manifest.dtype != Dtype::F32 {
            return Err(refused(
                "its vectors were rounded to 16 bits, and a library keeps the exact features",
                "export without `--dtype f16`",
            ));
        }
        let folder = manifest_path.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(Self { manifest, folder })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Compares all its files with the hashes in its manifest, and the rows in them with its count.
    ///
    /// # Errors
    /// [`Error::ImportDamaged`] when something is another, [`Error::Io`] when it cannot be read.
    pub fn verify(&self, watch: &Watch<'_>) -> Result<Verified<'_>> {
        for FileRecord { name, bytes, blake3, .. } in &self.manifest.files {
            watch.check()?;
            let path = self.path(name)?;
            let damaged = |what: String| Error::ImportDamaged { path: path.clone(), what };
            let found = std::fs::metadata(&path).map_err(Error::io("read", &path))?.len();
            if found != *bytes {
                return Err(damaged(format!("it has {found} bytes, expected {bytes}")));
            }
            let hash = hash_of(&path).map_err(Error::io("read", &path))?;
            if hash != *blake3 {
                return Err(damaged(format!("its BLAKE3 is {hash}, expected {blake3}")));
            }
        }
        let mut count = 0;
        for part in self.parts()? {
            let rows = part.rows(self.manifest.width).map_err(|error| Error::ImportDamaged {
                path: part.vectors().to_path_buf(),
                what: error.to_string(),
            })?;
            count += rows;
        }
        let expected = self.manifest.count;
        if count != expected {
            let what = format!("it holds {count} vectors, expected {expected}");
            return Err(Error::ImportDamaged { path: self.folder.clone(), what });
        }
        Ok(Verified(self))
    }

    /// Its files, those that belong together together, in the order of the rows.
    fn parts(&self) -> Result<Vec<Part>> {
        let paths: Vec<PathBuf> =
            self.manifest.files.iter().map(|file| self.path(&file.name)).collect::<Result<_>>()?;
        Ok(match self.manifest.format {
            Format::Parquet => paths.into_iter().map(Part::Parquet).collect(),
            _ => {
                let (pairs, rest) = paths.as_chunks::<2>();
                if let [alone] = rest {
                    let what = "the manifest names no ids for it".into();
                    return Err(Error::ImportDamaged { path: alone.clone(), what });
                }
                pairs.iter().map(|[data, ids]| Part::Npy(data.clone(), ids.clone())).collect()
            }
        })
    }

    /// A file of the export: never one outside of its folder.
    fn path(&self, name: &str) -> Result<PathBuf> {
        use std::path::Component;
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        match inside && !name.is_empty() {
            true => Ok(self.folder.join(name)),
            false => Err(Error::ImportManifest {
                path: self.folder.join("manifest.json"),
                source: invalid(format!("it names {name}, which is not beside it")),
            }),
        }
    }
}

impl Verified<'_> {
    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Gives each image to `each`, in the order of the files. One at a time: memory does not grow with them.
    ///
    /// # Errors
    /// [`Error::ImportDamaged`] when a row is not what it should be; whatever `each` gives.
    pub fn each(&self, each: &mut dyn FnMut(ImportedImage) -> Result<()>) -> Result<()> {
        let width = self.manifest().width;
        for part in self.0.parts()? {
            let mut failure = None;
            let read = part.each(width, &mut |image| {
                each(image).map_err(|error| {
                    failure = Some(error);
                    io::Error::other("stopped")
                })
            });
            if let Err(error) = read {
                let path = part.vectors().to_path_buf();
                let damaged = Error::ImportDamaged { path, what: error.to_string() };
                return Err(failure.unwrap_or(damaged));
            }
        }
        Ok(())
    }
}

fn read_manifest(path: &Path) -> io::Result<Manifest> {
    let mut bytes = Vec::new();
    // A manifest names files and is never large; what is large is another file.
    File::open(path)?.take(256 << 20).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The manifest of an earlier export, if it is one. Nothing else than a file is opened: a pipe would be waited for.
pub(super) fn earlier_manifest(path: &Path) -> Option<Manifest> {
    path.metadata().ok().filter(|there| there.is_file())?;
    read_manifest(path).ok()
}

/// Whether a folder is an earlier export, and nothing else: it may be replaced by another. So may an empty one.
pub(super) fn is_export_folder(path: &Path) -> bool {
    let empty = || path.read_dir().is_ok_and(|mut inside| inside.next().is_none());
    let is_folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let Some(manifest) = earlier_manifest(&path.join("manifest.json")) else {
        return is_folder && empty();
    };
    let ours =
        |name: &str| name == "manifest.json" || manifest.files.iter().any(|file| file.name == name);
    is_folder && all_files(path, "", &ours)
}

/// Whether all files below a folder are as `ours` says, and none is anything but a file or a folder.
fn all_files(folder: &Path, prefix: &str, ours: &dyn Fn(&str) -> bool) -> bool {
    folder.read_dir().is_ok_and(|inside| {
        inside.into_iter().all(|entry| {
            entry.is_ok_and(|entry| {
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => {
                        all_files(&entry.path(), &format!("{name}/"), ours)
                    }
                    Ok(kind) => kind.is_file() && ours(&name),
                    Err(_) => false,
                }
            })
        })
    })
}

/// Files that belong together.
enum Part {
    /// Vectors, and what they are of.
    Npy(PathBuf, PathBuf),
    Parquet(PathBuf),
}

impl Part {
    fn vectors(&self) -> &Path {
        match self {
            Part::Npy(path, _) | Part::Parquet(path) => path,
        }
    }

    fn rows(&self, width: usize) -> io::Result<u64> {
        let (vectors, ids) = match self {
            Part::Parquet(path) => return parquet::rows(path),
            Part::Npy(vectors, ids) => (open_npy(vectors, width)?.1.rows, ids),
        };
        let mut lines = 0;
        jsonl::each_line(ids, |_: serde::de::IgnoredAny| {
            lines += 1;
            Ok(())
        })?;
        match vectors == lines {
            true => Ok(lines),
            false => Err(invalid(format!("{vectors} vectors beside {lines} ids"))),
        }
    }

    fn each(
        &self,
        width: usize,
        each: &mut dyn FnMut(ImportedImage) -> io::Result<()>,
    ) -> io::Result<()> {
        let features = |vector| Features::new(vector, width).map_err(invalid);
        match self {
            Part::Parquet(path) => parquet::each_row(path, width, &mut |row, vector| {
                let parquet::Read { content_hash, size: (width, height), format, details } = row;
                let content_hash = content_hash.ok_or_else(|| invalid("no content hash"))?;
                let features = features(vector)?;
                each(ImportedImage { content_hash, width, height, format, details, features })
            }),
            Part::Npy(vectors, ids) => {
                let (mut reader, shape) = open_npy(vectors, width)?;
                let mut bytes = vec![0; shape.row_bytes()];
                jsonl::each_line(ids, |row: NpyRow| {
                    reader.read_exact(&mut bytes)?;
                    let (components, _) = bytes.as_chunks();
                    let vector = components.iter().map(|c| f32::from_le_bytes(*c)).collect();
                    let NpyRow { content_hash, width, height, format, details } = row;
                    let features = features(vector)?;
                    each(ImportedImage { content_hash, width, height, format, details, features })
                })
            }
        }
    }
}

/// A line beside an npy file, as far as a library keeps it.
#[derive(Deserialize)]
struct NpyRow {
    content_hash: ContentHash,
    width: u32,
    height: u32,
    format: String,
    #[serde(flatten)]
    details: PhotoDetails,
}

fn open_npy(path: &Path, width: usize) -> io::Result<(BufReader<File>, Shape)> {
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path)?);
    let shape = npy::read_header(&mut reader)?;
    if shape.width != width || shape.dtype != Dtype::F32 {
        let Shape { width: found, dtype, .. } = shape;
        return Err(invalid(format!("vectors of width {found} as {dtype:?}, expected {width}")));
    }
    Ok((reader, shape))
}
