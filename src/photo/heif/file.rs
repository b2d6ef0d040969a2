//! A HEIF file in libheif's hands: what is asked of it, and that all of it is given back.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;

use image::{DynamicImage, RgbImage, RgbaImage};

use super::library::{self, Context, Handle, Libheif, Picture, RawError};
use super::nclx;

/// Metadata beyond this is not read, in bytes.
const MAX_METADATA: usize = 64 << 20;

/// What libheif refused, and why.
pub(super) struct Failure {
    pub(super) code: c_int,
    pub(super) subcode: c_int,
    pub(super) message: String,
}

impl Failure {
    fn new(raw: RawError) -> Self {
        let message = if raw.message.is_null() {
            "libheif gives no reason".to_owned()
        } else {
            // SAFETY: the text is a C string; it lives at least as long as the context, which outlives
            // this call.
            unsafe { CStr::from_ptr(raw.message) }.to_string_lossy().into_owned()
        };
        Self { code: raw.code, subcode: raw.subcode, message }
    }
}

/// A file that libheif has read, and its primary image. The bytes are not copied.
pub(super) struct Opened<'a> {
    pub(super) lib: &'static Libheif,
    context: Context,
    handle: Handle,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Opened<'a> {
    pub(super) fn new(lib: &'static Libheif, bytes: &'a [u8]) -> Result<Self, Failure> {
        // SAFETY: allocating takes nothing; null is checked for below.
        let context = unsafe { (lib.heif_context_alloc)() };
        if context.is_null() {
            return Err(Failure { code: 6, subcode: 0, message: "no memory".to_owned() });
        }
        // From here on dropping frees it.
        let mut opened = Self { lib, context, handle: std::ptr::null_mut(), bytes: PhantomData };
        // SAFETY: the context is valid, and `bytes` outlives it by the lifetime above. With null for
        // options libheif takes its own; the handle is valid for writing.
        unsafe {
            // Photos are decoded side by side already.
            (lib.heif_context_set_max_decoding_threads)(context, 0);
            checked((lib.heif_context_read_from_memory_without_copy)(
                context,
                bytes.as_ptr().cast(),
                bytes.len(),
                std::ptr::null(),
            ))?;
            checked((lib.heif_context_get_primary_image_handle)(context, &mut opened.handle))?;
        }
        Ok(opened)
    }

    /// Width and height in pixels after turning and cropping, as the header has them.
    pub(super) fn size(&self) -> (u32, u32) {
        // SAFETY: the handle is valid until it is dropped.
        let (width, height) = unsafe {
            (
                (self.lib.heif_image_handle_get_width)(self.handle),
                (self.lib.heif_image_handle_get_height)(self.handle),
            )
        };
        (u32::try_from(width).unwrap_or(0), u32::try_from(height).unwrap_or(0))
    }

    /// Decodes to 8-bit RGB, with alpha where there is one, and gives the true size. About as many pixels as `promised` may
    /// come out.
    pub(super) fn pixels(&self, promised: u64) -> Result<(DynamicImage, (u32, u32)), Failure> {
        let has_alpha = self.has_alpha();
        // SAFETY: as in `size`.
        let premultiplied =
            unsafe { (self.lib.heif_image_handle_is_premultiplied_alpha)(self.handle) != 0 };
        let (size, mut pixels) = self.decoded(self.handle, has_alpha, promised)?;
        if premultiplied && has_alpha {
            straighten(&mut pixels);
        }
        let image = match has_alpha {
            false => RgbImage::from_raw(size.0, size.1, pixels).map(DynamicImage::ImageRgb8),
            true => RgbaImage::from_raw(size.0, size.1, pixels).map(DynamicImage::ImageRgba8),
        };
        Ok((image.ok_or_else(odd)?, size))
    }

    /// Whether the picture has an alpha channel.
    pub(super) fn has_alpha(&self) -> bool {
        // SAFETY: as in `size`.
        unsafe { (self.lib.heif_image_handle_has_alpha_channel)(self.handle) != 0 }
    }

    /// Decodes another item of the file, as [`super::grid::Grid`] names them, to 8-bit RGB: its size, and its rows one
    /// after the other.
    pub(super) fn tile(&self, item: u32, promised: u64) -> Result<((u32, u32), Vec<u8>), Failure> {
        let mut tile = Tile { lib: self.lib, handle: std::ptr::null_mut() };
        // SAFETY: the context is valid until it is dropped, and the handle is valid for writing.
        checked(unsafe {
            (self.lib.heif_context_get_image_handle)(self.context, item, &mut tile.handle)
        })?;
        self.decoded(tile.handle, false, promised)
    }

    /// Decodes an image to 8 bits, with alpha or without: its size, and its rows one after the other.
    fn decoded(
        &self,
        handle: Handle,
        alpha: bool,
        promised: u64,
    ) -> Result<((u32, u32), Vec<u8>), Failure> {
        let (chroma, channels) = match alpha {
            false => (library::INTERLEAVED_RGB, 3),
            true => (library::INTERLEAVED_RGBA, 4),
        };
        let options = Options::new(self.lib);
        let mut picture = Decoded { lib: self.lib, picture: std::ptr::null_mut() };
        // SAFETY: the handle is one of this file's and the options are valid, the options may be null, and the
        // picture is valid for writing.
        checked(unsafe {
            (self.lib.heif_decode_image)(
                handle,
                &mut picture.picture,
                library::COLORSPACE_RGB,
                chroma,
                options.options,
            )
        })?;
        picture.copy(channels, promised).ok_or_else(odd)
    }

    /// The ICC profile, or one for the primaries that the file names by number.
    pub(super) fn profile(&self) -> Option<Vec<u8>> {
        // SAFETY: the handle is valid, and the profile is as large as libheif said a line before. The
        // named colours are null or valid until they are freed, which null may be, too.
        unsafe {
            let length = (self.lib.heif_image_handle_get_raw_color_profile_size)(self.handle);
            if (1..=MAX_METADATA).contains(&length) {
                let mut icc = vec![0u8; length];
                let target = icc.as_mut_ptr().cast();
                let raw = (self.lib.heif_image_handle_get_raw_color_profile)(self.handle, target);
                return checked(raw).ok().map(|()| icc);
            }
            let mut named = std::ptr::null_mut();
            let raw = (self.lib.heif_image_handle_get_nclx_color_profile)(self.handle, &mut named);
            checked(raw).ok()?;
            let profile = named.as_ref().and_then(|n| nclx::profile(n.primaries, n.transfer));
            (self.lib.heif_nclx_color_profile_free)(named);
            profile
        }
    }

    /// The first block of metadata of this kind.
    pub(super) fn metadata(&self, kind: &CStr, content_type: Option<&CStr>) -> Option<Vec<u8>> {
        let (lib, handle) = (self.lib, self.handle);
        // SAFETY: the handle is valid; the list of ids is as long as is said; the block is as large as
        // libheif said; content types are C strings that live as long as the handle.
        unsafe {
            let count =
                (lib.heif_image_handle_get_number_of_metadata_blocks)(handle, kind.as_ptr());
            let mut ids = vec![0u32; usize::try_from(count).unwrap_or(0).min(64)];
            let filled = (lib.heif_image_handle_get_list_of_metadata_block_IDs)(
                handle,
                kind.as_ptr(),
                ids.as_mut_ptr(),
                ids.len() as c_int,
            );
            ids.truncate(usize::try_from(filled).unwrap_or(0));
            let id = ids.into_iter().find(|&id| {
                content_type.is_none_or(|wanted| {
                    let found = (lib.heif_image_handle_get_metadata_content_type)(handle, id);
                    !found.is_null() && CStr::from_ptr(found) == wanted
                })
            })?;
            let length = (lib.heif_image_handle_get_metadata_size)(handle, id);
            if !(1..=MAX_METADATA).contains(&length) {
                return None;
            }
            let mut block = vec![0u8; length];
            let target: *mut c_void = block.as_mut_ptr().cast();
            checked((lib.heif_image_handle_get_metadata)(handle, id, target)).ok().map(|()| block)
        }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        // SAFETY: both were made by libheif, and are used no more; releasing null is allowed.
        unsafe {
            (self.lib.heif_image_handle_release)(self.handle);
            (self.lib.heif_context_free)(self.context);
        }
    }
}

/// An item that is no primary image.
struct Tile {
    lib: &'static Libheif,
    handle: Handle,
}

impl Drop for Tile {
    fn drop(&mut self) {
        // SAFETY: made by libheif, and used no more; releasing null is allowed.
        unsafe { (self.lib.heif_image_handle_release)(self.handle) }
    }
}

/// Options of a decode; null where libheif could not allocate them, which means its defaults.
struct Options {
    lib: &'static Libheif,
    options: *mut library::DecodingOptions,
}

impl Options {
    fn new(lib: &'static Libheif) -> Self {
        // SAFETY: libheif allocates and fills in what its version has; fields are written only where the
        // version says that they are there.
        let options = unsafe {
            let options = (lib.heif_decoding_options_alloc)();
            if let Some(options) = options.as_mut() {
                if options.version >= 2 {
                    options.convert_hdr_to_8bit = 1;
                }
                if options.version >= 3 {
                    options.strict_decoding = 1;
                }
            }
            options
        };
        Self { lib, options }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by libheif; freeing null is allowed.
        unsafe { (self.lib.heif_decoding_options_free)(self.options) }
    }
}

/// A decoded picture.
struct Decoded {
    lib: &'static Libheif,
    picture: Picture,
}

impl Decoded {
    /// Copies the rows together; they lie apart by a stride. `None` of a picture without pixels, or with far more than
    /// its file promised.
    fn copy(&self, channels: usize, promised: u64) -> Option<((u32, u32), Vec<u8>)> {
        let channel = library::CHANNEL_INTERLEAVED;
        let mut stride: c_int = 0;
        // SAFETY: the picture is valid until it is dropped; the stride is valid for writing.
        let (width, height, plane) = unsafe {
            (
                (self.lib.heif_image_get_width)(self.picture, channel),
                (self.lib.heif_image_get_height)(self.picture, channel),
                (self.lib.heif_image_get_plane_readonly)(self.picture, channel, &mut stride),
            )
        };
        let size = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        if u64::from(size.0) * u64::from(size.1) > promised.saturating_mul(2) {
            return None;
        }
        let (row, stride) = (size.0 as usize * channels, usize::try_from(stride).ok()?);
        if plane.is_null() || row == 0 || size.1 == 0 || stride < row {
            return None;
        }
        let mut pixels = Vec::with_capacity(row * size.1 as usize);
        for y in 0..size.1 as usize {
            // SAFETY: the plane has `height` rows that begin `stride` bytes apart, of `row` bytes each.
            pixels.extend_from_slice(unsafe {
                std::slice::from_raw_parts(plane.add(y * stride), row)
            });
        }
        Some((size, pixels))
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        // SAFETY: made by libheif, and used no more; releasing null is allowed.
        unsafe { (self.lib.heif_image_release)(self.picture) }
    }
}

fn odd() -> Failure {
    Failure { code: 2, subcode: 0, message: "it has other pixels than it tells of".to_owned() }
}

fn checked(raw: RawError) -> Result<(), Failure> {
    if raw.code == 0 { Ok(()) } else { Err(Failure::new(raw)) }
}

/// Divides colours by their alpha.
fn straighten(rgba: &mut [u8]) {
    let (pixels, _) = rgba.as_chunks_mut::<4>();
    for [r, g, b, alpha] in pixels {
        let alpha = u32::from(*alpha);
        if alpha == 0 {
            continue;
        }
        for value in [r, g, b] {
            *value = ((u32::from(*value) * 255 + alpha / 2) / alpha).min(255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_that_were_multiplied_by_alpha_are_divided_again() {
        let mut rgba = [100, 50, 0, 128, 9, 9, 9, 0, 7, 8, 9, 255, 200, 0, 0, 100];
        straighten(&mut rgba);
        assert_eq!(rgba, [199, 100, 0, 128, 9, 9, 9, 0, 7, 8, 9, 255, 255, 0, 0, 100]);
    }
}
