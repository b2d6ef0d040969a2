//! A temporary home with photos and a library; a failed expectation prints the command and its output.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::shared;

/// A home of its own; deleted when dropped.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
}

/// What a command did.
pub(crate) struct Run {
    command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The absolute path of something in the sandbox.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        // Roots are stored with links resolved, and a temporary folder may lie behind one.
        self.dir.path().canonicalize().expect("it is there").join(relative)
    }

    /// Writes a photo that looks like no photo with another seed, and returns its path.
    pub(crate) fn photo(&self, relative: &str, seed: u32) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("inside the sandbox")).expect("a folder");
        picture(seed).save(&path).expect("a photo");
        path
    }

    /// Writes `count` photos `DIR/0.jpg`, `DIR/1.jpg`, … with the seeds 0, 1, ….
    pub(crate) fn photos(&self, dir: &str, count: u32) -> PathBuf {
        for seed in 0..count {
            self.photo(&format!("{dir}/{seed}.jpg"), seed);
        }
        self.path(dir)
    }

    /// The command, set up but not started: its own home, no network, the runtime and model of the tests.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare_command(args);
        command.env("ORT_DYLIB_PATH", onnxruntime()).env("LIKENESS_MIRROR", shared::mirror());
        command
    }

    /// The same, without a runtime or a model to be found.
    pub(crate) fn bare_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_likeness"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        for name in
            ["LIKENESS_LIBRARY", "LIKENESS_MIRROR", "ORT_DYLIB_PATH", "RUST_BACKTRACE", "COLUMNS"]
        {
            command.env_remove(name);
        }
        command.env("HOME", self.path("home")).env("XDG_DATA_HOME", self.path("home/data"));
        command.env("LIKENESS_OFFLINE", "1");
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args))
    }

    /// Runs `index DIR --json` and gives the summary; exit code 0 or 3.
    pub(crate) fn index(&self, args: &[&str]) -> Value {
        let run = self.run(&[&["index", "--json"], args].concat());
        assert!(matches!(run.status.code(), Some(0 | 3)), "{run}");
        run.json()
    }
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().expect("it starts");
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Self { command: format!("{command:?}"), status, stdout, stderr }
    }

    /// The same, with stdout going elsewhere.
    pub(crate) fn of_with_stdout(command: &mut Command, stdout: Stdio) -> Self {
        let child = command.stdout(stdout).stderr(Stdio::piped()).spawn().expect("it starts");
        let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Self { command: format!("{command:?}"), status, stdout, stderr }
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "expected stderr to contain {part:?}\n{self}");
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (command, status, stdout, stderr) =
            (&self.command, self.status, self.text(), &self.stderr);
        write!(f, "$ {command}\n{status}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

/// Blobs of colour on a gradient, all drawn from the seed.
pub(crate) fn picture(seed: u32) -> RgbImage {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let mut random = |limit: u32| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(limit)) as u32
    };
    let (width, height) = (260 + random(80), 260 + random(80));
    let blobs: Vec<_> = (0..6)
        .map(|_| {
            let colour = [random(256) as u8, random(256) as u8, random(256) as u8];
            (random(width) as i32, random(height) as i32, 20 + random(70) as i32, colour)
        })
        .collect();
    let base = [random(256), random(256), random(256)];
    RgbImage::from_fn(width, height, |x, y| {
        let inside = |(bx, by, r, _): &&(i32, i32, i32, [u8; 3])| {
            (x as i32 - bx).pow(2) + (y as i32 - by).pow(2) < r * r
        };
        match blobs.iter().rev().find(inside) {
            Some((.., colour)) => Rgb(*colour),
            None => Rgb(base.map(|b| ((b + x / 4 + y / 8) % 256) as u8)),
        }
    })
}

/// An ONNX Runtime for all tests: the one the environment names, else one that the binary itself
/// installs, once, into the build folder.
pub(crate) fn onnxruntime() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
            return named.into();
        }
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("data");
        fs::create_dir_all(&data).expect("a folder in the build folder");
        // Several test processes may come here at once; one installs, the others wait.
        let lock = File::create(data.join("lock")).expect("a lock file");
        lock.lock().expect("a lock");
        let mut install = Command::new(env!("CARGO_BIN_EXE_likeness"));
        install.args(["runtime", "install"]).env("XDG_DATA_HOME", &data);
        install.env_remove("LIKENESS_OFFLINE");
        let run = Run::of(&mut install).exits(0);
        PathBuf::from(run.text().trim())
    })
}
