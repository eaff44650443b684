//! The machine and the measured revision.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// The properties of the machine that affect figures.
pub(crate) fn facts() -> Value {
    let line = |file: &str, field: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(field))?.to_owned();
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    json!({
        "processor": line("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).ok(),
        "load before": fs::read_to_string("/proc/loadavg").map(|text| text.trim().to_owned()).ok(),
    })
}

/// The revision of the source, with `-dirty` if it differs from a commit. `None` without git.
pub(crate) fn revision() -> Option<String> {
    let folder = env!("CARGO_MANIFEST_DIR");
    let mut git = Command::new("git");
    git.args(["-C", folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
