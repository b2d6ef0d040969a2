//! libheif's C interface, as much of it as is needed, found when the program runs.
//!
//! HEVC and AV1 decoders are large, in C, and the former is encumbered by patents: the system's own is
//! used where there is one, and a build without any works.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::Library;

/// What the system's loader is asked for, in this order. Homebrew's folder is none of the loader's own.
const NAMES: &[&str] = if cfg!(windows) {
    &["heif.dll", "libheif.dll"]
} else if cfg!(target_os = "macos") {
    &["libheif.1.dylib", "/opt/homebrew/lib/libheif.1.dylib", "/usr/local/lib/libheif.1.dylib"]
} else {
    &["libheif.so.1"]
};

/// `struct heif_error`, returned by value: a code (0 is well), a finer one, and a text that always is
/// there and lives as long as the context.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawError {
    pub(super) code: c_int,
    pub(super) subcode: c_int,
    pub(super) message: *const c_char,
}

/// `struct heif_decoding_options` up to its version 3: later versions only append, and libheif itself
/// allocates it.
#[repr(C)]
pub(super) struct DecodingOptions {
    pub(super) version: u8,
    ignore_transformations: u8,
    progress: [*mut c_void; 4],
    pub(super) convert_hdr_to_8bit: u8,
    pub(super) strict_decoding: u8,
}

/// `struct heif_color_profile_nclx` up to what is read of it; libheif allocates it.
#[repr(C)]
pub(super) struct Nclx {
    version: u8,
    pub(super) primaries: c_int,
    pub(super) transfer: c_int,
}

/// Handles of libheif's, opaque.
pub(super) type Context = *mut c_void;
pub(super) type Handle = *mut c_void;
pub(super) type Picture = *mut c_void;

/// `enum heif_colorspace`.
pub(super) const COLORSPACE_RGB: c_int = 1;
/// `enum heif_chroma`: 3 and 4 bytes a pixel.
pub(super) const INTERLEAVED_RGB: c_int = 10;
pub(super) const INTERLEAVED_RGBA: c_int = 11;
/// `enum heif_channel`.
pub(super) const CHANNEL_INTERLEAVED: c_int = 10;
/// `enum heif_compression_format`.
pub(super) const HEVC: c_int = 1;
pub(super) const AV1: c_int = 4;

/// Declares functions by their C names, and how a library is asked for all of them.
macro_rules! functions {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of a loaded libheif. It is never unloaded, so they stay valid.
        #[expect(non_snake_case, reason = "the names are libheif's")]
        pub(super) struct Libheif {
            /// The file, where the system tells.
            pub(super) path: Option<PathBuf>,
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Libheif {
            /// `None` when the library lacks a function: it is older than 1.12, or something else.
            fn bind(library: &Library) -> Option<Self> {
                // SAFETY: the types are those of libheif's header, where they have not changed since
                // they came; only a library of that name, which keeps to it, is asked.
                unsafe {
                    Some(Self {
                        path: path_of(&library.get(b"heif_get_version").ok()?),
                        $($name: *library.get(stringify!($name).as_bytes()).ok()?,)*
                    })
                }
            }
        }
    };
}

functions! {
    heif_get_version() -> *const c_char;
    heif_have_decoder_for_format(c_int) -> c_int;
    heif_context_alloc() -> Context;
    heif_context_free(Context);
    heif_context_set_max_decoding_threads(Context, c_int);
    heif_context_read_from_memory_without_copy(
        Context, *const c_void, usize, *const c_void) -> RawError;
    heif_context_get_primary_image_handle(Context, *mut Handle) -> RawError;
    heif_context_get_image_handle(Context, u32, *mut Handle) -> RawError;
    heif_image_handle_release(Handle);
    heif_image_handle_get_width(Handle) -> c_int;
    heif_image_handle_get_height(Handle) -> c_int;
    heif_image_handle_has_alpha_channel(Handle) -> c_int;
    heif_image_handle_is_premultiplied_alpha(Handle) -> c_int;
    heif_image_handle_get_raw_color_profile_size(Handle) -> usize;
    heif_image_handle_get_raw_color_profile(Handle, *mut c_void) -> RawError;
    heif_image_handle_get_nclx_color_profile(Handle, *mut *mut Nclx) -> RawError;
    heif_nclx_color_profile_free(*mut Nclx);
    heif_image_handle_get_number_of_metadata_blocks(Handle, *const c_char) -> c_int;
    heif_image_handle_get_list_of_metadata_block_IDs(
        Handle, *const c_char, *mut u32, c_int) -> c_int;
    heif_image_handle_get_metadata_content_type(Handle, u32) -> *const c_char;
    heif_image_handle_get_metadata_size(Handle, u32) -> usize;
    heif_image_handle_get_metadata(Handle, u32, *mut c_void) -> RawError;
    heif_decoding_options_alloc() -> *mut DecodingOptions;
    heif_decoding_options_free(*mut DecodingOptions);
    heif_decode_image(
        Handle, *mut Picture, c_int, c_int, *const DecodingOptions) -> RawError;
    heif_image_release(Picture);
    heif_image_get_width(Picture, c_int) -> c_int;
    heif_image_get_height(Picture, c_int) -> c_int;
    heif_image_get_plane_readonly(Picture, c_int, *mut c_int) -> *const u8;
}

impl Libheif {
    /// The version, as `1.19.8`.
    pub(super) fn version(&self) -> String {
        // SAFETY: it takes nothing and gives a C string that is part of the library.
        unsafe { CStr::from_ptr((self.heif_get_version)()) }.to_string_lossy().into_owned()
    }

    /// Whether the library, or a plugin it found, decodes what `format` ([`HEVC`] or [`AV1`]) names.
    pub(super) fn decodes(&self, format: c_int) -> bool {
        // SAFETY: it takes a number.
        unsafe { (self.heif_have_decoder_for_format)(format) != 0 }
    }
}

/// The system's libheif, loaded at the first call; `None` when there is none.
pub(super) fn libheif() -> Option<&'static Libheif> {
    static LOADED: OnceLock<Option<Libheif>> = OnceLock::new();
    let load = || {
        let library = NAMES.iter().find_map(|name| {
            // SAFETY: what runs when it is loaded is the C++ runtime's and the codecs' own set-up.
            unsafe { Library::new(*name) }.ok()
        })?;
        let bound = Libheif::bind(&library);
        // Codecs keep threads and tables: no unloading.
        std::mem::forget(library);
        bound
    };
    LOADED.get_or_init(load).as_ref()
}

/// The file that a function was loaded from.
#[cfg(unix)]
fn path_of(function: &libloading::Symbol<'_, unsafe extern "C" fn()>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;

    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let address = **function as *const c_void;
    // SAFETY: the address is only compared; `info` is valid for writing, and zeroes are a valid value.
    // The name is a C string that lives as long as the library, which is not unloaded.
    unsafe {
        let found = libc::dladdr(address, info.as_mut_ptr());
        let name = info.assume_init().dli_fname;
        let found = found != 0 && !name.is_null();
        found.then(|| PathBuf::from(std::ffi::OsStr::from_bytes(CStr::from_ptr(name).to_bytes())))
    }
}

#[cfg(not(unix))]
fn path_of(_: &libloading::Symbol<'_, unsafe extern "C" fn()>) -> Option<PathBuf> {
    None
}
