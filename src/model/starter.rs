//! The network that is part of this program, for who has no other yet.

use super::installed::Installed;
use super::store::ModelStore;
use crate::error::{Error, Result};
use crate::progress::Watch;

/// The name of the model in this program.
pub const STARTER: &str = "starter";

/// Its ONNX file; `builtin.toml` holds the entry.
const BYTES: &[u8] = include_bytes!("starter.onnx");

/// The ONNX file of a built-in model that needs no fetching; `None` for all others.
pub(super) fn bytes_of(name: &str) -> Option<&'static [u8]> {
    (name == STARTER).then_some(BYTES)
}

/// The default model, or what stands in for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Obtained {
    /// The model.
    pub model: Installed,
    /// Where it is only the starter: what was wanted.
    pub instead_of: Option<Wanted>,
}

/// A default model that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Why it cannot be had, in a few words.
    pub reason: String,
}

impl ModelStore {
    /// As [`ModelStore::obtain`] without a name, but where no source has the default model, the
    /// [`STARTER`] stands in for it. A source that offers another file than the pinned one is an error still.
    ///
    /// # Errors
    /// As [`ModelStore::obtain`], but never [`Error::ModelMissing`].
    pub fn obtain_default(&self, watch: &Watch<'_>) -> Result<Obtained> {
        match self.obtain(None, watch) {
            Ok(model) => Ok(Obtained { model, instead_of: None }),
            Err(Error::ModelMissing { name, brief, .. }) => {
                let model = self.obtain(Some(STARTER), watch)?;
                let instead_of = Some(Wanted { name, reason: brief.into() });
                Ok(Obtained { model, instead_of })
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Manifest, Sha256, StoreConfig};

    #[test]
    fn the_file_is_that_of_its_entry_and_small() {
        let manifest = Manifest::builtin();
        let entry = manifest.find(STARTER).unwrap();
        assert_eq!((Sha256::of_bytes(BYTES), BYTES.len() as u64), (entry.sha256, entry.bytes));
        assert!(entry.bytes <= 4_000_000, "{} bytes", entry.bytes);
        assert!(entry.licence.contains("Caltech-101") && entry.licence.contains("CC BY 4.0"));
    }

    #[test]
    fn it_is_prepared_from_the_program_alone() {
        let dir = tempfile::tempdir().unwrap();
        let models = ModelStore::new(StoreConfig {
            folder: dir.path().join("models"),
            library_folder: None,
            mirror: None,
            offline: true,
            cache: dir.path().join("networks"),
        });
        let model = models.obtain(Some(STARTER), &Watch::none()).unwrap();
        let facts = models.network_facts(&model, &Watch::none()).unwrap();
        // The width is the graph's own: another one stated is an error.
        assert_eq!((facts.width, facts.removed.len()), (model.entry.output.width, 0));
        assert_eq!((facts.input.as_str(), facts.output.as_str()), ("photo", "features"));
        assert!(!dir.path().join("models").exists(), "nothing is installed");
        let verdicts = models.verify(Some(STARTER), &Watch::none()).unwrap();
        assert!(verdicts.iter().all(|verdict| verdict.is_sound()));
    }
}
