//! Real servers: Milvus in little, Milvus's own engine, or the one that `MILVUS_URI` names.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::{Mortal, Server};
use crate::python::packages;
use crate::sandbox::{Run, Sandbox};

const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote");

/// What the engine lets in when it asks for a token.
pub(crate) const TOKEN: &str = "root:Milvus";

/// A server that is stopped, and its data deleted, when dropped.
pub(crate) struct Milvus {
    kind: Kind,
    /// `milvus://HOST:PORT`
    pub(crate) base: String,
    /// What it lets in.
    pub(crate) token: Option<String>,
    process: Option<Child>,
    /// Whether it runs in a network of its own.
    alone: bool,
    folder: tempfile::TempDir,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Milvus Lite, whose messages may have so many bytes.
    Lite { max_message: u32 },
    /// The engine.
    Standalone,
    /// Somebody else's.
    Named,
}

impl Milvus {
    pub(crate) fn lite() -> Self {
        // What it has by itself.
        Self::lite_with(256 << 20)
    }

    pub(crate) fn lite_with(max_message: u32) -> Self {
        Self::start(Kind::Lite { max_message })
    }

    /// The engine; `None` where it does not start, which is said.
    pub(crate) fn standalone() -> Option<Self> {
        let mut server = Self::stopped(Kind::Standalone);
        match server.try_restart() {
            Ok(()) => Some(server),
            Err(said) => {
                let _ = writeln!(std::io::stderr(), "skipped what needs Milvus's engine: {said}");
                None
            }
        }
    }

    /// The one that `MILVUS_URI` names, as `http://db.lan:19530`, with the token of `MILVUS_TOKEN`.
    pub(crate) fn named() -> Option<Self> {
        let uri = std::env::var("MILVUS_URI").ok().filter(|uri| !uri.is_empty())?;
        Some(Self {
            kind: Kind::Named,
            base: uri.trim_end_matches('/').to_owned(),
            token: std::env::var("MILVUS_TOKEN").ok(),
            process: None,
            alone: false,
            folder: tempfile::tempdir().expect("a temporary folder"),
        })
    }

    fn start(kind: Kind) -> Self {
        let mut server = Self::stopped(kind);
        server.restart();
        server
    }

    fn stopped(kind: Kind) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port();
        Self {
            kind,
            base: format!("milvus://127.0.0.1:{port}"),
            token: (kind == Kind::Standalone).then(|| TOKEN.to_owned()),
            process: None,
            alone: false,
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// Starts it, again or for the first time, with the same data, and waits until it answers; what it said where it
    /// does not.
    fn try_restart(&mut self) -> Result<(), String> {
        let port = self.base.rsplit(':').next().unwrap();
        let log = |name: &str| fs::File::create(self.folder.path().join(name)).unwrap();
        let data = self.folder.path().join("data");
        fs::create_dir_all(&data).unwrap();
        let mut python = match self.kind {
            Kind::Lite { max_message } => {
                let mut python = lite_python();
                let code = "import sys; from milvus_lite.adapter.grpc import server; \
                     server._MAX_MESSAGE_SIZE = int(sys.argv[3]); \
                     server.run_server(sys.argv[1], '127.0.0.1', int(sys.argv[2]))";
                python.args(["-c", code]).arg(data).args([port, &max_message.to_string()]);
                python
            }
            Kind::Standalone => {
                let requirements = Path::new(REQUIREMENTS).join("standalone-requirements.txt");
                let inner = "import sys; import milvus; sys.argv = ['milvus-server'] + sys.argv[1:]; \
                     milvus.main()";
                // It listens on every interface: where that is allowed, it gets a network that has none.
                self.alone = Command::new("unshare")
                    .args(["-n", "true"])
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success());
                let mut python = Command::new(if self.alone { "unshare" } else { "python3" });
                if self.alone {
                    let up = "import fcntl, socket, struct, subprocess, sys, os\n\
                         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                         fcntl.ioctl(s, 0x8914, struct.pack('16sH14s', b'lo', 1 | 64, b''))\n\
                         os.execvp('python3', ['python3', '-c'] + sys.argv[1:])";
                    python.args(["-n", "python3", "-c", up, inner]);
                } else {
                    python.args(["-c", inner]);
                }
                python.env("PYTHONPATH", packages(&requirements));
                python.arg("--data").arg(data).args(["--proxy-port", port]);
                python.args(["--authorization-enabled", "true"]);
                python
            }
            Kind::Named => panic!("somebody else's server is not started here"),
        };
        // A group of its own: the engine is a child of Python's.
        let child = python
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log("stdout"))
            .stderr(log("stderr"))
            .spawn()
            .expect("it starts");
        self.process = Some(child);
        let begun = Instant::now();
        while !self.answers() {
            let ended = self.process.as_mut().and_then(|child| child.try_wait().unwrap());
            if ended.is_some() || begun.elapsed() > Duration::from_secs(180) {
                let said = |name| fs::read_to_string(self.folder.path().join(name)).unwrap();
                return Err(format!("{ended:?}\n{}\n{}", said("stdout"), said("stderr")));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Whether it knows that there is no such collection.
    pub(crate) fn answers(&self) -> bool {
        let args = ["find", "id:1", "--remote", &self.address("nothing")];
        let run = Run::of(&mut self.command(&Sandbox::new(), &args));
        run.stderr.contains("there is no collection")
    }

    /// The same command, in the network of the server.
    fn inside(&self, command: Command) -> Command {
        let Some(child) = self.process.as_ref().filter(|_| self.alone) else { return command };
        let mut inside = Command::new("nsenter");
        inside.args(["-t", &child.id().to_string(), "-n"]);
        inside.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Runs some lines of Python with `client`, Milvus's own, and `name`, the collection.
    pub(crate) fn python(&self, address: &str, code: &str) -> Run {
        let (base, name) = address.rsplit_once('/').unwrap();
        let uri = base.replacen("milvus://", "http://", 1);
        // Of an engine that is gone it asks again and again, without end.
        let head = "import signal, sys, pymilvus; from pymilvus import MilvusClient, DataType\n\
             signal.alarm(120)\n\
             client = MilvusClient(uri=sys.argv[1], token=sys.argv[3]); name = sys.argv[2]\n";
        let mut python = lite_python();
        python.args(["-c", &format!("{head}{code}"), &uri, name]);
        python.arg(self.token.as_deref().unwrap_or_default());
        Run::of(&mut self.inside(python)).exits(0)
    }
}

impl Server for Milvus {
    fn noun(&self) -> &'static str {
        "collection"
    }

    fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    fn reached_by(&self, mut command: Command) -> Command {
        command.env_remove("LIKENESS_MILVUS_TOKEN");
        if let Some(token) = &self.token {
            command.env("LIKENESS_MILVUS_TOKEN", token);
        }
        if self.kind == Kind::Named {
            command.env_remove("LIKENESS_OFFLINE");
        }
        self.inside(command)
    }

    fn forget(&self, address: &str) {
        self.python(address, "client.drop_collection(name)");
    }

    fn lose(&self, address: &str, id: i64) {
        self.python(address, &format!("client.delete(name, ids=[{id}])"));
    }

    fn make_foreign(&self, address: &str) {
        self.python(address, "client.create_collection(name, dimension=8)");
    }

    fn is_there(&self, address: &str) -> bool {
        self.python(address, "print(client.has_collection(name))").text() == "True\n"
    }

    fn ids(&self, address: &str) -> Vec<i64> {
        let code = "rows = client.query(name, filter='id > 0', output_fields=['id'], limit=16000, \
                    consistency_level='Strong'); print(*sorted(row['id'] for row in rows))";
        let text = self.python(address, code).text();
        text.split_whitespace().map(|id| id.parse().unwrap()).collect()
    }

    fn lossy(&self, address: &str) -> Vec<String> {
        let code = "for row in client.query(name, filter='path_lossy == true', \
                    output_fields=['path', 'content_hash', 'width'], consistency_level='Strong'): \
                    print(row['path'], row['width'], len(row['content_hash']))";
        self.python(address, code).text().lines().map(str::to_owned).collect()
    }

    fn refusal(&self, filter: &str) -> Option<&'static str> {
        if matches!(filter, "keyword:'s*a'" | "keyword:'s?n*'") {
            return Some("Milvus cannot be asked for the keyword");
        }
        // By how texts begin, the old engine finds; by what they contain it does not.
        let begins = ["camera:'canon eos*'", "lens:'50mm*'", "keyword:*"].contains(&filter)
            || filter.starts_with("path:'/");
        let contains =
            ["camera:", "lens:", "keyword:", "path:", "root:"].iter().any(|f| filter.contains(f));
        if self.kind == Kind::Standalone && contains && !begins {
            return Some("before 2.4 compares texts whole or by how they begin");
        }
        filter.contains('\\').then_some("beside `*` or `?`")
    }
}

impl Mortal for Milvus {
    fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let group = i32::try_from(child.id()).unwrap();
            // SAFETY: sends a signal to the group that was made for the child.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            child.wait().unwrap();
        }
    }

    fn restart(&mut self) {
        self.try_restart().unwrap_or_else(|said| panic!("no server: {said}"));
    }
}

impl Drop for Milvus {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lite_python() -> Command {
    let packages: PathBuf = packages(&Path::new(REQUIREMENTS).join("requirements.txt"));
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", packages);
    python
}
