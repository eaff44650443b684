//! A master key that a command prints.

use std::fs;
use std::path::Path;

use keyward::internals::config::{Config, Layers};
use tempfile::TempDir;

use super::{OLD, text};
use crate::harness::{Backend, Keyward, until_blocking};

/// A script that the server can run, as a setting.
fn script(folder: &Path, lines: &str) -> String {
    let path = folder.join("print-key.sh");
    fs::write(&path, lines).unwrap();
    format!("/bin/sh {}", path.display())
}

async fn refused(lines: &str) -> String {
    let folder = TempDir::new().unwrap();
    let command = script(folder.path(), lines);
    let settings = [("master_key_command", &*command), ("master_key_command_timeout", "2s")];
    let error = Keyward::refused(folder.path(), &settings).await.to_string();
    assert!(error.contains("the command of master_key_command (/bin/sh)"), "{error}");
    assert!(!error.contains("shown-nowhere"), "what it prints is shown: {error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_read_from_a_command() {
    let folder = TempDir::new().unwrap();
    let command = script(folder.path(), &format!("echo a warning >&2; echo '{}'", text(OLD)));
    let mut kw = Backend::Sqlite.start_with(&[("master_key_command", &command)]).await;
    assert!(!kw.folder().join("master.key").exists());
    kw.admin().await.acme().await;
    kw.restart_with(&[("master_key", text(OLD))]).await;
    kw.admin().await;
    let other = [("master_key", text(3)), ("additional_master_key_command", command)];
    kw.restart_with(&other).await;
    kw.admin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_command_is_refused_with_what_it_wrote_to_stderr() {
    let error = refused("echo shown-nowhere; echo 'no\naccess' >&2; exit 3").await;
    assert!(error.contains("failed (exit status: 3): no access"), "{error}");
    let error = refused("kill -9 $$").await;
    assert!(error.contains("failed (signal: 9"), "{error}");
    let long = refused("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1").await;
    assert!(long.len() < 1500, "{}", long.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn command_without_one_key_is_refused() {
    assert!(refused("exit 0").await.contains("printed nothing"));
    assert!(refused("echo why >&2; echo").await.contains("printed nothing: why"));
    let error = refused("echo shown-nowhere").await;
    assert!(error.contains("printed no key: it must be 32 bytes in base64"), "{error}");
    let error = refused("yes shown-nowhere").await;
    assert!(error.contains("printed more than 4096 bytes"), "{error}");
    let error = refused("yes shown-nowhere | head -c 4097").await;
    assert!(error.contains("printed more than 4096 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn command_that_does_not_end_is_killed_with_its_children() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("child");
    let lines = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let error = refused(&lines).await;
    assert!(error.contains("did not end within 2s (master_key_command_timeout)"), "{error}");
    let child = fs::read_to_string(&file).unwrap();
    let process = Path::new("/proc").join(child.trim()).join("cmdline");
    until_blocking("the child is gone", || {
        fs::read(&process).is_ok_and(|line| line.is_empty()) || !process.exists()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn command_runs_without_a_shell_and_without_other_secrets() {
    let folder = TempDir::new().unwrap();
    let settings = [("master_key_command", "/bin/echo $(cat /etc/hostname)")];
    let error = Keyward::refused(folder.path(), &settings).await.to_string();
    assert!(error.contains("printed no key"), "{error}");
    let settings = [("master_key_command", "/missing/program x")];
    let error = Keyward::refused(folder.path(), &settings).await.to_string();
    assert!(error.contains("(/missing/program) cannot be started"), "{error}");
    assert!(!folder.path().join("keyward.db.before").exists());
}

#[test]
fn two_sources_of_one_key_are_refused() {
    let layers = Layers::default()
        .with_flag("master_key_command", "test", Some("/bin/true"))
        .with_flag("master_key_file", "test", Some("/run/key"))
        .with_flag("additional_master_key", "test", Some(text(OLD)))
        .with_flag("additional_master_key_file", "test", Some("/run/other"));
    let faults = Config::read(layers).unwrap_err().to_string();
    for fault in [
        "master_key_command and master_key_file are both set",
        "additional_master_key_file and additional_master_key are both set",
    ] {
        assert!(faults.contains(fault), "{faults}");
    }
}
