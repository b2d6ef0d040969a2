//! `likeness find`.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::sandbox::{Run, Sandbox, picture};

fn indexed(count: u32) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", count);
    sandbox.index(&["photos"]);
    sandbox
}

fn hits(run: &Run) -> Vec<Value> {
    run.json().as_array().expect("an array").clone()
}

#[test]
fn an_indexed_photo_finds_itself_with_score_one_and_needs_no_model() {
    let sandbox = indexed(6);
    fs::remove_dir_all(sandbox.path("home/data/likeness/models")).ok();
    fs::remove_dir_all(sandbox.path("home/data/likeness/networks")).ok();
    let mut command = sandbox.bare_command(&["find", "photos/3.jpg", "--format", "json"]);
    let run = Run::of(command.env("PATH", "")).exits(0);
    let hits = hits(&run);
    assert_eq!(hits.len(), 6);
    assert_eq!(hits[0]["score"], 1.0);
    assert_eq!(hits[0]["rank"], 1);
    assert_eq!(hits[0]["path"], sandbox.path("photos/3.jpg").to_str().unwrap());
    assert_eq!(hits[0]["root"], sandbox.path("photos").to_str().unwrap());
    assert!(hits[0]["width"].as_u64() >= Some(260));
    let scores: Vec<f64> = hits.iter().map(|hit| hit["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
}

#[test]
fn a_strange_photo_finds_the_one_it_is_a_copy_of() {
    let sandbox = indexed(6);
    // The same picture, but other bytes.
    picture(4).save(sandbox.path("query.png")).unwrap();
    let run = sandbox.run(&["find", "query.png", "-k", "1", "--format", "json"]).exits(0);
    let hits = hits(&run);
    assert_eq!(hits[0]["path"], sandbox.path("photos/4.jpg").to_str().unwrap());
    assert!(hits[0]["score"].as_f64().unwrap() > 0.9, "{run}");
}

#[test]
fn the_index_and_the_exact_search_agree() {
    let sandbox = indexed(12);
    for id in ["id:1", "id:7", "id:12"] {
        let index = sandbox.run(&["find", id, "--format", "json"]).exits(0).json();
        let exact = sandbox.run(&["find", id, "--format", "json", "--exact"]).exits(0).json();
        assert_eq!(index, exact);
    }
}

#[test]
fn the_query_can_be_left_out() {
    let sandbox = indexed(4);
    let run = sandbox.run(&["find", "id:2", "-k", "4", "--exclude-query", "--format", "json"]);
    let ids: Vec<i64> = hits(&run).iter().map(|hit| hit["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert!(!ids.contains(&2));
}

#[test]
fn a_lowest_score_and_a_highest_number_are_kept() {
    let sandbox = indexed(5);
    let count = |args: &[&str]| {
        let run = sandbox.run(&[&["find", "id:1", "--format", "json"], args].concat()).exits(0);
        hits(&run).len()
    };
    assert_eq!(count(&["-k", "2"]), 2);
    assert_eq!(count(&["--min-score", "1"]), 1);
    assert_eq!(count(&["--min-score", "-0.5"]), 5);
    sandbox.run(&["find", "id:1", "-k", "0"]).exits(2);
    sandbox.run(&["find", "id:1", "--min-score", "2"]).exits(2);
}

#[test]
fn every_format_names_the_same_photos() {
    let sandbox = indexed(3);
    let json = sandbox.run(&["find", "id:1", "--format", "json"]).exits(0);
    let paths: Vec<String> =
        hits(&json).iter().map(|hit| hit["path"].as_str().unwrap().to_owned()).collect();
    let lines = sandbox.run(&["find", "id:1", "--format", "paths"]).exits(0).text();
    assert_eq!(lines.lines().collect::<Vec<_>>(), paths);
    let nul = sandbox.run(&["find", "id:1", "-0"]).exits(0).text();
    assert_eq!(nul.split_terminator('\0').collect::<Vec<_>>(), paths);
    let jsonl = sandbox.run(&["find", "id:1", "--format", "jsonl"]).exits(0).text();
    for (line, path) in jsonl.lines().zip(&paths) {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["path"], path.as_str());
    }
    let table = sandbox.run(&["find", "id:1"]).exits(0).text();
    assert!(table.starts_with("rank   score  id  path\n   1  1.0000   1  /"), "{table}");
}

#[test]
fn bytes_on_stdin_are_a_query() {
    let sandbox = indexed(3);
    let file = fs::File::open(sandbox.path("photos/1.jpg")).unwrap();
    let mut command = sandbox.command(&["find", "-", "-k", "1", "--format", "paths"]);
    let run = Run::of(command.stdin(Stdio::from(file))).exits(0);
    assert_eq!(run.text().trim(), sandbox.path("photos/1.jpg").to_str().unwrap());
    let text = fs::File::open(file!()).ok();
    let mut command = sandbox.command(&["find", "-"]);
    command.stdin(text.map_or_else(Stdio::null, Stdio::from));
    Run::of(&mut command).exits(1).says("cannot search with stdin: ");
}

#[test]
fn what_cannot_be_asked_is_named_with_its_remedy() {
    let sandbox = Sandbox::new();
    sandbox.run(&["find", "id:1"]).exits(1).says("there is no library").says("likeness index DIR");
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    sandbox.run(&["find", "id:99"]).exits(1).says("holds no image 99");
    sandbox.run(&["find", "id:x"]).exits(1).says("`id:x` names no image");
    sandbox
        .run(&["find", "nowhere.jpg"])
        .exits(1)
        .says("cannot search with nowhere.jpg: cannot be read");
    fs::write(sandbox.path("text.jpg"), "no picture").unwrap();
    sandbox.run(&["find", "text.jpg"]).exits(1).says("the content is not a picture");
    sandbox
        .run(&["find", "id:1", "--model", "other"])
        .exits(1)
        .says("no features of model `other`");
}

#[test]
fn a_damaged_index_is_made_again_and_said_so() {
    let sandbox = indexed(5);
    let before = sandbox.run(&["find", "id:1", "--format", "json"]).exits(0).json();
    let index = fs::read_dir(sandbox.path("home/data/likeness/index")).unwrap().next().unwrap();
    let generation = fs::read_dir(index.unwrap().path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    let codes = generation.join("codes.bin");
    let mut bytes = fs::read(&codes).unwrap();
    bytes[100] ^= 1;
    fs::write(&codes, bytes).unwrap();
    let run = sandbox.run(&["find", "id:1", "--format", "json"]).exits(0);
    let run = run.says("making the search index again from the catalog");
    assert_eq!(run.json(), before);
    assert_eq!(sandbox.run(&["find", "id:1"]).exits(0).stderr, "");
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_had_enough_is_success() {
    let sandbox = indexed(3);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = sandbox.command(&["find", "id:1", "--format", "json"]);
    Run::of_with_stdout(&mut command, writer.into()).exits(0);
}

#[test]
fn a_filter_chooses_among_all_photos() {
    let sandbox = indexed(4);
    sandbox.photos("photos/holiday", 12);
    sandbox.index(&["photos"]);
    let found = |filter: &str| -> Vec<String> {
        let args = ["find", "id:1", "-k", "3", "--where", filter, "--format", "json"];
        let hits = hits(&sandbox.run(&args).exits(0));
        hits.iter().map(|hit| hit["path"].as_str().unwrap().to_owned()).collect()
    };
    let holiday = sandbox.path("photos/holiday").to_str().unwrap().to_owned();
    let paths = found("path:holiday");
    assert!(paths.len() == 3 && paths.iter().all(|path| path.starts_with(&holiday)), "{paths:?}");
    assert_eq!(found("path:holiday and path:11.jpg").len(), 1);
    assert_eq!(found("format:png").len(), 0);
    assert_eq!(found("not has camera and width>=260").len(), 3);
    sandbox
        .run(&["find", "id:1", "--where", "width>1 or camra:canon"])
        .exits(2)
        .says("`camra` is no field\n    width>1 or camra:canon\n               ^^^^^\n  the fields are path");
}
