//! The examples do what they say, where cargo has built them (`cargo test` does, `cargo test --test cli`
//! alone does not).

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::sandbox::{Run, Sandbox, onnxruntime, picture};
use crate::shared;

#[test]
fn the_examples_index_and_find() {
    let built = Path::new(env!("CARGO_BIN_EXE_likeness")).with_file_name("examples");
    if !built.join("index_folder").exists() {
        let _ = writeln!(std::io::stderr(), "skipped the_examples_index_and_find: not built");
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 4);
    let run = |name: &str, args: &[&str]| {
        let mut command = Command::new(built.join(name));
        command.arg(sandbox.path("data")).args(args).current_dir(sandbox.path(""));
        command.env("ORT_DYLIB_PATH", onnxruntime()).env("LIKENESS_MIRROR", shared::mirror());
        Run::of(&mut command).exits(0).text()
    };
    assert_eq!(run("index_folder", &["photos"]), "4 added, 0 skipped\n");
    picture(2).save(sandbox.path("query.png")).unwrap();
    let found = run("find_by_file", &["query.png"]);
    let best = found.lines().next().unwrap();
    assert!(best.ends_with(sandbox.path("photos/2.jpg").to_str().unwrap()), "{found}");
    let found = run("find_by_filter", &["1", "path:1.jpg or path:3.jpg or path:0.jpg"]);
    assert_eq!(found.lines().count(), 2, "{found}");
}
