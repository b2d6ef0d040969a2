//! Files that are either whole or not there.

use std::fs::{self, File};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Writes a file under a temporary name beside `path`, brings it to disk, and renames it. On an error
/// nothing is left behind and what lay at `path` is as it was.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let folder = path.parent().expect("files lie in folders");
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".partial-")
        .tempfile_in(folder)
        .map_err(Error::io("create a file in", folder))?;
    fill(temporary.as_file_mut())?;
    make_readable(&temporary)?;
    temporary.as_file().sync_all().map_err(Error::io("write", path))?;
    temporary.persist(path).map_err(|e| Error::io("create", path)(e.error))?;
    sync_folder(folder)
}

/// Renames a file that is on disk already.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("rename", from))?;
    sync_folder(to.parent().expect("files lie in folders"))
}

/// Temporary files are made for their owner only; a published one is for whoever may see the folder.
fn make_readable(temporary: &NamedTempFile) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let permissions = fs::Permissions::from_mode(0o644);
        let set = temporary.as_file().set_permissions(permissions);
        set.map_err(Error::io("write", temporary.path()))?;
    }
    #[cfg(not(unix))]
    let _ = temporary;
    Ok(())
}

/// Makes a rename in `folder` survive a power cut. Elsewhere than on Unix folders cannot be opened.
fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("write", folder))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
