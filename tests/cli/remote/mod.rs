//! `likeness push` and `likeness find --remote`, against real servers.
//!
//! Each claim is a function of a server, and a server is what it takes to start one and to look into it from outside.

mod claims;
mod made;
mod milvus;
mod postgres;

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::sandbox::{Run, Sandbox};

/// A real server, with the means of its own to see what likeness did there.
pub(crate) trait Server {
    /// What it calls a collection.
    fn noun(&self) -> &'static str;

    /// The address of a collection of this name.
    fn named(&self, name: &str) -> String;

    /// Gives a command what lets it in, and sets it into the server's network.
    fn reached_by(&self, command: Command) -> Command;

    /// Deletes a collection, if it is there.
    fn forget(&self, address: &str);

    /// Deletes a row.
    fn lose(&self, address: &str, id: i64);

    /// Makes a collection that is not likeness's.
    fn make_foreign(&self, address: &str);

    /// Whether there is such a collection.
    fn is_there(&self, address: &str) -> bool;

    /// The numbers of all rows, in order.
    fn ids(&self, address: &str) -> Vec<i64>;

    /// Path and width of the rows whose path is not exact.
    fn lossy(&self, address: &str) -> Vec<String>;

    /// What is said of a filter that it cannot be asked for; `None` where it can.
    fn refusal(&self, filter: &str) -> Option<&'static str>;

    /// The address of a collection that this run of the tests alone uses.
    fn address(&self, name: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.named(&format!("likeness_test_{name}_{}_{number}", std::process::id()))
    }

    /// likeness, so that it reaches the server.
    fn command(&self, sandbox: &Sandbox, args: &[&str]) -> Command {
        self.reached_by(sandbox.command(args))
    }

    fn run(&self, sandbox: &Sandbox, args: &[&str]) -> Run {
        Run::of(&mut self.command(sandbox, args))
    }
}

/// One that can be ended and started anew.
pub(crate) trait Mortal: Server {
    /// Ends it at once, as a power cut would.
    fn kill(&mut self);

    /// Starts it with the same data, and waits until it answers.
    fn restart(&mut self);
}

/// Not `eprintln!`: the test harness would swallow it.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Drops a collection at the end of a claim: somebody else's server shall be as it was.
struct Collection<'a>(&'a dyn Server, String);

impl<'a> Collection<'a> {
    fn new(server: &'a dyn Server, name: &str) -> Self {
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
            self.0.forget(&self.1);
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
