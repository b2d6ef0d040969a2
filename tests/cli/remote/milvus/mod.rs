//! Milvus Lite is asked in every run; Milvus's own engine, which needs some gigabytes, is left out with
//! `LIKENESS_TEST_STANDALONE=0`; `MILVUS_URI` and `MILVUS_TOKEN` name a third.

mod server;
mod tls;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::claims::{
    a_server_that_dies_is_pushed_to_where_it_ended,
    a_server_that_is_away_for_a_moment_is_waited_for, check_all,
};
use super::made::many;
use super::{Collection, Server, numbers, say};
use crate::sandbox::Sandbox;
use server::{Milvus, TOKEN};

#[test]
fn milvus_lite_serves_a_library() {
    let server = Milvus::lite();
    check_all(&server);
    a_database_is_a_part_of_the_address(&server);
}

#[test]
fn milvus_serves_a_library() {
    if std::env::var_os("LIKENESS_TEST_STANDALONE").is_some_and(|value| value == "0") {
        say("skipped milvus_serves_a_library: it is not wanted");
        return;
    }
    for last in [false, true] {
        let Some(mut server) = Milvus::standalone() else { return };
        let checked = catch_unwind(AssertUnwindSafe(|| {
            check_all(&server);
            a_database_is_a_part_of_the_address(&server);
            a_wrong_token_is_named(&server);
            a_server_that_dies_is_pushed_to_where_it_ended(&mut server);
        }));
        match checked {
            Ok(()) => return,
            // Under load it was seen to end by itself, with a dump of its stacks: that says nothing of us.
            Err(_) if !last && !server.answers() => {
                say("  the engine is gone: once more, with another");
            }
            Err(panic) => resume_unwind(panic),
        }
    }
}

#[test]
fn the_named_server_serves_a_library() {
    match Milvus::named() {
        Some(server) => check_all(&server),
        None => {
            let text = "skipped the_named_server_serves_a_library: MILVUS_URI names none";
            say(text);
        }
    }
}

#[test]
fn a_push_to_milvus_lite_goes_on_where_it_ended() {
    a_server_that_dies_is_pushed_to_where_it_ended(&mut Milvus::lite());
}

fn a_database_is_a_part_of_the_address(server: &Milvus) {
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

fn a_wrong_token_is_named(server: &Milvus) {
    let sandbox = Sandbox::new();
    let address = server.address("token");
    for token in ["root:wrong", ""] {
        let args = ["find", "id:1", "--remote", &address, "--token", token];
        let run = server.run(&sandbox, &args).exits(1);
        assert!(!run.stderr.contains("root:wrong"), "{run}");
        drop(run.says("does not let you in").says("LIKENESS_MILVUS_TOKEN"));
    }
    let args = ["find", "id:1", "--remote", &address, "--token", TOKEN];
    server.run(&sandbox, &args).exits(1).says("there is no collection");
}

#[test]
fn milvus_lite_is_waited_for() {
    a_server_that_is_away_for_a_moment_is_waited_for(&mut Milvus::lite());
}

#[test]
fn calls_shrink_to_what_a_server_takes() {
    let server = Milvus::lite_with(64 << 10);
    let sandbox = many(600);
    let collection = Collection::new(&server, "small");
    assert_eq!(numbers(&collection.push(&sandbox, &[])), [600, 0, 0, 600]);
    let server = Milvus::lite_with(512);
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
