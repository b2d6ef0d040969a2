//! The floors of the house (ARCHITECTURE.md): a file uses only lower ones, and some crates live in one
//! room only.
#![expect(clippy::unwrap_used, reason = "these are all tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and files by floor; what is not named stands on none, and the test fails.
const FLOORS: [&[&str]; 4] = [
    &["embedding", "error", "filter", "network", "onnx", "progress", "proxy", "random", "record"],
    &["catalog", "export", "index", "model", "photo", "remote", "runtime", "scan", "web"],
    &[
        "engine",
        "evaluate",
        "import",
        "library",
        "quantise",
        "query",
        "served",
        "sync",
        "thumbnail",
    ],
    &["cli"],
];

/// Crates and the only rooms that may name them.
const AT_HOME: [(&str, &[&str]); 33] = [
    ("anyhow", &["cli"]),
    ("arboard", &["cli"]),
    ("base64", &["remote"]),
    ("bytes", &["remote"]),
    ("clap", &["cli"]),
    ("ctrlc", &["cli"]),
    ("etcetera", &["cli"]),
    ("fast_image_resize", &["photo"]),
    ("hayro_jpeg2000", &["photo"]),
    ("hnsw_rs", &["index"]),
    ("image", &["photo"]),
    ("half", &["export", "model"]),
    ("indicatif", &["cli"]),
    ("jxl", &["photo"]),
    ("libloading", &["runtime", "photo"]),
    ("moxcms", &["photo"]),
    ("ndarray", &["index"]),
    ("ort", &["runtime"]),
    ("parquet", &["export"]),
    ("percent_encoding", &["remote"]),
    ("png", &["export", "photo"]),
    ("prost", &["remote"]),
    ("rusqlite", &["catalog"]),
    ("rustls", &["remote"]),
    ("rustls_native_certs", &["remote"]),
    ("tokio", &["remote"]),
    ("tokio_postgres", &["remote"]),
    ("tokio_rustls", &["remote"]),
    ("tonic", &["remote"]),
    ("tonic_prost", &["remote"]),
    ("ureq", &["model", "web"]),
    ("walkdir", &["scan"]),
    ("zip", &["export", "runtime"]),
];

/// All source files, as `room` and path below `src`; `main.rs` and `lib.rs` introduce the rooms.
fn sources() -> Vec<(String, PathBuf)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![src.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&src).unwrap();
                let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
                let room = first.trim_end_matches(".rs").to_owned();
                if !matches!(&*room, "main" | "lib") {
                    found.push((room, path));
                }
            }
        }
    }
    found
}

fn floor(room: &str) -> usize {
    let floor = FLOORS.iter().position(|rooms| rooms.contains(&room));
    floor.unwrap_or_else(|| panic!("`{room}` stands on no floor"))
}

/// The rooms that a file names: `crate::ROOM`, and for the command line, a crate of its own that sees
/// the others from outside, `likeness::ROOM`.
fn rooms_named(text: &str) -> Vec<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = code.flat_map(|line| {
        ["crate::", "likeness::"].into_iter().flat_map(|root| line.split(root).skip(1))
    });
    paths
        .map(|path| path.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap())
        .filter(|room| !room.is_empty())
        .collect()
}

#[test]
fn a_file_uses_only_lower_floors() {
    let mut seen = 0;
    for (room, path) in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for named in rooms_named(&text) {
            let (from, to) = (floor(&room), floor(named));
            // Plain types speak of each other, and floor 2 is one storey; rooms of floor 1 do not.
            let same_storey = from == to && from != 1;
            let allowed = named == room || to < from || same_storey;
            assert!(allowed, "{} uses `{named}`", path.display());
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} uses were found: does this test still read the sources?");
}

#[test]
fn a_crate_is_used_in_its_room_only() {
    for (room, path) in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for (name, homes) in AT_HOME {
            let uses = text.lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//")
                    && line.match_indices(&format!("{name}::")).any(|(at, _)| {
                        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c))
                    })
            });
            // Errors keep their causes typed.
            let allowed = homes.contains(&room.as_str()) || room == "error";
            assert!(!uses || allowed, "{} uses {name}, at home in {homes:?}", path.display());
        }
    }
}
