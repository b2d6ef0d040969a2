//! `likeness push` and `likeness find --remote`, against real servers.
//!
//! Each claim is a function of a server. Milvus Lite is asked in every run; Milvus's own engine, which needs some
//! gigabytes, is left out with `LIKENESS_TEST_STANDALONE=0`; `MILVUS_URI` and `MILVUS_TOKEN` name a third.

mod server;
mod tls;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use likeness::catalog::{Catalog, Chosen};
use likeness::embedding::Features;
use likeness::record::{ContentHash, ExportRow, PathBytes, PhotoDetails, PhotoFacts, SourceFile};
use serde_json::Value;

use crate::sandbox::{Run, Sandbox, picture};
use server::{Server, TOKEN};

type Claim = fn(&Server);

/// The claims that need nothing but a server that runs.
const CLAIMS: [(&str, Claim); 7] = [
    ("what_is_pushed_is_found_as_in_the_library", what_is_pushed_is_found_as_in_the_library),
    ("only_what_changed_is_pushed_again", only_what_changed_is_pushed_again),
    ("names_of_all_kinds_survive", names_of_all_kinds_survive),
    ("filters_find_what_they_find_in_the_library", filters_find_what_they_find_in_the_library),
    ("what_is_not_ours_is_left_alone", what_is_not_ours_is_left_alone),
    ("another_model_of_the_same_name_is_refused", another_model_of_the_same_name_is_refused),
    ("a_database_is_a_part_of_the_address", a_database_is_a_part_of_the_address),
];

fn check_all(server: &Server) {
    for (name, claim) in CLAIMS {
        // Not `eprintln!`: the test harness would swallow it.
        let _ = writeln!(std::io::stderr(), "  {name}");
        claim(server);
    }
}

#[test]
fn milvus_lite_serves_a_library() {
    check_all(&Server::lite());
}

#[test]
fn milvus_serves_a_library() {
    if std::env::var_os("LIKENESS_TEST_STANDALONE").is_some_and(|value| value == "0") {
        let _ = writeln!(std::io::stderr(), "skipped milvus_serves_a_library: it is not wanted");
        return;
    }
    for last in [false, true] {
        let Some(mut server) = Server::standalone() else { return };
        let checked = catch_unwind(AssertUnwindSafe(|| {
            check_all(&server);
            a_wrong_token_is_named(&server);
            a_server_that_dies_is_pushed_to_where_it_ended(&mut server);
        }));
        match checked {
            Ok(()) => return,
            // Under load it was seen to end by itself, with a dump of its stacks: that says nothing of us.
            Err(_) if !last && !server.answers() => {
                let _ =
                    writeln!(std::io::stderr(), "  the engine is gone: once more, with another");
            }
            Err(panic) => resume_unwind(panic),
        }
    }
}

#[test]
fn the_named_server_serves_a_library() {
    match Server::named() {
        Some(server) => check_all(&server),
        None => {
            let text = "skipped the_named_server_serves_a_library: MILVUS_URI names none";
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

#[test]
fn a_push_to_milvus_lite_goes_on_where_it_ended() {
    a_server_that_dies_is_pushed_to_where_it_ended(&mut Server::lite());
}

/// Drops a collection at the end of a claim: somebody else's server shall be as it was.
struct Collection<'a>(&'a Server, String);

impl<'a> Collection<'a> {
    fn new(server: &'a Server, name: &str) -> Self {
        Self(server, server.address(name))
    }

    fn push(&self, sandbox: &Sandbox, more: &[&str]) -> Value {
        self.try_push(sandbox, more).exits(0).json()
    }

    fn try_push(&self, sandbox: &Sandbox, more: &[&str]) -> Run {
        self.0.run(sandbox, &[&["push", &self.1, "--json"], more].concat())
    }

    /// Asks without a library: in another home.
    fn find(&self, args: &[&str]) -> Value {
        self.find_in(&Sandbox::new(), args)
    }

    fn find_in(&self, sandbox: &Sandbox, args: &[&str]) -> Value {
        let args = [&["find", "--remote", &self.1, "--format", "json"], args].concat();
        self.0.run(sandbox, &args).exits(0).json()
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.python(&self.1, "client.drop_collection(name)");
        }
    }
}

fn numbers(report: &Value) -> [u64; 4] {
    ["sent", "deleted", "unchanged", "count"].map(|name| report[name].as_u64().unwrap())
}

/// The same hits in the same order, with the same words; scores as close as single precision has them.
#[track_caller]
fn same_hits(far: &Value, near: &Value) {
    let (far, near) = (far.as_array().unwrap(), near.as_array().unwrap());
    assert_eq!(far.len(), near.len(), "{far:#?}\n{near:#?}");
    for (at, (far, near)) in far.iter().zip(near).enumerate() {
        let score = |hit: &Value| hit["score"].as_f64().unwrap();
        assert!((score(far) - score(near)).abs() < 2e-6, "hit {at}: {far}\n{near}");
        let without = |hit: &Value| {
            let mut hit = hit.clone();
            hit.as_object_mut().unwrap().remove("score");
            hit
        };
        assert_eq!(without(far), without(near), "hit {at}");
    }
}

fn what_is_pushed_is_found_as_in_the_library(server: &Server) {
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
        let mut bare = server.inside(elsewhere.bare_command(&args));
        if let Some(token) = &server.token {
            bare.args(["--token", token]);
        }
        let said = Run::of(&mut bare).exits(0).text();
        assert!(said.contains("photos/3.jpg") && said.contains("1.0000"), "{said}");
        let high = collection.find(&[query, "--min-score", "0.999999"]);
        assert_eq!(high, Value::Array(vec![]));
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

fn only_what_changed_is_pushed_again(server: &Server) {
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
    server.python(&collection.1, "client.delete(name, ids=[3])");
    let lost = collection.try_push(&sandbox, &[]).exits(1);
    let lost = lost.says("holds 6 rows, 7 were pushed to it").says("--recreate");
    drop(lost);
    assert_eq!(numbers(&collection.push(&sandbox, &["--recreate"])), [7, 0, 0, 7]);

    // A collection that was deleted and made again is another.
    server.python(&collection.1, "client.drop_collection(name)");
    assert_eq!(numbers(&collection.push(&sandbox, &[])), [7, 0, 0, 7]);
}

fn names_of_all_kinds_survive(server: &Server) {
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
    let code = "for row in client.query(name, filter='path_lossy == true', \
                    output_fields=['path', 'content_hash', 'width'], consistency_level='Strong'): \
                    print(row['path'], row['width'], len(row['content_hash']))";
    let said = server.python(&collection.1, code).text();
    assert!(said.contains("not utf-8 \u{fffd}\u{fffd}.jpg"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn filters_find_what_they_find_in_the_library(server: &Server) {
    let sandbox = Sandbox::new();
    sandbox.photos("photos/Holiday", 4);
    sandbox.photo("photos/100%_x/a.PNG", 11);
    sandbox.photo("photos/100yyx/b.png", 12);
    sandbox.index(&["photos"]);
    describe(&sandbox);
    let collection = Collection::new(server, "filters");
    collection.push(&sandbox, &["--index", "flat"]);
    let root = sandbox.path("photos");
    let below = format!("path:'{}/holiday'", root.to_str().unwrap());
    let always = [
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
        "camera:'canon eos*'",
        "keyword:*",
    ];
    let patterns = [
        "camera:canon",
        "camera:'*eos*'",
        "camera:'canon ?os*'",
        "camera:'Canon EOS R5'",
        "lens:'50mm*'",
        "keyword:sea",
        "keyword:'sea*'",
        "keyword:'a;b'",
        "not keyword:sun",
        "path:holiday",
        "path:*.png",
        "path:'100%_x'",
        "root:photos and not path:holiday",
        "camera:'\" or id >= 0 or camera == \"'",
    ];
    for filter in always.iter().chain(patterns.iter().filter(|_| server.knows_patterns())) {
        let args = ["id:2", "--where", filter];
        let near = [&["find", "--exact", "--format", "json"], &args[..]].concat();
        let near = sandbox.run(&near).exits(0).json();
        same_hits(&collection.find(&args), &near);
    }
    let refused = |filter: &str| {
        let args = ["find", "id:2", "--remote", &collection.1, "--where", filter];
        server.run(&Sandbox::new(), &args).exits(1)
    };
    refused("near:48,11,10km").says("Milvus cannot be asked for `near`").says("without `--remote`");
    refused("keyword:'s*a'").says("the keyword `s*a`");
    if !server.knows_patterns() {
        refused("camera:canon").says("before 2.4 compares texts whole or by how they begin");
    }
}

/// Writes into the catalog what a camera would have written into the photos.
fn describe(sandbox: &Sandbox) {
    let mut catalog = Catalog::open(&sandbox.path("home/data/likeness/catalog.sqlite")).unwrap();
    let model = catalog.current_model().unwrap().unwrap();
    let images: Vec<ExportRow> = catalog
        .with_export_rows(model.id, &Chosen::default(), |chosen| chosen.rows.collect())
        .unwrap();
    let details = |number: usize| {
        let text = |text: &str| Some(text.to_owned());
        match number {
            0 => PhotoDetails {
                taken_at: text("2024-05-03T23:59:59+02:00"),
                camera: text("Canon EOS R5"),
                lens: text("EF 50mm f/1.8"),
                latitude: Some(0.0),
                longitude: Some(0.0),
                rating: Some(5),
                keywords: vec!["Sea".into(), "sun; \"low\"".into(), "a;b".into()],
            },
            1 => PhotoDetails {
                taken_at: text("2023-12-31"),
                camera: text("CANON eos 100% \" or id >= 0 or camera == \""),
                rating: Some(-1),
                keywords: vec!["seaside".into()],
                ..PhotoDetails::default()
            },
            2 => PhotoDetails { rating: Some(0), ..PhotoDetails::default() },
            _ => PhotoDetails::default(),
        }
    };
    assert_eq!(images.len(), 6);
    let mut batch = catalog.batch().unwrap();
    for (number, image) in images.iter().enumerate() {
        let format = if image.path.extension().unwrap() == "jpg" { "jpeg" } else { "png" };
        let (width, height, details) = (image.width, image.height, details(number));
        let facts = PhotoFacts { width, height, format, details };
        batch.add_image(&image.content_hash, &facts).unwrap();
    }
    batch.commit().unwrap();
}

fn what_is_not_ours_is_left_alone(server: &Server) {
    let [ours, other] = [Sandbox::new(), Sandbox::new()];
    for (sandbox, seed) in [(&ours, 1), (&other, 2)] {
        sandbox.photo("photos/a.jpg", seed);
        sandbox.index(&["photos"]);
    }
    let collection = Collection::new(server, "ours");
    let missing = ["find", "id:1", "--remote", &collection.1];
    server
        .run(&ours, &missing)
        .exits(1)
        .says("there is no collection")
        .says("likeness push milvus");
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
    let code = "client.create_collection(name, dimension=8); print(client.has_collection(name))";
    server.python(&foreign.1, code);
    for more in [&[][..], &["--recreate"]] {
        let refused = foreign.try_push(&ours, more).exits(1);
        drop(
            refused
                .says("was not made by this version of likeness")
                .says("name another collection"),
        );
    }
    let args = ["find", "id:1", "--remote", &foreign.1];
    server.run(&ours, &args).exits(1).says("was not made by");
    assert_eq!(server.python(&foreign.1, "print(client.has_collection(name))").text(), "True\n");
}

fn another_model_of_the_same_name_is_refused(server: &Server) {
    let tiny = crate::tiny_network::mirror();
    let with = |sandbox: &Sandbox, mirror: &Path, args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env("LIKENESS_MIRROR", mirror);
        if let Some(token) = &server.token {
            command.env("LIKENESS_MILVUS_TOKEN", token);
        }
        Run::of(&mut server.inside(command))
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

fn a_database_is_a_part_of_the_address(server: &Server) {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 2);
    sandbox.index(&["photos"]);
    let plain = server.address("database");
    let name = plain.rsplit('/').next().unwrap();
    server.python(&plain, "client.create_database(name)");
    let inside = format!("{}/{name}/{name}", server.base);
    let push = |address: &str| {
        numbers(&server.run(&sandbox, &["push", address, "--json"]).exits(0).json())
    };
    assert_eq!(push(&inside), [2, 0, 0, 2]);
    assert_eq!(push(&inside), [0, 0, 2, 2]);
    let outside = ["find", "id:1", "--remote", &plain];
    server.run(&sandbox, &outside).exits(1).says("there is no collection");
    let args = ["find", "id:1", "--remote", &inside, "-k", "1", "--format", "json"];
    assert_eq!(server.run(&Sandbox::new(), &args).exits(0).json()[0]["id"], 1);
    let code = "inside = MilvusClient(uri=sys.argv[1], token=sys.argv[3], db_name=name); \
                inside.drop_collection(name); client.drop_database(name)";
    server.python(&plain, code);
}

fn a_wrong_token_is_named(server: &Server) {
    let sandbox = Sandbox::new();
    let address = server.address("token");
    for token in ["root:wrong", ""] {
        let args = ["find", "id:1", "--remote", &address, "--token", token];
        let run = server.run(&sandbox, &args).exits(1);
        assert!(!run.stderr.contains("root:wrong"), "{run}");
        drop(run.says("lets nobody in with this token").says("LIKENESS_MILVUS_TOKEN"));
    }
    let args = ["find", "id:1", "--remote", &address, "--token", TOKEN];
    server.run(&sandbox, &args).exits(1).says("there is no collection");
}

/// A library of so many images, all but one made up.
fn many(count: u32) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    let mut catalog = Catalog::open(&sandbox.path("home/data/likeness/catalog.sqlite")).unwrap();
    let model = catalog.current_model().unwrap().unwrap();
    let (root, root_path) = catalog.roots().unwrap().remove(0);
    let mut batch = catalog.batch().unwrap();
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    for number in 1..count {
        let path = format!("made/{number}.jpg");
        let hash = ContentHash::from_bytes(*blake3::hash(path.as_bytes()).as_bytes());
        let details = PhotoDetails::default();
        let facts = PhotoFacts { width: 640, height: 480, format: "jpeg", details };
        let image = batch.add_image(&hash, &facts).unwrap();
        let features = (0..model.width).map(|_| random()).collect();
        let features = Features::new(features, model.width).unwrap();
        batch.add_features(image, model.id, &features).unwrap();
        let relative = PathBytes::from_bytes(path.into_bytes());
        let file = SourceFile { root: root_path.clone(), relative, size: 1, mtime_ns: 1 };
        batch.link(root, &file, image).unwrap();
    }
    batch.commit().unwrap();
    sandbox
}

/// Begins a push and gives it back as soon as a part of it is acknowledged.
#[expect(clippy::zombie_processes, reason = "a test that fails waits for nothing")]
fn pushing(server: &Server, sandbox: &Sandbox, address: &str) -> (Child, BufReader<ChildStderr>) {
    let args = ["push", address, "--json", "--progress", "json"];
    let mut command = server.command(sandbox, &args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the push ended before it began");
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        if event["doing"] == "pushing" && event["done"].as_u64().unwrap() > 0 {
            assert!(event["done"].as_u64() < event["total"].as_u64(), "{line}");
            return (child, lines);
        }
    }
}

fn a_server_that_dies_is_pushed_to_where_it_ended(server: &mut Server) {
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
    let push = |server: &Server| {
        let args = ["push", &address, "--json"];
        numbers(&server.run(&sandbox, &args).exits(0).json())
    };
    let [sent, deleted, unchanged, counted] = push(server);
    assert!(sent < count && unchanged > 0, "{sent} sent, {unchanged} unchanged");
    assert_eq!((sent + unchanged, deleted, counted), (count, 0, count));
    assert_eq!(push(server), [0, 0, count, count]);
    let ids = "rows = client.query(name, filter='id > 0', output_fields=['id'], limit=16000, \
               consistency_level='Strong'); ids = [row['id'] for row in rows]; \
               print(len(ids), len(set(ids)))";
    assert_eq!(server.python(&address, ids).text(), format!("{ROWS} {ROWS}\n"), "nothing is twice");

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

#[test]
fn a_server_that_is_away_for_a_moment_is_waited_for() {
    let mut server = Server::lite();
    let sandbox = many(8_000);
    let address = server.address("away");
    let (child, lines) = pushing(&server, &sandbox, &address);
    server.kill();
    server.restart();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{:?}", lines.lines().collect::<Vec<_>>());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(numbers(&report), [8_000, 0, 0, 8_000]);
}

#[test]
fn calls_shrink_to_what_a_server_takes() {
    let server = Server::lite_with(64 << 10);
    let sandbox = many(600);
    let collection = Collection::new(&server, "small");
    assert_eq!(numbers(&collection.push(&sandbox, &[])), [600, 0, 0, 600]);
    let server = Server::lite_with(512);
    let refused = server.run(&sandbox, &["push", &server.address("tiny")]).exits(1);
    drop(refused.says("larger than max"));
}

#[test]
fn an_address_where_nothing_is_gets_a_plain_answer() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    let nobody = "milvus://127.0.0.1:1/photos";
    for args in [&["push", nobody][..], &["find", "id:1", "--remote", nobody]] {
        let run = sandbox.run(args).exits(1);
        let run = run.says("no answer from milvus://127.0.0.1:1: Connection refused");
        drop(run.says("hint: see that Milvus runs there"));
    }
    for (address, part) in [
        ("localhost/photos", "it has no scheme"),
        ("milvus://localhost", "it names no collection"),
        ("milvus://root:Milvus@localhost/a", "--token USER:PASSWORD"),
    ] {
        sandbox.run(&["push", address]).exits(1).says(part).says("hint: write milvus://HOST");
        sandbox.run(&["find", "id:1", "--remote", address]).exits(1).says(part);
    }
    // The sandbox is offline.
    let far = ["push", "milvus://192.0.2.1/photos"];
    sandbox.run(&far).exits(1).says("the network must not be used (--offline)");
    let run = sandbox.run(&["find", "id:1", "--remote", nobody, "--exact"]).exits(2);
    drop(run.says("cannot be used with"));
}
