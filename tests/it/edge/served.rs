//! `keyward serve` in a separate process, with its own limits.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::Credential;

/// A server in a separate process, which ends when this is dropped.
pub(super) struct Served {
    child: Child,
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) ops: SocketAddr,
    pub(super) admin: Credential,
    log: Arc<Mutex<String>>,
    _folder: TempDir,
}

impl Served {
    /// Starts a server after a shell command, with these settings in its environment.
    pub(super) fn start(before: &str, settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let script = format!("{before}; exec \"$@\"");
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYWARD_")) {
            command.env_remove(name);
        }
        command
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_keyward"), "serve"])
            .args(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(folder.path())
            .env("KEYWARD_TELEMETRY_LOG_FORMAT", "json")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let serving = lines
            .by_ref()
            .map(Result::unwrap)
            .inspect(|line| log.lock().unwrap().extend([line, "\n"]))
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find(|line| line["fields"]["message"] == "serving")
            .expect("the server starts");
        let rest = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                rest.lock().unwrap().extend([&line, "\n"]);
            }
        });
        let address = |face: &str| serving["fields"][face].as_str().unwrap().parse().unwrap();
        let printed = std::fs::read_to_string(folder.path().join("admin.env")).unwrap();
        let exported = |name: &str| {
            let start = format!("export {name}=");
            printed.lines().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned()
        };
        Self {
            grpc: address("grpc"),
            http: address("http"),
            ops: address("ops"),
            admin: Credential {
                client_id: exported("KEYWARD_CLIENT_ID"),
                secret: exported("KEYWARD_CLIENT_SECRET"),
            },
            child,
            log,
            _folder: folder,
        }
    }

    pub(super) fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is running.
    pub(super) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The log so far.
    pub(super) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The status of `/readyz`.
    pub(super) async fn readiness(&self) -> u16 {
        let answer = reqwest::get(format!("http://{}/readyz", self.ops)).await;
        answer.unwrap().status().as_u16()
    }

    /// How often admission refused `what`.
    pub(super) async fn refused(&self, what: &str) -> u64 {
        let metrics = reqwest::get(format!("http://{}/metrics", self.ops)).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let name = format!("keyward_admission_refused_total{{what=\"{what}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
        count.map_or(0, |count| count.parse().unwrap())
    }

    /// Requests a token over HTTP from this source.
    pub(super) async fn token_from(&self, source: &str) -> reqwest::Response {
        let client = reqwest::Client::builder().local_address(source.parse::<IpAddr>().unwrap());
        let request = client
            .pool_max_idle_per_host(0)
            .build()
            .unwrap()
            .post(format!("http://{}/oauth2/token", self.http))
            .basic_auth(&self.admin.client_id, Some(&self.admin.secret));
        request.form(&[("grant_type", "client_credentials")]).send().await.unwrap()
    }

    /// The peak memory since [`Served::forget_peak`], in KiB.
    pub(super) fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Resets the peak memory to the current one, and returns it in KiB.
    pub(super) fn forget_peak(&self) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5").unwrap();
        self.memory("VmRSS:")
    }

    fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
