//! Embeddings that were computed elsewhere → library.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::export::{ImportedImage, Manifest, Verified};
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
/// [`Error::ImportUnsuited`] when those have another width; [`Error::Catalog`].
pub fn knows_model(library: &Library, export: &Manifest) -> Result<bool> {
    let models = library.catalog().models()?;
    let known = models.iter().find(|model| model.fingerprint == export.fingerprint);
    known.map(|model| check_width(export, model.width)).transpose().map(|known| known.is_some())
}

/// Whether an export holds what a network would have made.
///
/// # Errors
/// [`Error::ImportModel`] when it is of another model, [`Error::ImportUnsuited`] when its vectors have another width.
pub fn check_model(export: &Manifest, network: &FeatureNetwork) -> Result<()> {
    match network.fingerprint == export.fingerprint {
        true => check_width(export, network.width),
        false => {
            Err(other(export, format!("`{}` is {:.8}… here", network.name, network.fingerprint)))
        }
    }
}

fn other(export: &Manifest, expected: String) -> Error {
    let Manifest { model, fingerprint, .. } = export;
    Error::ImportModel { name: model.clone(), found: *fingerprint, expected }
}

fn check_width(export: &Manifest, width: usize) -> Result<()> {
    match width == export.width {
        true => Ok(()),
        false => Err(Error::ImportUnsuited {
            path: (&export.model).into(),
            what: format!("its vectors have {} features, the model gives {width}", export.width),
            remedy: "export them again: the manifest was not written so".into(),
        }),
    }
}

/// Reads an export into a library: its images are known from then on by their content, and `index` embeds none
/// of them. They are found once a folder that holds them is indexed.
///
/// Features that are there stay, so that doing it twice, or going on after an interruption, changes nothing
/// that is there.
///
/// # Errors
/// [`Error::ImportModel`] when the model of the export is neither that of `network` nor, without one, a model
/// that the library knows; [`Error::ImportUnsuited`] when its vectors have another width than that model's;
/// [`Error::ImportDamaged`] when a row cannot be understood; [`Error::Locked`]; [`Error::Cancelled`] and
/// [`Error::Catalog`], after which the batches before are kept.
pub fn import(
    library: &mut Library,
    export: Verified<'_>,
    network: Option<&FeatureNetwork>,
    watch: &Watch<'_>,
) -> Result<ImportReport> {
    let _lock = library.lock()?;
    let manifest = export.manifest();
    let models = library.catalog().models()?;
    let known = models.iter().find(|model| model.fingerprint == manifest.fingerprint);
    match (network, known) {
        (Some(network), _) => check_model(manifest, network)?,
        (None, Some(model)) => check_width(manifest, model.width)?,
        (None, None) => return Err(other(manifest, "the library knows no such model".into())),
    }

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
    export.each(&mut |image| {
        waiting.push(image);
        if waiting.len() == BATCH { write(&mut waiting) } else { Ok(()) }
    })?;
    write(&mut waiting)?;
    Ok(report)
}
