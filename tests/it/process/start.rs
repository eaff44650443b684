//! Starts that succeed, and starts that fail: the error is clear, and nothing is changed.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyward::internals::secrets::MasterKey;
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;

use super::binary::{FREE_PORTS, Finished, Serving, exported, keyward};
use crate::harness::{RedisServer, fresh_database, until_blocking};

/// A data directory that a server has used.
fn used() -> TempDir {
    let folder = TempDir::new().unwrap();
    Serving::start(&["--data-dir", folder.path().to_str().unwrap()]).stop("-TERM");
    folder
}

/// The error output of a `serve` that cannot start.
fn refused(arguments: &[&str]) -> String {
    let arguments = ["serve"].iter().chain(&FREE_PORTS).chain(arguments).copied();
    let mut command = keyward(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap) {
        output.extend([&line, "\n"]);
        if line.contains("serving") {
            // It would run for ever.
            child.kill().unwrap();
            panic!("the server started: {output}");
        }
    }
    let finished = child.wait_with_output().unwrap();
    assert_ne!(finished.status.code(), Some(0), "{output}");
    assert_eq!(finished.stdout, b"");
    output
}

#[test]
fn only_first_start_prints_admin_credential() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new").display().to_string();
    let serving = Serving::start(&["--data-dir", &path]);
    let written = fs::read_to_string(folder.path().join("new/admin.env")).unwrap();
    let secret = exported(&written, "KEYWARD_CLIENT_SECRET").to_owned();
    assert!(secret.starts_with("kws_"));
    assert!(serving.log_of_start.contains("admin.env"), "the log names the file");
    assert!(!serving.log_of_start.contains(&secret));
    assert_eq!(serving.stop("-TERM"), "", "standard output has no credential");
    fs::remove_file(folder.path().join("new/admin.env")).unwrap();
    let second = Serving::start(&["--data-dir", &path]).stop("-INT");
    assert_eq!(second, "");
    let mode = |path: &str| {
        let metadata = fs::metadata(folder.path().join(path)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode("new"), mode("new/master.key")), (0o700, 0o600));
    assert!(!folder.path().join("new/admin.env").exists(), "once");
}

#[test]
fn port_in_use_is_named_and_directory_stays_empty() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut arguments = vec!["serve"];
    arguments.extend(FREE_PORTS);
    arguments[4] = &address;
    arguments.extend(["--data-dir", path]);
    let finished = Finished::of(&mut keyward(arguments.iter().copied()));
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains(&format!("cannot listen on {address} (http.listen)")));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn unusable_master_key_is_refused() {
    let folder = used();
    let path = folder.path().to_str().unwrap();
    let key = folder.path().join("master.key");
    let good = fs::read_to_string(&key).unwrap();

    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&["--data-dir", path]).contains("master.key: has mode 644"));
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();

    fs::write(&key, "short").unwrap();
    assert!(refused(&["--data-dir", path]).contains("master.key: must be 32 bytes in base64"));

    fs::write(&key, STANDARD.encode([7; 32])).unwrap();
    assert!(refused(&["--data-dir", path]).contains("was sealed with master key"));

    fs::remove_file(&key).unwrap();
    assert!(refused(&["--data-dir", path]).contains("master.key is missing"));
    assert!(!key.exists(), "a missing key is not replaced");

    fs::write(&key, good).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(Serving::start(&["--data-dir", path]).stop("-TERM"), "");
}

#[test]
fn wrong_master_key_has_its_own_exit_code_and_changes_nothing() {
    let folder = used();
    let path = folder.path().to_str().unwrap();
    let key = folder.path().join("master.key");
    let id = |text: &str| MasterKey::parse(text).unwrap().id().unwrap();
    let (right, wrong) = (fs::read_to_string(&key).unwrap(), STANDARD.encode([7; 32]));
    fs::write(&key, &wrong).unwrap();
    let database = || fs::read(folder.path().join("keyward.db")).unwrap();
    let before = database();
    for command in ["serve", "bootstrap"] {
        let listeners: &[&str] = if command == "serve" { &FREE_PORTS } else { &[] };
        let arguments = [&[command, "--data-dir", path][..], listeners].concat();
        let finished = Finished::of(&mut keyward(arguments));
        assert_eq!(finished.code, Some(7), "{finished:?}");
        for id in [id(&right), id(&wrong)] {
            assert!(finished.stderr.contains(&id), "{finished:?}");
        }
        assert_eq!(finished.stdout, "");
        assert!(database() == before, "{command} changes nothing");
    }
}

#[test]
fn master_key_is_read_from_environment() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let migrate = |key: &str| {
        let mut command = keyward(["bootstrap", "--data-dir", path]);
        Finished::of(command.env("KEYWARD_MASTER_KEY", key))
    };
    migrate(&STANDARD.encode([1; 32])).worked();
    assert!(!folder.path().join("master.key").exists());
    let other = migrate(&STANDARD.encode([2; 32]));
    assert!(other.stderr.contains("sealed with master key"), "{other:?}");
    let malformed = migrate("x");
    assert_eq!(malformed.code, Some(2));
    assert!(malformed.stderr.contains("master_key must be 32 bytes in base64"), "{malformed:?}");
}

#[tokio::test]
async fn database_of_newer_version_is_not_changed() {
    const NEWER: &str = "insert into _sqlx_migrations \
        (version, description, success, checksum, execution_time) values ";
    let folder = used();
    let path = folder.path().to_str().unwrap();
    let file = folder.path().join("keyward.db");
    let mut sqlite = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
    sqlite
        .execute(sqlx::AssertSqlSafe(format!("{NEWER} (9999, 'later', 1, x'00', 0)")))
        .await
        .unwrap();
    sqlite.close().await.unwrap();
    let output = refused(&["--data-dir", path]);
    assert!(output.contains("schema version 9999") && output.contains("newer"), "{output}");

    let url = fresh_database().await;
    let arguments = ["migrate", "--data-dir", path, "--database-url", &url];
    let arguments = || keyward(arguments);
    Finished::of(&mut arguments()).worked();
    let mut postgres = PgConnection::connect(&url).await.unwrap();
    let newer = format!("{NEWER} (9999, 'later', true, '\\x00', 0)");
    postgres.execute(sqlx::AssertSqlSafe(newer)).await.unwrap();
    let output = Finished::of(&mut arguments());
    assert!(output.stderr.contains("schema version 9999"), "{output:?}");
}

#[test]
fn unreachable_database_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let file = folder.path().join("keyward.db");
    fs::write(&file, "this is no database, however long it may be".repeat(100)).unwrap();
    let output = refused(&["--data-dir", path]);
    assert!(output.contains(file.to_str().unwrap()), "{output}");

    let url = "postgres://keyward:hunter2@127.0.0.1:1/keyward";
    let output = Finished::of(
        keyward(["migrate", "--data-dir", path, "--database-url", url])
            .env("KEYWARD_DATABASE_ACQUIRE_TIMEOUT", "1s"),
    );
    assert!(output.stderr.contains("postgres://127.0.0.1:1/keyward"), "{output:?}");
    assert!(!output.stderr.contains("hunter2"), "{output:?}");
}

#[test]
fn second_server_on_same_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let first = Serving::start(&["--data-dir", path]);
    let output = refused(&["--data-dir", path]);
    let sentence = format!(
        "another keyward serves from {path}/keyward.db: SQLite is for one server alone, several \
         replicas need PostgreSQL (database.url)"
    );
    assert!(output.contains(&sentence), "{output}");
    first.stop("-TERM");
    assert_eq!(
        Serving::start(&["--data-dir", path]).stop("-TERM"),
        "",
        "a server starts after the first one stopped"
    );
}

/// A configuration file with the URL of this Redis.
fn naming(redis: &RedisServer, folder: &TempDir) -> String {
    let file = folder.path().join("keyward.toml");
    fs::write(&file, format!("[redis]\nurl = \"{}\"\n", redis.url())).unwrap();
    file.display().to_string()
}

#[test]
fn server_without_redis_logs_the_consequences() {
    const SAID: &str = "no Redis is configured (redis.url): limits are counted by this server \
        alone, and other replicas read revocations from the database";
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let alone = Serving::start(&["--data-dir", path]);
    assert_eq!(alone.log_of_start.matches(SAID).count(), 1, "{}", alone.log_of_start);
    alone.stop("-TERM");
    let redis = RedisServer::start();
    let connected = Serving::start(&["--data-dir", path, "--config", &naming(&redis, &folder)]);
    assert!(!connected.log_of_start.contains("no Redis"), "{}", connected.log_of_start);
    connected.stop("-TERM");
}

#[test]
fn redis_with_eviction_is_refused() {
    let redis =
        RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let arguments = ["--data-dir", &path, "--config", &naming(&redis, &folder)];
    let output = refused(&arguments);
    let sentence = "the Redis of redis.url cannot be used: its maxmemory-policy is allkeys-lru";
    assert!(output.contains(sentence) && output.contains("noeviction"), "{output}");
    redis.cli(&["config", "set", "maxmemory-policy", "noeviction"]);
    Serving::start(&arguments).stop("-TERM");
}

#[test]
fn redis_permission_loss_is_logged_only_once() {
    const LOST: &str = "the revocation list in Redis cannot be updated";
    const BACK: &str = "the revocation list in Redis is updated again";
    let redis = RedisServer::start();
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let config = naming(&redis, &folder);
    let mut text = fs::read_to_string(&config).unwrap();
    text.push_str("[revocations]\npoll_interval = \"50ms\"\n");
    fs::write(&config, text).unwrap();
    let checked = || redis.cli(&["hget", "keyward:revocations:{list}:coded:marker", "checked"]);
    let serving = Serving::start(&["--data-dir", &path, "--config", &config]);
    let kept_up = || {
        let before = checked();
        until_blocking("the list is updated", || checked() != before);
    };
    let refusals = || {
        let log = redis.cli(&["acl", "log"]);
        let mut lines = log.lines();
        let counts = std::iter::from_fn(|| lines.find(|line| *line == "count").and(lines.next()));
        counts.map(|count| count.parse::<u32>().unwrap()).sum::<u32>()
    };
    kept_up();
    redis.cli(&["acl", "setuser", "default", "-hmget"]);
    until_blocking("the server keeps retrying", || refusals() > 5);
    redis.cli(&["acl", "setuser", "default", "+hmget"]);
    kept_up();
    let log = serving.stop_with_log("-TERM");
    let warned = log.lines().filter(|line| line.contains(LOST));
    assert!(warned.clone().all(|line| line.contains("\"WARN\"")), "{log}");
    assert_eq!((warned.count(), log.matches(BACK).count()), (1, 1), "{log}");
}
