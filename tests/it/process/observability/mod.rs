//! Metrics, traces and logs, as an operator gets them: from `/metrics`, a collector, and the log.

mod collector;
mod counted;
mod logged;
mod metrics_sent;
mod served;
mod traces_sent;

use std::fmt::Write;
use std::str::FromStr;

use serde_json::Value;
use tempfile::TempDir;

use super::binary::{Finished, Serving, exported, keyward};
use crate::harness::Credential;

/// The trace of a caller, which is sampled, and its header.
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN_ID: &str = "00f067aa0ba902b7";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A server as a process, with a client.
struct Process {
    serving: Serving,
    client: Credential,
    _folder: TempDir,
}

impl Process {
    /// Starts it with these environment variables.
    fn start(variables: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let printed = Finished::of(&mut keyward(["bootstrap", "--data-dir", &path])).worked();
        let client = Credential {
            client_id: exported(&printed, "KEYWARD_CLIENT_ID").to_owned(),
            secret: exported(&printed, "KEYWARD_CLIENT_SECRET").to_owned(),
        };
        let serving = Serving::start_with(&["--data-dir", &path], variables);
        Self { serving, client, _folder: folder }
    }

    /// The status of a request for a token with this secret and trace.
    async fn ask(&self, secret: &str, trace: Option<&str>) -> u16 {
        let request = reqwest::Client::new()
            .post(format!("{}/oauth2/token", self.serving.http))
            .basic_auth(&self.client.client_id, Some(secret))
            .form(&[("grant_type", "client_credentials")]);
        let request = match trace {
            Some(trace) => request.header("traceparent", trace),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    }

    async fn get_token(&self, trace: Option<&str>) {
        assert_eq!(self.ask(&self.client.secret, trace).await, 200);
    }

    async fn metrics(&self) -> String {
        reqwest::get(format!("{}/metrics", self.serving.ops)).await.unwrap().text().await.unwrap()
    }

    /// Stops it. Returns the log since its start.
    async fn stop(self) -> String {
        let serving = self.serving;
        tokio::task::spawn_blocking(move || serving.stop_with_log("-TERM")).await.unwrap()
    }
}

/// The lines of a JSON log with this target.
fn lines(log: &str, target: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["target"] == target).collect()
}

/// The value of a sample in the text of the metrics.
fn value<T: FromStr>(metrics: &str, sample: &str) -> Option<T> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
    line.split(' ').next()?.parse().ok()
}
