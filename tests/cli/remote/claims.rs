//! What holds of every server.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;

use super::made::{describe, many, of_cameras, pushing};
use super::{Collection, Mortal, Server, numbers, same_hits, say};
use crate::sandbox::{Run, Sandbox, picture};

type Claim = fn(&dyn Server);

/// The claims that need nothing but a server that runs.
const CLAIMS: [(&str, Claim); 6] = [
    ("what_is_pushed_is_found_as_in_the_library", what_is_pushed_is_found_as_in_the_library),
    ("only_what_changed_is_pushed_again", only_what_changed_is_pushed_again),
    ("names_of_all_kinds_survive", names_of_all_kinds_survive),
    ("filters_find_what_they_find_in_the_library", filters_find_what_they_find_in_the_library),
    ("what_is_not_ours_is_left_alone", what_is_not_ours_is_left_alone),
    ("another_model_of_the_same_name_is_refused", another_model_of_the_same_name_is_refused),
];

pub(super) fn check_all(server: &dyn Server) {
    for (name, claim) in CLAIMS {
        say(&format!("  {name}"));
        claim(server);
    }
}

fn what_is_pushed_is_found_as_in_the_library(server: &dyn Server) {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 40);
    sandbox.index(&["photos"]);
    let query = sandbox.photo("query.png", 1_000);
    let query = query.to_str().unwrap();
    for kind in ["flat", "hnsw"] {
        let collection = Collection::new(server, kind);
        let report = collection.push(&sandbox, &["--index", kind]);
        assert_eq!(numbers(&report), [40, 0, 0, 40]);
        assert_eq!(report["created"], true);
        let again = collection.push(&sandbox, &[]);
        assert_eq!(numbers(&again), [0, 0, 40, 40], "a push of what is there is a no-op");
        assert_eq!(again["created"], false);
        for query in [query, "id:7", "id:40"] {
            let near = ["find", query, "--exact", "--format", "json"];
            let near = sandbox.run(&near).exits(0).json();
            // A picture that was never indexed is embedded with the model that the collection names, without
            // a library of that name.
            same_hits(&collection.find(&[query]), &near);
            let near = ["find", query, "--exact", "--format", "json", "--exclude-query", "-k", "3"];
            let near = sandbox.run(&near).exits(0).json();
            same_hits(&collection.find(&[query, "--exclude-query", "-k", "3"]), &near);
        }
        many_queries_are_answered_as_in_the_library(&sandbox, &collection, query);
        // An indexed picture needs neither model nor runtime.
        let photo = sandbox.path("photos/3.jpg");
        let args = ["find", photo.to_str().unwrap(), "--remote", &collection.1, "-k", "1"];
        let elsewhere = Sandbox::new();
        let mut bare = server.reached_by(elsewhere.bare_command(&args));
        let said = Run::of(&mut bare).exits(0).text();
        assert!(said.contains("photos/3.jpg") && said.contains("1.0000"), "{said}");
        let high = collection.find(&[query, "--min-score", "0.999999"]);
        assert_eq!(high, Value::Array(vec![]));
        let many = ["find", "id:7", "--remote", &collection.1, "-k", "20000"];
        drop(server.run(&sandbox, &many).exits(1).says("up to 16384 hits, not 20000").says("`-k`"));
    }
}

fn many_queries_are_answered_as_in_the_library(
    sandbox: &Sandbox,
    collection: &Collection<'_>,
    query: &str,
) {
    let list = sandbox.path("list.txt");
    let queries: Vec<String> = (1..=20).map(|id| format!("id:{id}")).collect();
    fs::write(&list, [query, &queries.join("\n"), "id:99"].join("\n")).unwrap();
    let args = ["find", "--queries", list.to_str().unwrap(), "-k", "4", "--exclude-query"];
    let near = sandbox.run(&[&args[..], &["--exact"]].concat()).exits(3).stdout;
    let far = [&args[..], &["--remote", &collection.1]].concat();
    let far = collection.0.run(&Sandbox::new(), &far).exits(3);
    let far = far.says("1 of 22 queries could not be answered");
    let lines = |text: &[u8]| -> Vec<Value> {
        let text = std::str::from_utf8(text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (near, far) = (lines(&near), lines(&far.stdout));
    assert_eq!((near.len(), far.len()), (22, 22));
    for (far, near) in far.iter().zip(&near).take(21) {
        assert_eq!(far["query"], near["query"]);
        same_hits(&far["hits"], &near["hits"]);
    }
    assert!(far[21]["error"].as_str().unwrap().contains("holds no image 99"), "{}", far[21]);
}

fn only_what_changed_is_pushed_again(server: &dyn Server) {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 6);
    sandbox.index(&["photos"]);
    let collection = Collection::new(server, "changes");
    assert_eq!(numbers(&collection.push(&sandbox, &[])), [6, 0, 0, 6]);

    let photo = |name: &str| sandbox.path(format!("photos/{name}"));
    sandbox.photo("photos/new.jpg", 100);
    fs::remove_file(photo("0.jpg")).unwrap();
    fs::rename(photo("1.jpg"), photo("moved.jpg")).unwrap();
    fs::copy(photo("2.jpg"), photo("copy.jpg")).unwrap();
    sandbox.index(&["photos"]);
    // One new, one moved, one copied; one gone.
    assert_eq!(numbers(&collection.push(&sandbox, &[])), [3, 1, 3, 6]);
    assert_eq!(numbers(&collection.push(&sandbox, &[])), [0, 0, 6, 6]);
    let near = sandbox.run(&["find", "id:3", "--exact", "--format", "json"]).exits(0).json();
    same_hits(&collection.find(&["id:3"]), &near);
    let far = near.to_string();
    assert!(far.contains("moved.jpg") && far.contains("copy.jpg") && !far.contains("/0.jpg"));
    let gone = ["find", "id:1", "--remote", &collection.1];
    server.run(&Sandbox::new(), &gone).exits(1).says("holds no image 1");

    // What was deleted there comes back when it comes back here.
    picture(0).save(photo("0.jpg")).unwrap();
    sandbox.index(&["photos"]);
    assert_eq!(numbers(&collection.push(&sandbox, &[])), [1, 0, 6, 7]);
    assert_eq!(collection.find(&["id:1", "-k", "1"])[0]["id"], 1);

    // Rows that somebody else deleted are missed, and a collection that is made anew has them again.
    server.lose(&collection.1, 3);
    let lost = collection.try_push(&sandbox, &[]).exits(1);
    let lost = lost.says("holds 6 rows, 7 were pushed to it").says("--recreate");
    drop(lost);
    assert_eq!(numbers(&collection.push(&sandbox, &["--recreate"])), [7, 0, 0, 7]);

    // A collection that was deleted and made again is another.
    server.forget(&collection.1);
    assert_eq!(numbers(&collection.push(&sandbox, &[])), [7, 0, 0, 7]);
}

fn names_of_all_kinds_survive(server: &dyn Server) {
    let sandbox = Sandbox::new();
    let names: [&[u8]; 8] = [
        b"plain.jpg",
        b"it's a \"quote\".jpg",
        b"two\nlines\tand a tab.jpg",
        "smile \u{1f600} \u{e9}.jpg".as_bytes(),
        b"not utf-8 \xff\xe9.jpg",
        b"100%_sure.jpg",
        b"back\\slash.jpg",
        b"control \x01\x1b.jpg",
    ];
    let folder = sandbox.path("photos");
    fs::create_dir_all(&folder).unwrap();
    for (seed, name) in (0..).zip(names) {
        picture(seed).save(folder.join(OsStr::from_bytes(name))).unwrap();
    }
    sandbox.index(&["photos"]);
    let collection = Collection::new(server, "names");
    assert_eq!(numbers(&collection.push(&sandbox, &[])), [8, 0, 0, 8]);
    for id in 1..=8 {
        let args = ["find", &format!("id:{id}"), "--format", "paths", "-0", "-k", "1"];
        let near = sandbox.run(&args).exits(0).stdout;
        let far = [&args[..], &["--remote", &collection.1]].concat();
        let far = server.run(&Sandbox::new(), &far).exits(0).stdout;
        assert_eq!(far, near, "{}", String::from_utf8_lossy(&near));
        let name = near.strip_prefix(folder.as_os_str().as_bytes()).unwrap();
        assert!(names.contains(&&name[1..name.len() - 1]));
    }
    // Others see it, too, and that a name is not exact.
    let lossy = server.lossy(&collection.1);
    assert!(lossy.len() == 1 && lossy[0].contains("not utf-8 \u{fffd}\u{fffd}.jpg"), "{lossy:?}");
}

fn filters_find_what_they_find_in_the_library(server: &dyn Server) {
    let sandbox = Sandbox::new();
    sandbox.photos("photos/Holiday", 4);
    sandbox.photo("photos/100%_x/a.PNG", 11);
    sandbox.photo("photos/100yyx/b.png", 12);
    sandbox.index(&["photos"]);
    describe(&sandbox, of_cameras);
    let collection = Collection::new(server, "filters");
    collection.push(&sandbox, &["--index", "flat"]);
    let root = sandbox.path("photos");
    let below = format!("path:'{}/holiday'", root.to_str().unwrap());
    let filters = [
        below.as_str(),
        "format:jpeg",
        "not format:jpg",
        "taken:2024",
        "taken<2024-05",
        "not taken:2024",
        "rating>=4",
        "rating:0",
        "rating<0",
        "width>=300",
        "width<300 or height<300",
        "mp<0.09",
        "has:gps",
        "not has:gps and not has:taken",
        "has:keyword",
        "has:rating",
        "camera:'canon eos*'",
        "keyword:*",
        "camera:canon",
        "camera:'*eos*'",
        "camera:'canon ?os*'",
        "camera:'Canon EOS R5'",
        "lens:'50mm*'",
        "keyword:sea",
        "keyword:'sea*'",
        "keyword:'a;b'",
        "keyword:'s*a'",
        "keyword:'s?n*'",
        "not keyword:sun",
        "path:holiday",
        "path:*.png",
        "path:'100%_x'",
        "root:photos and not path:holiday",
        "camera:'\" or id >= 0 or camera == \"'",
        "camera:\"' OR true --\"",
        "camera:'a\\b*'",
        "near:48,11,10km",
        "near:0,0,10m",
        "not near:0.001,0.001,10m",
        "near:0.5,0.5,80km and camera:canon",
    ];
    for filter in filters {
        let args = ["id:2", "--where", filter];
        if let Some(part) = server.refusal(filter) {
            let args = [&["find", "--remote", &collection.1], &args[..]].concat();
            let refused = server.run(&Sandbox::new(), &args).exits(1);
            drop(refused.says(part).says("without `--remote`"));
            continue;
        }
        let near = [&["find", "--exact", "--format", "json"], &args[..]].concat();
        let near = sandbox.run(&near).exits(0).json();
        same_hits(&collection.find(&args), &near);
    }
}

fn what_is_not_ours_is_left_alone(server: &dyn Server) {
    let [ours, other] = [Sandbox::new(), Sandbox::new()];
    for (sandbox, seed) in [(&ours, 1), (&other, 2)] {
        sandbox.photo("photos/a.jpg", seed);
        sandbox.index(&["photos"]);
    }
    let collection = Collection::new(server, "ours");
    let missing = ["find", "id:1", "--remote", &collection.1];
    let run = server.run(&ours, &missing).exits(1);
    drop(run.says(&format!("there is no {} ", server.noun())).says("run `likeness push "));
    collection.push(&ours, &[]);
    let refused = collection.try_push(&other, &[]).exits(1);
    drop(refused.says("the images of another library").says("--recreate"));

    // Another model: the small one of the program.
    ours.index(&["photos", "--model", "starter"]);
    let refused = collection.try_push(&ours, &[]).exits(1);
    drop(refused.says("holds vectors of model").says("starter").says("--recreate"));
    let report = collection.push(&ours, &["--model", "starter", "--recreate"]);
    assert_eq!((numbers(&report), &report["model"]), ([1, 0, 0, 1], &"starter".into()));
    let refused = collection.try_push(&ours, &["--index", "flat"]).exits(1);
    drop(refused.says("holds an index HNSW, not FLAT"));

    let foreign = Collection::new(server, "foreign");
    server.make_foreign(&foreign.1);
    for more in [&[][..], &["--recreate"]] {
        let refused = foreign.try_push(&ours, more).exits(1);
        drop(
            refused
                .says("was not made by this version of likeness")
                .says(&format!("name another {}", server.noun())),
        );
    }
    let args = ["find", "id:1", "--remote", &foreign.1];
    server.run(&ours, &args).exits(1).says("was not made by");
    assert!(server.is_there(&foreign.1));
}

fn another_model_of_the_same_name_is_refused(server: &dyn Server) {
    let tiny = crate::tiny_network::mirror();
    let with = |sandbox: &Sandbox, mirror: &Path, args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env("LIKENESS_MIRROR", mirror);
        Run::of(&mut server.reached_by(command))
    };
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 2);
    drop(with(&sandbox, &tiny, &["index", "photos"]).exits(0));
    let collection = Collection::new(server, "model");
    drop(with(&sandbox, &tiny, &["push", &collection.1]).exits(0));

    // The same network, but its pictures are prepared otherwise.
    let elsewhere = Sandbox::new();
    let mirror = elsewhere.path("mirror");
    fs::create_dir(&mirror).unwrap();
    fs::copy(tiny.join("tiny.onnx"), mirror.join("tiny.onnx")).unwrap();
    let manifest = fs::read_to_string(tiny.join("models.toml")).unwrap();
    fs::write(mirror.join("models.toml"), manifest.replace("0.485", "0.5")).unwrap();
    let query = elsewhere.photo("query.jpg", 100);
    let args = ["find", query.to_str().unwrap(), "--remote", &collection.1];
    let refused = with(&elsewhere, &mirror, &args).exits(1);
    drop(refused.says("holds vectors of model tiny (").says("but `tiny` is ").says("--mirror"));
    let args = ["find", "id:2", "--remote", &collection.1];
    assert!(with(&elsewhere, &mirror, &args).exits(0).text().contains("1.0000   2  "));
}

pub(super) fn a_server_that_dies_is_pushed_to_where_it_ended(server: &mut dyn Mortal) {
    const ROWS: u32 = 8_000;
    let sandbox = many(ROWS);
    let address = server.address("killed");
    let count = u64::from(ROWS);

    // It dies, and stays away.
    let (mut child, mut lines) = pushing(server, &sandbox, &address);
    server.kill();
    let status = child.wait().unwrap();
    let mut said = String::new();
    lines.read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("no answer from") && said.contains("goes on where it ended"), "{said}");

    // It comes back: what it acknowledged is still there, and is not sent again.
    server.restart();
    let push = |server: &dyn Mortal| {
        let args = ["push", &address, "--json"];
        numbers(&server.run(&sandbox, &args).exits(0).json())
    };
    let [sent, deleted, unchanged, counted] = push(server);
    assert!(sent < count && unchanged > 0, "{sent} sent, {unchanged} unchanged");
    assert_eq!((sent + unchanged, deleted, counted), (count, 0, count));
    assert_eq!(push(server), [0, 0, count, count]);
    let ids = server.ids(&address);
    assert!(ids.iter().copied().eq(1..=i64::from(ROWS)), "nothing is missing, nothing is twice");

    // Somebody presses Ctrl-C: what was acknowledged stays.
    let address = server.address("interrupted");
    let (mut child, lines) = pushing(server, &sandbox, &address);
    // SAFETY: sends a signal to a child that was not waited for yet.
    unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGINT) };
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(lines);
    let args = ["push", &address, "--json"];
    let [sent, _, unchanged, counted] = numbers(&server.run(&sandbox, &args).exits(0).json());
    assert!(sent < count && unchanged > 0, "{sent} sent, {unchanged} unchanged");
    assert_eq!(counted, count);
}

pub(super) fn a_server_that_is_away_for_a_moment_is_waited_for(server: &mut dyn Mortal) {
    let sandbox = many(8_000);
    let address = server.address("away");
    let (child, lines) = pushing(server, &sandbox, &address);
    server.kill();
    server.restart();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{:?}", lines.lines().collect::<Vec<_>>());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(numbers(&report), [8_000, 0, 0, 8_000]);
}
