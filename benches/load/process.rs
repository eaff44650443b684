//! A server's process, and the kernel's figures about it.

use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;

use crate::harness::{signal, spawn};

/// A process that is killed when this is dropped, or when this process ends.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program. `prepare` gives it arguments, variables and where to write.
    pub(crate) fn start(program: impl AsRef<OsStr>, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        prepare(&mut command);
        Self(spawn(command))
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Its output, if `prepare` captured it.
    pub(crate) fn stdout(&mut self) -> std::process::ChildStdout {
        self.0.stdout.take().expect("its output is piped")
    }

    /// Ends it gracefully.
    pub(crate) fn stop(mut self) {
        signal("TERM", &[self.0.id()]);
        assert!(self.0.wait().unwrap().success(), "it does not stop in order");
    }

    /// Its processor time, in user and kernel mode.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.read("stat");
        // After the name, which may contain spaces: fields 14 and 15 of proc_pid_stat(5).
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap());
        Duration::from_secs(ticks.sum()) / ticks_per_second()
    }

    /// Its current memory, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        self.mebibytes("VmRSS:")
    }

    /// Its peak memory, in MiB.
    pub(crate) fn peak_memory(&self) -> f64 {
        self.mebibytes("VmHWM:")
    }

    /// The bytes that it wrote to disk.
    pub(crate) fn written(&self) -> u64 {
        let io = self.read("io");
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
        line.parse().unwrap()
    }

    fn mebibytes(&self, field: &str) -> f64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes / 1024.0
    }

    fn read(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.0.id());
        fs::read_to_string(path).expect("the process is there, and this is Linux")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn ticks_per_second() -> u32 {
    static TICKS: OnceLock<u32> = OnceLock::new();
    *TICKS.get_or_init(|| {
        let output = Command::new("getconf").arg("CLK_TCK").output().expect("getconf runs");
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    })
}
