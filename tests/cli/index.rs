//! `likeness index`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::sandbox::{Run, Sandbox, picture};

/// The numbers of a summary that are not zero.
fn counts(summary: &Value) -> Vec<(&str, u64)> {
    ["added", "updated", "moved", "unchanged", "removed", "skipped", "embedded"]
        .into_iter()
        .map(|name| (name, summary[name].as_u64().expect("a number")))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn mtime(path: &Path) -> std::time::SystemTime {
    path.metadata().unwrap().modified().unwrap()
}

fn set_mtime(path: &Path, time: std::time::SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_second_run_opens_nothing() {
    let sandbox = Sandbox::new();
    let dir = sandbox.photos("photos", 4);
    let first = sandbox.index(&["photos"]);
    assert_eq!(counts(&first), [("added", 4), ("embedded", 4)]);
    // Whoever opened this file now would find no picture in it.
    let path = dir.join("2.jpg");
    let (time, size) = (mtime(&path), path.metadata().unwrap().len());
    fs::write(&path, vec![0; size as usize]).unwrap();
    set_mtime(&path, time);
    let second = sandbox.index(&["photos"]);
    assert_eq!(counts(&second), [("unchanged", 4)]);
}

#[test]
fn the_summary_names_everything_a_program_needs() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    let summary = sandbox.index(&["photos"]);
    for name in ["seconds", "images_per_second"] {
        assert!(summary[name].as_f64().expect("a number") > 0.0, "{name} in {summary}");
    }
    assert_eq!(summary["device"], "cpu");
    assert!(summary["model"].is_string());
    assert_eq!(summary["interrupted"], false);
}

#[test]
fn a_moved_folder_and_a_copied_photo_embed_nothing() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos/a", 3);
    sandbox.index(&["photos"]);
    fs::rename(sandbox.path("photos/a"), sandbox.path("photos/b")).unwrap();
    fs::copy(sandbox.path("photos/b/0.jpg"), sandbox.path("photos/copy.jpg")).unwrap();
    let summary = sandbox.index(&["photos"]);
    assert_eq!(counts(&summary), [("added", 1), ("moved", 3)]);
    let paths = sandbox.run(&["find", "id:1", "--format", "paths"]).exits(0).text();
    assert!(paths.lines().all(|path| Path::new(path).exists()), "{paths}");
}

#[test]
fn a_root_that_was_moved_is_not_embedded_again() {
    let sandbox = Sandbox::new();
    sandbox.photos("old", 3);
    sandbox.index(&["old"]);
    fs::rename(sandbox.path("old"), sandbox.path("new")).unwrap();
    assert_eq!(counts(&sandbox.index(&["new"])), [("moved", 3)]);
}

#[test]
fn two_files_with_the_same_bytes_are_embedded_once() {
    let sandbox = Sandbox::new();
    let first = sandbox.photo("photos/0.jpg", 0);
    for copy in 1..20 {
        fs::copy(&first, sandbox.path(format!("photos/{copy}.jpg"))).unwrap();
    }
    let summary = sandbox.index(&["photos"]);
    assert_eq!(counts(&summary), [("added", 20), ("embedded", 1)]);
    let hits = sandbox.run(&["find", "id:1", "--format", "json"]).exits(0).json();
    assert_eq!(hits.as_array().map(Vec::len), Some(1));
    assert_eq!(hits[0]["copies"].as_array().map(Vec::len), Some(19));
}

#[test]
fn an_edited_photo_is_embedded_again_and_a_vanished_one_leaves() {
    let sandbox = Sandbox::new();
    let dir = sandbox.photos("photos", 3);
    sandbox.index(&["photos"]);
    picture(9).save(dir.join("0.jpg")).unwrap();
    fs::remove_file(dir.join("1.jpg")).unwrap();
    // Touched, but with the same bytes.
    set_mtime(&dir.join("2.jpg"), std::time::SystemTime::UNIX_EPOCH);
    let summary = sandbox.index(&["photos"]);
    assert_eq!(
        counts(&summary),
        [("updated", 1), ("unchanged", 1), ("removed", 1), ("embedded", 1)]
    );
    let hits = sandbox.run(&["find", "id:3", "--format", "json"]).exits(0).json();
    assert_eq!(hits.as_array().map(Vec::len), Some(2), "{hits}");
}

#[test]
fn a_photo_that_comes_back_is_found_again_without_being_embedded() {
    let sandbox = Sandbox::new();
    let dir = sandbox.photos("photos", 3);
    sandbox.index(&["photos"]);
    fs::rename(dir.join("0.jpg"), sandbox.path("away.jpg")).unwrap();
    sandbox.index(&["photos"]);
    fs::remove_dir_all(sandbox.path("home/data/likeness/index")).unwrap();
    sandbox.run(&["rebuild"]).exits(0);
    fs::rename(sandbox.path("away.jpg"), dir.join("back.jpg")).unwrap();
    assert_eq!(counts(&sandbox.index(&["photos"])), [("added", 1), ("unchanged", 2)]);
    let paths = sandbox.run(&["find", "id:2", "--format", "paths"]).exits(0).text();
    assert!(paths.contains("back.jpg"), "{paths}");
}

#[test]
fn a_truncated_photo_is_skipped_and_reported() {
    let sandbox = Sandbox::new();
    let dir = sandbox.photos("photos", 2);
    let whole = fs::read(dir.join("0.jpg")).unwrap();
    fs::write(dir.join("cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    fs::write(dir.join("text.png"), "no picture").unwrap();
    fs::write(dir.join("empty.jpg"), "").unwrap();
    fs::write(dir.join("notes.txt"), "not worth a word").unwrap();
    let run = sandbox.run(&["index", "photos"]).exits(3);
    let run = run.says("cut.jpg: truncated: the JPEG data ends before the picture does");
    assert!(
        run.text().contains("2 added, 0 updated, 0 moved, 0 unchanged, 0 removed, 3 skipped"),
        "{run}"
    );

    // Remembered, and told again, without being opened.
    let second = sandbox.run(&["index", "photos", "--json"]).exits(3).json();
    assert_eq!(counts(&second), [("unchanged", 2), ("skipped", 3)]);
    let listed = sandbox.run(&["status", "--skipped"]).exits(0).text();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains("text.png: the content is not a picture, whatever the name says"));
    let retried = sandbox.run(&["index", "photos", "--json", "--retry-skipped"]).exits(3).json();
    assert_eq!(retried["skipped_files"].as_array().map(Vec::len), Some(3));

    // Mended, it is indexed; gone, it is forgotten.
    fs::write(dir.join("cut.jpg"), &whole).unwrap();
    fs::remove_file(dir.join("text.png")).unwrap();
    fs::remove_file(dir.join("empty.jpg")).unwrap();
    let third = sandbox.run(&["index", "photos", "--json"]).exits(0).json();
    assert_eq!(counts(&third), [("added", 1), ("unchanged", 2)]);
    assert_eq!(sandbox.run(&["status", "--skipped"]).exits(0).text(), "");
}

#[test]
fn the_content_decides_what_a_file_is() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("photos");
    fs::create_dir_all(&dir).unwrap();
    let save = |name: &str, format| picture(1).save_with_format(dir.join(name), format).unwrap();
    save("a.txt", image::ImageFormat::Png);
    save("b", image::ImageFormat::Bmp);
    save("c.jpg", image::ImageFormat::Tiff);
    save("d.png", image::ImageFormat::WebP);
    save("e.jpeg", image::ImageFormat::Gif);
    let summary = sandbox.index(&["photos"]);
    assert_eq!(counts(&summary), [("added", 5), ("embedded", 5)]);
}

#[cfg(unix)]
#[test]
fn pipes_and_links_never_hang_a_run() {
    let sandbox = Sandbox::new();
    let dir = sandbox.photos("photos", 1);
    let made = std::process::Command::new("mkfifo").arg(dir.join("pipe.jpg")).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("/dev/zero", dir.join("zero.jpg")).unwrap();
    std::os::unix::fs::symlink(&dir, dir.join("loop")).unwrap();
    assert_eq!(counts(&sandbox.index(&["photos"])), [("added", 1), ("embedded", 1)]);
    let followed = sandbox.run(&["index", "photos", "--follow-links", "--json"]).exits(3).json();
    assert_eq!(counts(&followed), [("unchanged", 1), ("skipped", 1)]);
    let reason = followed["skipped_files"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("leads back to"), "{reason}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_unicode_is_found_as_it_is() {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let sandbox = Sandbox::new();
    let name = std::ffi::OsString::from_vec(b"caf\xe9 \n.jpg".to_vec());
    let photo = sandbox.photo("photos/plain.jpg", 1);
    let renamed = photo.with_file_name(name);
    fs::rename(&photo, &renamed).unwrap();
    sandbox.index(&["photos"]);
    let found = sandbox.run(&["find", "id:1", "-0"]).exits(0).stdout;
    assert_eq!(found, [renamed.as_os_str().as_bytes(), b"\0"].concat());
    let found = sandbox.run(&["find", "id:1", "--format", "json"]).exits(0).json();
    assert!(found[0]["path"].as_str().unwrap().ends_with("/caf\u{fffd} \n.jpg"), "{found}");
    let bytes = found[0]["path_bytes"].as_str().unwrap();
    assert!(bytes.ends_with("2f636166e9200a2e6a7067"), "{found}");
}

#[cfg(target_os = "linux")]
#[test]
fn names_do_nothing_to_the_terminal() {
    let sandbox = Sandbox::new();
    let photo = sandbox.photo("photos/0.jpg", 1);
    let odd = photo.with_file_name("\u{1b}]0;x\u{7}\n.jpg");
    fs::rename(&photo, &odd).unwrap();
    fs::write(photo.with_file_name("\u{1b}[2J.png"), "no picture").unwrap();
    let name = r"/\u{1b}]0;x\u{7}\n.jpg";
    let index = sandbox.run(&["index", "photos"]).exits(3).says(r"/\u{1b}[2J.png: the content is");
    let find = sandbox.run(&["find", "id:1"]).exits(0);
    assert!(find.text().ends_with(&format!("{name}\n")), "{find}");
    let skipped = sandbox.run(&["status", "--skipped"]).exits(0);
    assert!(skipped.text().contains(r"/\u{1b}[2J.png: the content is"), "{skipped}");
    let error = sandbox.run(&["find", "\u{1b}[2J"]).exits(1);
    for run in [index, find, skipped, error] {
        let said = run.text() + &run.stderr;
        assert!(!said.contains(['\u{1b}', '\u{7}']), "{run}");
    }
    // Programs get them as they are.
    let paths = sandbox.run(&["find", "id:1", "--format", "paths"]).exits(0).text();
    assert_eq!(paths, format!("{}\n", odd.display()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_skipped_name_that_is_not_unicode_is_told_in_json() {
    use std::os::unix::ffi::OsStringExt;
    let sandbox = Sandbox::new();
    let photo = sandbox.photo("photos/0.jpg", 1);
    let name = std::ffi::OsString::from_vec(b"caf\xe9.jpg".to_vec());
    let whole = fs::read(&photo).unwrap();
    fs::write(photo.with_file_name(name), &whole[..whole.len() / 2]).unwrap();
    let skipped = sandbox.index(&["photos"])["skipped_files"].clone();
    assert!(skipped[0]["path"].as_str().unwrap().ends_with("/caf\u{fffd}.jpg"), "{skipped}");
    assert!(
        skipped[0]["path_bytes"].as_str().unwrap().ends_with("2f636166e92e6a7067"),
        "{skipped}"
    );
    assert_eq!(sandbox.run(&["status", "--skipped", "--json"]).exits(0).json(), skipped);
}

#[test]
fn what_is_excluded_is_not_indexed() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos/keep", 2);
    sandbox.photos("photos/raw", 2);
    sandbox.photos("photos/.hidden", 2);
    let summary = sandbox.index(&["photos", "--exclude", "raw"]);
    assert_eq!(counts(&summary), [("added", 2), ("embedded", 2)]);
    sandbox.run(&["index", "photos", "--exclude", "a[b"]).exits(2).says("--exclude");
}

#[test]
fn a_root_that_is_missing_or_empty_is_refused_unless_pruned() {
    let sandbox = Sandbox::new();
    let dir = sandbox.photos("photos", 3);
    sandbox.photos("other", 1);
    sandbox.index(&["photos", "other"]);
    fs::rename(&dir, sandbox.path("away")).unwrap();
    sandbox.run(&["index", "photos"]).exits(1).says("is missing; 3 files of it are indexed");
    fs::create_dir(&dir).unwrap();
    sandbox.run(&["index", "photos"]).exits(1).says("is empty; 3 files of it are indexed");
    // With the folder's name, as other drives may be away, too.
    let remedy = format!("forget its photos with `likeness index --prune {}`", dir.display());
    sandbox.run(&["index", "photos"]).exits(1).says("hint: connect the drive").says(&remedy);
    let still = sandbox.run(&["status", "--json"]).exits(0).json();
    assert_eq!(still["catalog"]["counts"]["files"], 4);
    let pruned = sandbox.index(&["photos", "--prune"]);
    assert_eq!(counts(&pruned), [("removed", 3)]);
    // The drive comes back: nothing was lost.
    fs::remove_dir(&dir).unwrap();
    fs::rename(sandbox.path("away"), &dir).unwrap();
    assert_eq!(counts(&sandbox.index(&["photos"])), [("added", 3)]);
}

#[test]
fn a_drive_that_is_away_loses_nothing_to_the_folder_around_it_or_to_a_copy() {
    let sandbox = Sandbox::new();
    let drive = sandbox.photos("mnt/usb", 3);
    sandbox.photo("mnt/other.jpg", 9);
    sandbox.index(&["mnt/usb"]);
    fs::rename(&drive, sandbox.path("away")).unwrap();
    fs::create_dir(&drive).unwrap();
    sandbox.run(&["index", "mnt"]).exits(1).says("usb is empty; 3 files of it are indexed");
    fs::create_dir(sandbox.path("copy")).unwrap();
    for name in ["0.jpg", "1.jpg"] {
        fs::copy(sandbox.path("away").join(name), sandbox.path("copy").join(name)).unwrap();
    }
    assert_eq!(counts(&sandbox.index(&["copy"])), [("added", 2)]);
    fs::remove_dir(&drive).unwrap();
    sandbox.run(&["index", "mnt"]).exits(1).says("usb is missing; 3 files of it are indexed");
    let pruned = sandbox.index(&["mnt", "--prune"]);
    assert_eq!(counts(&pruned), [("added", 1), ("removed", 3), ("embedded", 1)]);
}

#[test]
fn a_folder_that_was_renamed_does_not_stand_in_the_way_of_the_others() {
    let sandbox = Sandbox::new();
    let dir = sandbox.photos("old", 3);
    fs::write(dir.join("bad.jpg"), "no picture").unwrap();
    sandbox.index(&["old"]);
    fs::rename(&dir, sandbox.path("new")).unwrap();
    assert_eq!(counts(&sandbox.index(&["new"])), [("moved", 3), ("skipped", 1)]);
    sandbox.run(&["index", "old"]).exits(1).says("cannot open folder old");
    assert_eq!(counts(&sandbox.index(&[])), [("unchanged", 3), ("skipped", 1)]);
    let status = sandbox.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["catalog"]["roots"].as_array().map(Vec::len), Some(1));
    assert_eq!(status["catalog"]["counts"]["skipped"], 1);
}

#[test]
fn what_was_over_a_limit_is_looked_at_again_with_another() {
    let sandbox = Sandbox::new();
    let dir = sandbox.photos("photos", 2);
    let large = dir.join("1.jpg");
    let padding = vec![0; 3_000_000];
    fs::write(&large, [fs::read(&large).unwrap(), padding].concat()).unwrap();
    let limited = ["photos", "--max-memory", "1"];
    assert_eq!(counts(&sandbox.index(&limited)), [("added", 1), ("skipped", 1), ("embedded", 1)]);
    // It is not read over and over.
    let again = sandbox.index(&limited);
    assert_eq!(counts(&again), [("unchanged", 1), ("skipped", 1)]);
    assert_eq!(again["skipped_files"].as_array().map(Vec::len), Some(0));
    let summary = sandbox.index(&["--max-memory", "100"]);
    assert_eq!(counts(&summary), [("added", 1), ("unchanged", 1), ("embedded", 1)]);
}

#[test]
fn damaged_features_cost_one_photo_and_only_until_the_next_run() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 4);
    sandbox.index(&["photos"]);
    let catalog = sandbox.path("home/data/likeness/catalog.sqlite");
    let damaged = rusqlite::Connection::open(catalog).unwrap();
    damaged.execute("UPDATE embeddings SET features = zeroblob(8) WHERE image_id = 2", []).unwrap();
    drop(damaged);
    sandbox
        .run(&["find", "id:2"])
        .exits(1)
        .says("hint: `likeness rebuild` leaves such features out");
    let run = sandbox.run(&["rebuild"]).exits(0);
    assert!(run.text().starts_with("3 images"), "{run}");
    run.says("the stored features of 1 images were damaged and are forgotten");
    let hits = sandbox.run(&["find", "id:1", "--format", "jsonl"]).exits(0).text();
    assert_eq!(hits.lines().count(), 3);
    assert_eq!(counts(&sandbox.index(&[])), [("added", 1), ("unchanged", 3), ("embedded", 1)]);
    sandbox.run(&["find", "id:2"]).exits(0);
}

#[test]
fn a_folder_inside_an_indexed_one_is_part_of_it() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos/inner", 2);
    sandbox.photo("photos/3.jpg", 3);
    sandbox.index(&["photos/inner"]);
    assert_eq!(
        counts(&sandbox.index(&["photos"])),
        [("added", 1), ("unchanged", 2), ("embedded", 1)]
    );
    assert_eq!(counts(&sandbox.index(&["photos/inner"])), [("unchanged", 2)]);
    assert_eq!(counts(&sandbox.index(&[])), [("unchanged", 3)]);
    let status = sandbox.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["catalog"]["roots"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_cannot_be_indexed_is_named() {
    let sandbox = Sandbox::new();
    let photo = sandbox.photo("photos/1.jpg", 1);
    sandbox.run(&["index", "nowhere"]).exits(1).says("cannot open folder nowhere");
    sandbox.run(&["index", photo.to_str().unwrap()]).exits(1).says("is not a folder");
    sandbox.run(&["index"]).exits(1).says("hint: run `likeness index DIR` first");
}

#[test]
fn two_runs_at_once_do_not_mix() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    let lock = File::options().write(true).open(sandbox.path("home/data/likeness/lock")).unwrap();
    lock.lock().unwrap();
    sandbox.run(&["index", "photos"]).exits(1).says("another likeness is changing the library");
}

/// Starts `index --progress json` and waits until at least one photo is in the catalog. Returns how
/// many were, by then.
#[expect(clippy::zombie_processes, reason = "the callers wait")]
fn start_and_wait(sandbox: &Sandbox) -> (std::process::Child, BufReader<impl Read>, u64) {
    let mut child = sandbox
        .command(&["index", "photos", "--progress", "json", "--json", "--threads", "1"])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended before it began");
        let event: Value = serde_json::from_str(&line).expect("one JSON object a line");
        if let Some(embedded) = event["embedded"].as_u64().filter(|n| *n > 0) {
            return (child, lines, embedded);
        }
    }
}

#[test]
fn a_killed_run_keeps_what_was_finished() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 60);
    let (mut child, _lines, embedded) = start_and_wait(&sandbox);
    child.kill().unwrap();
    child.wait().unwrap();
    let summary = sandbox.index(&["photos"]);
    let kept = summary["unchanged"].as_u64().unwrap();
    assert!(kept >= embedded, "{embedded} were in the catalog, {kept} are");
    assert_eq!(kept + summary["added"].as_u64().unwrap(), 60);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_after_the_running_batch() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 60);
    let (mut child, mut lines, embedded) = start_and_wait(&sandbox);
    // SAFETY: a signal to our own child, which has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let mut summary = String::new();
    child.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["interrupted"], true);
    let added = summary["added"].as_u64().unwrap();
    assert!((embedded..60).contains(&added), "{added} of 60");
    let next = sandbox.index(&["photos"]);
    assert_eq!(next["unchanged"].as_u64(), Some(added));
}

#[test]
fn photos_are_never_written_to() {
    let sandbox = Sandbox::new();
    let dir = sandbox.photos("photos", 2);
    let before = fs::read(dir.join("0.jpg")).unwrap();
    let mut permissions = dir.metadata().unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&dir, permissions).unwrap();
    sandbox.index(&["photos"]);
    assert_eq!(fs::read(dir.join("0.jpg")).unwrap(), before);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
}

#[test]
fn without_a_runtime_and_a_network_the_remedy_is_named() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    let mut command = sandbox.bare_command(&["index", "photos"]);
    command.env("LIKENESS_MIRROR", crate::shared::mirror()).env("PATH", "");
    let run = Run::of(&mut command).exits(1);
    run.says("ONNX Runtime is not installed").says("likeness runtime install");
}
