//! `likeness runtime`, and how a library that does not serve is spoken of.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::sandbox::{Run, Sandbox, onnxruntime};

fn status(sandbox: &Sandbox, named: &Path) -> Run {
    let mut command = sandbox.bare_command(&["runtime", "status", "--json"]);
    Run::of(command.env("ORT_DYLIB_PATH", named))
}

#[test]
fn status_shows_path_version_and_providers() {
    let status = status(&Sandbox::new(), onnxruntime()).exits(0).json();
    assert_eq!(status["usable"], true);
    assert_eq!(status["path"], onnxruntime().to_str().unwrap());
    assert_eq!(status["origin"], "explicit");
    let minor = status["version"].as_str().unwrap().split('.').nth(1).unwrap();
    assert!(minor.parse::<u32>().unwrap() >= 24, "{status}");
    let providers = status["providers"].as_array().unwrap();
    assert!(providers.contains(&"CPU".into()), "{status}");
}

#[test]
fn the_folder_of_the_library_may_be_named_too() {
    let folder = onnxruntime().parent().unwrap();
    let status = status(&Sandbox::new(), folder).exits(0).json();
    assert_eq!(status["usable"], true, "{status}");
}

#[test]
fn a_library_that_does_not_serve_is_named_with_the_reason_and_the_remedy() {
    let sandbox = Sandbox::new();
    let refused = |named: &Path, reason: &str| {
        let run = status(&sandbox, named).exits(1);
        run.says(&format!("{} does not serve as ONNX Runtime: {reason}", named.display()))
            .says("hint: run `likeness runtime install`, or name one with `--onnxruntime PATH`");
    };
    refused(&sandbox.path("missing.so"), "there is no such file");
    let text = sandbox.path("text.so");
    fs::write(&text, "no library").unwrap();
    refused(&text, "it cannot be loaded: ");
    let cut = sandbox.path("cut.so");
    let whole = fs::read(onnxruntime()).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    refused(&cut, "it is incomplete: ");
}

/// The C compiler that built SQLite makes libraries that are something else, or too old.
#[cfg(unix)]
#[test]
fn a_foreign_and_an_outdated_library_are_told_apart() {
    let sandbox = Sandbox::new();
    let compile = |name: &str, source: &str| {
        let (library, code) = (sandbox.path(name), sandbox.path(format!("{name}.c")));
        fs::write(&code, source).unwrap();
        let mut compiler = Command::new("cc");
        Run::of(compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&code)).exits(0);
        library
    };
    let foreign = compile("foreign.so", "int answer(void) { return 42; }");
    status(&sandbox, &foreign).exits(1).says("it is a library, but not ONNX Runtime");
    let old = compile(
        "old.so",
        "static const char *version(void) { return \"1.19.2\"; }
         static const struct { void *api; const char *(*version)(void); } base = { 0, version };
         const void *OrtGetApiBase(void) { return &base; }",
    );
    status(&sandbox, &old).exits(1).says("it is version 1.19.2, but 1.24.0 or newer is needed");
}

#[test]
fn without_a_network_nothing_is_tried() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.bare_command(&["runtime", "install"]);
    Run::of(&mut command).exits(1).says("the network must not be used").says("--wheel");
    let mut command = sandbox.bare_command(&["runtime", "status"]);
    let run = Run::of(command.env("PATH", ""));
    // A machine may have one among its system's libraries; then that one is shown.
    if run.status.code() == Some(1) {
        assert!(run.text().contains("`likeness runtime install` gets"), "{run}");
    }
}

#[test]
fn pip_is_asked_for_by_name_when_there_is_none() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.bare_command(&["runtime", "install"]);
    let run = Run::of(command.env("PATH", "").env_remove("LIKENESS_OFFLINE")).exits(1);
    run.says("there is no python3 on PATH").says("hint: install Python 3 with pip");
}

#[test]
fn a_wheel_with_another_hash_is_refused() {
    let sandbox = Sandbox::new();
    let wheel = sandbox.path("onnxruntime.whl");
    fs::write(&wheel, "not the pinned wheel").unwrap();
    let run = sandbox.run(&["runtime", "install", "--wheel", "onnxruntime.whl"]).exits(1);
    run.says("onnxruntime.whl").says("its SHA-256 is").says("hint: fetch it again");
    let left = fs::read_dir(sandbox.path("home/data/likeness/runtime")).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");
}

#[test]
fn what_is_installed_is_found_without_being_named_and_not_installed_twice() {
    // `<data>/likeness/runtime/onnxruntime-VERSION/LIBRARY`, where the tests installed it themselves.
    let Some(data) = onnxruntime().ancestors().nth(4).filter(|data| data.join("lock").exists())
    else {
        return;
    };
    let sandbox = Sandbox::new();
    let run = |args: &[&str]| {
        let mut command = sandbox.bare_command(args);
        Run::of(command.env("PATH", "").env("XDG_DATA_HOME", data)).exits(0)
    };
    let installed = run(&["runtime", "install"]);
    assert_eq!(installed.text().trim(), onnxruntime().to_str().unwrap());
    let status = run(&["runtime", "status", "--json"]).json();
    assert_eq!(status["origin"], "data");
    let folder = onnxruntime().parent().unwrap();
    for text in ["LICENSE", "ThirdPartyNotices.txt"] {
        assert!(folder.join(text).exists(), "{text} lies beside the library");
    }
}

/// ONNX Runtime 1.31 would otherwise leave a device number and a database of what it means to send.
#[test]
fn no_telemetry_is_kept_for_sending() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    let found: Vec<_> = fs::read_dir(sandbox.path("home"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "data")
        .collect();
    assert!(found.is_empty(), "{found:?} in the home of somebody who only indexed photos");
}

/// What was kept of networks as ONNX Runtime optimised them, of files with this ending: by name, with their bytes.
fn kept(sandbox: &Sandbox, ending: &str) -> Vec<(String, Vec<u8>)> {
    let folder = sandbox.path("home/data/likeness/networks");
    let mut kept: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())
        })
        .collect();
    kept.sort();
    kept
}

#[test]
fn a_network_that_was_optimised_and_kept_is_used_only_while_it_fits() {
    let sandbox = Sandbox::new();
    sandbox.index(&[sandbox.photos("photos", 2).to_str().unwrap()]);
    let stranger = sandbox.photo("stranger.jpg", 77);
    let find = |library: &Path| {
        let mut command =
            sandbox.command(&["find", stranger.to_str().unwrap(), "--format", "json"]);
        Run::of(command.env("ORT_DYLIB_PATH", library)).exits(0).json()
    };
    let first = find(onnxruntime());

    // Flipped weights would be taken without complaint; the answer is the same, and the files whole again.
    let folder = sandbox.path("home/data/likeness/networks");
    for ending in ["optimised", "weights", "blake3"] {
        let [(name, bytes)] = kept(&sandbox, ending).try_into().expect("one network, one runtime");
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x40;
        for damaged in [&damaged, &bytes[..middle], &[]] {
            fs::write(folder.join(&name), damaged).unwrap();
            assert_eq!(find(onnxruntime()), first, "{name}");
            assert_ne!(kept(&sandbox, ending)[0].1, damaged, "{name}");
        }
        fs::remove_file(folder.join(&name)).unwrap();
        assert_eq!(find(onnxruntime()), first, "{name}");
        assert_eq!(kept(&sandbox, ending).len(), 1, "{name}");
    }

    // Another library makes its own.
    fs::create_dir(sandbox.path("other")).unwrap();
    let other = sandbox.path("other").join(onnxruntime().file_name().unwrap());
    fs::copy(onnxruntime(), &other).unwrap();
    assert_eq!(find(&other), first);
    assert_eq!(kept(&sandbox, "optimised").len(), 2);
}
