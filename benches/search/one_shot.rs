//! `likeness find id:N` in a made library: the time of the whole process, from its start to its end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use likeness::catalog::Catalog;
use likeness::embedding::Features;
use likeness::library::Library;
use likeness::network::{Channels, FeatureNetwork, Feed, Filter, Layout, Preprocessing};
use likeness::progress::Watch;
use likeness::record::{
    ContentHash, ModelFingerprint, PathBytes, PhotoDetails, PhotoFacts, SourceFile,
};

use super::{SEED, WIDTH, synthetic};

const RUNS: usize = 21;

/// Photos in a transaction.
const BATCH: u64 = 500;

pub(super) fn run(count: Option<usize>) {
    let count = count.unwrap_or(100_000);
    let folder = tempfile::tempdir_in("target").expect("a temporary folder");
    fill(folder.path(), count);
    let library = Library::open(folder.path()).expect("a library");
    let model = library.model(None).expect("a model");
    let start = Instant::now();
    let index = library.rebuild_index(&model, &Watch::none()).expect("an index");
    println!("{count} photos, index built in {:.1} s", start.elapsed().as_secs_f64());
    println!("{:?}", index.calibration());
    drop((index, library));
    for how in ["auto", "hnsw", "exact"] {
        let mut millis: Vec<f64> =
            (0..RUNS).map(|run| ask(folder.path(), 1 + run * count / RUNS, how)).collect();
        millis.sort_by(f64::total_cmp);
        let (median, most) = (millis[RUNS / 2], millis[RUNS - 1]);
        println!("find id:N --search {how:<6} {median:>7.1} ms median, {most:>7.1} ms at most");
    }
}

/// The milliseconds of one process.
fn ask(library: &Path, id: usize, how: &str) -> f64 {
    let start = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_likeness"))
        .arg("--library")
        .arg(library)
        .args(["find", &format!("id:{id}"), "--search", how])
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("likeness runs").success());
    start.elapsed().as_secs_f64() * 1e3
}

/// Fills a catalog with photos that were never there.
fn fill(folder: &Path, count: usize) {
    let mut catalog = Catalog::open(&folder.join("catalog.sqlite")).expect("a catalog");
    let network = FeatureNetwork {
        name: "made".into(),
        fingerprint: ModelFingerprint::from_bytes([1; 32]),
        path: "made.onnx".into(),
        input: "input".into(),
        feed: Feed::Values,
        output: "features".into(),
        width: WIDTH,
        preprocessing: Preprocessing {
            size: 224,
            resize: 256,
            filter: Filter::Bilinear,
            channels: Channels::Rgb,
            layout: Layout::Nchw,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        },
    };
    let mut batch = catalog.batch().expect("a batch");
    let model = batch.add_model(&network).expect("a model");
    batch.use_model(Some(model), None).expect("a model");
    let scope = batch.enter(Path::new("/photos"), None).expect("a root");
    batch.commit().expect("a commit");
    let mut batch = catalog.batch().expect("a batch");
    for (values, number) in synthetic::vectors(count, WIDTH, SEED).zip(0u64..) {
        let relative = PathBytes::from_bytes(format!("{number}.jpg").into_bytes());
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        let details = PhotoDetails::default();
        let facts = PhotoFacts { width: 4_000, height: 3_000, format: "jpeg", details };
        let image = batch.add_image(&ContentHash::from_bytes(hash), &facts).expect("an image");
        let features = Features::new(values, WIDTH).expect("sound features");
        batch.add_features(image, model, &features).expect("features");
        let file = SourceFile { root: "/photos".into(), relative, size: 1, mtime_ns: 1 };
        batch.link(scope.root, &file, image).expect("a file");
        // All in one transaction takes many times as long: SQLite reads its own log again and again.
        if number % BATCH == BATCH - 1 {
            batch.commit().expect("a commit");
            batch = catalog.batch().expect("a batch");
        }
    }
    batch.commit().expect("a commit");
}
