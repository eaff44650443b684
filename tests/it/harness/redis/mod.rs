//! A Redis server for one test, on a free port in a temporary folder. It always ends with the test:
//! the kernel kills it when the thread that started it ends, and that thread lives as long as the
//! tests.

mod groups;
mod tls;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keyward::internals::redis::{Redis, RedisUrl, Timeouts};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::becomes_true;
use super::process::{self, free_port, spawn};
pub(crate) use groups::{RedisCluster, Watched};
pub(crate) use tls::TlsServer;

/// A server.
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    /// A writable configuration file, which a sentinel needs.
    config: Option<String>,
    arguments: Vec<String>,
    folder: TempDir,
    process: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with additional arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_configured(None, arguments)
    }

    fn start_configured(config: Option<String>, arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("keyward-redis-").tempdir().unwrap();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { port: 0, config, arguments, folder, process: None };
        for _ in 0..5 {
            server.port = free_port();
            if server.launch() {
                return server;
            }
            server.stop();
        }
        panic!("Redis does not start:\n{}", server.log());
    }

    /// Starts the process. Returns whether it is ready; it ends immediately if its port is taken.
    fn launch(&mut self) -> bool {
        let mut command = redis_server();
        if let Some(config) = &self.config {
            fs::write(self.folder.path().join("config"), config).unwrap();
            command.arg("config");
        }
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--logfile", "log"])
            .args(&self.arguments)
            .current_dir(self.folder.path());
        let mut process = spawn(command);
        // The server of another test may use the port.
        let ours = format!("process_id:{}", process.id());
        let mut up = false;
        let decided = becomes_true(|| {
            up = self.try_cli(&["info", "server"]).is_some_and(|info| info.contains(&ours));
            up || process.try_wait().unwrap().is_some()
        });
        self.process = Some(process);
        assert!(decided, "Redis does not answer:\n{}", self.log());
        up
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A link that is up.
    pub(crate) async fn link(&self) -> Redis {
        let redis = link_to(&self.url());
        redis.check_once().await.unwrap();
        redis
    }

    /// Runs a command as the administrator.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        self.try_cli(arguments).unwrap_or_else(|| panic!("{arguments:?} failed:\n{}", self.log()))
    }

    pub(crate) fn try_cli(&self, arguments: &[&str]) -> Option<String> {
        cli(self.port, arguments)
    }

    pub(crate) fn keys(&self) -> usize {
        self.cli(&["dbsize"]).parse().unwrap()
    }

    /// Suspends it. Connections stay open.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        process::signal(signal, &[self.process.as_ref().expect("it runs").id()]);
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().unwrap();
        }
    }

    /// Starts it again after a stop, empty and on the same port.
    pub(crate) fn start_again(&mut self) {
        // Another test may use the port for a moment.
        let launched = becomes_true(|| {
            self.stop();
            self.launch()
        });
        assert!(launched, "Redis does not start again:\n{}", self.log());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A link that is not connected. The timeouts suit machines that run many tests.
pub(crate) fn link_to(url: &str) -> Redis {
    let timeouts = Timeouts { connect: Duration::from_secs(2), response: Duration::from_secs(1) };
    Redis::new(RedisUrl::parse(url).unwrap(), "keyward", timeouts)
}

/// Keeps a link up like a server does, until the test ends.
pub(crate) fn keep(redis: &Redis) -> DropGuard {
    let stop = CancellationToken::new();
    let (redis, stopped) = (redis.clone(), stop.clone());
    tokio::spawn(async move { redis.run_link(stopped).await });
    stop.drop_guard()
}

/// The URL of a server that does not exist.
pub(crate) fn unreachable_url() -> String {
    format!("redis://127.0.0.1:{}", free_port())
}

fn cli(port: u16, arguments: &[&str]) -> Option<String> {
    let output = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-e"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("redis-cli of the package redis-tools runs");
    let reported = || String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then(reported)
}

/// The program, which is killed when the thread that starts it ends.
fn redis_server() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "redis-server"]).stdin(Stdio::null());
    command.stdout(Stdio::null());
    command
}
