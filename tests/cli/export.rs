//! `likeness export`.

use std::fs;

use serde_json::Value;

use crate::sandbox::{Run, Sandbox};

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
        .map(|row| {
            let row = row.unwrap();
            row.iter().take(row.len() - 1).skip(5).map(|v| v.parse().unwrap()).collect()
        })
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
    sandbox.run(&["export", "out.xlsx"]).exits(1).says("hint: end it in .npy, .npz, .parquet");
    sandbox.run(&["export", "missing/out.npy"]).exits(1).says("there is no folder missing");
    sandbox.run(&["export", "photos", "--format", "npy"]).exits(1).says("it is a folder");
    let folder = ["export", "photos", "--for", "clip-retrieval"];
    sandbox.run(&folder).exits(1).says("it holds something else than an earlier export");
    let photo = fs::read(sandbox.path("photos/0.jpg")).unwrap();
    sandbox
        .run(&["export", "photos/0.jpg", "--format", "csv"])
        .exits(1)
        .says("photos/0.jpg cannot be written as csv: it is there already, and no manifest says")
        .says("hint: name another file, or delete this one first");
    assert_eq!(fs::read(sandbox.path("photos/0.jpg")).unwrap(), photo);
    sandbox
        .run(&["export", "home/data/likeness/catalog.sqlite", "--format", "csv"])
        .exits(1)
        .says("it would lie in the library's own folder")
        .says("hint: name a place outside of the folder");
    sandbox.run(&["status"]).exits(0);
    let half = |name: &str| sandbox.run(&["export", name, "--dtype", "f16"]).exits(1);
    half("out.csv")
        .says("16-bit floats cannot be written as csv")
        .says("hint: leave `--dtype` out");
    half("out.fvecs").says("16-bit floats cannot be written as fvecs");
    let args = ["export", "out.parquet", "--for", "milvus", "--dtype", "f16"];
    sandbox.run(&args).exits(1).says("16-bit floats cannot be written as milvus-parquet");
    sandbox.run(&["export", "out.npy", "--since", "yesterday"]).exits(2).says("expected a date");
    sandbox.run(&["export", "out.npy", "--shard", "0"]).exits(2);
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

#[test]
fn parts_are_numbered_and_one_manifest_speaks_of_all() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 5);
    sandbox.index(&["photos"]);
    let text = sandbox.run(&["export", "out.npy", "--shard", "2"]).exits(0).text();
    let named: Vec<&str> = text.lines().skip(1).collect();
    let parts =
        (0..3).flat_map(|n| [format!("out-0000{n}.npy"), format!("out-0000{n}.npy.ids.jsonl")]);
    let expected: Vec<String> = parts.chain(["out.npy.manifest.json".to_owned()]).collect();
    assert_eq!(named, expected);
    let manifest: Value =
        serde_json::from_slice(&fs::read(sandbox.path("out.npy.manifest.json")).unwrap()).unwrap();
    let rows: Vec<u64> = manifest["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|file| file["rows"].as_u64())
        .collect();
    assert_eq!((rows, manifest["count"].as_u64()), (vec![2, 2, 1], Some(5)));
    assert_eq!(manifest["dtype"], "float32");
}

#[test]
fn since_gives_what_came_or_came_back_and_says_what_has_no_time() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 3);
    sandbox.index(&["photos"]);
    let catalog = sandbox.path("home/data/likeness/catalog.sqlite");
    let sql = |sql: &str| rusqlite::Connection::open(&catalog).unwrap().execute(sql, []).unwrap();
    let exported = |since: &str| {
        let run = sandbox.run(&["export", "new.jsonl", "--since", since]).exits(0);
        (run.text().split(' ').next().unwrap().to_owned(), run.stderr)
    };
    assert_eq!(exported("2020-01-01"), ("3".into(), String::new()));
    // As an earlier version left them, and as an old one.
    sql("UPDATE embeddings SET embedded_at = NULL WHERE image_id = 1");
    sql("UPDATE embeddings SET embedded_at = 1577836799 WHERE image_id > 1");
    let (count, said) = exported("2020-01-01");
    assert_eq!(count, "0");
    assert!(said.contains("1 images were embedded by an earlier likeness"), "{said}");
    assert_eq!(exported("2019-12-31T23:59:59Z").0, "2");

    for name in ["photos/0.jpg", "photos/2.jpg"] {
        let bytes = fs::read(sandbox.path(name)).unwrap();
        fs::remove_file(sandbox.path(name)).unwrap();
        sandbox.index(&["photos"]);
        fs::write(sandbox.path(name), bytes).unwrap();
        assert_eq!(sandbox.index(&["photos"])["embedded"], 0);
    }
    assert_eq!(exported("2020-01-01").0, "2", "what came back counts anew");
}

#[test]
fn progress_is_told_and_ends_with_all() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 2);
    sandbox.index(&["photos"]);
    let run = sandbox.run(&["export", "out.npy", "--progress", "json"]).exits(0);
    let last: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "vectors");
    assert_eq!(
        (&last["doing"], &last["done"], &last["total"]),
        (&"exporting".into(), &2.into(), &2.into())
    );
}

#[test]
fn a_folder_is_replaced_by_whatever_way_it_is_named() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 3);
    sandbox.index(&["photos"]);
    let export = |to: &str| sandbox.run(&["export", to, "--for", "clip-retrieval"]).exits(0);
    export("clip");
    sandbox.photo("photos/new.jpg", 9);
    sandbox.index(&["photos"]);
    std::os::unix::fs::symlink("clip", sandbox.path("link")).unwrap();
    for way in ["clip/../clip", "link/", "link", "./clip/"] {
        let run = export(way);
        assert_eq!(run.text().lines().nth(1), Some(way), "{run}");
        let left: Vec<_> =
            fs::read_dir(sandbox.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        let ours = |name: &&std::ffi::OsString| name.to_string_lossy().starts_with(".likeness");
        assert_eq!(left.iter().find(ours), None, "{way}");
        let manifest = fs::read(sandbox.path("clip/manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["count"], 4, "{way}");
    }
    assert!(sandbox.path("link").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn a_disk_that_fills_up_costs_the_export_and_one_line() {
    let sandbox = Sandbox::new();
    // Long paths, so that the file is large with any model.
    sandbox.photos(&format!("photos/{}", "a".repeat(250)), 60);
    sandbox.index(&["photos"]);
    let likeness = sandbox.command(&["export", "out.npz"]);
    let mut command = std::process::Command::new("sh");
    // 512 or 1,024 bytes each, by the shell: room for what SQLite needs to read, and no more.
    command.args(["-c", "trap '' XFSZ; ulimit -f 65; exec \"$0\" \"$@\""]);
    command.arg(likeness.get_program()).args(likeness.get_args());
    command.current_dir(likeness.get_current_dir().unwrap());
    command.envs(likeness.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let run = Run::of(&mut command).exits(1).says("error: cannot write out.npz: ");
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
    assert!(!sandbox.path("out.npz").exists());
}

#[test]
fn an_answer_that_has_no_place_is_told_from_an_export_that_has_none() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let run = Run::of_with_stdout(&mut sandbox.command(&["export", "out.npy"]), full.into());
    drop(run.exits(1).says("error: cannot write to stdout: No space left"));
    assert!(sandbox.path("out.npy").exists());
}
