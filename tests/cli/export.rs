//! `likeness export`.

use std::fs;

use serde_json::Value;

use crate::sandbox::Sandbox;

#[test]
fn an_export_holds_all_photos_in_the_order_of_their_ids() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 5);
    sandbox.index(&["photos"]);
    sandbox.run(&["export", "out.npy"]).exits(0);
    let npy = fs::read(sandbox.path("out.npy")).unwrap();
    let manifest: Value =
        serde_json::from_slice(&fs::read(sandbox.path("out.npy.manifest.json")).unwrap()).unwrap();
    let width = manifest["width"].as_u64().unwrap() as usize;
    assert_eq!(manifest["count"], 5);
    assert_eq!(npy.len(), 128 + 5 * width * 4);
    let ids = fs::read_to_string(sandbox.path("out.npy.ids.jsonl")).unwrap();
    let ids: Vec<Value> = ids.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<i64> = ids.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    for row in &ids {
        let path = row["path"].as_str().unwrap();
        let hash = blake3::hash(&fs::read(path).unwrap()).to_string();
        assert_eq!(row["content_hash"], hash.as_str());
    }
    let status = sandbox.run(&["status", "--json"]).exits(0).json();
    assert_eq!(manifest["fingerprint"], status["catalog"]["models"][0]["fingerprint"]);
}

#[test]
fn the_formats_agree_and_normalised_vectors_have_length_one() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 2);
    sandbox.index(&["photos"]);
    sandbox.run(&["export", "raw.jsonl"]).exits(0);
    sandbox.run(&["export", "raw", "--format", "csv"]).exits(0);
    sandbox.run(&["export", "unit.jsonl", "--normalized"]).exits(0);
    let vectors = |name: &str| -> Vec<Vec<f32>> {
        let text = fs::read_to_string(sandbox.path(name)).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| serde_json::from_value(row["embedding"].clone()).unwrap()).collect()
    };
    let raw = vectors("raw.jsonl");
    let mut csv = csv::Reader::from_path(sandbox.path("raw")).unwrap();
    let from_csv: Vec<Vec<f32>> = csv
        .records()
        .map(|row| row.unwrap().iter().skip(5).map(|v| v.parse().unwrap()).collect())
        .collect();
    assert_eq!(raw, from_csv);
    for (raw, unit) in raw.iter().zip(vectors("unit.jsonl")) {
        let length = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!((length(&unit) - 1.0).abs() < 1e-4);
        let largest = (0..raw.len()).max_by(|a, b| raw[*a].total_cmp(&raw[*b])).unwrap();
        let scaled = f64::from(raw[largest]) / length(raw);
        assert!((scaled - f64::from(unit[largest])).abs() < 1e-6);
    }
}

#[test]
fn what_cannot_be_written_is_named_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.run(&["export", "out.npy"]).exits(1).says("there is no library");
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    sandbox.run(&["export", "out.xlsx"]).exits(1).says("hint: end it in .npy, .csv or .jsonl");
    sandbox.run(&["export", "missing/out.npy"]).exits(1).says("there is no folder missing");
    sandbox.run(&["export", "photos", "--format", "npy"]).exits(1).says("is a folder");
    assert!(!sandbox.path("out.npy").exists());
}

#[test]
fn a_filter_chooses_what_is_written() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 4);
    sandbox.index(&["photos"]);
    let args = ["export", "some.jsonl", "--where", "path:1.jpg or path:3.jpg"];
    let text = sandbox.run(&args).exits(0).text();
    assert!(text.starts_with("2 embeddings of "), "{text}");
    let lines = std::fs::read_to_string(sandbox.path("some.jsonl")).unwrap();
    let named = |name: &str| lines.lines().filter(|line| line.contains(name)).count();
    assert_eq!((named("/1.jpg\""), named("/3.jpg\""), lines.lines().count()), (1, 1, 2));
}
