//! `likeness model`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::python::{REFERENCE, python};
use crate::sandbox::{Run, Sandbox};
use crate::tiny_network;

/// A sandbox whose only model is the tiny network, in a mirror of its own at `mirror`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("mirror")).unwrap();
    for name in ["models.toml", "tiny.onnx"] {
        fs::copy(tiny_network::mirror().join(name), sandbox.path("mirror").join(name)).unwrap();
    }
    sandbox
}

/// Runs `likeness model …` with the sandbox's mirror.
fn model(sandbox: &Sandbox, args: &[&str]) -> Run {
    let mut command = sandbox.command(&[&["model"], args].concat());
    Run::of(command.env("LIKENESS_MIRROR", sandbox.path("mirror")))
}

fn installed(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.path("home/data/likeness/models").join(name).join("model.onnx")
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_there_is_is_listed() {
    let sandbox = sandbox();
    let listed = model(&sandbox, &["list", "--json"]).exits(0).json();
    let find = |name: &str| -> Value {
        let found = listed.as_array().unwrap().iter().find(|entry| entry["name"] == name);
        found.unwrap_or_else(|| panic!("{name} in {listed}")).clone()
    };
    assert_eq!(find("tiny")["place"], "mirror");
    assert_eq!(find("tiny")["is_default"], true, "the mirror's default wins");
    assert_eq!(find("resnet50-v1-12")["place"], "internet");
    assert_eq!(find("resnet50-v1-12")["is_default"], false);
    model(&sandbox, &["fetch"]).exits(0);
    let text = model(&sandbox, &["list"]).exits(0).text();
    assert!(text.contains("* tiny                  installed"), "{text}");
}

#[test]
fn the_classifier_is_taken_off() {
    let sandbox = sandbox();
    let waiting = model(&sandbox, &["show"]).exits(0).text();
    assert!(waiting.contains("not installed"), "{waiting}");
    model(&sandbox, &["fetch", "tiny"]).exits(0);
    let shown = model(&sandbox, &["show", "tiny", "--json"]).exits(0).json();
    assert_eq!(shown["width"], 128);
    assert_eq!(shown["network"]["removed"], serde_json::json!(["Gemm"]));
    let (whole, network) = (shown["bytes"].as_u64(), shown["network"]["bytes"].as_u64());
    assert!(network < whole, "its weights are gone: {shown}");
}

#[test]
fn a_model_that_cannot_be_had_is_named_with_the_remedy() {
    let sandbox = sandbox();
    let run = model(&sandbox, &["fetch", "resnet50-v1-12"]).exits(1);
    let place = installed(&sandbox, "resnet50-v1-12");
    run.says("model `resnet50-v1-12` is not on this machine and cannot be fetched: offline")
        .says("hint: get resnet50-v1-12.onnx (103 MB) from https://")
        .says(&format!("and put it at {}", place.display()));
    model(&sandbox, &["fetch", "resnet51"]).exits(1).says("resnet51").says("hint: known are ");
    model(&sandbox, &["fetch", "../x"]).exits(1).says("../x");
}

#[test]
fn a_file_put_where_the_hint_says_is_taken_when_its_hash_is_right() {
    let sandbox = sandbox();
    let away = sandbox.path("tiny.onnx");
    fs::rename(sandbox.path("mirror/tiny.onnx"), &away).unwrap();
    let place = installed(&sandbox, "tiny");
    model(&sandbox, &["fetch"]).exits(1).says(&format!("put it at {}", place.display()));

    fs::copy(&away, &place).unwrap();
    flip_a_byte(&place);
    model(&sandbox, &["fetch"]).exits(1).says("sha256");
    fs::copy(&away, &place).unwrap();
    model(&sandbox, &["fetch"]).exits(0);
    // From now on the mirror is not needed.
    fs::remove_dir_all(sandbox.path("mirror")).unwrap();
    model(&sandbox, &["fetch", "tiny"]).exits(0);
}

#[test]
fn a_mirror_whose_file_is_another_is_refused() {
    let sandbox = sandbox();
    flip_a_byte(&sandbox.path("mirror/tiny.onnx"));
    model(&sandbox, &["fetch"]).exits(1).says("tiny.onnx").says("sha256");
    assert!(!installed(&sandbox, "tiny").exists());
}

#[test]
fn a_damaged_model_is_noticed() {
    let sandbox = sandbox();
    model(&sandbox, &["verify"]).exits(0).says("no model is installed");
    model(&sandbox, &["fetch"]).exits(0);
    assert_eq!(model(&sandbox, &["verify"]).exits(0).text(), "tiny: sound\n");
    flip_a_byte(&installed(&sandbox, "tiny"));
    let verdict = model(&sandbox, &["verify", "tiny", "--json"]).exits(1).json();
    assert_eq!(verdict[0]["sound"], false);
    assert_eq!(verdict[0]["name"], "tiny");
}

#[test]
fn an_imported_file_gives_the_vectors_of_the_model_it_is() {
    let sandbox = sandbox();
    sandbox.photos("photos", 3);
    // Another file, as far as hashes go: a trailing field that readers pass over.
    let mut bytes = fs::read(sandbox.path("mirror/tiny.onnx")).unwrap();
    bytes.extend(*b"\x32\x04mine");
    fs::write(sandbox.path("mine.onnx"), bytes).unwrap();
    let run = model(&sandbox, &["import", "mine.onnx"]).exits(0);
    assert!(run.text().starts_with("mine: 128 features from the tensor `Flatten_"), "{run}");
    model(&sandbox, &["import", "mirror/tiny.onnx", "--name", "mine"]).exits(1).says("mine");

    let export = |name: &str| {
        let index = ["index", "photos", "--model", name];
        Run::of(sandbox.command(&index).env("LIKENESS_MIRROR", sandbox.path("mirror"))).exits(0);
        let out = format!("{name}.npy");
        sandbox.run(&["export", &out, "--model", name]).exits(0);
        fs::read(sandbox.path(out)).unwrap()
    };
    assert_eq!(export("mine"), export("tiny"));
}

#[test]
fn an_import_takes_over_nothing_that_was_said_at_an_earlier_one() {
    let sandbox = sandbox();
    let shown = |name: &str| model(&sandbox, &["show", name, "--json"]).exits(0).json();
    let plain = |name: &str| {
        let shown = shown(name);
        assert_eq!(shown["preprocessing"]["channels"], "rgb", "{shown}");
        assert!(shown["pool"].is_null(), "{shown}");
    };
    let mut bytes = fs::read(sandbox.path("mirror/tiny.onnx")).unwrap();
    bytes.extend(*b"\x32\x04mine");
    fs::write(sandbox.path("mine.onnx"), bytes).unwrap();
    for (file, own, usual) in [("mine.onnx", "a", "mine"), ("mirror/tiny.onnx", "b", "tiny")] {
        let said = ["--name", own, "--preset", "caffe-bgr", "--pool", "max"];
        let run = model(&sandbox, &[&["import", file], &said[..]].concat()).exits(0);
        assert!(run.text().contains("\npixels: 224 x 224 bgr nchw: "), "{run}");
        plain(&format!("./{file}"));
        let run = model(&sandbox, &["import", file]).exits(0);
        assert!(run.text().starts_with(&format!("{usual}: 128 features")), "{run}");
        assert!(run.text().contains("\npixels: 224 x 224 rgb nchw: "), "{run}");
        plain(usual);
        assert_eq!(shown(&format!("./{file}"))["name"], usual);
        assert_eq!(shown(own)["pool"], "max");
    }
    // What came from the mirror is known of the file, also without the mirror.
    fs::remove_dir_all(sandbox.path("home/data/likeness/models")).unwrap();
    let manifest = sandbox.path("mirror/models.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"rgb\"", "\"bgr\"")).unwrap();
    model(&sandbox, &["fetch", "tiny"]).exits(0);
    fs::rename(sandbox.path("mirror/tiny.onnx"), sandbox.path("again.onnx")).unwrap();
    fs::remove_file(manifest).unwrap();
    assert_eq!(shown("./again.onnx")["preprocessing"]["channels"], "bgr");
}

#[test]
fn a_map_of_too_many_features_is_refused_unless_it_is_pooled() {
    let sandbox = sandbox();
    // What the first pooling takes: 4 channels, of a size that the file does not tell.
    let map = ["import", "mirror/tiny.onnx", "--name", "map", "--output", "Relu_2"];
    let wide = [&map[..], &["--width", "802816"]].concat();
    model(&sandbox, &wide).exits(1).says("802816 features").says("`--pool average`");
    let pooled = [&map[..], &["--pool", "gem"]].concat();
    let run = model(&sandbox, &pooled).exits(0);
    assert!(run.text().starts_with("map: 4 features"), "{run}");
    sandbox.photos("photos", 3);
    sandbox.run(&["index", "photos", "--model", "map"]).exits(0);
    sandbox.run(&["find", "photos/1.jpg"]).exits(0);
}

#[test]
fn a_file_that_is_no_network_is_refused() {
    let sandbox = sandbox();
    fs::write(sandbox.path("text.onnx"), "these are no weights").unwrap();
    model(&sandbox, &["import", "text.onnx"]).exits(1).says("text.onnx");
    model(&sandbox, &["import", "nowhere.onnx"]).exits(1).says("nowhere.onnx");
    let cut = fs::read(sandbox.path("mirror/tiny.onnx")).unwrap();
    fs::write(sandbox.path("cut.onnx"), &cut[..cut.len() / 2]).unwrap();
    model(&sandbox, &["import", "cut.onnx"]).exits(1).says("cut.onnx");
    let list = model(&sandbox, &["list"]).exits(0).text();
    assert!(!list.contains("installed"), "{list}");
}

#[test]
fn vectors_outlive_their_model() {
    let sandbox = sandbox();
    sandbox.photos("photos", 3);
    let mut index = sandbox.command(&["index", "photos"]);
    Run::of(index.env("LIKENESS_MIRROR", sandbox.path("mirror"))).exits(0);
    model(&sandbox, &["remove", "tiny"]).exits(0);
    model(&sandbox, &["remove", "tiny"]).exits(1).says("model `tiny` is not installed");
    sandbox.run(&["find", "id:2"]).exits(0);
    sandbox.run(&["export", "all.npy"]).exits(0);
}

#[test]
fn a_model_in_8_bits_is_made_by_photos_and_used() {
    let sandbox = sandbox();
    sandbox.photos("photos", 40);
    fs::write(sandbox.path("photos/notes.txt"), "no photo").unwrap();
    let args = ["quantize", "tiny", "--calibrate", "photos", "--images", "32"];
    let told = model(&sandbox, &args).exits(0).text();
    assert!(told.contains("tiny-int8: 8 bits by 32 photos; on 8 others"), "{told}");
    let shown = model(&sandbox, &["show", "tiny-int8", "--json"]).exits(0).json();
    let float = model(&sandbox, &["show", "tiny", "--json"]).exits(0).json();
    assert_eq!(shown["quantised"]["of"], "tiny");
    assert_eq!(shown["width"], float["width"]);
    assert_ne!(shown["network"]["fingerprint"], float["network"]["fingerprint"]);
    let mean = shown["quantised"]["cosine_mean"].as_f64().unwrap();
    assert!((0.98..1.0).contains(&mean), "{shown}");

    sandbox.run(&["index", "photos", "--model", "tiny"]).exits(0);
    sandbox.run(&["index", "photos", "--model", "tiny-int8"]).exits(0);
    let found =
        sandbox.run(&["find", "photos/7.jpg", "-k", "1", "--format", "json"]).exits(0).json();
    assert_eq!(found[0]["path"].as_str().unwrap(), sandbox.path("photos/7.jpg").to_str().unwrap());

    let again = model(&sandbox, &args).exits(1);
    assert!(again.stderr.contains("another model is named `tiny-int8` already"), "{again}");
    let twice = ["quantize", "tiny-int8", "--calibrate", "photos"];
    let twice = model(&sandbox, &twice).exits(1);
    assert!(twice.stderr.contains("it computes in 8 bits already"), "{twice}");
}

#[test]
fn a_model_in_8_bits_does_not_take_the_name_of_one_in_the_mirror() {
    let sandbox = sandbox();
    sandbox.photos("photos", 24);
    let manifest = sandbox.path("mirror/models.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let (head, entry) = text.split_once("[[model]]").unwrap();
    let other = entry.replace("name = \"tiny\"", "name = \"tiny-int8\"");
    fs::write(&manifest, format!("{head}[[model]]{entry}\n[[model]]{other}")).unwrap();
    let quantize = ["quantize", "tiny", "--calibrate", "photos", "--images", "16"];
    let told = model(&sandbox, &quantize).exits(0).text();
    assert!(told.starts_with("tiny-int8-own: "), "{told}");
}

#[test]
fn too_few_photos_choose_no_scales() {
    let sandbox = sandbox();
    sandbox.photos("photos", 3);
    let run = model(&sandbox, &["quantize", "tiny", "--calibrate", "photos"]).exits(1);
    assert!(run.stderr.contains("holds 3 photos that can be decoded, 20 are needed"), "{run}");
    let run = model(&sandbox, &["quantize", "tiny", "--calibrate", "nowhere"]).exits(1);
    assert!(run.stderr.contains("nowhere"), "{run}");
    sandbox.photos("photos", 24);
    let unlabelled = ["quantize", "tiny", "--calibrate", "photos", "--evaluate", "empty"];
    fs::create_dir(sandbox.path("empty")).unwrap();
    let run = model(&sandbox, &unlabelled).exits(1);
    assert!(run.stderr.contains("share a label"), "{run}");
    assert!(!installed(&sandbox, "tiny-int8").exists());
}

/// `tests/reference/light.py` says what is compared.
#[test]
fn networks_of_the_zoo_s_families_lose_their_classifiers() {
    let sandbox = sandbox();
    let mut command = python();
    command.arg(Path::new(REFERENCE).join("light.py")).arg(env!("CARGO_BIN_EXE_likeness"));
    let told = Run::of(command.arg(sandbox.path("light"))).exits(0).text();
    assert_eq!(told.lines().count(), 9, "{told}");

    // Caffe2's file: sums for additions, weights listed as inputs, one picture at a time.
    sandbox.photos("photos", 24);
    let quantize = ["model", "quantize", "resnet50", "--calibrate", "photos", "--images", "16"];
    let mut quantize = sandbox.command(&quantize);
    let told = Run::of(quantize.env("XDG_DATA_HOME", sandbox.path("light"))).exits(0).text();
    assert!(told.starts_with("resnet50-int8: "), "{told}");
}

#[test]
fn how_pixels_are_prepared_may_be_said_by_a_name() {
    let sandbox = sandbox();
    let import = |name: &str, more: &[&str]| {
        model(&sandbox, &[&["import", "mirror/tiny.onnx", "--name", name], more].concat()).exits(0);
        model(&sandbox, &["show", name, "--json"]).exits(0).json()["preprocessing"].clone()
    };
    let caffe = import("caffe", &["--preset", "caffe-bgr"]);
    assert_eq!((&caffe["channels"], &caffe["scale"]), (&"bgr".into(), &1.0.into()), "{caffe}");
    let mixed = import("mixed", &["--preset", "caffe-bgr", "--channels", "rgb", "--pool", "gem"]);
    assert_eq!(mixed["channels"], "rgb", "{mixed}");
    sandbox.photos("photos", 3);
    sandbox.run(&["index", "photos", "--model", "mixed"]).exits(0);
    model(&sandbox, &["import", "mirror/tiny.onnx", "--preset", "odd"]).exits(2).says("caffe-bgr");
}
