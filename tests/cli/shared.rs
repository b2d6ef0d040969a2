//! The real model and the real photos: beside the checkout in `../shared`, or where `LIKENESS_SHARED`
//! says.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder with models and photos, or `None` after saying on stderr that `test` was skipped. Where
/// they must be there, `LIKENESS_REQUIRE_SHARED=1` turns skipping into failing.
pub(crate) fn folder(test: &str) -> Option<PathBuf> {
    if let Some(folder) = find() {
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
    find().map_or_else(crate::tiny_network::mirror, |folder| folder.join("models"))
}

fn find() -> Option<PathBuf> {
    let named = std::env::var_os("LIKENESS_SHARED").unwrap_or_else(|| "../shared".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(named).canonicalize().ok()
}
