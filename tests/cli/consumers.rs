//! What `likeness export` writes, loaded by the programs that it is for.

use std::fs;
use std::path::Path;

use crate::python::{CONSUMERS, python_of_consumers};
use crate::sandbox::{Run, Sandbox};

#[test]
fn every_program_reads_the_same_bits_in_the_same_order() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 7);
    sandbox.photo("photos/it's \"quoted\", tab\there 📷.jpg", 7);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let plain = sandbox.photo("photos/8.jpg", 8);
        let odd = plain.with_file_name(std::ffi::OsStr::from_bytes(b"caf\xff.jpg"));
        fs::rename(plain, odd).unwrap();
    }
    sandbox.index(&["photos"]);
    let catalog = sandbox.path("home/data/likeness/catalog.sqlite");
    // Ids with a gap.
    fs::remove_file(sandbox.path("photos/2.jpg")).unwrap();
    sandbox.photo("photos/9.jpg", 9);
    sandbox.index(&["photos"]);
    fs::create_dir(sandbox.path("out")).unwrap();
    for args in [
        "features.npy",
        "features.npz",
        "features.csv",
        "features.jsonl",
        "features.safetensors",
        "features.fvecs",
        "photos.parquet",
        "photos.arrow",
        "milvus.parquet --for milvus",
        "unit.npy --normalized",
        "halves.npy --dtype f16",
        "halves.npz --dtype f16",
        "halves.parquet --dtype f16",
        "halves.arrow --dtype f16",
        "halves.safetensors --dtype f16",
        "parts.npy --shard 3",
        "clip --for clip-retrieval",
        "clip-parts --for autofaiss --shard 2",
        "projector --for tensorboard",
    ] {
        let args: Vec<&str> = ["export"].into_iter().chain(args.split(' ')).collect();
        let mut command = sandbox.command(&args);
        Run::of(command.current_dir(sandbox.path("out"))).exits(0);
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let mut command = python_of_consumers();
    command.arg(Path::new(CONSUMERS).join("consumers.py"));
    command.arg(catalog).arg(sandbox.path("out")).arg(readme);
    // Nothing of the user's own set-up.
    command.env("HOME", sandbox.path("home")).env("PYTHONNOUSERSITE", "1");
    let run = Run::of(&mut command).exits(0);
    assert_eq!(run.text().matches(": the same").count(), 15, "{run}");
}
