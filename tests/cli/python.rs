//! Python with what the reference scripts need, pinned and hash-checked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::sandbox::Run;

/// Where the scripts and their requirements lie.
pub(crate) const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference");

/// Where the programs that load exports are named.
pub(crate) const CONSUMERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/consumers");

/// A Python command that can import the packages of `tests/reference/requirements.txt`.
pub(crate) fn python() -> Command {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    with_packages(PACKAGES.get_or_init(|| packages(&Path::new(REFERENCE).join("requirements.txt"))))
}

/// A Python command that can import the packages of `tests/consumers/requirements.txt`.
pub(crate) fn python_of_consumers() -> Command {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    with_packages(PACKAGES.get_or_init(|| packages(&Path::new(CONSUMERS).join("requirements.txt"))))
}

fn with_packages(packages: &Path) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages);
    command
}

/// A folder with the packages of a file of requirements. They are installed once, into the build folder.
pub(crate) fn packages(requirements: &Path) -> PathBuf {
    let hash = Sha256::digest(fs::read(requirements).expect("it is in the project"));
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let packages = build.join(format!("python-{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2]));
    // Several test processes may come here at once; one installs, the others wait.
    let lock = File::create(build.join("python.lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !packages.exists() {
        let unfinished = packages.with_extension("unfinished");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--require-hashes", "--only-binary=:all:", "--upgrade", "--requirement"]);
        Run::of(pip.arg(requirements).arg("--target").arg(&unfinished)).exits(0);
        fs::rename(unfinished, &packages).expect("the same folder");
    }
    packages
}
