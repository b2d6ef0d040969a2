//! HEIC, AVIF and other HEIF files, through the system's libheif.
//!
//! libheif turns, mirrors and crops as the file says, so that what comes out is upright. EXIF repeats
//! the orientation, and must not be applied again.

mod file;
mod grid;
mod library;
mod nclx;

use std::ffi::c_int;
use std::path::PathBuf;

use image::metadata::Orientation;

use self::file::{Failure, Opened};
use self::grid::Grid;
use self::library::Libheif;
use super::decode::{Metadata, Raster};
use super::format::Format;
use super::wanted::Wanted;
use super::{Unreadable, image_rs, stream};

/// Decodes the primary image to 8 bits.
///
/// # Errors
/// [`Unreadable::NeedsLibrary`] without libheif or the codec; else when it is truncated, damaged or too
/// large.
pub(super) fn decode(
    bytes: &[u8],
    format: Format,
    wanted: &Wanted<'_>,
) -> Result<Raster, Unreadable> {
    let Some(lib) = library::libheif() else {
        let needs = "libheif".to_owned();
        return Err(Unreadable::NeedsLibrary {
            format: format.usual_name(),
            needs,
            remedy: LIBRARY_REMEDY,
        });
    };
    let file = Opened::new(lib, bytes).map_err(|failure| failure.reason(format))?;
    let size = file.size();
    let canvas = grid::canvas(bytes).unwrap_or(size);
    wanted.check_size(size)?;
    wanted.check_size(canvas)?;
    let metadata = || Metadata {
        exif: file.metadata(c"Exif", None).as_deref().and_then(super::exif_of_item),
        xmp: file.metadata(c"mime", Some(c"application/rdf+xml")),
        icc: file.profile(),
    };
    let pixels = [size, canvas].map(|(width, height)| u64::from(width) * u64::from(height));
    let pixels = pixels[0].max(pixels[1]);
    if 3 * pixels > image_rs::WHOLE
        && let Some(raster) = by_tiles(&file, bytes, wanted)
    {
        return Ok(Raster { metadata: metadata(), ..raster });
    }
    // The codec's planes, what libheif makes of them, and the copy that leaves it.
    let _permit = wanted.room_for(12 * pixels)?;
    let (image, size) = file.pixels(pixels).map_err(|failure| failure.reason(format))?;
    let orientation = Some(Orientation::NoTransforms);
    Ok(Raster::whole(image, size, metadata(), orientation))
}

/// Decodes a large picture that is a grid of tiles, holding a row of those; `None` where that does not work or saves
/// nothing. Metadata is left to the caller.
fn by_tiles(file: &Opened<'_>, bytes: &[u8], wanted: &Wanted<'_>) -> Option<Raster> {
    if file.has_alpha() {
        return None;
    }
    let _permit = wanted.room_for(bytes.len() as u64).ok()?;
    let Grid { columns, tiles, size, orientation, shown } = Grid::read(bytes)?;
    let shown = Opened::new(file.lib, &shown).ok()?;
    let most = u64::from(size.0) * u64::from(size.1);
    let tile = |place: usize| shown.tile(tiles[place], most).ok();
    let (scale, image) = stream::tiles(size, columns, tiles.len(), tile, wanted)?;
    let (metadata, orientation) = (Metadata::default(), Some(orientation));
    Some(Raster { scale, ..Raster::whole(image, size, metadata, orientation) })
}

/// The libheif that is used, as `libheif 1.19.8` and its file; or what to install.
///
/// # Errors
/// [`Unreadable::NeedsLibrary`] when there is none, or it lacks the codec.
pub(super) fn status(format: Format) -> Result<(String, Option<PathBuf>), Unreadable> {
    let needs_library = |needs: String, remedy| Unreadable::NeedsLibrary {
        format: format.usual_name(),
        needs,
        remedy,
    };
    let lib =
        library::libheif().ok_or_else(|| needs_library("libheif".to_owned(), LIBRARY_REMEDY))?;
    if !lib.decodes(codec(format)) {
        let needs = format!("a codec that libheif {} lacks", lib.version());
        return Err(needs_library(needs, codec_remedy(format)));
    }
    Ok((format!("libheif {}", lib.version()), lib.path.clone()))
}

const LIBRARY_REMEDY: &str = if cfg!(windows) {
    "put heif.dll on PATH"
} else if cfg!(target_os = "macos") {
    "brew install libheif"
} else {
    "apt install libheif1"
};

/// Debian 13 and Ubuntu 24.04 have one package a codec.
fn codec_remedy(format: Format) -> &'static str {
    if cfg!(any(windows, target_os = "macos")) {
        "install a libheif with it"
    } else if format == Format::Avif {
        "apt install libheif-plugin-dav1d"
    } else {
        "apt install libheif-plugin-libde265"
    }
}

fn codec(format: Format) -> c_int {
    if format == Format::Avif { library::AV1 } else { library::HEVC }
}

impl Failure {
    fn reason(self, format: Format) -> Unreadable {
        const INVALID_INPUT: c_int = 2;
        const UNSUPPORTED_FILE: c_int = 3;
        const UNSUPPORTED_FEATURE: c_int = 4;
        const NO_PLUGIN: c_int = 11;
        const END_OF_DATA: c_int = 100;
        const NO_SUCH_ITEM: c_int = 2000;
        let reason = self.message.trim_end_matches('.').replace('\n', " ");
        // What one version does not know the next may.
        let variant = || {
            let version = library::libheif().map_or_else(String::new, Libheif::version);
            let reason = format!("libheif {version}: {reason}");
            Unreadable::Variant { format: format.usual_name(), reason }
        };
        match self.code {
            UNSUPPORTED_FEATURE | NO_PLUGIN => status(format).err().unwrap_or_else(variant),
            UNSUPPORTED_FILE => variant(),
            // Before 1.17 images of codecs that it does not know were as good as absent.
            INVALID_INPUT if self.subcode == NO_SUCH_ITEM => variant(),
            INVALID_INPUT if self.subcode == END_OF_DATA => {
                Unreadable::Truncated { format: format.usual_name() }
            }
            _ => Unreadable::Damaged { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: c_int, subcode: c_int) -> String {
        let message = "Invalid input: End of data".to_owned();
        Failure { code, subcode, message }.reason(Format::Heic).to_string()
    }

    #[test]
    fn without_the_library_its_package_is_named() {
        let reason = Unreadable::NeedsLibrary {
            format: Format::Heic.usual_name(),
            needs: "libheif".to_owned(),
            remedy: LIBRARY_REMEDY,
        };
        let text = reason.to_string();
        assert!(text.starts_with("HEIC needs libheif: "), "{text}");
        #[cfg(target_os = "linux")]
        assert_eq!(text, "HEIC needs libheif: apt install libheif1");
        assert_ne!(codec_remedy(Format::Heic), LIBRARY_REMEDY);
    }

    #[test]
    fn libheifs_errors_become_reasons() {
        assert_eq!(failure(2, 100), "truncated: the HEIC data ends before the picture does");
        assert_eq!(failure(2, 129), "damaged: Invalid input: End of data");
        assert!(failure(3, 0).starts_with("a kind of HEIC that is not decoded by this version"));
    }

    #[test]
    fn every_cut_is_refused() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/golden/");
        for (name, format) in [("colour.heic", Format::Heic), ("alpha.avif", Format::Avif)] {
            let whole = std::fs::read(format!("{folder}{name}")).unwrap();
            let wanted = crate::photo::decode::tests::wanted(224);
            if status(format).is_err() {
                let error = decode(&whole, format, &wanted).err();
                assert!(matches!(error, Some(Unreadable::NeedsLibrary { .. })), "{error:?}");
                continue;
            }
            assert!(decode(&whole, format, &wanted).is_ok());
            for end in (0..whole.len() * 95 / 100).step_by(61) {
                assert!(decode(&whole[..end], format, &wanted).is_err(), "{name} cut to {end}");
            }
        }
    }

    #[test]
    fn a_large_picture_is_put_together_of_its_tiles() {
        if status(Format::Heic).is_err() {
            return;
        }
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/golden/tiles.heic");
        let bytes = std::fs::read(golden).unwrap();
        let file = Opened::new(library::libheif().unwrap(), &bytes).ok().unwrap();
        // The network asks for 8, so 32 must remain of 170.
        let wanted = crate::photo::decode::tests::wanted(8);
        let tiles = by_tiles(&file, &bytes, &wanted).unwrap();
        assert_eq!((tiles.size, tiles.scale), ((250, 170), 0.2));
        let mut upright = tiles.image;
        upright.apply_orientation(tiles.orientation.unwrap());
        let (whole, size) = file.pixels(250 * 170).ok().unwrap();
        assert_eq!(size, (170, 250));
        let expected = stream::tests::in_blocks(&whole, &wanted);
        assert_eq!((upright.width(), upright.height()), (34, 50));
        // libheif interpolates chroma across the tiles' edges, or does not.
        let apart = upright.as_bytes().iter().zip(expected.as_bytes());
        let apart = apart.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart <= Some(1), "{apart:?}");
    }
}
