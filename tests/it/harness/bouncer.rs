//! PgBouncer in transaction mode with Debian's defaults, in front of a PostgreSQL.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::postgres::{is_ready, is_root, run};
use super::process::{free_port, spawn};

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A PgBouncer on a free port. It ends with the tests, like Redis.
pub(crate) struct PgBouncer {
    port: u16,
    folder: TempDir,
    process: Child,
}

impl PgBouncer {
    /// The maximum number of its connections to a database.
    pub(crate) const POOL_SIZE: i64 = 4;

    /// Starts it in front of the server of this URL.
    pub(crate) fn start(database: &str) -> Self {
        assert!(Path::new(PROGRAM).exists(), "no PgBouncer is installed; `tests/run` installs it");
        let (host, port) = server_of(database).split_once(':').unwrap();
        let folder = tempfile::Builder::new().prefix("keyward-pgbouncer-").tempdir().unwrap();
        for _ in 0..5 {
            let listen = free_port();
            let pool_size = Self::POOL_SIZE;
            let config = format!(
                "[databases]\n\
                 * = host={host} port={port}\n\
                 [pgbouncer]\n\
                 listen_addr = 127.0.0.1\n\
                 listen_port = {listen}\n\
                 unix_socket_dir =\n\
                 auth_type = trust\n\
                 auth_file = {folder}/users\n\
                 pool_mode = transaction\n\
                 default_pool_size = {pool_size}\n\
                 logfile = {folder}/log\n",
                folder = folder.path().display(),
            );
            fs::write(folder.path().join("config"), config).unwrap();
            fs::write(folder.path().join("users"), "\"keyward\" \"\"\n").unwrap();
            let mut process = spawn(program(folder.path()));
            if is_ready(&mut process, listen) {
                return Self { port: listen, folder, process };
            }
        }
        panic!("PgBouncer does not start:\n{}", log(folder.path()));
    }

    /// The URL of a database behind it.
    pub(crate) fn url(&self, database: &str) -> String {
        database.replacen(server_of(database), &format!("127.0.0.1:{}", self.port), 1)
    }

    pub(crate) fn log(&self) -> String {
        log(self.folder.path())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().unwrap();
    }
}

/// The number of connections to a database, according to its server.
pub(crate) async fn connections_to(database: &str) -> i64 {
    const SQL: &str = "select count(*) from pg_stat_activity \
        where datname = $1 and backend_type = 'client backend'";
    let (server, name) = database.rsplit_once('/').unwrap();
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
    sqlx::query_scalar(SQL).bind(name).fetch_one(&mut admin).await.unwrap()
}

/// The host and port in a database URL.
fn server_of(database: &str) -> &str {
    let (start, _) = database.rsplit_once('/').unwrap();
    start.rsplit_once('@').unwrap().1
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// The program. Like PostgreSQL, it refuses to run as root.
fn program(folder: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        run(Command::new("chown").arg("-R").arg("postgres").arg(folder));
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command.args(["--pdeathsig", "KILL", PROGRAM, "-q"]).arg(folder.join("config"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    command
}
