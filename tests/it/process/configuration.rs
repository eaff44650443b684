//! Configuration: three layers, and every fault at once.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::binary::{Finished, keyward};

fn value(settings: &Value, key: &str) -> (String, String) {
    let row = settings.as_array().unwrap().iter().find(|row| row["setting"] == key).unwrap();
    let text = |member: &str| row[member].as_str().unwrap_or_default().to_owned();
    (text("value"), text("source"))
}

#[test]
fn flag_overrides_environment_which_overrides_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("keyward.toml");
    fs::write(
        &file,
        "[grpc]\nlisten = \"127.0.0.1:1\"\n[http]\nlisten = \"127.0.0.1:2\"\n[ops]\nlisten = \"127.0.0.1:3\"\n",
    )
    .unwrap();
    let path = file.to_str().unwrap();
    let settings = Finished::of(
        keyward(["config", "-o", "json", "--config", path, "--grpc", "127.0.0.1:10"])
            .env("KEYWARD_GRPC_LISTEN", "127.0.0.1:11")
            .env("KEYWARD_HTTP_LISTEN", "127.0.0.1:12"),
    )
    .json();
    let pair = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(value(&settings, "grpc.listen"), pair("127.0.0.1:10", "--grpc"));
    assert_eq!(value(&settings, "http.listen"), pair("127.0.0.1:12", "KEYWARD_HTTP_LISTEN"));
    assert_eq!(value(&settings, "ops.listen"), pair("127.0.0.1:3", path));
    assert_eq!(value(&settings, "tokens.signing_algorithm"), pair("ES256", "default"));
}

#[test]
fn invalid_settings_are_reported_together_with_source() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("keyward.toml");
    fs::write(
        &file,
        "issuer = \"keyward\"\nisuer = \"x\"\n[secrets]\nhash_queue = 0\nhash_queu = 1\n[tokens]\nsigning_algorithm = [\"ES256\"]\n",
    )
    .unwrap();
    let finished = Finished::of(
        keyward(["config", "--config", file.to_str().unwrap()])
            .env("KEYWARD_LIMITS_REQUEST_TIMEOUT", "soon")
            .env("KEYWARD_DATABASE_URL", "mysql://root:hunter2@x/y"),
    );
    assert_eq!(finished.code, Some(2), "{finished:?}");
    for fault in [
        "issuer must be an http:// or https:// URL",
        "isuer is not a known setting",
        "secrets.hash_queue must be a whole number from 1 to 100000",
        "secrets.hash_queu is not a known setting",
        "tokens.signing_algorithm must be a string or a number",
        "limits.request_timeout must be a duration",
        "(KEYWARD_LIMITS_REQUEST_TIMEOUT)",
        "database.url must begin with sqlite: or postgres://",
    ] {
        assert!(finished.stderr.contains(fault), "{fault:?} is not in {}", finished.stderr);
    }
    assert!(!finished.stderr.contains("hunter2"));
}

#[test]
fn parameters_that_drivers_ignore_are_refused() {
    for (setting, value, says) in [
        ("KEYWARD_DATABASE_URL", "postgres://db/x?sslmod=verify-full", "\"sslmod\""),
        ("KEYWARD_TELEMETRY_LOG", "=,=", "telemetry.log must be"),
        ("KEYWARD_ISSUER", "https://x/{y}", "issuer must have a path"),
        ("KEYWARD_LIMITS_REQUEST_TIMEOUT", "0s", "must be at least 1ms"),
    ] {
        let finished = Finished::of(keyward(["config"]).env(setting, value));
        assert_eq!(finished.code, Some(2), "{setting}: {finished:?}");
        assert!(finished.stderr.contains(says), "{finished:?}");
    }
    let odd = std::ffi::OsStr::from_bytes(b"\xff");
    let finished = Finished::of(keyward(["config"]).env("NOT_OURS", odd));
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn malformed_file_is_refused_without_showing_the_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("keyward.toml");
    fs::write(&file, "data_dir = \"x\"\nmaster_key = \"hunter2\n").unwrap();
    let path = file.to_str().unwrap();
    let finished = Finished::of(&mut keyward(["config", "--config", path]));
    assert!(finished.stderr.contains("line 2"), "{finished:?}");
    assert!(!finished.stderr.contains("hunter2"), "{finished:?}");
}

#[test]
fn config_masks_secrets() {
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let shown = Finished::of(
        keyward(["config"])
            .env("KEYWARD_MASTER_KEY", key)
            .env("KEYWARD_DATABASE_URL", "postgres://keyward:hunter2@db.example/keyward"),
    )
    .worked();
    assert!(shown.contains("****") && shown.contains("postgres://db.example:5432/keyward"));
    assert!(!shown.contains(key) && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn missing_or_malformed_config_file_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("keyward.toml");
    let path = file.to_str().unwrap();
    for _ in 0..2 {
        let finished = Finished::of(&mut keyward(["config", "--config", path]));
        assert_eq!(finished.code, Some(2));
        assert!(finished.stderr.contains(path), "{finished:?}");
        fs::write(&file, "= nonsense").unwrap();
    }
}

/// The annotated file shows every setting, at its default.
#[test]
fn shipped_config_file_is_valid_and_shows_defaults() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/keyward.toml");
    let path = shipped.to_str().unwrap();
    let with = Finished::of(&mut keyward(["config", "-o", "json", "--config", path])).json();
    let without = Finished::of(&mut keyward(["config", "-o", "json"])).json();
    let text = fs::read_to_string(&shipped).unwrap();
    for row in without.as_array().unwrap() {
        let key = row["setting"].as_str().unwrap();
        assert_eq!(value(&with, key).0, value(&without, key).0, "{key}");
        let last = key.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("{last} = ")), "{key} is not in the shipped file");
        let variable = format!("KEYWARD_{}", key.replace('.', "_").to_uppercase());
        assert!(text.contains(&variable), "{variable} is not in the shipped file");
    }
}
