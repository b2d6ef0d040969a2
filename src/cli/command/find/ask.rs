//! From what stands on the command line to the vector that is asked with.

use std::borrow::Borrow;
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use likeness::catalog::ModelRecord;
use likeness::embedding::Embedding;
use likeness::engine::Engine;
use likeness::error::{Error, Place};
use likeness::library::Library;
use likeness::photo::{self, DecodeOptions, PhotoBytes, Region};
use likeness::record::{ImageId, ModelFingerprint, PathBytes};
use likeness::runtime::FeatureSession;
use likeness::web::{self, FetchOptions};

use super::clipboard::{self, Copied};
use crate::cli::args::Running;
use crate::cli::context::Context;

/// Where the picture of a query comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    File(PathBuf),
    Image(ImageId),
    Url(String),
    Stdin,
    Clipboard,
}

/// A query and how much it counts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    pub(super) weight: f32,
    pub(super) source: Source,
}

impl Query {
    /// Reads `[WEIGHT:]FILE`, `id:N`, an http(s) address, or `-`. A file whose name begins with a number
    /// and a colon is written with a folder: `./2:1.jpg`.
    pub(super) fn parse(text: &OsStr) -> anyhow::Result<Self> {
        let bytes = PathBytes::from_path(Path::new(text)).as_bytes().to_vec();
        let weighted = bytes.iter().position(|b| *b == b':').and_then(|colon| {
            let weight = std::str::from_utf8(&bytes[..colon]).ok()?;
            let plain = weight.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            let weight: f32 = weight.parse().ok().filter(|_| plain)?;
            Some((weight, &bytes[colon + 1..]))
        });
        let (weight, rest) = weighted.unwrap_or((1.0, &bytes));
        anyhow::ensure!(
            weight > 0.0 && weight.is_finite() && !rest.is_empty(),
            "`{}` needs a weight above 0 and a query, as `2:beach.jpg`",
            text.display()
        );
        let source = match std::str::from_utf8(rest) {
            Ok("-") => Source::Stdin,
            Ok("clipboard:") => Source::Clipboard,
            Ok(text) if text.starts_with("id:") => {
                let id = text["id:".len()..].parse().map(ImageId);
                Source::Image(id.with_context(|| format!("`{text}` names no image"))?)
            }
            Ok(text) if is_url(text) => Source::Url(text.to_owned()),
            _ => Source::File(PathBytes::from_bytes(rest.to_vec()).to_path()),
        };
        Ok(Self { weight, source })
    }
}

fn is_url(text: &str) -> bool {
    let scheme = text.split("://").next().unwrap_or_default();
    scheme.len() < text.len() && ["http", "https"].iter().any(|s| scheme.eq_ignore_ascii_case(s))
}

/// What is asked with; `id` when the library holds the very same bytes.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) embedding: Embedding,
    pub(super) id: Option<ImageId>,
}

/// What is asked, and knows vectors of its own: then nothing need be decoded or embedded.
pub(super) trait Known {
    /// The vector of an image.
    fn embedding_of(&self, id: ImageId) -> anyhow::Result<Embedding>;

    /// The image with the same bytes and its vector, if it is known.
    fn find_same(&self, photo: &PhotoBytes) -> anyhow::Result<Option<(ImageId, Embedding)>>;

    /// The image with the same bytes, whether or not its vector is known.
    fn same_image(&self, photo: &PhotoBytes) -> anyhow::Result<Option<ImageId>>;

    /// Where an image lies.
    fn path_of(&self, id: ImageId) -> anyhow::Result<PathBuf>;
}

/// A library on this machine, and the model whose vectors are compared.
pub(super) struct Local<'a, L> {
    pub(super) library: L,
    pub(super) model: &'a ModelRecord,
}

impl<L: Borrow<Library>> Known for Local<'_, L> {
    fn embedding_of(&self, id: ImageId) -> anyhow::Result<Embedding> {
        Ok(self.library.borrow().embedding_of(self.model, id)?)
    }

    fn find_same(&self, photo: &PhotoBytes) -> anyhow::Result<Option<(ImageId, Embedding)>> {
        Ok(self.library.borrow().find_same(self.model, photo)?)
    }

    fn same_image(&self, photo: &PhotoBytes) -> anyhow::Result<Option<ImageId>> {
        Ok(self.library.borrow().catalog().image_with_content(&photo.hash())?)
    }

    fn path_of(&self, id: ImageId) -> anyhow::Result<PathBuf> {
        Ok(self.library.borrow().catalog().image(id)?.ok_or(Error::NoSuchImage { id })?.path)
    }
}

/// A network and a session, opened when the first picture needs them; shared by threads.
pub(super) struct Network<'a> {
    pub(super) context: &'a Context,
    /// The model's name.
    pub(super) model: &'a str,
    /// That of the vectors that are compared.
    pub(super) fingerprint: ModelFingerprint,
    /// The collection that holds those, where it is not the library.
    pub(super) collection: Option<Place>,
    pub(super) running: Running,
    pub(super) decoding: DecodeOptions,
    pub(super) opened: Mutex<Option<Arc<(Engine, FeatureSession)>>>,
    /// Threads of the session: one where threads share it.
    pub(super) threads: usize,
}

impl Network<'_> {
    fn open(&self) -> anyhow::Result<Arc<(Engine, FeatureSession)>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*opened {
            return Ok(Arc::clone(opened));
        }
        let watch = self.context.watch();
        let network = self.context.network_of(self.model, &watch)?;
        if network.fingerprint != self.fingerprint {
            let name = self.model.to_owned();
            let (held, found) = (self.fingerprint, network.fingerprint);
            return Err(match self.collection.clone() {
                Some(place) => Error::RemoteModel { place: place.into(), name, held, found },
                None => Error::ModelChanged { name, indexed: held, found },
            }
            .into());
        }
        let runtime = self.context.runtime(self.running.device_for_questions());
        let engine = Engine::new(network, runtime, self.decoding.clone())
            .with_precision(self.running.precision());
        let session = engine.session(self.threads, &watch)?;
        Ok(Arc::clone(opened.insert(Arc::new((engine, session)))))
    }
}

/// Turns queries into vectors, by one thread's connection to what is asked.
pub(super) struct Asker<'a> {
    pub(super) known: &'a dyn Known,
    pub(super) network: &'a Network<'a>,
    pub(super) fetch: FetchOptions,
    stdin: OnceCell<Rc<PhotoBytes>>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(known: &'a dyn Known, network: &'a Network<'a>, fetch: FetchOptions) -> Self {
        Self { known, network, fetch, stdin: OnceCell::new() }
    }

    /// Asks with a picture, or with a part of it.
    pub(super) fn ask(&self, source: &Source, crop: Option<Region>) -> anyhow::Result<Asked> {
        let known = self.known;
        let whole = crop.is_none();
        if let (Source::Image(id), true) = (source, whole) {
            return Ok(Asked { embedding: known.embedding_of(*id)?, id: Some(*id) });
        }
        let (photo, name) = self.read(source)?;
        if whole && let Some((id, embedding)) = known.find_same(&photo)? {
            return Ok(Asked { embedding, id: Some(id) });
        }
        let opened = self.network.open()?;
        let (engine, session) = &*opened;
        let decoding = DecodeOptions { region: crop, ..engine.decoding().clone() };
        let features = engine.features_through(session, &photo, &decoding, &name)?;
        let id = known.same_image(&photo)?;
        Ok(Asked { embedding: features.embedding(), id })
    }

    fn read(&self, source: &Source) -> anyhow::Result<(Rc<PhotoBytes>, String)> {
        let unusable =
            |name: &str, reason: String| Error::QueryPhoto { name: name.to_owned(), reason };
        let from_bytes = |name: &str, bytes: Vec<u8>| {
            let photo = photo::from_bytes(bytes);
            photo.map(Rc::new).map_err(|reason| unusable(name, reason.to_string()))
        };
        let max_bytes = self.network.decoding.max_bytes;
        match source {
            Source::Stdin => {
                let name = "stdin";
                // Several queries may mean it; it can be read once.
                if let Some(photo) = self.stdin.get() {
                    return Ok((Rc::clone(photo), name.to_owned()));
                }
                let mut bytes = Vec::new();
                let mut stdin = std::io::stdin().lock().take(max_bytes.saturating_add(1));
                stdin.read_to_end(&mut bytes).context("cannot read stdin")?;
                if bytes.len() as u64 > max_bytes {
                    let reason = "it gives more than a picture may take";
                    let limit = format!("{reason}: {} MB (--max-memory)", max_bytes / 1_000_000);
                    return Err(unusable(name, limit).into());
                }
                let photo = from_bytes(name, bytes)?;
                Ok((Rc::clone(self.stdin.get_or_init(|| photo)), name.to_owned()))
            }
            Source::Url(url) => {
                if self.network.context.offline {
                    return Err(
                        unusable(url, "the network must not be used (--offline)".into()).into()
                    );
                }
                let bytes = web::fetch(url, &self.fetch).map_err(|reason| unusable(url, reason))?;
                Ok((from_bytes(url, bytes)?, url.clone()))
            }
            Source::Clipboard => {
                let name = "the clipboard";
                match clipboard::copied().map_err(|reason| unusable(name, reason))? {
                    Copied::File(path) => read_file(&path, max_bytes),
                    Copied::Picture { width, height, rgba } => {
                        let photo = photo::from_rgba(width, height, &rgba);
                        let photo = photo.map_err(|reason| unusable(name, reason.to_string()))?;
                        Ok((Rc::new(photo), name.to_owned()))
                    }
                }
            }
            Source::File(path) => read_file(path, max_bytes),
            Source::Image(id) => read_file(&self.known.path_of(*id)?, max_bytes),
        }
    }
}

fn read_file(path: &Path, max_bytes: u64) -> anyhow::Result<(Rc<PhotoBytes>, String)> {
    let name = path.display().to_string();
    let photo = photo::read(path, max_bytes)
        .map_err(|reason| Error::QueryPhoto { name: name.clone(), reason: reason.to_string() })?;
    Ok((Rc::new(photo), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_weight_and_a_source() {
        let parsed = |text: &str| Query::parse(OsStr::new(text)).unwrap();
        let file = |weight, path: &str| Query { weight, source: Source::File(path.into()) };
        assert_eq!(parsed("a.jpg"), file(1.0, "a.jpg"));
        assert_eq!(parsed("2:a.jpg"), file(2.0, "a.jpg"));
        assert_eq!(parsed(".5:a:b.jpg"), file(0.5, "a:b.jpg"));
        assert_eq!(parsed("./2:a.jpg"), file(1.0, "./2:a.jpg"));
        assert_eq!(parsed("C:\\a.jpg"), file(1.0, "C:\\a.jpg"));
        assert_eq!(parsed("-1:a.jpg"), file(1.0, "-1:a.jpg"));
        assert_eq!(parsed("inf:a.jpg"), file(1.0, "inf:a.jpg"));
        let image = |weight, id| Query { weight, source: Source::Image(ImageId(id)) };
        assert_eq!((parsed("id:7"), parsed("3:id:7")), (image(1.0, 7), image(3.0, 7)));
        let url = Source::Url("HTTPS://a.org:8/b".into());
        assert_eq!(parsed("2:HTTPS://a.org:8/b"), Query { weight: 2.0, source: url });
        assert_eq!(parsed("-").source, Source::Stdin);
        for text in ["0:a.jpg", "2:", "id:x", "2:id:"] {
            assert!(Query::parse(OsStr::new(text)).is_err(), "{text}");
        }
    }
}
