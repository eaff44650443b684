//! The master keys of this process: read from their sources, and proven against the database before
//! anything is written.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{ServerError, cause, files};
use crate::clock::Stopwatch;
use crate::config::{Config, KeyCommand, MasterKeySource};
use crate::domain::Fault;
use crate::secrets::{MasterKey, MasterKeys, Sealer};
use crate::store::Store;

/// The maximum length of what a command may print, in bytes.
const MAX_OUTPUT: usize = 4096;
/// How much of what a command writes to stderr is shown.
const MAX_SHOWN: usize = 1024;
/// The pause between two looks at whether a command has ended.
const PAUSE: Duration = Duration::from_millis(5);
/// Variables with secrets that a command does not need.
const HIDDEN: [&str; 4] = [
    "KEYWARD_MASTER_KEY",
    "KEYWARD_ADDITIONAL_MASTER_KEY",
    "KEYWARD_DATABASE_URL",
    "KEYWARD_REDIS_URL",
];

/// Reads the master keys, and proves that they open the signing keys in the database. Changes
/// nothing, except that the first start creates the default file.
pub(super) async fn load(config: &Config, store: &Store) -> Result<MasterKeys, ServerError> {
    let keys = async { store.read().await?.list_signing_keys().await }.await;
    let keys = keys.map_err(|error| ServerError::SigningKeys(cause(error)))?;
    if let MasterKeySource::File { path, named: false } = &config.master_key
        && !path.exists()
    {
        if !keys.is_empty() {
            return Err(ServerError::MasterKey(format!(
                "{} is missing, and the database {} holds what was sealed with it; bring it back, \
                 or set master_key, master_key_file or master_key_command",
                path.display(),
                config.database.url
            )));
        }
        files::create_directory(&config.data_dir)?;
        MasterKey::create_file(path).map_err(|fault| ServerError::MasterKey(fault.0))?;
    }
    let read = read(config).await.map_err(|fault| ServerError::MasterKey(fault.0))?;
    let sealer = Sealer::new(&read).map_err(|error| ServerError::Internal(cause(error)))?;
    for key in keys {
        let opened = sealer.open(&format!("signingKeys/{}", key.id), &key.sealed_private_key);
        opened.map_err(|error| ServerError::WrongMasterKey(cause(error)))?;
    }
    Ok(read)
}

/// Reads the master keys from their sources. Creates none.
pub(super) async fn read(config: &Config) -> Result<MasterKeys, Fault> {
    let primary = read_source(&config.master_key).await?;
    let additional = match &config.additional_master_key {
        Some(source) => Some(read_source(source).await?),
        None => None,
    };
    MasterKeys::new(primary, additional)
}

async fn read_source(source: &MasterKeySource) -> Result<MasterKey, Fault> {
    match source {
        MasterKeySource::Given(key) => Ok(key.clone()),
        MasterKeySource::File { path, .. } => MasterKey::from_file(path),
        MasterKeySource::Command(command) => {
            let command = command.clone();
            let run = tokio::task::spawn_blocking(move || run(&command)).await;
            run.map_err(|error| Fault::new(error.to_string()))?
        }
    }
}

/// Runs a command and parses the key that it prints. What it prints is shown nowhere.
fn run(command: &KeyCommand) -> Result<MasterKey, Fault> {
    let fault = |what: String| Fault::new(format!("{command} {what}"));
    let mut process = Command::new(&command.program);
    process.args(&command.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    // A group of its own, so that what it starts can be ended with it.
    process.stderr(Stdio::piped()).process_group(0);
    for name in HIDDEN {
        process.env_remove(name);
    }
    let started = process.spawn().map_err(|error| fault(format!("cannot be started: {error}")))?;
    let mut running = RunningCommand(started);
    let output = drain(running.0.stdout.take(), MAX_OUTPUT + 1);
    let errors = drain(running.0.stderr.take(), MAX_SHOWN);
    let since = Stopwatch::start();
    let left = || command.timeout.saturating_sub(since.elapsed());
    let late = || {
        let limit = command.timeout;
        fault(format!("did not end within {limit:?} (master_key_command_timeout)"))
    };
    let printed = output.recv_timeout(left()).map_err(|_| late())?;
    if printed.len() > MAX_OUTPUT {
        return Err(fault(format!("printed more than {MAX_OUTPUT} bytes: it must print one key")));
    }
    let status = running.wait(left).ok_or_else(late)?;
    if !status.success() {
        let said = errors.recv_timeout(left()).unwrap_or_default();
        return Err(fault(format!("failed ({status}){}", shown(&said))));
    }
    if printed.trim_ascii().is_empty() {
        let said = errors.recv_timeout(left()).unwrap_or_default();
        return Err(fault(format!("printed nothing{}", shown(&said))));
    }
    let text = std::str::from_utf8(&printed).unwrap_or_default();
    MasterKey::parse(text).map_err(|wrong| fault(format!("printed no key: it {}", wrong.0)))
}

/// A command that is ended with everything that it started, however this is dropped.
struct RunningCommand(Child);

impl RunningCommand {
    /// Waits until the command has ended, for as long as there is time.
    fn wait(&mut self, left: impl Fn() -> Duration) -> Option<ExitStatus> {
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if !left().is_zero() => thread::sleep(PAUSE),
                _ => return None,
            }
        }
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            kill_process_group(group, Signal::KILL).ok();
        }
        self.0.wait().ok();
    }
}

/// Reads a pipe in a thread: up to `max` bytes are kept, the rest is read and dropped, so that the
/// command does not wait.
fn drain(pipe: Option<impl Read + Send + 'static>, max: usize) -> Receiver<Zeroizing<Vec<u8>>> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut kept = Zeroizing::new(Vec::with_capacity(max));
        let limit = u64::try_from(max).unwrap_or(u64::MAX);
        pipe.by_ref().take(limit).read_to_end(&mut kept).ok();
        // What follows cannot make it right.
        let is_full = kept.len() == max;
        send.send(kept).ok();
        if is_full {
            io::copy(&mut pipe, &mut io::sink()).ok();
        }
    });
    receive
}

/// What a command wrote to stderr, on one line.
fn shown(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

/// The name of this machine or container.
pub(super) fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map_or_else(|_| "unknown host".to_owned(), |name| name.trim().to_owned())
}
