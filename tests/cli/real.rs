//! The trained network and real photos, where `../shared` is there.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;

use crate::python::{REFERENCE, python};
use crate::sandbox::{Run, Sandbox};
use crate::shared;

/// The photos of 30 things, indexed once for all tests.
fn objects(shared: &Path) -> &'static Sandbox {
    static INDEXED: OnceLock<Sandbox> = OnceLock::new();
    INDEXED.get_or_init(|| {
        let sandbox = Sandbox::new();
        let summary = sandbox.index(&[shared.join("photos/objects").to_str().unwrap()]);
        assert_eq!(summary["embedded"], 158, "{summary}");
        sandbox
    })
}

#[test]
fn views_of_one_thing_find_each_other() {
    let Some(shared) = shared::folder("views_of_one_thing_find_each_other") else { return };
    let run = objects(&shared).run(&["evaluate", "--labels", "parent", "--json"]).exits(0);
    let quality = run.json();
    let figure = |name: &str| quality[name].as_f64().unwrap_or_else(|| panic!("{name}: {run}"));
    assert!(figure("recall@1") >= 0.94, "{run}");
    assert!(figure("mAP") >= 0.91, "{run}");
}

#[test]
fn nothing_odd_stops_a_run() {
    let Some(shared) = shared::folder("nothing_odd_stops_a_run") else { return };
    let sandbox = Sandbox::new();
    let odd = shared.join("odd");
    let summary = sandbox.index(&[odd.to_str().unwrap()]);
    let added = summary["added"].as_u64().unwrap();
    assert!(added > 1_250, "{added} added");
    let skipped = summary["skipped_files"].as_array().unwrap();
    assert!(skipped.iter().all(|file| !file["reason"].as_str().unwrap().is_empty()));
    let again = sandbox.index(&[odd.to_str().unwrap()]);
    assert_eq!(again["unchanged"], added);
    assert_eq!(again["skipped"], summary["skipped"]);
}

/// A plain fp32 export with its classifier, and the same network published without one.
#[test]
fn features_of_an_imported_network_are_those_of_its_headless_form() {
    let name = "features_of_an_imported_network_are_those_of_its_headless_form";
    let Some(shared) = shared::folder(name) else { return };
    let sandbox = Sandbox::new();
    let plain = sandbox.path("resnet50.onnx");
    expand(&shared.join("models"), &plain);
    let whole = plain.metadata().unwrap().len();
    assert!(whole > 100_000_000, "weights as a PyTorch export has them: {whole} bytes");
    sandbox.run(&["model", "import", plain.to_str().unwrap()]).exits(0);
    let shown = sandbox.run(&["model", "show", "resnet50", "--json"]).exits(0).json();
    let network = shown["network"]["bytes"].as_u64().unwrap();
    assert!(whole - network > 1_000 * 2_048 * 4, "the classifier's weights are gone: {shown}");
    // As torchvision documents its ResNet-50: 25.56 million, 4.09 thousand million.
    let (before, after) = (&shown["network"]["cost_before"], &shown["network"]["cost"]);
    assert_eq!(before["parameters"], 25_557_032, "{shown}");
    assert_eq!(before["multiply_adds"], 4_089_184_256_u64, "{shown}");
    assert_eq!(after["parameters"], 25_557_032 - 1_000 * 2_049, "{shown}");
    assert_eq!(after["multiply_adds"], 4_089_184_256_u64 - 1_000 * 2_048, "{shown}");

    let photos = shared.join("photos/objects/backpack");
    let features = |model: &str| -> Vec<Value> {
        sandbox.index(&[photos.to_str().unwrap(), "--model", model]);
        let out = format!("{model}.jsonl");
        sandbox.run(&["export", &out, "--model", model]).exits(0);
        let text = fs::read_to_string(sandbox.path(out)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (imported, headless) = (features("resnet50"), features("resnet50-pq-features"));
    assert!(!imported.is_empty());
    assert_eq!(imported.len(), headless.len());
    for (ours, theirs) in imported.iter().zip(&headless) {
        assert_eq!(ours["path"], theirs["path"]);
        let values = |row: &Value| -> Vec<f64> {
            row["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let (ours, theirs) = (values(ours), values(theirs));
        assert_eq!((ours.len(), theirs.len()), (2_048, 2_048));
        let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart <= 1e-5, "{apart}");
    }
}

#[test]
fn eight_bits_find_what_floats_find() {
    let Some(shared) = shared::folder("eight_bits_find_what_floats_find") else { return };
    let sandbox = Sandbox::new();
    let photos = |kind: &str| shared.join("photos").join(kind).to_str().unwrap().to_owned();
    let (categories, objects) = (photos("categories"), photos("objects"));
    // Weights that are looked up in the graph are counted, too.
    sandbox.run(&["model", "fetch"]).exits(0);
    let float = sandbox.run(&["model", "show", "--json"]).exits(0).json();
    assert_eq!(float["network"]["cost_before"]["parameters"], 25_557_032, "{float}");
    let args = ["model", "quantize", "--calibrate", &categories, "--images", "48"];
    let args = [&args[..], &["--evaluate", &objects]].concat();
    sandbox.run(&args).exits(0);
    let shown = sandbox.run(&["model", "show", "resnet50-pq-int8", "--json"]).exits(0).json();
    let mean = shown["quantised"]["cosine_mean"].as_f64().unwrap();
    assert!(mean >= 0.994, "{shown}");
    let quality = |model: &str| {
        sandbox.index(&[objects.as_str(), "--model", model]);
        sandbox.run(&["evaluate", "--labels", "parent", "--json"]).exits(0).json()
    };
    let (floats, integers) = (quality("resnet50-pq"), quality("resnet50-pq-int8"));
    for measure in ["recall@1", "mAP"] {
        let value = |quality: &Value| quality[measure].as_f64().unwrap();
        assert!(value(&floats) - value(&integers) < 0.01, "{measure}: {floats} {integers}");
        let field = if measure == "mAP" { "mean_average_precision" } else { "recall_at_1" };
        for (which, evaluated) in [("before", &floats), ("after", &integers)] {
            let told = shown["quantised"]["retrieval"][which][field].as_f64().unwrap();
            assert!((told - value(evaluated)).abs() < 1e-3, "{which}, {measure}: {shown}");
        }
    }
}

/// Runs `expand.py` of the models' folder.
fn expand(models: &Path, target: &Path) {
    let mut command = python();
    command.arg(models.join("expand.py")).arg(models.join("resnet50-pq-classifier.onnx"));
    Run::of(command.arg(target)).exits(0);
}

/// Pillow decodes, turns and resizes, and ONNX Runtime is asked from Python: nothing of ours takes part.
fn agrees_with_the_reference(shared: &Path, sandbox: &Sandbox, photos: u32, lowest: &str) {
    sandbox.run(&["export", "all.npy"]).exits(0);
    let mut command = python();
    command.arg(Path::new(REFERENCE).join("embeddings.py"));
    command.arg(shared.join("models/resnet50-pq-features.onnx"));
    let run = Run::of(command.arg(sandbox.path("all.npy")).arg(lowest)).exits(0);
    assert!(run.text().starts_with(&format!("photos       {photos}\n")), "{run}");
}

#[test]
fn embeddings_are_those_of_pillow_and_onnx_runtime() {
    let name = "embeddings_are_those_of_pillow_and_onnx_runtime";
    let Some(shared) = shared::folder(name) else { return };
    agrees_with_the_reference(&shared, objects(&shared), 158, "0.9995");
}

/// `benches/RESULTS.md` has the figures for 500.
#[test]
fn large_photos_decoded_small_give_the_embeddings_of_the_reference() {
    let name = "large_photos_decoded_small_give_the_embeddings_of_the_reference";
    let Some(shared) = shared::folder(name) else { return };
    let sandbox = Sandbox::new();
    let large = sandbox.path("large");
    let mut command = python();
    command.arg(Path::new(REFERENCE).join("enlarge.py")).arg(shared.join("photos/categories"));
    Run::of(command.arg(&large).arg("30")).exits(0);
    sandbox.index(&[large.to_str().unwrap()]);
    agrees_with_the_reference(&shared, &sandbox, 30, "0.999");
}

#[test]
fn orientations_are_undone() {
    let Some(shared) = shared::folder("orientations_are_undone") else { return };
    let sandbox = Sandbox::new();
    sandbox.index(&[shared.join("odd/exif-orientation").to_str().unwrap()]);
    agrees_with_the_reference(&shared, &sandbox, 18, "0.9995");
}
