//! Which model answers when a person chose another.

use serde_json::Value;

use crate::sandbox::{Run, Sandbox};
use crate::tiny_network;

fn run(sandbox: &Sandbox, args: &[&str]) -> Run {
    Run::of(sandbox.command(args).env("LIKENESS_MIRROR", tiny_network::mirror()))
}

/// The model that answers.
fn model(sandbox: &Sandbox) -> Value {
    run(sandbox, &["status", "--json"]).exits(0).json()["catalog"]["model"].clone()
}

#[test]
fn one_that_was_not_through_all_photos_does_not_answer() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 5);
    sandbox.photos("more", 2);
    run(&sandbox, &["index", "photos", "more", "--model", "starter"]).exits(0);
    let part = run(&sandbox, &["index", "more", "--model", "tiny"]).exits(0);
    part.says("starter answers until tiny has features of all images, too")
        .says("`likeness index --model tiny` goes on");
    assert_eq!(model(&sandbox), "starter");
    // Without a name the library goes on with what answers.
    let summary = run(&sandbox, &["index", "--json"]).exits(0).json();
    assert_eq!((&summary["model"], &summary["embedded"]), (&"starter".into(), &0.into()));
    assert_eq!(run(&sandbox, &["index", "--model", "tiny"]).exits(0).stderr, "");
    assert_eq!(model(&sandbox), "tiny");
}

#[test]
fn a_run_that_fails_leaves_the_one_that_answers() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 3);
    // Neither in a library that has features of another, nor in an empty one.
    for first in [None, Some("starter")] {
        if let Some(first) = first {
            run(&sandbox, &["index", "photos", "--model", first]).exits(0);
        }
        run(&sandbox, &["index", "photos/typo", "--model", "tiny"]).exits(1);
        assert_eq!(model(&sandbox), first.map_or(Value::Null, Value::from));
        let broken = ["index", "photos", "--model", "tiny", "--onnxruntime", "photos/0.jpg"];
        run(&sandbox, &broken).exits(1);
        assert_eq!(model(&sandbox), first.map_or(Value::Null, Value::from));
    }
    run(&sandbox, &["find", "id:1"]).exits(0);
}

#[test]
fn a_network_behind_an_old_name_is_said_to_be_another() {
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 3);
    let tiny = tiny_network::mirror().join("tiny.onnx");
    let import = |length: &str| {
        let file = tiny.to_str().unwrap();
        run(&sandbox, &["model", "import", file, "--name", "nn", "--resize", length]).exits(0);
    };
    import("256");
    run(&sandbox, &["index", "photos", "--model", "nn"]).exits(0);
    run(&sandbox, &["model", "remove", "nn"]).exits(0);
    import("300");
    let run = run(&sandbox, &["index"]).exits(0);
    assert_eq!(run.stderr, "nn answers with the network that now has that name\n", "{run}");
}
