//! What the README shows is what comes out.

use std::path::Path;

use crate::sandbox::{Run, Sandbox};
use crate::shared;

const PREFIX: &str = "cargo run --release --quiet -- ";

/// The commands of the README's console blocks, each with the output shown below it.
fn examples(readme: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for block in readme.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            match (line.strip_prefix("$ "), found.last_mut()) {
                (Some(command), _) => found.push((command.to_owned(), Vec::new())),
                (None, Some((_, output))) => output.push(line.to_owned()),
                (None, None) => panic!("output without a command: {line}"),
            }
        }
    }
    found
}

/// Whether a word that came out is the one shown. Scores may differ by what processors make of the last
/// digits; times, rates and generation names are of the day.
fn agrees(shown: &str, real: &str) -> bool {
    let number = |word: &str| word.trim_start_matches('(').parse::<f64>().ok();
    match (number(shown), number(real)) {
        (Some(shown), Some(real)) if shown < 1.0 => (shown - real).abs() < 0.002,
        (Some(_), Some(_)) if shown.contains('.') => true,
        _ => shown == real || shown.starts_with("generation-") && real.starts_with("generation-"),
    }
}

#[test]
fn the_readme_shows_what_comes_out() {
    let Some(shared) = shared::folder("the_readme_shows_what_comes_out") else { return };
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let sandbox = Sandbox::new();
    let examples = examples(&readme);
    assert!(examples.len() >= 5, "{examples:?}");
    for (line, shown) in examples {
        let args = line.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{line}"));
        let args = args.replace("../shared", shared.to_str().unwrap());
        let args: Vec<&str> = args.split_whitespace().collect();
        let mut command = sandbox.command(&args);
        let run = Run::of(command.env("XDG_DATA_HOME", "")).exits(0);
        let text = run.text();
        let real: Vec<&str> = text.lines().collect();
        assert_eq!(real.len(), shown.len(), "{line}\n{run}");
        for (shown, real) in shown.iter().zip(real) {
            let place = |word: &str| {
                let word = word.replace("/home/ann/shared", shared.to_str().unwrap());
                word.replace("/home/ann", sandbox.path("home").to_str().unwrap())
            };
            let (mut shown, mut real): (Vec<String>, Vec<&str>) =
                (shown.split_whitespace().map(place).collect(), real.split_whitespace().collect());
            if shown.first().is_some_and(|word| word == "runtime") {
                // The tests name theirs, and it may be another version.
                shown.truncate(3);
                real.truncate(3);
            }
            if shown.first().is_some_and(|word| word == "device") {
                // This machine may have one.
                shown.truncate(3);
                real.truncate(3);
            }
            let id = usize::from(shown.len() == 4 && shown[3].ends_with(".jpg")) * 2;
            let same = |(at, (shown, real)): (usize, (&String, &&str))| {
                // Ids follow the walk, unless a photo kept the others waiting for too long.
                agrees(shown, real) || (id > 0 && at == id)
            };
            let all = shown.len() == real.len() && shown.iter().zip(&real).enumerate().all(same);
            assert!(all, "{line}\nshown {shown:?}\nreal  {real:?}\n{run}");
        }
    }
}
