//! The real model and the real photos, where a checkout has them beside it in `../shared`.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder with models and photos, or `None` after saying on stderr that `test` was skipped. Where
/// they must be there, `LIKENESS_REQUIRE_SHARED=1` turns skipping into failing.
pub(crate) fn folder(test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    if let Ok(folder) = folder.canonicalize() {
        return Some(folder);
    }
    let required = std::env::var_os("LIKENESS_REQUIRE_SHARED").is_some_and(|v| v == "1");
    assert!(!required, "{test} needs ../shared");
    // Not `eprintln!`: the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "skipped {test}: there is no ../shared");
    None
}

/// A mirror with a model for all tests: the real one where it is, else a tiny network of the same shape.
pub(crate) fn mirror() -> PathBuf {
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    real.canonicalize().unwrap_or_else(|_| crate::tiny_network::mirror())
}
