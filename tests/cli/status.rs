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

#[test]
fn every_command_has_help_with_examples() {
    let sandbox = Sandbox::new();
    let help = Run::of(&mut sandbox.bare_command(&["--help"])).exits(0).text();
    assert!(help.contains("Exit codes:"), "{help}");
    for command in ["index", "find", "export", "status", "evaluate", "model", "runtime", "generate"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{command} in {help}");
        let help = Run::of(&mut sandbox.bare_command(&[command, "--help"])).exits(0).text();
        assert!(help.contains("Examples:"), "{help}");
    }
    Run::of(&mut sandbox.bare_command(&["no-such-command"])).exits(2);
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
