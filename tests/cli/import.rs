//! `likeness import-embeddings`.

use std::fs;

use serde_json::Value;

use crate::sandbox::Sandbox;

/// A library in `a` with five photos.
fn exported(args: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 5);
    sandbox.index(&["photos", "--library", "a"]);
    sandbox.run(&[&["export", "--library", "a"], args].concat()).exits(0);
    sandbox
}

fn edit(sandbox: &Sandbox, manifest: &str, edit: impl FnOnce(&mut Value)) {
    let path = sandbox.path(manifest);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

#[test]
fn what_was_embedded_elsewhere_is_not_embedded_again_and_answers_the_same() {
    for args in [&["out.npy"][..], &["out.parquet"], &["out.parquet", "--shard", "2"]] {
        let sandbox = exported(args);
        let manifest = format!("{}.manifest.json", args[0]);
        let run = sandbox.run(&["import-embeddings", &manifest, "--library", "b", "--json"]);
        let report = run.exits(0).json();
        assert_eq!((&report["added"], &report["known"]), (&5.into(), &0.into()));

        // Images without a file are nobody's answer.
        let none = sandbox.run(&["find", "photos/1.jpg", "--library", "b", "--format", "paths"]);
        assert_eq!(none.exits(0).text(), "");
        let summary = sandbox.index(&["photos", "--library", "b"]);
        assert_eq!((&summary["added"], &summary["embedded"]), (&5.into(), &0.into()), "{summary}");
        for query in ["photos/0.jpg", "photos/4.jpg"] {
            let answer = |library: &str| {
                let args = ["find", query, "--library", library, "--format", "json"];
                sandbox.run(&args).exits(0).json()
            };
            assert_eq!(answer("a"), answer("b"));
        }
        // What leaves again is what came.
        sandbox.run(&["export", "a.npz", "--library", "a"]).exits(0);
        sandbox.run(&["export", "b.npz", "--library", "b"]).exits(0);
        assert_eq!(
            fs::read(sandbox.path("a.npz")).unwrap(),
            fs::read(sandbox.path("b.npz")).unwrap()
        );
    }
}

#[test]
fn an_import_that_is_done_twice_changes_nothing_and_adds_to_what_is_there() {
    let sandbox = exported(&["out.npy"]);
    sandbox.photos("few", 2);
    sandbox.index(&["few", "--library", "b"]);
    let import = |library: &str| {
        let run = sandbox.run(&["import-embeddings", "out.npy", "--library", library]);
        run.exits(0).text().split_once(" images").unwrap().0.to_owned()
    };
    assert_eq!(import("b"), "3");
    assert_eq!(import("b"), "0");
    assert_eq!(import("a"), "0");
    let status = sandbox.run(&["status", "--library", "b", "--json"]).exits(0).json();
    assert_eq!(status["catalog"]["counts"]["images"], 2, "{status}");
    assert_eq!(status["catalog"]["counts"]["orphans"], 3, "{status}");
}

#[test]
fn what_no_library_keeps_is_refused_with_the_reason_and_no_library_is_made() {
    let sandbox = exported(&["unit.npy", "--normalized"]);
    let refused = |export: &str, reason: &str| {
        let run = sandbox.run(&["import-embeddings", export, "--library", "b"]);
        run.exits(1).says(reason).says("hint: ");
        assert!(!sandbox.path("b").exists());
    };
    let export = |args: &[&str]| {
        sandbox.run(&[&["export", "--library", "a"], args].concat()).exits(0);
    };
    refused("unit.npy", "scaled to length 1");
    export(&["half.parquet", "--dtype", "f16"]);
    refused("half.parquet", "rounded to 16 bits");
    export(&["out.arrow"]);
    refused("out.arrow", "arrow is not read back");
    refused("nothing.npy", "the manifest nothing.npy.manifest.json cannot be read");

    export(&["out.npy"]);
    edit(&sandbox, "out.npy.manifest.json", |m| m["fingerprint"] = "0".repeat(64).into());
    refused("out.npy", "these are vectors of model");
    export(&["out.npy"]);
    edit(&sandbox, "out.npy.manifest.json", |m| m["model"] = "nobody".into());
    refused("out.npy", "no model is named `nobody`");
    export(&["out.npy"]);
    edit(&sandbox, "out.npy.manifest.json", |m| m["width"] = 7.into());
    refused("out.npy", "its vectors have 7 features");
    export(&["out.npy"]);
    let mut damaged = fs::read(sandbox.path("out.npy")).unwrap();
    damaged[300] ^= 1;
    fs::write(sandbox.path("out.npy"), damaged).unwrap();
    refused("out.npy", "is damaged: its BLAKE3 is");
    fs::remove_file(sandbox.path("out.npy")).unwrap();
    let gone = sandbox.run(&["import-embeddings", "out.npy", "--library", "b"]);
    gone.exits(1).says("cannot read out.npy");
    assert!(!sandbox.path("b").exists());
}

#[test]
fn embeddings_that_the_library_does_not_answer_with_are_said_to_be_so() {
    let sandbox = exported(&["out.npy"]);
    let import = |library: &str| {
        sandbox.run(&["import-embeddings", "out.npy", "--library", library]).exits(0).stderr
    };
    assert_eq!(import("new"), "");
    assert_eq!(import("a"), "");
    sandbox.photos("few", 2);
    sandbox.index(&["few", "--library", "b", "--model", "starter"]);
    let said = import("b");
    let status = sandbox.run(&["status", "--library", "a", "--json"]).exits(0).json();
    let name = status["catalog"]["models"][0]["name"].as_str().unwrap();
    assert!(said.contains("the library answers with starter"), "{said}");
    assert!(said.contains(&format!("`likeness index --model {name}`")), "{said}");
    // And so it is.
    let summary = sandbox.index(&["photos", "--library", "b", "--model", name]);
    assert_eq!(summary["embedded"], 0, "{summary}");
    assert_eq!(import("b"), "");
}

#[test]
fn an_export_that_is_damaged_or_of_another_width_changes_nothing() {
    let sandbox = exported(&["out.npy"]);
    sandbox.photos("few", 1);
    sandbox.index(&["few", "--library", "b"]);
    let refused = |reason: &str| {
        sandbox.run(&["import-embeddings", "out.npy", "--library", "b"]).exits(1).says(reason);
        let status = sandbox.run(&["status", "--library", "b", "--json"]).exits(0).json();
        assert_eq!(status["catalog"]["counts"]["orphans"], 0, "{status}");
    };
    let whole = fs::read(sandbox.path("out.npy")).unwrap();
    let mut flipped = whole.clone();
    flipped[300] ^= 1;
    fs::write(sandbox.path("out.npy"), flipped).unwrap();
    refused("is damaged: its BLAKE3 is");
    fs::write(sandbox.path("out.npy"), &whole[..whole.len() - 4]).unwrap();
    refused("is damaged: it has");
    fs::write(sandbox.path("out.npy"), whole).unwrap();
    edit(&sandbox, "out.npy.manifest.json", |m| m["width"] = 7.into());
    refused("its vectors have 7 features");
    // As if its lines had been edited, and the manifest with them.
    sandbox.run(&["export", "out.npy", "--library", "a"]).exits(0);
    let lines = fs::read_to_string(sandbox.path("out.npy.ids.jsonl")).unwrap();
    let fewer: String = lines.split_inclusive('\n').skip(1).collect();
    edit(&sandbox, "out.npy.manifest.json", |m| {
        m["files"][1]["bytes"] = fewer.len().into();
        m["files"][1]["blake3"] = blake3::hash(fewer.as_bytes()).to_string().into();
    });
    fs::write(sandbox.path("out.npy.ids.jsonl"), fewer).unwrap();
    sandbox.run(&["import-embeddings", "out.npy", "--library", "b"]).exits(1).says("beside 4 ids");
}
