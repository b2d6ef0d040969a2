//! The network that is part of likeness: what it does where there is no other, and when another comes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use image::imageops::{FilterType, resize};
use likeness::embedding::Embedding;
use likeness::engine::Engine;
use likeness::model::{Manifest, ModelStore, STARTER, StoreConfig};
use likeness::photo::{self, DecodeOptions};
use likeness::progress::Watch;
use likeness::runtime::{Device, RuntimeConfig};
use serde_json::{Value, json};

use crate::sandbox::{Run, Sandbox, onnxruntime, picture};
use crate::tiny_network;

const WANTED: &str = "resnet50-v1-12";

/// Runs without a mirror and without a network.
fn alone(sandbox: &Sandbox, args: &[&str]) -> Run {
    Run::of(sandbox.command(args).env_remove("LIKENESS_MIRROR"))
}

/// Runs with a mirror whose default is the tiny network.
fn with_mirror(sandbox: &Sandbox, args: &[&str]) -> Run {
    Run::of(sandbox.command(args).env("LIKENESS_MIRROR", tiny_network::mirror()))
}

/// `find … --format json`: paths, relative to the sandbox, and scores.
fn hits(sandbox: &Sandbox, query: &str) -> Vec<(String, f64)> {
    let run = alone(sandbox, &["find", query, "--format", "json"]).exits(0).json();
    let hit = |hit: &Value| {
        let path = Path::new(hit["path"].as_str().unwrap()).strip_prefix(sandbox.path(""));
        (path.unwrap().to_str().unwrap().to_owned(), hit["score"].as_f64().unwrap())
    };
    run.as_array().unwrap().iter().map(hit).collect()
}

fn catalog(sandbox: &Sandbox) -> Value {
    alone(sandbox, &["status", "--json"]).exits(0).json()["catalog"].clone()
}

fn features(sandbox: &Sandbox, model: &str) -> Vec<u8> {
    alone(sandbox, &["export", "out.npy", "--model", model]).exits(0);
    fs::read(sandbox.path("out.npy")).unwrap()
}

#[test]
fn without_any_model_the_starter_stands_in_and_that_is_said() {
    let sandbox = Sandbox::new();
    let dir = sandbox.photos("photos", 8);
    let (width, height) = (picture(5).width() * 2 / 3, picture(5).height() * 2 / 3);
    resize(&picture(5), width, height, FilterType::Triangle).save(dir.join("near.jpg")).unwrap();

    let run = alone(&sandbox, &["index", "photos", "--json"]).exits(0);
    assert_eq!((&run.json()["embedded"], &run.json()["model"]), (&json!(9), &json!(STARTER)));
    insta::assert_snapshot!("index", run.stderr);

    let found = hits(&sandbox, "photos/5.jpg");
    assert_eq!((found[0].0.as_str(), found[1].0.as_str()), ("photos/5.jpg", "photos/near.jpg"));
    assert!(found[0].1 > 0.999 && found[1].1 > 0.6 && found[1].1 > found[2].1 + 0.1, "{found:?}");
    // A picture that is not indexed is embedded by the starter, too.
    picture(3).save(sandbox.path("query.png")).unwrap();
    let run = alone(&sandbox, &["find", "query.png", "-k", "1", "--format", "paths"]).exits(0);
    assert_eq!(run.text().trim(), dir.join("3.jpg").to_str().unwrap());
    let line = format!(
        "starter stands in for {WANTED}: `likeness model fetch {WANTED}` gets the full one, `likeness index` \
         moves over\n"
    );
    assert_eq!(run.stderr, line);
    let status = alone(&sandbox, &["status"]).exits(0).text();
    assert!(status.contains(&line), "{status}");
    let told = &catalog(&sandbox)["stand_in"];
    assert_eq!((&told["model"], &told["for"]), (&json!(STARTER), &json!(WANTED)), "{told}");
    assert!(told["remedy"].as_str().unwrap().contains("likeness model fetch"), "{told}");
    // It never becomes the library's own: the next run says so again.
    alone(&sandbox, &["index"]).exits(0).says("stands in");
}

#[test]
fn why_the_default_was_not_fetched_is_said_within_seconds() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    let mut command = sandbox.command(&["index", "photos"]);
    command.env_remove("LIKENESS_MIRROR").env_remove("LIKENESS_OFFLINE");
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        // Nobody listens there.
        command.env(name, "http://127.0.0.1:9");
    }
    let begun = Instant::now();
    let run = Run::of(command.env_remove("NO_PROXY").env_remove("no_proxy")).exits(0);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let said: Vec<&str> = run.stderr.lines().collect();
    let [line] = said[..] else { panic!("{run}") };
    let hosts = "huggingface.co, media.githubusercontent.com: ";
    assert!(line.starts_with(&format!("model {WANTED} cannot be had ({hosts}")), "{run}");
}

#[test]
fn the_default_takes_over_once_it_has_all_that_the_starter_has() {
    let sandbox = Sandbox::new();
    sandbox.photos("first", 3);
    for seed in 10..13 {
        sandbox.photo(&format!("second/{seed}.jpg"), seed);
    }
    alone(&sandbox, &["index", "first", "second"]).exits(0);
    let (before, starter) = (hits(&sandbox, "id:2"), features(&sandbox, STARTER));
    assert_eq!(before.len(), 6);

    // Half of it, and a photo that came meanwhile.
    sandbox.photo("first/new.jpg", 20);
    let run = with_mirror(&sandbox, &["index", "first", "--json"]).exits(0);
    let half = json!({ "from": STARTER, "lacking": 3, "complete": false });
    assert_eq!((&run.json()["handover"], &run.json()["model"]), (&half, &json!("tiny")));
    let line = "starter answers until tiny has features of all images, too; 3 lack them: `likeness index` goes on";
    assert_eq!(run.stderr.trim_end(), line);
    assert_eq!(hits(&sandbox, "id:2"), before, "the starter's answers, and nothing else");
    assert_eq!(features(&sandbox, STARTER), starter);
    alone(&sandbox, &["find", "id:2"])
        .exits(0)
        .says(&format!("{line}; 1 newer ones are not found before\n"));
    alone(&sandbox, &["find", "id:2", "--model", "tiny"]).exits(0).says("");
    let told = &catalog(&sandbox)["stand_in"];
    assert_eq!((&told["lacking"], &told["ahead"]), (&json!(3), &json!(1)), "{told}");

    // The rest.
    let run = with_mirror(&sandbox, &["index", "--json"]).exits(0);
    assert_eq!((&run.json()["embedded"], &run.json()["unchanged"]), (&json!(3), &json!(4)));
    run.says("tiny answers from now on, for starter, which stood in for it");
    let after = hits(&sandbox, "id:2");
    assert_eq!(after.len(), 7);
    assert_ne!(after[1..6], before[1..]);
    assert_eq!(alone(&sandbox, &["find", "id:2"]).exits(0).stderr, "");
    let told = catalog(&sandbox);
    assert_eq!((&told["stand_in"], &told["model"]), (&Value::Null, &json!("tiny")));
    let [old, new] = [&told["models"][0], &told["models"][1]];
    assert_eq!((&old["name"], &new["name"]), (&json!(STARTER), &json!("tiny")));
    assert_ne!(old["fingerprint"], new["fingerprint"]);
    assert_eq!((&old["embedded"], &new["embedded"]), (&json!(6), &json!(7)));
    assert_eq!(features(&sandbox, STARTER), starter, "its vectors stay");
    // There is no way back but by choice.
    fs::remove_dir_all(sandbox.path("home/data/likeness/models/tiny")).unwrap();
    alone(&sandbox, &["index"]).exits(1).says("the library was indexed with model `tiny`");
}

#[test]
fn a_run_without_the_default_goes_on_with_the_starter_where_it_stood_in() {
    let sandbox = Sandbox::new();
    sandbox.photos("first", 2);
    sandbox.photos("second", 4);
    alone(&sandbox, &["index", "first", "second"]).exits(0);
    sandbox.photo("first/new.jpg", 20);
    with_mirror(&sandbox, &["index", "first"]).exits(0).says("2 lack them");
    fs::remove_dir_all(sandbox.path("home/data/likeness/models")).unwrap();
    // What came meanwhile gets the starter's features, too, and is found.
    let run = alone(&sandbox, &["index", "--json"]).exits(0);
    assert_eq!((&run.json()["model"], &run.json()["embedded"]), (&json!(STARTER), &json!(1)));
    assert_eq!(hits(&sandbox, "id:1").len(), 5);
}

#[test]
fn a_library_of_another_model_never_falls_back() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 3);
    with_mirror(&sandbox, &["index", "photos"]).exits(0);
    fs::remove_dir_all(sandbox.path("home/data/likeness/models/tiny")).unwrap();
    picture(9).save(sandbox.path("query.png")).unwrap();
    sandbox.photo("photos/new.jpg", 9);
    let refused = |args: &[&str]| {
        alone(&sandbox, args)
            .exits(1)
            .says("the library was indexed with model `tiny`, which nothing here knows")
            .says("hint: name the mirror that it came from with `--mirror`")
            .says("or move over to another: `likeness index --model NAME`");
    };
    refused(&["index"]);
    refused(&["index", "photos"]);
    refused(&["find", "query.png"]);
    // What needs no network goes on.
    for query in ["id:2", "photos/1.jpg"] {
        assert_eq!(alone(&sandbox, &["find", query]).exits(0).stderr, "");
    }
    assert_eq!(catalog(&sandbox)["stand_in"], Value::Null);

    // A mirror that knows the model, but has lost its file.
    fs::create_dir(sandbox.path("mirror")).unwrap();
    let manifest = tiny_network::mirror().join("models.toml");
    fs::copy(manifest, sandbox.path("mirror/models.toml")).unwrap();
    for args in [&["index"][..], &["find", "query.png"]] {
        let args = &[args, &["--mirror", "mirror"]].concat();
        let run = alone(&sandbox, args).exits(1);
        run.says("model `tiny` is not on this machine and cannot be fetched: offline")
            .says("hint: ");
    }
}

#[test]
fn a_file_that_is_not_the_default_is_an_error_still() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    fs::create_dir(sandbox.path("mirror")).unwrap();
    let manifest = tiny_network::mirror().join("models.toml");
    fs::copy(manifest, sandbox.path("mirror/models.toml")).unwrap();
    fs::write(sandbox.path("mirror/tiny.onnx"), "another").unwrap();
    alone(&sandbox, &["index", "photos", "--mirror", "mirror"]).exits(1).says("its sha256 is");
    fs::remove_file(sandbox.path("mirror/tiny.onnx")).unwrap();
    let run = alone(&sandbox, &["index", "photos", "--mirror", "mirror"]).exits(0);
    run.says("model tiny cannot be had (offline)").says("`likeness model fetch tiny` gets");
}

#[test]
fn a_starter_by_choice_stays() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 3);
    for run in [with_mirror, alone] {
        let listed = run(&sandbox, &["model", "list", "--json"]).exits(0).json();
        let listed = listed.as_array().unwrap().iter().find(|model| model["name"] == STARTER);
        assert_eq!(listed.unwrap()["place"], "built-in");
        let shown = run(&sandbox, &["model", "show", STARTER]).exits(0).text();
        assert!(shown.contains("part of likeness") && shown.contains("Caltech-101"), "{shown}");
    }
    assert_eq!(alone(&sandbox, &["model", "verify", STARTER]).exits(0).text(), "starter: sound\n");
    let run = with_mirror(&sandbox, &["index", "photos", "--model", STARTER]).exits(0);
    assert_eq!(run.stderr, "");
    let again = with_mirror(&sandbox, &["index", "--json"]).exits(0);
    assert_eq!((again.json()["model"].as_str(), again.stderr.as_str()), (Some(STARTER), ""));
    assert_eq!(catalog(&sandbox)["stand_in"], Value::Null);
    for model in [&[][..], &["--model", STARTER]] {
        let args = &[&["find", "id:1"], model].concat();
        assert_eq!(alone(&sandbox, args).exits(0).stderr, "");
    }

    // A person's choice is taken at once, both ways.
    with_mirror(&sandbox, &["index", "--model", "tiny"]).exits(0);
    assert_eq!(catalog(&sandbox)["model"], "tiny");
    let back = with_mirror(&sandbox, &["index", "--model", STARTER, "--json"]).exits(0).json();
    assert_eq!((&back["embedded"], &back["handover"]), (&json!(0), &Value::Null));
    assert_eq!(catalog(&sandbox)["model"], STARTER);
    // Its name is its own, and nothing is installed for it.
    let import = tiny_network::mirror().join("tiny.onnx");
    let import = ["model", "import", import.to_str().unwrap(), "--name", STARTER];
    for args in [&import[..], &["model", "remove", STARTER]] {
        let run = alone(&sandbox, args).exits(1);
        run.says("`starter` is part of likeness: it can be neither removed nor replaced");
    }
    assert!(!sandbox.path("home/data/likeness/models/starter").exists());
}

#[test]
fn a_stand_in_that_is_chosen_stops_standing_in() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 2);
    alone(&sandbox, &["index", "photos"]).exits(0).says("stands in");
    assert_eq!(alone(&sandbox, &["index", "--model", STARTER]).exits(0).stderr, "");
    let run = with_mirror(&sandbox, &["index", "--json"]).exits(0);
    assert_eq!((&run.json()["model"], &run.json()["unchanged"]), (&json!(STARTER), &json!(2)));
}

#[test]
fn its_features_are_finite_and_tell_pictures_apart() {
    let sandbox = Sandbox::new();
    let models = ModelStore::new(StoreConfig {
        folder: sandbox.path("models"),
        library_folder: None,
        mirror: None,
        offline: true,
        cache: sandbox.path("networks"),
    });
    let watch = Watch::none();
    let model = models.obtain(Some(STARTER), &watch).unwrap();
    let network = models.prepare(&model, &watch).unwrap();
    assert_eq!(network.width, Manifest::builtin().find(STARTER).unwrap().output.width);
    let runtime = RuntimeConfig {
        explicit: Some(onnxruntime().to_path_buf()),
        data: sandbox.path("data"),
        offline: true,
        device: Device::Cpu,
    };
    let engine = Engine::new(network, runtime, DecodeOptions::default());
    let embeddings: Vec<Embedding> = (0..6)
        .map(|seed| {
            let path = sandbox.photo(&format!("{seed}.png"), seed);
            let photo = photo::read(&path, u64::MAX).unwrap();
            // Features are finite, and as many as the network has, or they are an error.
            engine.features(&photo, "a picture", &watch).unwrap().embedding()
        })
        .collect();
    for (i, a) in embeddings.iter().enumerate() {
        for b in &embeddings[..i] {
            assert!(a.cosine(b) < 0.9, "{}", a.cosine(b));
        }
    }
}
