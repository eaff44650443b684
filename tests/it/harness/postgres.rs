//! PostgreSQL on a free port in a temporary folder: one server for the whole run with a new
//! database for each test, and separate servers for tests that stop them.
//!
//! PostgreSQL refuses to run as root, so under root it runs as the `postgres` user of the Debian
//! package. It must end with the tests in every case: a shell supervises it, and the kernel signals
//! the shell when the thread that started it has ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::{Connection, Executor, PgConnection};

use super::process::{free_port, signal, spawn};
use super::wait::becomes_true;

/// The URL of a new database for one test.
pub(crate) async fn fresh_database() -> String {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    let server = || SERVER.get_or_init(PostgresServer::start);
    tokio::task::spawn_blocking(server).await.unwrap().fresh_database().await
}

/// A server.
pub(crate) struct PostgresServer {
    pub(crate) port: u16,
    folder: PathBuf,
    /// The supervising shell.
    watcher: Option<Child>,
}

impl PostgresServer {
    pub(crate) fn start() -> Self {
        let server = Self { port: 0, folder: folder(), watcher: None };
        run(unprivileged(&binary("initdb"))
            .args(["--auth=trust", "--username=keyward", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--no-sync", "--pgdata"])
            .arg(server.data())
            .stdout(Stdio::null()));
        server.on_a_free_port()
    }

    /// A standby of this server: a copy that receives all changes by streaming replication.
    pub(crate) fn standby(&self) -> Self {
        let standby = Self { port: 0, folder: folder(), watcher: None };
        run(unprivileged(&binary("pg_basebackup"))
            .args(["--host=127.0.0.1", "--username=keyward", "--checkpoint=fast", "--no-sync"])
            .args(["--write-recovery-conf", "--pgdata"])
            .arg(standby.data())
            .arg(format!("--port={}", self.port)));
        standby.on_a_free_port()
    }

    fn on_a_free_port(mut self) -> Self {
        for _ in 0..5 {
            self.port = free_port();
            if self.launch() {
                return self;
            }
        }
        panic!("PostgreSQL does not start:\n{}", self.log());
    }

    /// The URL of a new database.
    pub(crate) async fn fresh_database(&self) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // A common setting: text is not sorted by bytes unless a query says so.
        let create = sqlx::AssertSqlSafe(format!(
            "create database {name} template template0 locale_provider icu icu_locale 'en-US'"
        ));
        self.admin().await.execute(create).await.unwrap();
        self.url(&name)
    }

    /// The URL of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://keyward@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection of its superuser.
    pub(crate) async fn admin(&self) -> PgConnection {
        let admin = PgConnection::connect(&self.url("postgres")).await;
        admin.unwrap_or_else(|error| panic!("{error}; PostgreSQL says:\n{}", self.log()))
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Starts the server. Returns whether it is ready.
    fn launch(&mut self) -> bool {
        let mut watcher = watch(&self.folder, &self.data(), self.port);
        let ready = is_ready(&mut watcher, self.port);
        self.watcher = Some(watcher);
        ready
    }

    /// Ends it like a crash: it must recover when it starts again.
    pub(crate) fn stop(&mut self) {
        self.end_with("QUIT");
    }

    /// Ends it like an operator: connections are closed, and a standby gets all changes.
    pub(crate) fn shut_down(&mut self) {
        self.end_with("INT");
    }

    fn end_with(&mut self, how: &str) {
        signal(how, &[self.postmaster()]);
        // The supervising shell ends, too.
        self.watcher.take().expect("it runs").wait().unwrap();
    }

    /// Starts it again after a stop, on the same port with the same data.
    pub(crate) fn start_again(&mut self) {
        // Another test may use the port for a moment.
        assert!(becomes_true(|| self.launch()), "it does not start again:\n{}", self.log());
    }

    /// Suspends it. Existing connections stay open, and new ones are accepted by the kernel.
    pub(crate) fn pause(&self) {
        let postmaster = self.postmaster();
        // First the postmaster, which could start more processes.
        signal("STOP", &[postmaster]);
        signal("STOP", &children(postmaster));
    }

    pub(crate) fn resume(&self) {
        let postmaster = self.postmaster();
        signal("CONT", &children(postmaster));
        signal("CONT", &[postmaster]);
    }

    fn postmaster(&self) -> u32 {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).expect("it runs");
        file.lines().next().unwrap().parse().unwrap()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        match self.watcher.take() {
            Some(mut watcher) => {
                signal("TERM", &[watcher.id()]);
                watcher.wait().unwrap();
            }
            None => fs::remove_dir_all(&self.folder).unwrap(),
        }
    }
}

/// A new folder that PostgreSQL can write to.
fn folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("keyward-pg-").tempdir().unwrap().keep();
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(&folder));
    }
    folder
}

/// The running child processes of a process.
fn children(of: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// Runs the server. When this process ends, the server is stopped, even if it is suspended, and its
/// folder is deleted.
fn watch(folder: &Path, data: &Path, port: u16) -> Child {
    const SCRIPT: &str = r#"
        postgres=$1 data=$2 port=$3 folder=$4
        "$postgres" -D "$data" -p "$port" -k "$folder" -c listen_addresses=127.0.0.1 \
            -c max_connections=500 -c fsync=off -c wal_retrieve_retry_interval=100ms \
            >"$folder/log" 2>&1 &
        server=$!
        end() {
            kill -CONT $server $(cat /proc/$server/task/$server/children) 2>/dev/null
            kill -INT $server 2>/dev/null
            wait $server
            rm -rf "$folder"
            exit
        }
        trap end TERM
        wait $server
    "#;
    let mut setpriv = Command::new("setpriv");
    if is_root() {
        setpriv.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    setpriv
        .args(["--pdeathsig", "TERM", "sh", "-c", SCRIPT, "watch"])
        .arg(binary("postgres"))
        .arg(data)
        .arg(port.to_string())
        .arg(folder)
        .current_dir("/");
    spawn(setpriv)
}

/// Waits until the server answers. Returns false if it ends, for example because its port is taken.
pub(super) fn is_ready(watcher: &mut Child, port: u16) -> bool {
    let mut ready = false;
    let decided = becomes_true(|| {
        if watcher.try_wait().unwrap().is_some() {
            return true;
        }
        let asked = Command::new(binary("pg_isready"))
            .args(["--quiet", "--timeout=10", "--host=127.0.0.1", "--username=keyward"])
            .arg(format!("--port={port}"))
            .status();
        ready = asked.unwrap().success();
        ready
    });
    assert!(decided, "the server on port {port} neither ends nor answers");
    ready
}

/// The path of a PostgreSQL program. Debian does not add them to the PATH.
fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| {
        panic!("no PostgreSQL server is installed; `tests/run` installs it, or says how")
    })
}

/// A command that runs as a user that PostgreSQL accepts.
fn unprivileged(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}

pub(super) fn is_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| {
        let id = Command::new("id").arg("-u").output().expect("id runs");
        id.stdout.trim_ascii() == b"0"
    })
}

pub(super) fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
