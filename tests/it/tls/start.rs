//! Starting with TLS, and without it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::certificates::{Authority, Files};
use crate::harness::{Backend, Keyward};

/// `keyward` without the environment of the tests.
pub(super) fn keyward(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYWARD_")) {
        command.env_remove(name);
    }
    command.env("XDG_CONFIG_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.args(arguments).stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_file_at_start_is_named_with_its_setting() {
    let authority = Authority::new("server authority");
    let good = authority.server();
    let expired = authority.between((2020, 1, 1), (2021, 1, 1));
    let folder = TempDir::new().unwrap();
    for (certificate, key, setting, says) in [
        (None, Some(&good.key), "grpc.tls.certificate", "cannot be read"),
        (Some(&good.certificate), None, "grpc.tls.key", "cannot be read"),
        (Some(&good.certificate), Some(&expired.key), "grpc.tls.key", "is not the key"),
        (Some(&expired.certificate), Some(&expired.key), "grpc.tls.certificate", "has expired"),
        (Some(&good.key), Some(&good.key), "grpc.tls.certificate", "has no CERTIFICATE"),
        (Some(&good.certificate), Some(&good.certificate), "grpc.tls.key", "has no PRIVATE KEY"),
    ] {
        let files = Files::new();
        for (name, text) in [("tls.crt", certificate), ("tls.key", key)] {
            if let Some(text) = text {
                files.write(name, text);
            }
        }
        let paths = [files.path("tls.crt"), files.path("tls.key")];
        let settings =
            [("grpc.tls.certificate", paths[0].as_str()), ("grpc.tls.key", paths[1].as_str())];
        let error = Keyward::refused(folder.path(), &settings).await.to_string();
        let path = if setting == "grpc.tls.key" { &paths[1] } else { &paths[0] };
        assert!(error.starts_with(&format!("{setting}: {path} ")), "{error}");
        assert!(error.contains(says), "{error}");
    }
    assert!(!folder.path().join("keyward.db").exists(), "the database is not touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn default_issuer_is_https_with_tls() {
    let files = Files::with(&Authority::new("server authority").server());
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    let folder = TempDir::new().unwrap();
    let mut command = keyward(&["config", "-o", "json"]);
    command.env("KEYWARD_TLS_CERTIFICATE", &certificate).env("KEYWARD_TLS_KEY", &key);
    assert!(command.output().unwrap().status.success());
    // The harness sets an issuer, so this runs the binary.
    let folder = folder.path().display().to_string();
    let mut serve = keyward(&["serve", "--data-dir", &folder]);
    serve
        .args(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"])
        .env("KEYWARD_TLS_CERTIFICATE", &certificate)
        .env("KEYWARD_TLS_KEY", &key)
        .env("KEYWARD_TELEMETRY_LOG_FORMAT", "json")
        .stderr(Stdio::piped());
    let mut child = serve.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let serving = lines.find(|line| line.contains("\"serving\""));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(serving.unwrap().contains("\"issuer\":\"https://127.0.0.1:"));
}

#[test]
fn listener_beyond_loopback_without_tls_does_not_start() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().display().to_string();
    let output =
        keyward(&["serve", "--data-dir", &folder, "--grpc", "0.0.0.0:0"]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for words in ["grpc.listen is 0.0.0.0:0", "grpc.tls.certificate", "grpc.plaintext = true"] {
        assert!(errors.contains(words), "{words}: {errors}");
    }
    assert!(!std::path::Path::new(&folder).join("keyward.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_beyond_loopback_starts_if_plaintext_is_permitted() {
    let settings = [("ops.listen", "0.0.0.0:0"), ("ops.plaintext", "true")];
    let kw = Backend::Sqlite.start_with(&settings).await;
    let url = format!("http://127.0.0.1:{}/livez", kw.server().ops.port());
    assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
}

/// The log of a server until a line has these words.
fn log_until(files: &Files, words: &str) -> String {
    let folder = TempDir::new().unwrap();
    let mut serve = keyward(&["serve", "--data-dir", &folder.path().display().to_string()]);
    serve
        .args(["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"])
        .env("KEYWARD_HTTP_TLS_CERTIFICATE", files.path("tls.crt"))
        .env("KEYWARD_HTTP_TLS_KEY", files.path("tls.key"))
        .env("KEYWARD_TELEMETRY_LOG_FORMAT", "json")
        .stderr(Stdio::piped());
    let mut child = serve.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut log = String::new();
    for line in lines {
        log.push_str(&line);
        log.push('\n');
        if line.contains(words) {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    log
}

#[test]
fn certificate_that_expires_soon_is_reported() {
    let authority = Authority::new("server authority");
    let now = keyward::internals::clock::Clock::system().now();
    let in_days = |days: i64| {
        let day = (now + jiff::SignedDuration::from_hours(24 * days)).to_string();
        let part = |range: std::ops::Range<usize>| day[range].parse::<u8>().unwrap();
        (day[..4].parse().unwrap(), part(5..7), part(8..10))
    };
    let files = Files::with(&authority.between((2020, 1, 1), in_days(10)));
    let log = log_until(&files, "expires soon");
    let line = log.lines().last().unwrap_or_default();
    assert!(line.contains("a certificate expires soon"), "{log}");
    assert!(line.contains("\"WARN\"") && line.contains("\"face\":\"http\""), "{line}");
    let files = Files::with(&authority.between((2020, 1, 1), in_days(20)));
    let log = log_until(&files, "\"serving\"");
    assert!(!log.contains("expires soon"), "{log}");
}
