//! What this build decodes, on this machine.

use std::path::PathBuf;

use super::format::{self, Decoder, Format};
use super::heif;

/// A format, and whether photos of it can be decoded here and now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FormatSupport {
    /// The format.
    pub format: Format,
    /// What decodes it, as `zune-jpeg` or `libheif 1.19.8`.
    pub decoder: String,
    /// The decoder's file, where it is a library of the system's and the system tells.
    pub library: Option<PathBuf>,
    /// What is missing and how it is installed; `None` when the format is decoded.
    pub missing: Option<String>,
}

/// All formats, photos' own first. Looks for the system's libraries as decoding does, once.
pub fn formats() -> Vec<FormatSupport> {
    format::ALL.into_iter().map(support).collect()
}

fn support(format: Format) -> FormatSupport {
    let built_in = |decoder: &str| FormatSupport {
        format,
        decoder: decoder.to_owned(),
        library: None,
        missing: None,
    };
    match format.decoder() {
        Decoder::Jpeg => built_in("zune-jpeg, libjpeg-turbo"),
        Decoder::ImageCrate(_) | Decoder::Ico => built_in("image"),
        Decoder::LinearLight(_) => built_in("image, tone-mapped"),
        Decoder::Jxl => built_in("jxl"),
        Decoder::Jp2 => built_in("hayro-jpeg2000"),
        Decoder::Psd => built_in("likeness"),
        Decoder::Tiff => built_in("tiff"),
        Decoder::RawPreview => built_in("the JPEG preview in it"),
        Decoder::Libheif => match heif::status(format) {
            Ok((decoder, library)) => FormatSupport { library, ..built_in(&decoder) },
            Err(reason) => {
                FormatSupport { missing: Some(reason.to_string()), ..built_in("libheif") }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_library_of_the_system_decodes_can_be_missing() {
        let formats = formats();
        assert_eq!(formats.len(), format::ALL.len());
        for found in formats {
            let by_library = matches!(found.format, Format::Heic | Format::Avif);
            assert!(by_library || found.missing.is_none(), "{found:?}");
            assert!(!found.decoder.is_empty());
        }
    }
}
