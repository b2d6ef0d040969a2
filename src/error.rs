//! The one error type of the library.
//!
//! Each message speaks of its own layer only: what failed, which thing, expected against found. The
//! causes stay typed behind `source()`, and [`Error::hint`] names the command that mends it. A photo
//! that cannot be read is not an error but data: see [`crate::record::Skipped`].

mod hint;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::embedding::InvalidVector;
use crate::record::{ImageId, ModelFingerprint};

/// What the library's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A collection on a server, for people: `table postgres://…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What the server calls it.
    pub noun: &'static str,
    /// Its address, without a password.
    pub address: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.noun, self.address)
    }
}

/// Why the library cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- files -----------------------------------------------------------------------------------
    /// The operating system refused something on a file or folder.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `create`, `rename`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The caller asked to stop; finished work is kept.
    #[error("interrupted")]
    Cancelled,

    // --- library ---------------------------------------------------------------------------------
    /// There is no library in the folder.
    #[error("there is no library in {}", folder.display())]
    NoLibrary {
        /// The library folder.
        folder: PathBuf,
    },
    /// The library holds no features yet.
    #[error("nothing is indexed yet in {}", folder.display())]
    NothingIndexed {
        /// The library folder.
        folder: PathBuf,
    },
    /// The library holds no features of the model that was named.
    #[error("the library holds no features of model `{wanted}`, but of `{}`", held.join("`, `"))]
    ModelNotIndexed {
        /// The name that was given.
        wanted: String,
        /// The names of the models it holds features of.
        held: Vec<String>,
    },
    /// A name stands for another network than when the library was indexed.
    #[error("the library was indexed with `{name}` {indexed:.8}…, but `{name}` is now {found:.8}…")]
    ModelChanged {
        /// The model's name.
        name: String,
        /// The fingerprint of the stored features.
        indexed: ModelFingerprint,
        /// The fingerprint of the network that the name stands for now.
        found: ModelFingerprint,
    },
    /// No image has this number, or it has no features of the model.
    #[error("the library holds no image {id} with features of this model")]
    NoSuchImage {
        /// The number.
        id: ImageId,
    },
    /// A query image gives no pixels or no features.
    #[error("cannot search with {name}: {reason}")]
    QueryPhoto {
        /// What the user named it.
        name: String,
        /// Why, for a person.
        reason: String,
    },
    /// No two images share a label.
    #[error("no two of the {images} images share a label, so there is nothing to measure")]
    NothingToEvaluate {
        /// How many images there are.
        images: usize,
    },
    /// Another process changes the library.
    #[error("another likeness is changing the library in {}", folder.display())]
    Locked {
        /// The library folder.
        folder: PathBuf,
    },
    /// No folder was named and none was indexed before.
    #[error("no folder was named, and the library in {} knows none", folder.display())]
    NoRoots {
        /// The library folder.
        folder: PathBuf,
    },
    /// Something that is no folder was to be indexed.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// An indexed folder is missing.
    #[error("the folder {} is missing; {files} files of it are indexed", path.display())]
    RootMissing {
        /// The folder.
        path: PathBuf,
        /// How many files of it are known.
        files: u64,
    },
    /// An indexed folder holds no files any more, as the mount point of a drive that is not there.
    #[error("the folder {} is empty; {files} files of it are indexed", path.display())]
    RootEmpty {
        /// The folder.
        path: PathBuf,
        /// How many files of it are known.
        files: u64,
    },
    /// The operating system gives no threads.
    #[error("cannot start threads")]
    Threads {
        /// What the thread pool said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An index cannot be read: damaged since it was opened, or, just written, not what was written.
    #[error("the search index in {} cannot be read", folder.display())]
    IndexUnreadable {
        /// The index folder.
        folder: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    // --- export ----------------------------------------------------------------------------------
    /// The name of the target tells no format.
    #[error("the name {} does not tell a format", path.display())]
    ExportFormat {
        /// The target.
        path: PathBuf,
    },
    /// The target may not be replaced: it is no earlier export, or lies where nothing is written.
    #[error("{} cannot be written as {format}: {why}", path.display())]
    ExportTarget {
        /// The target.
        path: PathBuf,
        /// The name of the format.
        format: &'static str,
        /// What stands in the way.
        why: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The format cannot hold what was asked for.
    #[error("{what}")]
    ExportUnsuited {
        /// What it is that it cannot.
        what: String,
        /// What does instead.
        remedy: String,
    },
    /// A component that 16 bits cannot hold.
    #[error("a feature of image {image} is {value}, more than 16-bit floats hold (65504)")]
    ExportOverflow {
        /// The image.
        image: ImageId,
        /// The component.
        value: f32,
    },
    /// Something else stands on the disk than was written. Nothing was published.
    #[error("what was written for {} does not read back the same: {what}", path.display())]
    ExportReadBack {
        /// The target.
        path: PathBuf,
        /// What differs.
        what: String,
    },

    // --- import ----------------------------------------------------------------------------------
    /// There is no manifest, or it says nothing that can be understood.
    #[error("the manifest {} cannot be read", path.display())]
    ImportManifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An export that does not hold what a library keeps.
    #[error("{} cannot be imported: {what}", path.display())]
    ImportUnsuited {
        /// What was named.
        path: PathBuf,
        /// Why.
        what: String,
        /// What can be.
        remedy: String,
    },
    /// An export is not what its manifest says.
    #[error("{} is damaged: {what}", path.display())]
    ImportDamaged {
        /// The file.
        path: PathBuf,
        /// Expected and found.
        what: String,
    },
    /// An export holds vectors of another model.
    #[error("these are vectors of model `{name}` {found:.8}…, but {expected}")]
    ImportModel {
        /// The model's name, as the export has it.
        name: String,
        /// The fingerprint that the export has.
        found: ModelFingerprint,
        /// What there is here.
        expected: String,
    },
    /// The folder of the target is missing.
    #[error("there is no folder {} to write into", folder.display())]
    ExportFolder {
        /// The folder.
        folder: PathBuf,
    },

    // --- remote ----------------------------------------------------------------------------------
    /// What should be a server and a collection is not.
    #[error("`{address}` is no address of a collection: {reason}")]
    RemoteAddress {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A server does not answer.
    #[error("no answer from {server}: {reason}")]
    RemoteUnreachable {
        /// The server.
        server: String,
        /// What the connection said.
        reason: String,
        /// What a person may do.
        remedy: &'static str,
    },
    /// A server wants another token or password, or one at all.
    #[error("{server} does not let you in: {reason}")]
    RemoteDenied {
        /// The server.
        server: String,
        /// What it said.
        reason: String,
        /// What a person may do.
        remedy: &'static str,
    },
    /// A server refuses to do something.
    #[error("{server} does not {action}: {reason}")]
    RemoteRefused {
        /// The server.
        server: String,
        /// What was asked of it, as a verb.
        action: &'static str,
        /// What it said.
        reason: String,
    },
    /// A server that lacks what likeness needs.
    #[error("{server} cannot hold the images: {reason}")]
    RemoteUnfit {
        /// The server.
        server: String,
        /// What it lacks.
        reason: String,
        /// What a person may do.
        remedy: &'static str,
    },
    /// An index that a server does not have.
    #[error("{server} cannot have such an index: {reason}")]
    RemoteIndex {
        /// The server.
        server: String,
        /// Why.
        reason: String,
    },
    /// There is no such collection.
    #[error("there is no {place}")]
    RemoteMissing {
        /// The collection.
        place: Place,
    },
    /// A collection that likeness did not make.
    #[error("the {place} was not made by this version of likeness: {reason}")]
    RemoteForeign {
        /// The collection.
        place: Place,
        /// What it lacks.
        reason: String,
    },
    /// A collection holds something else than what is to be pushed.
    #[error("the {place} holds {held}, not {wanted}")]
    RemoteHolds {
        /// The collection.
        place: Place,
        /// What it holds.
        held: String,
        /// What was to be pushed.
        wanted: String,
    },
    /// A collection does not hold what was pushed.
    #[error("the {place} holds {found} rows, {expected} were pushed to it")]
    RemoteCount {
        /// The collection.
        place: Place,
        /// Rows that the server counts.
        found: u64,
        /// Rows that it acknowledged.
        expected: u64,
    },
    /// The model of a collection is another here.
    #[error(
        "the {place} holds vectors of model {name} ({held:.8}…), but `{name}` is {found:.8}… here"
    )]
    RemoteModel {
        /// The collection.
        place: Box<Place>,
        /// The model's name.
        name: String,
        /// The fingerprint of the vectors.
        held: ModelFingerprint,
        /// The fingerprint of the network that the name stands for here.
        found: ModelFingerprint,
    },
    /// No image of the collection has this number, or what it says of it is none of ours.
    #[error("the {place} holds no image {id}")]
    RemoteNoImage {
        /// The collection.
        place: Place,
        /// The number.
        id: ImageId,
    },
    /// More hits than a server gives.
    #[error("servers are asked for up to {most} hits, not {wanted}")]
    RemoteHits {
        /// What was asked for.
        wanted: usize,
        /// What can be had.
        most: usize,
    },
    /// A filter that a server has no words for.
    #[error("Milvus cannot be asked for {what}")]
    RemoteFilter {
        /// The part of it, and why.
        what: String,
    },
    /// Another process pushes.
    #[error("another likeness is pushing from the library in {}", folder.display())]
    Pushing {
        /// The library folder.
        folder: PathBuf,
    },

    // --- runtime ---------------------------------------------------------------------------------
    /// A library that was named does not serve as ONNX Runtime.
    #[error("{} does not serve as ONNX Runtime: {reason}", path.display())]
    RuntimeUnfit {
        /// The file.
        path: PathBuf,
        /// Why, for a person.
        reason: String,
    },
    /// There is no ONNX Runtime, and none may be installed.
    #[error("ONNX Runtime is not installed{}, and the network must not be used", list(passed_over))]
    RuntimeMissing {
        /// Libraries that were found and do not serve, and why.
        passed_over: Vec<(PathBuf, String)>,
    },
    /// Another ONNX Runtime is in use already; a process can have one.
    #[error("this process uses {} already, so {} cannot be loaded", loaded.display(), wanted.display())]
    RuntimeAlreadyLoaded {
        /// The one in use.
        loaded: PathBuf,
        /// The one that was wanted.
        wanted: PathBuf,
    },
    /// There is no pinned ONNX Runtime for this platform.
    #[error("there is no ready-made {build} for {system} on {processor}")]
    RuntimePlatform {
        /// What was to be installed.
        build: &'static str,
        /// The operating system.
        system: &'static str,
        /// The processor architecture.
        processor: &'static str,
    },
    /// pip did not fetch the wheel.
    #[error("pip cannot be used to install ONNX Runtime: {reason}{}", indented(said))]
    Pip {
        /// Why, for a person.
        reason: String,
        /// The last lines that pip said, if any.
        said: String,
    },
    /// Of several wheels that belong together, one was not named.
    #[error("the wheel of {package} {version} is missing")]
    WheelMissing {
        /// The package.
        package: &'static str,
        /// The version that is wanted.
        version: &'static str,
    },
    /// A wheel is not the pinned one.
    #[error("{} is not the expected wheel: its SHA-256 is {found}, expected {expected}", path.display())]
    WheelHash {
        /// The wheel.
        path: PathBuf,
        /// The pinned SHA-256.
        expected: String,
        /// The SHA-256 of the file.
        found: String,
    },
    /// A wheel cannot be unpacked.
    #[error("cannot unpack {}", path.display())]
    Wheel {
        /// The wheel.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A device that was asked for does not run networks, or not so.
    #[error("cannot run on {device}: {reason}")]
    Device {
        /// The device, as `cuda:0`.
        device: String,
        /// What is missing, or what ONNX Runtime said.
        reason: String,
        /// What mends it.
        remedy: String,
    },
    /// ONNX Runtime refused a network or failed to run it.
    #[error("cannot {action} the network of model `{name}`")]
    Network {
        /// The model's name.
        name: String,
        /// `load` or `run`.
        action: &'static str,
        /// What ONNX Runtime said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A network is not what its manifest says.
    #[error("the network of model `{name}` is not as its manifest says: {what}")]
    NetworkShape {
        /// The model's name.
        name: String,
        /// Stated against found.
        what: String,
    },

    // --- model -----------------------------------------------------------------------------------
    /// No manifest knows a model of this name.
    #[error("no model is named `{name}`")]
    ModelUnknown {
        /// What was asked for.
        name: String,
        /// The names that are known.
        known: Vec<String>,
    },
    /// Not a name a model can have.
    #[error("`{name}` cannot be the name of a model")]
    ModelName {
        /// What was given.
        name: String,
    },
    /// No manifest knows the model that a library was indexed with.
    #[error("the library was indexed with model `{name}`, which nothing here knows")]
    LibraryModelUnknown {
        /// The model.
        name: String,
    },
    /// A model's file is not on this machine, and no source gave it.
    #[error("model `{name}` is not on this machine and cannot be fetched: {reason}")]
    ModelMissing {
        /// The model.
        name: String,
        /// What kept it from being fetched: each source with its reason.
        reason: Box<str>,
        /// The same in a few words: hosts for addresses, each reason once.
        brief: Box<str>,
        /// The file's usual name, and its size.
        file: String,
        /// Where it can be downloaded.
        urls: Box<[String]>,
        /// Where it is looked for.
        place: PathBuf,
    },
    /// A source offers another file than the manifest pins. Nothing of it is kept.
    #[error(
        "{origin} is not the file of model `{name}`: its sha256 is {found}, expected {expected}"
    )]
    ModelMismatch {
        /// The model.
        name: String,
        /// The path or address.
        origin: String,
        /// The pinned SHA-256.
        expected: String,
        /// That of the file.
        found: String,
    },
    /// An installed model's file is no longer what was installed.
    #[error("the file {} of model `{name}` is damaged: its sha256 is {found}, expected {expected}", path.display())]
    ModelDamaged {
        /// The model.
        name: String,
        /// The file.
        path: PathBuf,
        /// The SHA-256 it had when it was installed.
        expected: String,
        /// The one it has now.
        found: String,
    },
    /// The name is taken.
    #[error("another model is named `{name}` already")]
    ModelExists {
        /// The name.
        name: String,
    },
    /// Too few photos to choose the scales of 8 bits by.
    #[error("{} holds {found} photos that can be decoded, {wanted} are needed at least", .folder.display())]
    QuantisePhotos {
        /// The folder.
        folder: PathBuf,
        /// Photos found.
        found: usize,
        /// Photos needed.
        wanted: usize,
    },
    /// A network that cannot be computed in 8 bits.
    #[error("model `{name}` cannot be quantised: {reason}")]
    QuantiseNetwork {
        /// The model's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A network that cannot be computed in 16-bit floats.
    #[error("model `{name}` cannot compute in fp16: {reason}")]
    HalveNetwork {
        /// The model's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Known perhaps, but not on this machine.
    #[error("model `{name}` is not installed")]
    ModelNotInstalled {
        /// The name.
        name: String,
    },
    /// What is in the program itself.
    #[error("model `{name}` is part of likeness: it can be neither removed nor replaced")]
    ModelOfLikeness {
        /// The name.
        name: String,
    },
    /// A manifest that cannot be understood.
    #[error("the model manifest {origin} cannot be used")]
    ModelManifest {
        /// The path or address.
        origin: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The mirror cannot be asked.
    #[error("the model mirror {address} cannot be used: {reason}")]
    ModelMirror {
        /// The folder or address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The bytes are not an ONNX model.
    #[error("{} is not an ONNX model", path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A network of another kind than likeness can use.
    #[error("the network {} cannot be used: {reason}", path.display())]
    ModelUnsuited {
        /// The file.
        path: PathBuf,
        /// What it wants or gives that likeness cannot serve.
        reason: String,
    },
    /// The classifier was not recognised.
    #[error("cannot find the features of {}: {reason}; it ends in{}", path.display(), lines(tail))]
    ModelHead {
        /// The file.
        path: PathBuf,
        /// Where the search ended.
        reason: String,
        /// The last nodes: operator, name, outputs.
        tail: Vec<String>,
    },
    /// The named tensor cannot hold features.
    #[error("{} computes no tensor `{tensor}` from its input; it ends in{}", path.display(), lines(tail))]
    ModelTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The last nodes: operator, name, outputs.
        tail: Vec<String>,
    },
    /// The graph does not tell the number of features, and nobody else did.
    #[error("cannot tell how many features the tensor `{tensor}` of {} holds", path.display())]
    ModelWidth {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },

    // --- catalog ---------------------------------------------------------------------------------
    /// SQLite refused something.
    #[error("the catalog {} cannot be used", path.display())]
    Catalog {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The catalog's file is not as SQLite wrote it.
    #[error("the catalog {} is damaged: {what}", path.display())]
    CatalogDamaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite found.
        what: String,
    },
    /// An earlier version of likeness made the catalog, and nothing may be written where it lies.
    #[error("the catalog {} has version {found} and cannot be brought to {known}: nothing may be written there", path.display())]
    CatalogTooOld {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The version of this likeness.
        known: usize,
    },
    /// A later version of likeness made the catalog.
    #[error("the catalog {} has version {found}, this likeness knows up to {known}", path.display())]
    CatalogTooNew {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The newest version known here.
        known: usize,
    },
    /// An SQLite database, but of another program.
    #[error("{} is a database of another program, not a likeness catalog", path.display())]
    NotACatalog {
        /// The database file.
        path: PathBuf,
    },
    /// Stored features are damaged.
    #[error("the stored features of image {image} are damaged")]
    StoredFeatures {
        /// The image.
        image: ImageId,
        /// What is wrong with them.
        source: InvalidVector,
    },
    /// A stored model description is damaged.
    #[error("the stored description of model {fingerprint:.8}… is damaged")]
    StoredModel {
        /// The model.
        fingerprint: ModelFingerprint,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Error {
    /// Wraps an operating system error with what was tried on which path.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}

/// `; found but of no use: …`, or nothing.
fn list(passed_over: &[(PathBuf, String)]) -> String {
    let each = |(path, reason): &(PathBuf, String)| format!("{} ({reason})", path.display());
    match passed_over {
        [] => String::new(),
        some => format!(" ({} of no use)", some.iter().map(each).collect::<Vec<_>>().join(", ")),
    }
}

/// Each on a line of its own below the message, set in.
fn lines(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\n    {text}")).collect()
}

/// Another program's words, each line below the message and set in.
fn indented(said: &str) -> String {
    said.lines().map(|line| format!("\n    {line}")).collect()
}
