//! Running `keyward` as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use serde_json::Value;

/// `keyward` with these arguments, without the environment of the tests.
pub(crate) fn keyward<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    let is_setting = |name: &str| name.starts_with("KEYWARD_") || name.starts_with("OTEL_");
    for (name, _) in std::env::vars().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    // Hides servers that the user of the tests has saved.
    command.env("XDG_CONFIG_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The exit code and the output of a finished command.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Finished {
    pub(crate) fn of(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }

    /// The output of a command that must have succeeded.
    pub(crate) fn worked(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    pub(crate) fn json(self) -> Value {
        let text = self.worked();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
    }
}

/// Arguments for listeners on free ports.
pub(crate) const FREE_PORTS: [&str; 6] =
    ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"];

/// A running `keyward serve`.
pub(crate) struct Serving {
    child: Child,
    stdout: Option<ChildStdout>,
    /// Reads the log, so that the server never waits for space in the pipe.
    log: Option<JoinHandle<String>>,
    /// The log lines up to the one that says "serving".
    pub(crate) log_of_start: String,
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) ops: String,
}

impl Serving {
    /// Starts a server and waits until it serves.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same, with more environment variables.
    pub(crate) fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments = ["serve"].iter().chain(&FREE_PORTS).chain(arguments).copied();
        let started = Self::try_start(keyward(arguments).envs(variables.iter().copied()));
        started.unwrap_or_else(|log| panic!("the server starts: {log}"))
    }

    /// The same with a given command. Returns the log if the server does not start.
    pub(crate) fn try_start(command: &mut Command) -> Result<Self, String> {
        const DRAIN_TIME: &str = "KEYWARD_LIMITS_DRAIN_TIME";
        if command.get_envs().all(|(name, _)| name != DRAIN_TIME) {
            // No load balancer has to notice the shutdown.
            command.env(DRAIN_TIME, "0s");
        }
        let mut child = command
            .env("KEYWARD_TELEMETRY_LOG_FORMAT", "json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log_of_start = String::new();
        let serving = log
            .by_ref()
            .map(Result::unwrap)
            .inspect(|line| log_of_start.extend([line, "\n"]))
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find(|line| line["fields"]["message"] == "serving");
        let Some(serving) = serving else {
            child.wait().unwrap();
            return Err(log_of_start);
        };
        let address = |face: &str| serving["fields"][face].as_str().unwrap().to_owned();
        Ok(Self {
            grpc: format!("http://{}", address("grpc")),
            http: format!("http://{}", address("http")),
            ops: format!("http://{}", address("ops")),
            stdout: child.stdout.take(),
            log: Some(thread::spawn(move || {
                log.map(Result::unwrap).collect::<Vec<_>>().join("\n")
            })),
            log_of_start,
            child,
        })
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server without a shutdown. Returns its standard output.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::io::read_to_string(self.stdout.take().unwrap()).unwrap()
    }

    /// Sends a signal and waits for the end. Returns the standard output.
    pub(crate) fn stop(self, signal: &str) -> String {
        self.ended(signal).0
    }

    /// The same, but returns what the server logged after its start.
    pub(crate) fn stop_with_log(self, signal: &str) -> String {
        self.ended(signal).1
    }

    fn ended(mut self, signal: &str) -> (String, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let printed = std::io::read_to_string(self.stdout.take().unwrap()).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "the server exits with 0");
        let log = self.log.take().unwrap().join().unwrap();
        (printed, log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // A failed test must not leave a process behind.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The value of `export NAME=VALUE` in an output.
pub(crate) fn exported<'a>(printed: &'a str, name: &str) -> &'a str {
    let line = format!("export {name}=");
    let value = printed.lines().find_map(|printed| printed.strip_prefix(&line));
    value.unwrap_or_else(|| panic!("no {name} in {printed}"))
}
