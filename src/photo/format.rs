//! The picture formats likeness decodes: what they are called, and by what they are decoded.

use image::ImageFormat;
use serde::Serialize;

/// What a file is, by its content. Serialises as the name the catalog stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// JPEG, baseline and progressive, also arithmetic-coded and CMYK.
    Jpeg,
    /// PNG; of an animation the default image.
    Png,
    /// WebP, lossy and lossless.
    WebP,
    /// GIF, the first frame.
    Gif,
    /// TIFF, the first page.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// HEIC and other HEIF files, the primary image; by the system's libheif.
    Heic,
    /// AVIF, the primary image; by the system's libheif.
    Avif,
    /// JPEG XL, the first frame.
    Jxl,
    /// JPEG 2000: JP2 files, and codestreams by themselves.
    Jp2,
    /// The preview that a camera laid into its RAW file.
    Raw,
    /// Photoshop's PSD and PSB, flattened.
    Psd,
    /// OpenEXR, the first layer with colours; tone-mapped.
    Exr,
    /// Radiance HDR; tone-mapped.
    Hdr,
    /// QOI.
    Qoi,
    /// Netpbm: PBM, PGM, PPM, PAM.
    Pnm,
    /// Truevision TGA, which only its name tells.
    Tga,
    /// Windows icon, its largest picture.
    Ico,
}

/// All of them, in the order they are listed in.
pub(super) const ALL: [Format; 18] = [
    Format::Jpeg,
    Format::Png,
    Format::WebP,
    Format::Gif,
    Format::Tiff,
    Format::Bmp,
    Format::Heic,
    Format::Avif,
    Format::Jxl,
    Format::Jp2,
    Format::Raw,
    Format::Psd,
    Format::Exr,
    Format::Hdr,
    Format::Qoi,
    Format::Pnm,
    Format::Tga,
    Format::Ico,
];

/// What decodes a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoder {
    /// [`super::jpeg`].
    Jpeg,
    /// The `image` crate, and pixels that are ready to be looked at.
    ImageCrate(ImageFormat),
    /// The `image` crate, and linear light that must be tone-mapped.
    LinearLight(ImageFormat),
    /// [`super::ico`].
    Ico,
    /// [`super::jxl`].
    Jxl,
    /// [`super::jp2`].
    Jp2,
    /// [`super::heif`], when the system has libheif.
    Libheif,
    /// [`super::psd`].
    Psd,
    /// [`super::tiff`].
    Tiff,
    /// The largest JPEG that [`super::raw`] finds.
    RawPreview,
}

/// What there is to say about a format.
struct About {
    name: &'static str,
    usual_name: &'static str,
    extensions: &'static [&'static str],
    decoder: Decoder,
}

impl Format {
    /// The name the catalog stores: lower case.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// The name people use.
    pub fn usual_name(self) -> &'static str {
        self.about().usual_name
    }

    /// The extensions such files usually bear, the most usual first, in lower case. Only TGA needs one
    /// to be recognised.
    pub fn extensions(self) -> &'static [&'static str] {
        self.about().extensions
    }

    /// Whether large pictures of it may be decoded by rows, from the disk.
    pub(super) fn has_rows(self) -> bool {
        use Format::{Bmp, Exr, Hdr, Png, Pnm, Psd, Qoi, Tga, Tiff};
        matches!(self, Png | Tiff | Bmp | Pnm | Psd | Exr | Hdr | Qoi | Tga)
    }

    pub(super) fn decoder(self) -> Decoder {
        self.about().decoder
    }

    fn about(self) -> About {
        use Decoder::{ImageCrate, LinearLight};
        let about =
            |name, usual_name, extensions, decoder| About { name, usual_name, extensions, decoder };
        match self {
            Format::Jpeg => about("jpeg", "JPEG", &["jpg", "jpeg", "jpe", "jfif"], Decoder::Jpeg),
            Format::Png => about("png", "PNG", &["png", "apng"], ImageCrate(ImageFormat::Png)),
            Format::WebP => about("webp", "WebP", &["webp"], ImageCrate(ImageFormat::WebP)),
            Format::Gif => about("gif", "GIF", &["gif"], ImageCrate(ImageFormat::Gif)),
            Format::Tiff => about("tiff", "TIFF", &["tif", "tiff"], Decoder::Tiff),
            Format::Bmp => about("bmp", "BMP", &["bmp", "dib"], ImageCrate(ImageFormat::Bmp)),
            Format::Heic => about("heic", "HEIC", &["heic", "heif", "hif"], Decoder::Libheif),
            Format::Avif => about("avif", "AVIF", &["avif"], Decoder::Libheif),
            Format::Jxl => about("jxl", "JPEG XL", &["jxl"], Decoder::Jxl),
            Format::Jp2 => {
                about("jp2", "JPEG 2000", &["jp2", "j2k", "jpx", "jpf", "j2c", "jpc"], Decoder::Jp2)
            }
            Format::Raw => about("raw", "camera RAW", &RAW_EXTENSIONS, Decoder::RawPreview),
            Format::Psd => about("psd", "PSD", &["psd", "psb"], Decoder::Psd),
            Format::Exr => about("exr", "OpenEXR", &["exr"], LinearLight(ImageFormat::OpenExr)),
            Format::Hdr => about("hdr", "Radiance HDR", &["hdr"], LinearLight(ImageFormat::Hdr)),
            Format::Qoi => about("qoi", "QOI", &["qoi"], ImageCrate(ImageFormat::Qoi)),
            Format::Pnm => about(
                "pnm",
                "Netpbm",
                &["pnm", "ppm", "pgm", "pbm", "pam"],
                ImageCrate(ImageFormat::Pnm),
            ),
            Format::Tga => {
                about("tga", "TGA", &["tga", "icb", "vda", "vst"], ImageCrate(ImageFormat::Tga))
            }
            Format::Ico => about("ico", "ICO", &["ico"], Decoder::Ico),
        }
    }
}

/// Many of them are TIFF inside, where only the name tells them from a TIFF whose first picture is not
/// a thumbnail.
pub(super) const RAW_EXTENSIONS: [&str; 20] = [
    "dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "sr2", "raf", "orf", "rw2", "pef", "srw",
    "3fr", "iiq", "erf", "kdc", "mef", "mrw", "x3f",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogs_name_is_the_serialised_one() {
        for format in ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
            assert!(!format.extensions().is_empty());
        }
    }
}
