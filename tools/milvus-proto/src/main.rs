//! `cargo run` here writes `src/remote/milvus/proto.rs` of the package above from `milvus.proto`.

use std::error::Error;
use std::fs;
use std::path::Path;

const HEADER: &str = "\
// Written by tools/milvus-proto from milvus.proto; change that, not this.
//
// Derived from milvus-proto (github.com/milvus-io/milvus-proto), copyright the LF AI & Data foundation and
// its contributors, under the Apache License, Version 2.0.

";

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile([here.join("milvus.proto")], [here])?;
    let made = tempdir()?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(&made)
        .compile_fds(files)?;
    let code = fs::read_to_string(made.join("milvus.proto.milvus.rs"))?;
    fs::write(here.join("../../src/remote/milvus/proto.rs"), format!("{HEADER}{code}"))?;
    Ok(fs::remove_dir_all(made)?)
}

fn tempdir() -> std::io::Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("milvus-proto-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
