//! `likeness find`.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::sandbox::{Run, Sandbox, picture};

fn indexed(count: u32) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", count);
    sandbox.index(&["photos"]);
    sandbox
}

fn hits(run: &Run) -> Vec<Value> {
    run.json().as_array().expect("an array").clone()
}

#[test]
fn an_indexed_photo_finds_itself_with_score_one_and_needs_no_model() {
    let sandbox = indexed(6);
    fs::remove_dir_all(sandbox.path("home/data/likeness/models")).ok();
    fs::remove_dir_all(sandbox.path("home/data/likeness/networks")).ok();
    let mut command = sandbox.bare_command(&["find", "photos/3.jpg", "--format", "json"]);
    let run = Run::of(command.env("PATH", "")).exits(0);
    let hits = hits(&run);
    assert_eq!(hits.len(), 6);
    assert_eq!(hits[0]["score"], 1.0);
    assert_eq!(hits[0]["rank"], 1);
    assert_eq!(hits[0]["path"], sandbox.path("photos/3.jpg").to_str().unwrap());
    assert_eq!(hits[0]["root"], sandbox.path("photos").to_str().unwrap());
    assert!(hits[0]["width"].as_u64() >= Some(260));
    let scores: Vec<f64> = hits.iter().map(|hit| hit["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
}

#[test]
fn a_strange_photo_finds_the_one_it_is_a_copy_of() {
    let sandbox = indexed(6);
    // The same picture, but other bytes.
    picture(4).save(sandbox.path("query.png")).unwrap();
    let run = sandbox.run(&["find", "query.png", "-k", "1", "--format", "json"]).exits(0);
    let hits = hits(&run);
    assert_eq!(hits[0]["path"], sandbox.path("photos/4.jpg").to_str().unwrap());
    assert!(hits[0]["score"].as_f64().unwrap() > 0.9, "{run}");
}

#[test]
fn the_index_and_the_exact_search_agree() {
    let sandbox = indexed(12);
    for id in ["id:1", "id:7", "id:12"] {
        let index = sandbox.run(&["find", id, "--format", "json"]).exits(0).json();
        let exact = sandbox.run(&["find", id, "--format", "json", "--exact"]).exits(0).json();
        assert_eq!(index, exact);
    }
}

#[test]
fn the_query_can_be_left_out() {
    let sandbox = indexed(4);
    let run = sandbox.run(&["find", "id:2", "-k", "4", "--exclude-query", "--format", "json"]);
    let ids: Vec<i64> = hits(&run).iter().map(|hit| hit["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert!(!ids.contains(&2));
}

#[test]
fn a_lowest_score_and_a_highest_number_are_kept() {
    let sandbox = indexed(5);
    let count = |args: &[&str]| {
        let run = sandbox.run(&[&["find", "id:1", "--format", "json"], args].concat()).exits(0);
        hits(&run).len()
    };
    assert_eq!(count(&["-k", "2"]), 2);
    assert_eq!(count(&["--min-score", "1"]), 1);
    assert_eq!(count(&["--min-score", "-0.5"]), 5);
    sandbox.run(&["find", "id:1", "-k", "0"]).exits(2);
    sandbox.run(&["find", "id:1", "--min-score", "2"]).exits(2);
}

#[test]
fn every_format_names_the_same_photos() {
    let sandbox = indexed(3);
    let json = sandbox.run(&["find", "id:1", "--format", "json"]).exits(0);
    let paths: Vec<String> =
        hits(&json).iter().map(|hit| hit["path"].as_str().unwrap().to_owned()).collect();
    let lines = sandbox.run(&["find", "id:1", "--format", "paths"]).exits(0).text();
    assert_eq!(lines.lines().collect::<Vec<_>>(), paths);
    let nul = sandbox.run(&["find", "id:1", "-0"]).exits(0).text();
    assert_eq!(nul.split_terminator('\0').collect::<Vec<_>>(), paths);
    let jsonl = sandbox.run(&["find", "id:1", "--format", "jsonl"]).exits(0).text();
    for (line, path) in jsonl.lines().zip(&paths) {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["path"], path.as_str());
    }
    let table = sandbox.run(&["find", "id:1"]).exits(0).text();
    assert!(table.starts_with("rank   score  id  path\n   1  1.0000   1  /"), "{table}");
}

#[test]
fn bytes_on_stdin_are_a_query() {
    let sandbox = indexed(3);
    let file = fs::File::open(sandbox.path("photos/1.jpg")).unwrap();
    let mut command = sandbox.command(&["find", "-", "-k", "1", "--format", "paths"]);
    let run = Run::of(command.stdin(Stdio::from(file))).exits(0);
    assert_eq!(run.text().trim(), sandbox.path("photos/1.jpg").to_str().unwrap());
    let text = fs::File::open(file!()).ok();
    let mut command = sandbox.command(&["find", "-"]);
    command.stdin(text.map_or_else(Stdio::null, Stdio::from));
    Run::of(&mut command).exits(1).says("cannot search with stdin: ");
}

#[test]
fn stdin_is_read_no_further_than_memory_allows() {
    use std::io::Write;
    let sandbox = indexed(1);
    let mut command = sandbox.command(&["find", "-", "--max-memory", "1"]);
    let (input, mut feed) = std::io::pipe().unwrap();
    let photo = fs::read(sandbox.path("photos/0.jpg")).unwrap();
    let fed = std::thread::spawn(move || {
        feed.write_all(&photo).unwrap();
        (0..64).take_while(|_| feed.write_all(&[0; 1 << 20]).is_ok()).count()
    });
    let run = Run::of(command.stdin(input)).exits(1);
    run.says(
        "cannot search with stdin: it gives more than a picture may take: 1 MB (--max-memory)",
    );
    // It keeps the reading end.
    drop(command);
    assert!(fed.join().unwrap() < 8);
}

#[test]
fn rankings_show_the_same_photos_in_another_order() {
    let sandbox = indexed(40);
    let ids = |rank: &str| {
        let run = sandbox.run(&["find", "id:3", "-k", "40", "--rank", rank, "--format", "json"]);
        let run = run.exits(0);
        let scores: Vec<f64> = hits(&run).iter().map(|h| h["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        hits(&run).iter().map(|hit| hit["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let cosine = ids("cosine");
    let mut all = cosine.clone();
    all.sort_unstable();
    for rank in ["whitened", "expanded"] {
        let mut ranked = ids(rank);
        assert_ne!(ranked, cosine, "{rank}");
        if rank == "whitened" {
            assert_eq!(ranked[0], 3, "nearest to itself");
        }
        ranked.sort_unstable();
        assert_eq!(ranked, all, "{rank}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_clipboard_there_is_another_way() {
    let sandbox = indexed(1);
    let mut command = sandbox.command(&["find", "clipboard:"]);
    command.env_remove("WAYLAND_DISPLAY").env("DISPLAY", ":4242");
    Run::of(&mut command)
        .exits(1)
        .says("cannot search with the clipboard: there is no clipboard to look at")
        .says("| likeness find -");
}

#[test]
fn what_cannot_be_asked_is_named_with_its_remedy() {
    let sandbox = Sandbox::new();
    sandbox.run(&["find", "id:1"]).exits(1).says("there is no library").says("likeness index DIR");
    sandbox.photos("photos", 1);
    sandbox.index(&["photos"]);
    sandbox.run(&["find", "id:99"]).exits(1).says("holds no image 99");
    sandbox.run(&["find", "id:x"]).exits(1).says("`id:x` names no image");
    sandbox
        .run(&["find", "nowhere.jpg"])
        .exits(1)
        .says("cannot search with nowhere.jpg: cannot be read");
    fs::write(sandbox.path("text.jpg"), "no picture").unwrap();
    sandbox.run(&["find", "text.jpg"]).exits(1).says("the content is not a picture");
    sandbox
        .run(&["find", "id:1", "--model", "other"])
        .exits(1)
        .says("no features of model `other`");
}

/// Changes a bit of every 64th byte of a file of the search index.
fn damage(sandbox: &Sandbox, file: &str) {
    let index = fs::read_dir(sandbox.path("home/data/likeness/index")).unwrap().next().unwrap();
    let generation = fs::read_dir(index.unwrap().path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    let path = generation.join(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes.iter_mut().skip(36).step_by(64).for_each(|byte| *byte ^= 1);
    fs::write(&path, bytes).unwrap();
}

#[test]
fn many_queries_make_a_damaged_index_again_once() {
    let sandbox = indexed(5);
    let queries: String = (1..=5).cycle().take(40).map(|id| format!("id:{id}\n")).collect();
    fs::write(sandbox.path("list.txt"), queries).unwrap();
    let find = ["find", "--queries", "list.txt", "-k", "2"];
    let before = sandbox.run(&find).exits(0).text();
    // Vectors are looked at where a search comes by them, and not before.
    damage(&sandbox, "rough.bin");
    let run = sandbox.run(&find).exits(0);
    assert_eq!(run.text(), before);
    assert_eq!(run.stderr.matches("making the search index again").count(), 1, "{run}");
    assert_eq!(sandbox.run(&find).exits(0).stderr, "");
}

#[test]
fn where_no_index_can_be_written_every_image_is_compared() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 5);
    sandbox.index(&["photos"]);
    let index = sandbox.path("home/data/likeness/index");
    fs::remove_dir_all(&index).unwrap();
    fs::write(&index, "in the way").unwrap();
    let run = sandbox.run(&["find", "id:3", "-k", "1", "--format", "json"]).exits(0);
    assert_eq!(run.json()[0]["id"], 3);
    drop(run.says("compared with every image instead"));
}

#[test]
fn a_damaged_index_is_made_again_and_said_so() {
    let sandbox = indexed(5);
    let before = sandbox.run(&["find", "id:1", "--format", "json"]).exits(0).json();
    damage(&sandbox, "codes.bin");
    let run = sandbox.run(&["find", "id:1", "--format", "json"]).exits(0);
    let run = run.says("making the search index again from the catalog");
    assert_eq!(run.json(), before);
    assert_eq!(sandbox.run(&["find", "id:1"]).exits(0).stderr, "");
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_had_enough_is_success() {
    let sandbox = indexed(3);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = sandbox.command(&["find", "id:1", "--format", "json"]);
    Run::of_with_stdout(&mut command, writer.into()).exits(0);
}

#[test]
fn a_filter_chooses_among_all_photos() {
    let sandbox = indexed(4);
    sandbox.photos("photos/holiday", 12);
    sandbox.index(&["photos"]);
    let found = |filter: &str| -> Vec<String> {
        let args = ["find", "id:1", "-k", "3", "--where", filter, "--format", "json"];
        let hits = hits(&sandbox.run(&args).exits(0));
        hits.iter().map(|hit| hit["path"].as_str().unwrap().to_owned()).collect()
    };
    let holiday = sandbox.path("photos/holiday").to_str().unwrap().to_owned();
    let paths = found("path:holiday");
    assert!(paths.len() == 3 && paths.iter().all(|path| path.starts_with(&holiday)), "{paths:?}");
    assert_eq!(found("path:holiday and path:11.jpg").len(), 1);
    assert_eq!(found("format:png").len(), 0);
    assert_eq!(found("not has camera and width>=260").len(), 3);
    sandbox
        .run(&["find", "id:1", "--where", "width>1 or camra:canon"])
        .exits(2)
        .says("`camra` is no field\n    width>1 or camra:canon\n               ^^^^^\n  the fields are path");
}

#[test]
fn several_queries_are_added_up_and_taken_away() {
    let sandbox = indexed(8);
    let find = |args: &[&str]| -> Vec<(i64, f64)> {
        let run = sandbox.run(&[&["find", "--format", "json"], args].concat()).exits(0);
        let of = |hit: &Value| (hit["id"].as_i64().unwrap(), hit["score"].as_f64().unwrap());
        hits(&run).iter().map(of).collect()
    };
    let score = |hits: &[(i64, f64)], id| hits.iter().find(|hit| hit.0 == id).unwrap().1;
    let even = find(&["id:2", "photos/4.jpg"]);
    assert!((score(&even, 2) - score(&even, 5)).abs() < 1e-5, "{even:?}");
    let more = find(&["3:id:2", "photos/4.jpg"]);
    assert!(score(&more, 2) > score(&more, 5), "{more:?}");
    let less = find(&["id:2", "--unlike", "0.5:id:5"]);
    assert!(score(&less, 5) < score(&even, 5), "{less:?}");
    fs::copy(sandbox.path("photos/4.jpg"), sandbox.path("3:4.jpg")).unwrap();
    assert_eq!(find(&["./3:4.jpg", "-k", "1"])[0].0, 5);
    let without = find(&["id:2", "id:5", "--exclude-query"]);
    assert!(without.iter().all(|hit| hit.0 != 2 && hit.0 != 5), "{without:?}");
    sandbox.run(&["find", "id:2", "--unlike", "id:2"]).exits(1).says("the queries cancel out");
    sandbox.run(&["find", "0:id:2"]).exits(1).says("needs a weight above 0");
    sandbox.run(&["find"]).exits(2);
}

#[test]
fn a_part_of_a_picture_is_asked_with_as_if_it_were_cut_out() {
    let sandbox = indexed(3);
    let whole = picture(77);
    let part = image::imageops::crop_imm(&whole, 30, 40, 160, 150).to_image();
    whole.save(sandbox.path("whole.png")).unwrap();
    part.save(sandbox.path("part.png")).unwrap();
    let find = |args: &[&str]| {
        sandbox.run(&[&["find", "--format", "json"], args].concat()).exits(0).json()
    };
    let expected = find(&["part.png"]);
    assert_eq!(find(&["whole.png", "--crop", "30,40,160,150"]), expected);
    assert_ne!(find(&["whole.png"]), expected);
    sandbox.index(&["."]);
    let shown = find(&["whole.png", "--crop", "30,40,160,150", "-k", "1"]);
    assert_eq!(shown[0]["path"], sandbox.path("part.png").to_str().unwrap());
    sandbox
        .run(&["find", "whole.png", "--crop", "200,0,160,150"])
        .exits(1)
        .says("the crop is empty or reaches over the edge of the picture");
    sandbox
        .run(&["find", "whole.png", "--crop", "1,2,3"])
        .exits(2)
        .says("expected x,y,width,height");
    sandbox
        .run(&["find", "id:1", "id:2", "--crop", "0,0,9,9"])
        .exits(1)
        .says("takes a part of one");
}

#[test]
fn many_queries_give_a_line_each_in_order_and_a_bad_one_stops_none() {
    let sandbox = indexed(5);
    picture(99).save(sandbox.path("strange.png")).unwrap();
    let mut lines = String::from("nowhere.jpg\n\r\nid:99\n-\n2:strange.png\n");
    for id in (1..=5).cycle().take(60) {
        lines += &format!("id:{id}\n");
    }
    fs::write(sandbox.path("list.txt"), lines).unwrap();
    let parsed = |run: &Run| -> Vec<Value> {
        run.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let run = sandbox.run(&["find", "--queries", "list.txt", "-k", "2"]).exits(3);
    let answers = parsed(&run.says("3 of 64 queries could not be answered"));
    assert_eq!(answers.len(), 64);
    assert_eq!(answers[0]["query"], "nowhere.jpg");
    assert!(answers[0]["error"].as_str().unwrap().contains("cannot be read"), "{}", answers[0]);
    assert_eq!(answers[1]["hint"], "`likeness find` prints the ids that exist");
    assert!(answers[2]["error"].is_string());
    assert_eq!(answers[3]["hits"].as_array().unwrap().len(), 2);
    for (answer, id) in answers[4..].iter().zip((1..=5).cycle()) {
        assert_eq!(
            (&answer["hits"][0]["id"], &answer["hits"][0]["score"]),
            (&id.into(), &1.0.into())
        );
    }
    fs::write(sandbox.path("photos/notes.txt"), "no picture").unwrap();
    let run = sandbox.run(&["find", "--queries", "photos", "--exclude-query", "-k", "9"]).exits(0);
    let answers = parsed(&run);
    assert_eq!(answers.len(), 5);
    for (number, answer) in answers.iter().enumerate() {
        let path = sandbox.path(format!("photos/{number}.jpg"));
        assert_eq!(answer["query"], path.to_str().unwrap());
        assert_eq!(answer["hits"].as_array().unwrap().len(), 4, "without itself");
    }
    sandbox.run(&["find", "id:1", "--queries", "list.txt"]).exits(2);
    sandbox.run(&["find", "--queries", "missing.txt"]).exits(1).says("cannot open missing.txt");
}

#[test]
fn whoever_asks_line_by_line_is_answered_line_by_line() {
    use std::io::{BufRead, BufReader, Write};
    let sandbox = indexed(2);
    let mut command = sandbox.command(&["find", "--queries", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ask = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for id in [2, 1, 2] {
        writeln!(ask, "id:{id}").unwrap();
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer["hits"][0]["id"], id);
    }
    drop(ask);
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_address_is_a_query_unless_it_is_private() {
    use std::io::{BufRead, BufReader, Write};
    let sandbox = indexed(3);
    let photo = fs::read(sandbox.path("photos/2.jpg")).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/2.jpg", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            BufReader::new(&stream).lines().map_while(Result::ok).find(String::is_empty);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", photo.len());
            let _ = stream.write_all(&[head.as_bytes(), &photo].concat());
        }
    });
    sandbox.run(&["find", &url]).exits(1).says("the network must not be used");
    let online = |args: &[&str]| {
        Run::of(sandbox.command(&[&["find", &url], args].concat()).env("LIKENESS_OFFLINE", "0"))
    };
    online(&[]).exits(1).says("--allow-private allows it");
    let run = online(&["--allow-private", "-k", "1", "--format", "paths"]).exits(0);
    assert_eq!(run.text().trim(), sandbox.path("photos/2.jpg").to_str().unwrap());
}
