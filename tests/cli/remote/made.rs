//! Libraries that are made up, and pushes that were begun.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Stdio};

use likeness::catalog::{Catalog, Chosen};
use likeness::embedding::Features;
use likeness::record::{ContentHash, ExportRow, PathBytes, PhotoDetails, PhotoFacts, SourceFile};
use serde_json::Value;

use super::Server;
use crate::sandbox::Sandbox;

/// Writes into the catalog what a camera would have written into the photos.
pub(super) fn describe(sandbox: &Sandbox, details: fn(usize) -> PhotoDetails) {
    let mut catalog = Catalog::open(&sandbox.path("home/data/likeness/catalog.sqlite")).unwrap();
    let model = catalog.current_model().unwrap().unwrap();
    let images: Vec<ExportRow> = catalog
        .with_export_rows(model.id, &Chosen::default(), |chosen| chosen.rows.collect())
        .unwrap();
    let mut batch = catalog.batch().unwrap();
    for (number, image) in images.iter().enumerate() {
        let format = if image.path.extension().unwrap() == "jpg" { "jpeg" } else { "png" };
        let (width, height, details) = (image.width, image.height, details(number));
        let facts = PhotoFacts { width, height, format, details };
        batch.add_image(&image.content_hash, &facts).unwrap();
    }
    batch.commit().unwrap();
}

/// Cameras, places and words of the first three of several photos.
pub(super) fn of_cameras(number: usize) -> PhotoDetails {
    let text = |text: &str| Some(text.to_owned());
    match number {
        0 => PhotoDetails {
            taken_at: text("2024-05-03T23:59:59+02:00"),
            camera: text("Canon EOS R5"),
            lens: text("EF 50mm f/1.8"),
            latitude: Some(0.0),
            longitude: Some(0.0),
            rating: Some(5),
            keywords: vec!["Sea".into(), "sun; \"low\"".into(), "a;b".into()],
        },
        1 => PhotoDetails {
            taken_at: text("2023-12-31"),
            camera: text("CANON eos 100% \" or id >= 0 or camera == \""),
            rating: Some(-1),
            keywords: vec!["seaside".into()],
            ..PhotoDetails::default()
        },
        2 => PhotoDetails { rating: Some(0), ..PhotoDetails::default() },
        _ => PhotoDetails::default(),
    }
}

/// A library of so many images, all but one made up.
pub(super) fn many(count: u32) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    fill(&sandbox, count - 1);
    sandbox
}

/// The same, with images of a made-up model of so many features alone.
pub(super) fn many_of_width(count: u32, width: u32) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    let catalog = sandbox.path("home/data/likeness/catalog.sqlite");
    let catalog = rusqlite::Connection::open(catalog).unwrap();
    catalog
        .execute_batch(&format!(
            "INSERT INTO models (id, fingerprint, name, width, preprocessing)
             SELECT 99, randomblob(32), 'made', {width}, preprocessing FROM models LIMIT 1;
             UPDATE library SET current_model = 99, stands_in_for = NULL;"
        ))
        .unwrap();
    drop(catalog);
    fill(&sandbox, count);
    sandbox
}

/// So many made-up images with features of the library's model.
fn fill(sandbox: &Sandbox, count: u32) {
    let mut catalog = Catalog::open(&sandbox.path("home/data/likeness/catalog.sqlite")).unwrap();
    let model = catalog.current_model().unwrap().unwrap();
    let (root, root_path) = catalog.roots().unwrap().remove(0);
    let mut batch = catalog.batch().unwrap();
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    for number in 1..=count {
        let path = format!("made/{number}.jpg");
        let hash = ContentHash::from_bytes(*blake3::hash(path.as_bytes()).as_bytes());
        let details = PhotoDetails::default();
        let facts = PhotoFacts { width: 640, height: 480, format: "jpeg", details };
        let image = batch.add_image(&hash, &facts).unwrap();
        let features = (0..model.width).map(|_| random()).collect();
        let features = Features::new(features, model.width).unwrap();
        batch.add_features(image, model.id, &features).unwrap();
        let relative = PathBytes::from_bytes(path.into_bytes());
        let file = SourceFile { root: root_path.clone(), relative, size: 1, mtime_ns: 1 };
        batch.link(root, &file, image).unwrap();
    }
    batch.commit().unwrap();
}

/// Begins a push and gives it back as soon as a part of it is acknowledged.
#[expect(clippy::zombie_processes, reason = "a test that fails waits for nothing")]
pub(super) fn pushing<S: Server + ?Sized>(
    server: &S,
    sandbox: &Sandbox,
    address: &str,
) -> (Child, BufReader<ChildStderr>) {
    let args = ["push", address, "--json", "--progress", "json"];
    let mut command = server.command(sandbox, &args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the push ended before it began");
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        if event["doing"] == "pushing" && event["done"].as_u64().unwrap() > 0 {
            assert!(event["done"].as_u64() < event["total"].as_u64(), "{line}");
            return (child, lines);
        }
    }
}
