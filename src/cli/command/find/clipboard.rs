//! What was copied, in whatever program, as a query.

use std::path::PathBuf;

use arboard::{Clipboard, Error};

/// What is on the clipboard.
pub(super) enum Copied {
    /// A file, as a file manager copies it.
    File(PathBuf),
    /// A picture, as a browser or an image editor copies it: 8-bit RGBA, row by row.
    Picture { width: u32, height: u32, rgba: Vec<u8> },
}

/// Looks at the clipboard.
///
/// # Errors
/// What is wrong, for a person.
pub(super) fn copied() -> Result<Copied, String> {
    let mut clipboard = Clipboard::new().map_err(|error| {
        let elsewhere = "save the picture, or pipe it in: `wl-paste | likeness find -`";
        format!("there is no clipboard to look at ({error}); {elsewhere}")
    })?;
    if let Ok(files) = clipboard.get().file_list()
        && let Some(first) = files.into_iter().next()
    {
        return Ok(Copied::File(first));
    }
    let picture = clipboard.get_image().map_err(|error| match error {
        // Text comes as the latter.
        Error::ContentNotAvailable | Error::Unknown { .. } => {
            "it holds neither a picture nor a file".to_owned()
        }
        error => error.to_string(),
    })?;
    let side = |side: usize| u32::try_from(side).map_err(|_| "the picture is too large".to_owned());
    let (width, height) = (side(picture.width)?, side(picture.height)?);
    Ok(Copied::Picture { width, height, rgba: picture.bytes.into_owned() })
}
