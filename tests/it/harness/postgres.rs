//! One PostgreSQL for the whole run, on a free port, in a temporary folder; a fresh
//! database for each test.
//!
//! PostgreSQL refuses to run as root, so under root it runs as the `postgres` user of
//! the Debian package. It must stop with the tests, however they end: a shell watches
//! over it, which the kernel tells when the thread that started it is gone.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};

/// A URL of a database that no other test knows.
pub(crate) async fn fresh_database() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let server = tokio::task::spawn_blocking(server).await.unwrap();
    let mut admin = connect(&format!("{server}/postgres")).await;
    let create = format!("create database {name}");
    admin.execute(sqlx::AssertSqlSafe(create)).await.unwrap();
    format!("{server}/{name}")
}

/// The URL of the run's server, started by whoever asks first.
fn server() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        let (ready, url) = mpsc::channel();
        // This thread lives as long as the tests do, and the server as long as it.
        thread::spawn(move || {
            let (url, _watcher) = start();
            ready.send(url).unwrap();
            loop {
                thread::park();
            }
        });
        url.recv().expect("PostgreSQL starts")
    })
}

fn start() -> (String, Child) {
    let server = PostgresServer::launch(false);
    (server.url(), server.forget())
}

/// A server of its own, for a test that stops or freezes it. It is gone with the test,
/// however the test ends.
pub(crate) struct PostgresServer {
    folder: PathBuf,
    port: u16,
    watcher: Option<Child>,
}

impl PostgresServer {
    pub(crate) async fn start() -> Self {
        tokio::task::spawn_blocking(|| Self::launch(true)).await.unwrap()
    }

    /// A URL of a database on it.
    pub(crate) async fn database(&self) -> String {
        connect(&format!("{}/postgres", self.url())).await;
        format!("{}/postgres", self.url())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn url(&self) -> String {
        format!("postgres://keyward@127.0.0.1:{}", self.port)
    }

    fn launch(apart: bool) -> Self {
        let folder = prepare();
        for _ in 0..5 {
            let mut server = Self { folder: folder.clone(), port: free_port(), watcher: None };
            if server.come_up(apart) {
                return server;
            }
        }
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start:\n{log}");
    }

    /// Whether it answers. `apart`: not by this thread, which the server would not outlive.
    fn come_up(&mut self, apart: bool) -> bool {
        let command = watch(&self.folder, &self.folder.join("data"), self.port);
        let mut watcher = if apart { super::redis::spawn(command) } else { spawn(command) };
        let ready = is_ready(&mut watcher, self.port);
        self.watcher = Some(watcher);
        ready
    }

    fn forget(mut self) -> Child {
        self.watcher.take().unwrap()
    }

    /// Its processes, the first one first.
    fn processes(&self) -> Vec<String> {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let first = file.lines().next().unwrap().to_owned();
        let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &first]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let children = listed.split_whitespace().map(ToOwned::to_owned);
        std::iter::once(first.clone()).chain(children).collect()
    }

    /// Lets it answer nothing more, though connections to it stay.
    pub(crate) fn pause(&self) {
        run(Command::new("kill").arg("-STOP").args(self.processes()));
    }

    pub(crate) fn resume(&self) {
        run(Command::new("kill").arg("-CONT").args(self.processes()));
    }

    /// Stops it; connections to it end.
    pub(crate) fn stop(&mut self) {
        run(Command::new("kill").arg("-INT").arg(&self.processes()[0]));
        self.watcher.take().unwrap().wait().unwrap();
    }

    /// Starts it again after a stop, with all that it had.
    pub(crate) fn start_again(&mut self) {
        assert!(self.come_up(true), "PostgreSQL does not start again");
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            self.resume();
            run(Command::new("kill").arg("-TERM").arg(watcher.id().to_string()));
            watcher.wait().ok();
        }
    }
}

/// A folder with an empty cluster in it.
fn prepare() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("keyward-pg-").tempdir().unwrap().keep();
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(&folder));
    }
    let data = folder.join("data");
    run(unprivileged(&binary("initdb"))
        .args(["--auth=trust", "--username=keyward", "--encoding=UTF8", "--locale=C.UTF-8"])
        .args(["--no-sync", "--pgdata"])
        .arg(&data)
        .stdout(Stdio::null()));
    folder
}

/// Runs the server, and stops it and clears its folder when this process is gone.
fn watch(folder: &Path, data: &Path, port: u16) -> Command {
    const SCRIPT: &str = r#"
        postgres=$1 data=$2 port=$3 folder=$4
        "$postgres" -D "$data" -p "$port" -k "$folder" -c listen_addresses=127.0.0.1 \
            -c max_connections=500 -c fsync=off >"$folder/log" 2>&1 &
        server=$!
        trap 'kill -INT $server 2>/dev/null; wait $server; rm -rf "$folder"; exit' TERM
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
    setpriv
}

fn spawn(mut command: Command) -> Child {
    command.spawn().expect("setpriv of util-linux runs")
}

/// Whether the server answers before it gives up: one whose port was taken ends at once.
fn is_ready(watcher: &mut Child, port: u16) -> bool {
    while watcher.try_wait().unwrap().is_none() {
        let asked = Command::new(binary("pg_isready"))
            .args(["--quiet", "--timeout=10", "--host=127.0.0.1", "--username=keyward"])
            .arg(format!("--port={port}"))
            .status();
        if asked.unwrap().success() {
            return true;
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    false
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the run's PostgreSQL answers")
}

/// A program of PostgreSQL: Debian keeps them out of the PATH.
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

/// The command, as a user that PostgreSQL accepts.
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

fn is_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| {
        let id = Command::new("id").arg("-u").output().expect("id runs");
        id.stdout.trim_ascii() == b"0"
    })
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
