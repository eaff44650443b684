//! Keyward as it is shipped, in a temporary folder, with its default configuration: only addresses
//! differ, and what a part sets.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use keyward::internals::clock::Stopwatch;
use tempfile::TempDir;

use crate::callers::http_get;
use crate::harness::{Admin, Credential, free_port};
use crate::process::Process;

/// The time limit until a server is ready: far longer than it should take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often readiness is checked.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A server, running or stopped.
pub(crate) struct Keyward {
    binary: PathBuf,
    folder: TempDir,
    settings: Vec<(&'static str, String)>,
    ports: [u16; 3],
    process: Option<Process>,
    admin: Credential,
}

impl Keyward {
    /// The first start, with these environment variables.
    pub(crate) async fn start(settings: &[(&'static str, &str)]) -> Self {
        Self::start_build(Path::new(env!("CARGO_BIN_EXE_keyward")), settings).await
    }

    /// The first start of this build.
    pub(crate) async fn start_build(binary: &Path, settings: &[(&'static str, &str)]) -> Self {
        let binary = binary.to_owned();
        let folder = tempfile::Builder::new().prefix("keyward-bench-").tempdir().unwrap();
        let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let unknown = Credential { client_id: String::new(), secret: String::new() };
        let mut keyward =
            Self { binary, folder, settings, ports: [0; 3], process: None, admin: unknown };
        keyward.start_again().await;
        let printed = keyward.first_credential().await;
        let exported = |name: &str| {
            let line = format!("export {name}=");
            printed.lines().find_map(|printed| printed.strip_prefix(&line)).unwrap().to_owned()
        };
        keyward.admin = Credential {
            client_id: exported("KEYWARD_CLIENT_ID"),
            secret: exported("KEYWARD_CLIENT_SECRET"),
        };
        keyward
    }

    /// Another replica, with the same settings.
    pub(crate) async fn another(&self) -> Self {
        let key = self.folder.path().join("master.key").to_str().unwrap().to_owned();
        let settings = [&self.settings[..], &[("KEYWARD_MASTER_KEY_FILE", key)]].concat();
        let folder = tempfile::Builder::new().prefix("keyward-bench-").tempdir().unwrap();
        let (binary, admin) = (self.binary.clone(), self.admin.clone());
        let mut keyward = Self { binary, folder, settings, ports: [0; 3], process: None, admin };
        keyward.start_again().await;
        keyward
    }

    /// Starts it after a stop. Returns how long it took until it was ready.
    pub(crate) async fn start_again(&mut self) -> Duration {
        let watch = Stopwatch::start();
        let mut process = self.launch();
        let ready = format!("127.0.0.1:{}", self.ports[2]);
        while http_get(&ready, "/readyz").await != Some(200) {
            let failed = process.has_ended() || watch.elapsed() > PATIENCE;
            assert!(!failed, "keyward does not start:\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.process = Some(process);
        watch.elapsed()
    }

    /// Stops it, and starts it again with more environment variables.
    pub(crate) async fn restart_with<const N: usize>(
        &mut self,
        settings: [(&'static str, String); N],
    ) {
        self.stop();
        self.settings.extend(settings);
        self.start_again().await;
    }

    /// What it prints at the first start, shortly after it is ready.
    async fn first_credential(&self) -> String {
        let watch = Stopwatch::start();
        loop {
            if let Ok(written) = fs::read_to_string(self.folder.path().join("admin.env")) {
                return written;
            }
            assert!(watch.elapsed() < PATIENCE, "keyward makes no credential:\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn launch(&mut self) -> Process {
        self.ports = [free_port(), free_port(), free_port()];
        let [grpc, http, ops] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let file = |name: &str| File::create(self.folder.path().join(name)).unwrap();
        Process::start(&self.binary, |command| {
            for (name, _) in env::vars().filter(|(name, _)| name.starts_with("KEYWARD_")) {
                command.env_remove(name);
            }
            command.args(["serve", "--grpc", &grpc, "--http", &http, "--ops", &ops]);
            command.env("KEYWARD_DATA_DIR", self.folder.path()).env("NO_COLOR", "1");
            // There is no load balancer, so it need not drain.
            command.env("KEYWARD_LIMITS_DRAIN_TIME", "0s");
            command.envs(self.settings.iter().map(|(name, value)| (name, value)));
            command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        })
    }

    /// Stops it gracefully.
    pub(crate) fn stop(&mut self) {
        self.process.take().expect("it runs").stop();
    }

    pub(crate) fn grpc(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// The address and port of the OAuth listener.
    pub(crate) fn http(&self) -> String {
        format!("127.0.0.1:{}", self.ports[1])
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// The folder of its database and master key.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The administrator.
    pub(crate) async fn admin(&self) -> Admin {
        Admin::new(self.grpc(), &self.admin).await
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}
