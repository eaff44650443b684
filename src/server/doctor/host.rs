//! Facts about this machine.

use std::fs;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Finding;
use crate::config::Config;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// This machine, as far as this process may use it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub(super) cores: usize,
    /// Bytes of memory. `None` if it is unknown.
    pub(super) memory: Option<u64>,
}

impl Host {
    pub(super) fn this() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        // A container has a limit of its own. Without a limit the file contains "max".
        let read = |path| fs::read_to_string(path).ok();
        let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
        let machine = read("/proc/meminfo").and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
            let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kibibytes * 1024)
        });
        Self { cores, memory: group.into_iter().chain(machine).min() }
    }
}

/// Whether the collector of traces accepts connections. `None` without one.
pub(super) async fn trace_endpoint(config: &Config) -> Option<Finding> {
    const CHECK: &str = "traces";
    let endpoint = config.telemetry.otlp.as_ref()?.endpoint.as_str();
    let uri: http::Uri = endpoint.parse().ok()?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await;
    let why = match connected {
        Ok(Ok(_)) => return Some(Finding::ok(CHECK, format!("{endpoint} accepts connections"))),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    Some(Finding::warning(
        CHECK,
        format!("{endpoint} cannot be reached: {why}"),
        "start the collector or correct telemetry.otlp_endpoint; traces are lost until then",
    ))
}
