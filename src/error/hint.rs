//! What a person can do about an error: the command that mends it.

use super::Error;

impl Error {
    /// The command or step that mends it, as a sentence without a full stop; `None` where there is
    /// nothing better to say than the message itself.
    pub fn hint(&self) -> Option<String> {
        let install = "run `likeness runtime install`, or name one with `--onnxruntime PATH`";
        Some(match self {
            Error::NoLibrary { .. } | Error::NothingIndexed { .. } | Error::NoRoots { .. } => {
                "run `likeness index DIR` first".into()
            }
            Error::ModelNotIndexed { wanted, .. } => {
                format!("run `likeness index --model {wanted}` to add them")
            }
            Error::ModelChanged { .. } => {
                "run `likeness index` to embed the photos with the new one; the old vectors stay".into()
            }
            Error::RemoteModel { .. } => {
                "name the mirror that the model came from with `--mirror`, or ask with `id:N` or a photo that is there"
                    .into()
            }
            Error::RemoteHits { .. } => "ask for fewer with `-k`".into(),
            Error::NoSuchImage { .. } | Error::RemoteNoImage { .. } => "`likeness find` prints the ids that exist".into(),
            Error::NothingToEvaluate { .. } => {
                "put the photos of one thing into one folder, and index the folder above".into()
            }
            Error::IndexUnreadable { .. } => {
                "run `likeness rebuild`, which makes it again from the catalog".into()
            }
            Error::Locked { .. } => "wait until it is done, or use another `--library`".into(),
            Error::NotAFolder { .. } => "name the folder that holds it".into(),
            // With its name: without, the photos of all that are away would be forgotten.
            Error::RootMissing { path, .. } | Error::RootEmpty { path, .. } => format!(
                "connect the drive that holds it, or forget its photos with `likeness index --prune {}`",
                quoted(&path.display().to_string())
            ),
            Error::ExportFormat { .. } => {
                "end it in .npy, .npz, .parquet, .arrow, .safetensors, .fvecs, .csv or .jsonl, or name \
                 the format with `--format`"
                    .into()
            }
            Error::ExportTarget { remedy, .. } => (*remedy).into(),
            Error::ExportUnsuited { remedy, .. } | Error::ImportUnsuited { remedy, .. } => {
                remedy.clone()
            }
            Error::ExportOverflow { .. } => {
                "leave `--dtype f16` out, or scale the vectors with `--normalized`".into()
            }
            Error::ExportReadBack { .. } => {
                "nothing was published; look after the disk and the memory of this machine, and export again"
                    .into()
            }
            Error::ImportManifest { .. } => {
                "name an export whose OUT.manifest.json lies beside it, or that manifest itself".into()
            }
            Error::ImportDamaged { .. } => "copy it again from where it was made".into(),
            Error::ImportModel { name, .. } => format!(
                "get the network that made them (`likeness model fetch {name}`, or `likeness model import \
                 FILE --name {name}`), or export the vectors of another with `likeness export --model NAME`"
            ),
            Error::ExportFolder { .. } => "make it first, or name another".into(),
            Error::RemoteAddress { .. } => {
                "write milvus://HOST[:PORT]/COLLECTION, or milvus+tls://… where the server speaks TLS; or \
                 postgres://[USER@]HOST[:PORT]/DATABASE?table=TABLE"
                    .into()
            }
            Error::RemoteUnreachable { remedy, .. }
            | Error::RemoteDenied { remedy, .. }
            | Error::RemoteUnfit { remedy, .. } => (*remedy).into(),
            Error::RemoteIndex { .. } => {
                "choose with `--index hnsw` or `--index flat`, `--m` and `--ef-construction`".into()
            }
            Error::RemoteMissing { place } => format!("run `likeness push {}` first", quoted(&place.address)),
            Error::RemoteForeign { place, .. } => format!("name another {}: this one is left as it is", place.noun),
            Error::RemoteHolds { place, .. } => {
                format!("name another {}, or give this one up for it with `--recreate`", place.noun)
            }
            Error::RemoteCount { place, .. } => format!(
                "somebody else wrote there, or the server lost rows: run `likeness push {} --recreate`",
                quoted(&place.address)
            ),
            Error::RemoteFilter { .. } => {
                "leave it out of `--where`, or ask the library itself: without `--remote`".into()
            }
            Error::Pushing { .. } => "wait until it is done, or use another `--library`".into(),
            Error::RuntimeUnfit { .. } | Error::RuntimeMissing { .. } => install.into(),
            Error::RuntimePlatform { .. } => {
                "build ONNX Runtime for it and name the library with `--onnxruntime PATH`".into()
            }
            Error::Pip { .. } => "install Python 3 with pip (Debian: `apt install python3-pip`), or \
                                  fetch the wheel elsewhere and run `likeness runtime install --wheel FILE`"
                .into(),
            Error::Device { remedy, .. } => remedy.clone(),
            Error::WheelMissing { .. } => {
                "name the wheels of all packages that `likeness runtime install --help` lists".into()
            }
            Error::WheelHash { .. } | Error::Wheel { .. } => {
                "fetch it again; `likeness runtime status` names the version that is wanted".into()
            }
            Error::ModelUnknown { known, .. } => format!(
                "known are {}; `likeness model import FILE` adds another",
                known.join(", ")
            ),
            Error::LibraryModelUnknown { name } => format!(
                "name the mirror that it came from with `--mirror` or LIKENESS_MIRROR, or import its file again: \
                 `likeness model import FILE --name {name}`\n      or move over to another: `likeness index \
                 --model NAME`"
            ),
            Error::ModelName { .. } => "a model's name is made of letters, digits, `.`, `_` and `-`, \
                                        and begins with a letter or digit"
                .into(),
            Error::ModelMissing { file, urls, place, .. } => {
                let from = match &**urls {
                    [] => String::new(),
                    some => format!(" from {}", some.join("\n      or ")),
                };
                format!(
                    "get {file}{from}\n      and put it at {}\n      or name a mirror that \
                     has it with `--mirror` or LIKENESS_MIRROR\n      or use a network file of your own: \
                     `likeness model import FILE`",
                    place.display()
                )
            }
            Error::ModelMismatch { .. } => {
                "replace it with the right file, or import it under a name of its own with \
                 `likeness model import FILE --name NAME`"
                    .into()
            }
            Error::ModelDamaged { name, .. } => {
                format!("run `likeness model remove {name}`, then fetch or import it again")
            }
            Error::ModelExists { name } => format!(
                "give it another name with `--name`, or run `likeness model remove {name}` first"
            ),
            Error::HalveNetwork { .. } => "leave `--precision` out".into(),
            Error::QuantisePhotos { .. } => {
                "name a folder with photos of the kind that will be indexed".into()
            }
            Error::ModelNotInstalled { .. } => "`likeness model list` shows what there is".into(),
            Error::ModelOfLikeness { .. } => {
                "give another model another name with `--name`, and choose it with `--model`".into()
            }
            Error::ModelManifest { .. } => {
                "mend it, or leave it out: `likeness model list` shows what remains".into()
            }
            Error::ModelMirror { .. } => "name a folder or an http(s) address with `--mirror`".into(),
            Error::ModelHead { .. } | Error::ModelTensor { .. } => {
                "name the tensor that holds the features: `likeness model import FILE --output TENSOR`"
                    .into()
            }
            Error::ModelWidth { .. } => {
                "state it: `likeness model import FILE --width N`".into()
            }
            Error::CatalogTooOld { .. } => {
                "run `likeness status` once where its folder may be written to, or on a copy that `--library` names".into()
            }
            Error::CatalogTooNew { .. } => "use a newer likeness, or another `--library`".into(),
            Error::NotACatalog { .. } => "name another folder with `--library`".into(),
            Error::StoredFeatures { .. } => {
                "`likeness rebuild` leaves such features out, and `likeness index` embeds their photos again".into()
            }
            Error::CatalogDamaged { .. } | Error::StoredModel { .. } => RESTORE.into(),
            Error::Catalog { source, .. } => catalog_hint(source)?.into(),
            _ => return None,
        })
    }
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-./:@_%[]".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

const MAKE_ROOM: &str = "make room on its disk; what was finished is kept";
const RESTORE: &str = "restore the library folder from a backup, or index into a fresh `--library`";

/// What helps where SQLite gives up.
fn catalog_hint(source: &rusqlite::Error) -> Option<&'static str> {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, DiskFull, NotADatabase, ReadOnly};
    match source {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            DatabaseCorrupt | NotADatabase => Some(RESTORE),
            DiskFull => Some(MAKE_ROOM),
            // The file by which processes tell each other their locks cannot grow.
            _ if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => Some(MAKE_ROOM),
            ReadOnly | CannotOpen => Some(
                "its folder and its files must be writable; `find`, `export` and `status` need not",
            ),
            _ => None,
        },
        // A page of zeros reads as rows of nothing.
        rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..) => {
            Some(RESTORE)
        }
        _ => None,
    }
}
