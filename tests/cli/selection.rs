//! What is wanted of a folder: said once, kept for later runs.

use std::fs;

use crate::sandbox::Sandbox;

/// The names of the photos in the library.
fn names(sandbox: &Sandbox) -> Vec<String> {
    let run = sandbox.run(&["find", "id:1", "-k", "100", "--format", "paths"]).exits(0);
    let photos = sandbox.path("photos");
    let below = |line: &str| line.trim_start_matches(photos.to_str().unwrap()).to_owned();
    let mut names: Vec<String> = run.text().lines().map(below).collect();
    names.sort();
    names
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for (seed, name) in ["a", "raw/b", ".hidden/c", "2019/raw/d"].into_iter().enumerate() {
        sandbox.photo(&format!("photos/{name}.jpg"), seed as u32);
    }
    sandbox
}

#[test]
fn what_is_said_of_a_folder_holds_until_something_else_is_said() {
    let sandbox = sandbox();
    sandbox.run(&["index", "photos", "--exclude", "raw"]).exits(0);
    assert_eq!(names(&sandbox), ["/a.jpg"]);
    for args in [&["index"][..], &["index", "photos"], &["index", "photos/2019"]] {
        sandbox.run(args).exits(0).says("photos: without raw, as before");
        assert_eq!(names(&sandbox), ["/a.jpg"], "{args:?}");
    }
    let status = sandbox.run(&["status"]).exits(0).text();
    assert!(status.contains("photos (1 files, without raw)"), "{status}");
    let status = sandbox.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["catalog"]["roots"][0]["selection"]["exclude"][0], "raw");
    // One of them replaces all three.
    sandbox.run(&["index", "photos", "--hidden"]).exits(0);
    assert_eq!(names(&sandbox).len(), 4);
    sandbox.run(&["index"]).exits(0).says("with hidden files, as before");
    assert_eq!(names(&sandbox).len(), 4);
    let run = sandbox.run(&["index", "--forget-selection"]).exits(0);
    assert_eq!(run.stderr, "");
    assert_eq!(names(&sandbox), ["/2019/raw/d.jpg", "/a.jpg", "/raw/b.jpg"]);
    assert_eq!(sandbox.run(&["index"]).exits(0).stderr, "");
}

#[test]
fn a_path_counts_from_the_folder_that_is_named_and_is_not_kept_for_the_others() {
    let sandbox = sandbox();
    sandbox.run(&["index", "photos"]).exits(0);
    let run = sandbox.run(&["index", "photos/2019", "--exclude", "raw/*", "--json"]).exits(0);
    assert_eq!(run.json()["removed"], 1);
    assert_eq!(names(&sandbox), ["/a.jpg", "/raw/b.jpg"]);
}

#[test]
fn a_folder_keeps_what_was_said_of_it_inside_another() {
    let sandbox = sandbox();
    sandbox.run(&["index", "photos/2019", "--exclude", "raw"]).exits(0);
    sandbox.run(&["index", "photos"]).exits(0).says("photos: without 2019/**/raw, as before");
    assert_eq!(names(&sandbox), ["/a.jpg", "/raw/b.jpg"]);
}

#[test]
fn what_is_left_out_whole_is_not_taken_for_a_drive_that_is_away() {
    let sandbox = sandbox();
    sandbox.run(&["index", "photos"]).exits(0);
    let run = sandbox.run(&["index", "photos", "--exclude", "*", "--json"]).exits(0);
    assert_eq!(run.json()["removed"], 3);
}

#[cfg(unix)]
#[test]
fn what_links_lead_to_stays_from_run_to_run() {
    let sandbox = Sandbox::new();
    sandbox.photos("elsewhere", 2);
    sandbox.photos("photos/2019 trip", 3);
    sandbox.photo("photos/2019-a.jpg", 7);
    std::os::unix::fs::symlink("../elsewhere", sandbox.path("photos/2019")).unwrap();
    let first = sandbox.index(&["photos", "--follow-links"]);
    assert_eq!(first["added"], 6);
    for _ in 0..2 {
        let again = sandbox.index(&[]);
        assert_eq!((&again["unchanged"], &again["removed"]), (&6.into(), &0.into()));
    }
    assert!(fs::read_link(sandbox.path("photos/2019")).is_ok());
}

#[test]
fn a_folder_of_hidden_files_alone_is_not_empty() {
    let sandbox = Sandbox::new();
    sandbox.photo("photos/.hidden/a.jpg", 1);
    sandbox.run(&["index", "photos", "--hidden"]).exits(0);
    for args in [&["index", "--json"][..], &["index", "photos", "--hidden", "--json"]] {
        assert_eq!(sandbox.run(args).exits(0).json()["unchanged"], 1, "{args:?}");
    }
}

#[test]
fn what_cannot_be_kept_of_a_folder_inside_another_is_said() {
    let sandbox = sandbox();
    sandbox.run(&["index", "photos/.hidden", "--follow-links"]).exits(0);
    let run = sandbox.run(&["index", "photos"]).exits(0);
    let run = run.says(".hidden was indexed following links; as part of");
    drop(run.says("photos it is not, unless that is said again"));
    let run = sandbox.run(&["index", "photos"]).exits(0);
    assert_eq!(run.stderr, "");
}
