//! `likeness status`, `generate`, and what holds for all commands.

use std::fs;

use crate::sandbox::{Run, Sandbox};

#[test]
fn status_tells_what_is_there() {
    let sandbox = Sandbox::new();
    let empty = sandbox.run(&["status"]).exits(0).text();
    assert!(empty.contains("nothing is there yet; begin with `likeness index DIR`"), "{empty}");
    assert!(!sandbox.path("home/data/likeness/catalog.sqlite").exists(), "looking makes nothing");
    sandbox.photos("photos", 3);
    sandbox.index(&["photos"]);
    let status = sandbox.run(&["status", "--json"]).exits(0).json();
    let catalog = &status["catalog"];
    assert_eq!(catalog["counts"]["images"], 3);
    assert_eq!(catalog["roots"][0]["files"], 3);
    assert_eq!(catalog["index"]["images"], 3);
    assert_eq!(catalog["index"]["usable"], true);
    assert_eq!(catalog["models"][0]["embedded"], 3);
    assert!(status["runtime"]["found"]["version"].is_string(), "{status}");
    let text = sandbox.run(&["status"]).exits(0).text();
    for word in ["library", "folder", "photos", "model", "index", "runtime"] {
        assert!(text.contains(word), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn folders_that_are_not_unicode_are_told_in_json() {
    use std::os::unix::ffi::OsStringExt;
    let sandbox = Sandbox::new();
    let odd = std::ffi::OsString::from_vec(b"caf\xe9".to_vec());
    let json = |args: &[&str]| {
        let mut command = sandbox.command(args);
        // It need not be there, so any file system will do.
        Run::of(command.arg("--library").arg(&odd).env("XDG_DATA_HOME", sandbox.path(&odd)))
    };
    let status = json(&["status", "--json"]).exits(0).json();
    assert_eq!(status["library"], "caf\u{fffd}");
    assert!(status["data"].as_str().unwrap().ends_with("/caf\u{fffd}/likeness"), "{status}");
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["status", "--json"]);
    for name in ["LIKENESS_LIBRARY", "ORT_DYLIB_PATH", "LIKENESS_MIRROR", "LIKENESS_OFFLINE"] {
        command.env(name, "");
    }
    let status = Run::of(&mut command).exits(0).json();
    assert_eq!(status["library"], sandbox.path("home/data/likeness").to_str().unwrap());
    let named =
        Run::of(sandbox.command(&["status", "--json"]).env("LIKENESS_LIBRARY", "elsewhere"));
    assert_eq!(named.exits(0).json()["library"], "elsewhere");
    sandbox.run(&["status", "--library", ""]).exits(2);
}

#[test]
fn usage_does_not_ask_for_what_the_environment_gives() {
    let sandbox = Sandbox::new();
    let run = Run::of(sandbox.command(&["find"]).env("LIKENESS_LIBRARY", "elsewhere")).exits(2);
    assert!(run.stderr.contains("Usage: likeness find <QUERY>..."), "{run}");
}

#[test]
fn the_index_is_checked_against_an_exact_search() {
    let sandbox = Sandbox::new();
    sandbox.run(&["status", "--check"]).exits(1).says("there is no library");
    sandbox.photos("photos", 12);
    sandbox.index(&["photos"]);
    let text = sandbox.run(&["status", "--check"]).exits(0).text();
    assert!(
        text.starts_with("recall@10  1.0000 against exact search, 12 images asked\nlost"),
        "{text}"
    );
    let check = sandbox.run(&["status", "--check", "--json"]).exits(0).json();
    assert_eq!((&check["good"], &check["search"]["lost"]), (&true.into(), &0.into()));
    fs::remove_dir_all(sandbox.path("home/data/likeness/index")).unwrap();
    let run = sandbox.run(&["status", "--check"]).exits(1).says("run `likeness rebuild`");
    assert!(run.text().contains("there is no search index yet"), "{run}");
    sandbox.run(&["rebuild"]).exits(0);
    sandbox.run(&["status", "--check"]).exits(0);
}

#[test]
fn a_damaged_catalog_is_noticed_before_it_is_searched() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 12);
    sandbox.index(&["photos"]);
    // A bit that turned on the disk, in an index: SQLite reads on without a word.
    let path = sandbox.path("home/data/likeness/catalog.sqlite");
    let catalog = rusqlite::Connection::open(&path).unwrap();
    catalog.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'files_by_image'";
    let root: i64 = catalog.query_row(root, [], |row| row.get(0)).unwrap();
    let size: i64 = catalog.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    drop(catalog);
    let mut bytes = fs::read(&path).unwrap();
    // How many bytes between its entries are lost, by the head of the page.
    bytes[((root - 1) * size + 7) as usize] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    sandbox.run(&["status"]).exits(0);
    let run = sandbox.run(&["status", "--check"]).exits(1).says("catalog.sqlite is damaged: ");
    drop(run.says("restore the library folder from a backup"));
    let run = sandbox.run(&["status", "--check", "--json"]).exits(1);
    let check = run.json();
    assert_eq!(check["good"], false);
    assert!(check["reason"].as_str().unwrap().contains("is damaged: "), "{check}");
}

#[test]
fn labels_are_told_one_by_one() {
    let sandbox = Sandbox::new();
    for folder in ["photos/cats", "photos/dogs"] {
        sandbox.photos(folder, 3);
    }
    // One more, as content counts once, whatever the folder.
    for (name, seed) in
        [("photos/dogs/a.jpg", 50), ("photos/dogs/b.jpg", 51), ("photos/owls/c.jpg", 52)]
    {
        sandbox.photo(name, seed);
    }
    sandbox.index(&["photos"]);
    let evaluate =
        |args: &[&str]| sandbox.run(&[&["evaluate", "--labels", "parent"], args].concat()).exits(0);
    let json = evaluate(&["--json"]).json();
    let labels = json["by_label"].as_array().unwrap();
    let queries: u64 = labels.iter().map(|label| label["images"].as_u64().unwrap()).sum();
    assert_eq!(json["queries"], queries);
    assert_eq!(json["labels"], labels.len() + 1, "the owl is alone, and does not ask: {json}");
    for measure in ["recall@1", "recall@5", "recall@10", "mAP"] {
        let all = json[measure].as_f64().unwrap();
        let weighed =
            labels.iter().map(|l| l[measure].as_f64().unwrap() * l["images"].as_f64().unwrap());
        assert!((weighed.sum::<f64>() / queries as f64 - all).abs() < 1e-9, "{measure}: {json}");
        let ends = json["interval_95"][measure].as_array().unwrap();
        assert!(ends[0].as_f64() <= Some(all) && Some(all) <= ends[1].as_f64(), "{json}");
    }
    let csv = evaluate(&["--csv"]).text();
    assert_eq!(csv.lines().count(), 1 + labels.len(), "{csv}");
    assert!(csv.starts_with("label,images,recall@1,recall@5,recall@10,mAP\n"), "{csv}");
    let table = evaluate(&["--by-label", "--rank", "expanded"]).text();
    assert!(table.contains("\nrecall@1  recall@5     mAP  images  label\n"), "{table}");
}

/// Every command, and every command of a command, by its words.
fn commands(sandbox: &Sandbox, words: &[String], found: &mut Vec<(String, String)>) {
    let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
    let help = Run::of(&mut sandbox.bare_command(&args)).exits(0).text();
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let listed = listed.split("\n\n").next().unwrap_or("");
    let names = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
    for name in names.into_iter().filter(|name| *name != "help") {
        commands(sandbox, &[words, &[name.to_owned()]].concat(), found);
    }
    found.push((words.join("-"), help));
}

#[test]
fn every_command_has_help_with_examples() {
    let sandbox = Sandbox::new();
    let mut found = Vec::new();
    commands(&sandbox, &[], &mut found);
    assert!(found.len() > 15, "{} commands", found.len());
    for (command, help) in &found {
        let wanted = if command.is_empty() { "Exit codes:" } else { "Examples:" };
        assert!(help.contains(wanted), "{help}");
    }
    Run::of(&mut sandbox.bare_command(&["no-such-command"])).exits(2);
}

/// What a newcomer reads first, kept whole so that a change to it is seen.
#[test]
fn the_help_is_as_reviewed() {
    let sandbox = Sandbox::new();
    for command in ["index", "find", "export", "push", "status", "evaluate"] {
        let help = Run::of(&mut sandbox.bare_command(&[command, "--help"])).exits(0).text();
        let own = help.split("\nGlobal options:").next().unwrap_or_default();
        insta::assert_snapshot!(command, own);
    }
    insta::assert_snapshot!("likeness", Run::of(&mut sandbox.bare_command(&["-h"])).text());
}

#[test]
fn completions_and_man_pages_are_generated() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = Run::of(&mut sandbox.bare_command(&["generate", "completions", shell])).exits(0);
        assert!(run.text().contains("likeness"), "{run}");
    }
    Run::of(&mut sandbox.bare_command(&["generate", "man", "man"])).exits(0);
    let page = fs::read_to_string(sandbox.path("man/likeness-find.1")).unwrap();
    assert!(page.contains("min"), "{page}");
}

#[test]
fn a_library_can_lie_anywhere() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos", "--library", "elsewhere"]);
    assert!(sandbox.path("elsewhere/catalog.sqlite").exists());
    let mut command = sandbox.command(&["find", "id:1", "--format", "paths"]);
    let run = Run::of(command.env("LIKENESS_LIBRARY", sandbox.path("elsewhere"))).exits(0);
    assert_eq!(run.text().trim(), sandbox.path("photos/0.jpg").to_str().unwrap());
    fs::write(sandbox.path("elsewhere/catalog.sqlite"), "no database, but long enough to be one")
        .unwrap();
    sandbox
        .run(&["status", "--library", "elsewhere"])
        .exits(1)
        .says("catalog.sqlite cannot be used");
}
