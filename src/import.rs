//! Embeddings that were computed elsewhere → library.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::export::{Import, ImportedImage, Manifest};
use crate::library::Library;
use crate::network::FeatureNetwork;
use crate::progress::{Doing, Event, Watch};

/// Images in one transaction.
const BATCH: usize = 1_024;

/// What an import came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Images whose features are new here.
    pub added: u64,
    /// Images that had features of the model already: those stay.
    pub known: u64,
}

/// Whether a library holds, or held, features of the model of an export.
///
/// # Errors
/// [`Error::Catalog`].
pub fn knows_model(library: &Library, import: &Import) -> Result<bool> {
    let wanted = import.manifest().fingerprint;
    Ok(library.catalog().models()?.iter().any(|model| model.fingerprint == wanted))
}

/// Whether an export is of the model of a network.
///
/// # Errors
/// [`Error::ImportModel`] when it is not.
pub fn check_model(import: &Import, network: &FeatureNetwork) -> Result<()> {
    match network.fingerprint == import.manifest().fingerprint {
        true => Ok(()),
        false => {
            Err(other(import, format!("`{}` is {:.8}… here", network.name, network.fingerprint)))
        }
    }
}

fn other(import: &Import, expected: String) -> Error {
    let Manifest { model, fingerprint, .. } = import.manifest();
    Error::ImportModel { name: model.clone(), found: *fingerprint, expected }
}

/// Reads an export into a library: its images are known from then on by their content, and `index` embeds none
/// of them. They are found once a folder that holds them is indexed.
///
/// Features that are there stay, so that doing it twice, or going on after an interruption, changes nothing
/// that is there. All files are compared with their hashes before anything is written.
///
/// # Errors
/// [`Error::ImportModel`] when the model of the export is neither that of `network` nor, without one, a model
/// that the library knows; [`Error::ImportUnsuited`] when its vectors have another width than that model's;
/// [`Error::ImportDamaged`]; [`Error::Locked`]; [`Error::Cancelled`] and [`Error::Catalog`], after which the
/// batches before are kept.
pub fn import(
    library: &mut Library,
    import: &Import,
    network: Option<&FeatureNetwork>,
    watch: &Watch<'_>,
) -> Result<ImportReport> {
    let _lock = library.lock()?;
    let manifest = import.manifest();
    let models = library.catalog().models()?;
    let known = models.iter().find(|model| model.fingerprint == manifest.fingerprint);
    let width = match (network, known) {
        (Some(network), _) => {
            check_model(import, network)?;
            network.width
        }
        (None, Some(model)) => model.width,
        (None, None) => return Err(other(import, "the library knows no such model".into())),
    };
    if width != manifest.width {
        return Err(Error::ImportUnsuited {
            path: (&manifest.model).into(),
            what: format!("its vectors have {} features, the model gives {width}", manifest.width),
            remedy: "export them again: the manifest was not written so".into(),
        });
    }
    import.verify(watch)?;

    let answers = library.catalog().current_model()?.is_some();
    let mut batch = library.catalog_mut().batch()?;
    let model = match (known, network) {
        (Some(model), _) => model.id,
        (None, Some(network)) => batch.add_model(network)?,
        (None, None) => unreachable!("refused above"),
    };
    if !answers {
        batch.use_model(Some(model), None)?;
    }
    batch.commit()?;

    let mut report = ImportReport::default();
    let mut write = |images: &mut Vec<ImportedImage>| -> Result<()> {
        watch.check()?;
        let mut batch = library.catalog_mut().batch()?;
        let mut added = 0;
        for image in images.iter() {
            let ImportedImage { content_hash, width, height, format, details, features } = image;
            let what = (*width, *height, format.as_str());
            let id = batch.add_image_from_elsewhere(content_hash, what, details)?;
            added += u64::from(batch.add_features(id, model, features)?);
        }
        batch.commit()?;
        report.added += added;
        report.known += images.len() as u64 - added;
        images.clear();
        let done = report.added + report.known;
        watch.tell(Event::Vectors { doing: Doing::Importing, done, total: manifest.count });
        Ok(())
    };
    let mut waiting = Vec::with_capacity(BATCH);
    import.each(&mut |image| {
        waiting.push(image);
        if waiting.len() == BATCH { write(&mut waiting) } else { Ok(()) }
    })?;
    write(&mut waiting)?;
    Ok(report)
}
