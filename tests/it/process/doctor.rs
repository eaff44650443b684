//! `keyward doctor`: each state is created, and found.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use tempfile::TempDir;
use tokio::task::block_in_place;

use super::binary::{FREE_PORTS, Finished, Serving, keyward};
use crate::harness::{Pair, RedisServer, free_port, fresh_database, until};

/// A data folder that `keyward bootstrap` has used.
struct House(TempDir);

/// What the doctor found.
struct Findings {
    code: Option<i32>,
    all: Vec<Value>,
}

impl House {
    fn new() -> Self {
        let house = Self(TempDir::new().unwrap());
        block_in_place(|| Finished::of(&mut house.command(&["bootstrap"]))).worked();
        house
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = keyward(arguments.iter().copied());
        command.env("KEYWARD_DATA_DIR", self.data());
        command.env("KEYWARD_ISSUER", "https://keyward.test");
        command
    }

    fn doctor(&self, settings: &[(&str, &str)]) -> Findings {
        self.doctor_with(&[], settings)
    }

    fn doctor_with(&self, flags: &[&str], settings: &[(&str, &str)]) -> Findings {
        let mut command = self.command(&[&["doctor", "-o", "json"], flags].concat());
        command.envs(settings.iter().copied());
        Findings::of(&mut command)
    }

    async fn sql(&self, sql: &str) {
        let url = format!("sqlite:{}", self.data().join("keyward.db").display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
        connection.close().await.unwrap();
    }
}

impl Findings {
    fn of(command: &mut Command) -> Self {
        let finished = block_in_place(|| Finished::of(command));
        let all = serde_json::from_str(&finished.stdout);
        Self { code: finished.code, all: all.unwrap_or_else(|_| panic!("{finished:?}")) }
    }

    /// The worst level of a check.
    fn level(&self, check: &str) -> &str {
        let levels: Vec<_> = self.of_check(check).map(|f| f["level"].as_str().unwrap()).collect();
        let worst = ["error", "warning", "ok"].into_iter().find(|level| levels.contains(level));
        worst.unwrap_or_else(|| panic!("no {check} in {:?}", self.all))
    }

    fn of_check(&self, check: &str) -> impl Iterator<Item = &Value> {
        self.all.iter().filter(move |finding| finding["check"] == check)
    }

    /// Checks that something is found, with advice.
    fn has(&self, check: &str, level: &str, says: &str) {
        let found = self.of_check(check).find(|finding| {
            finding["level"] == level && finding["found"].as_str().unwrap().contains(says)
        });
        let found = found.unwrap_or_else(|| panic!("{check} {level} {says:?}: {:#?}", self.all));
        assert_eq!(found["advice"] == "", level == "ok", "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_server_has_no_error_and_doctor_changes_nothing() {
    let house = House::new();
    let listing = || {
        let entries = fs::read_dir(house.data()).unwrap().map(|entry| entry.unwrap());
        let mut all: Vec<_> =
            entries.map(|e| (e.file_name(), fs::read(e.path()).unwrap())).collect();
        all.sort();
        all
    };
    let before = listing();
    let found = house.doctor(&[]);
    assert_eq!(listing(), before);
    for check in
        ["issuer", "plaintext", "database", "schema", "master_key", "signing_key", "files", "redis"]
    {
        assert_eq!(found.level(check), "ok", "{check}: {:#?}", found.all);
    }
    found.has("admin_credentials", "ok", "1 can be used");
    assert!(found.all.iter().all(|finding| finding["level"] != "error"), "{:#?}", found.all);
    assert!(matches!(found.code, Some(0 | 6)), "{:?}", found.code);
    assert_eq!(house.doctor_with(&["--allow-warnings"], &[]).code, Some(0));

    // A running server does not disturb it, and is asked.
    let arguments: Vec<_> = ["serve"].iter().chain(&FREE_PORTS).copied().collect();
    let serving = block_in_place(|| Serving::try_start(&mut house.command(&arguments)));
    let serving = serving.unwrap_or_else(|log| panic!("{log}"));
    let found = house.doctor_with(&["--server", &serving.grpc], &[]);
    found.has("server", "ok", "is ready");
    let grpc = serving.grpc.clone();
    block_in_place(|| serving.stop("-TERM"));
    let found = house.doctor_with(&["--server", &grpc, "--allow-warnings"], &[]);
    found.has("server", "error", &grpc);
    assert_eq!(found.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_created_before_the_first_start() {
    let house = House(TempDir::new().unwrap());
    let found = house.doctor(&[]);
    found.has("database", "warning", "there is no file");
    assert_eq!(found.code, Some(6));
    assert!(!house.data().exists());
    let wrong = house.command(&["doctor", "--log", "nonsense", "-o", "json"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_do_not_fit_are_found() {
    let house = House::new();
    let closed = format!("http://127.0.0.1:{}", free_port());
    let found = house.doctor(&[
        ("KEYWARD_ISSUER", "http://127.0.0.1:8080"),
        ("KEYWARD_HTTP_LISTEN", "0.0.0.0:8080"),
        ("KEYWARD_HTTP_PLAINTEXT", "true"),
        ("KEYWARD_OPS_PLAINTEXT", "true"),
        ("KEYWARD_OPS_LISTEN", "0.0.0.0:9464"),
        ("KEYWARD_SECRETS_HASH_QUEUE", "100000"),
        ("KEYWARD_LIMITS_REQUEST_MEMORY", "68000000000"),
        ("KEYWARD_LIMITS_MAX_CONNECTIONS", "1048576"),
        ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &closed),
        ("KEYWARD_TOKENS_SIGNING_ALGORITHM", "EdDSA"),
    ]);
    found.has("issuer", "warning", "which only this machine reaches");
    found.has("plaintext", "warning", "http.listen (0.0.0.0:8080)");
    found.has("operations", "warning", "ops.listen");
    found.has("hash_queue", "warning", "100000 queued hashes");
    found.has("memory", "warning", "under full load");
    found.has("traces", "warning", &closed);
    found.has("signing_key", "warning", "tokens.signing_algorithm is EdDSA");
    assert_eq!(found.code, Some(6));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = format!("http://{}", listener.local_addr().unwrap());
    let found = house.doctor(&[("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &open)]);
    found.has("traces", "ok", "accepts connections");

    let doctor = house.command(&["doctor", "-o", "json"]);
    let mut few = Command::new("prlimit");
    few.args(["--nofile=512:512"]).arg(doctor.get_program()).args(doctor.get_args());
    few.envs(doctor.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Findings::of(&mut few).has("open_files", "warning", "the limit of open files is 512");
}

#[tokio::test(flavor = "multi_thread")]
async fn unsuitable_data_and_files_are_found() {
    let house = House::new();
    let key = house.data().join("master.key");
    let good = fs::read(&key).unwrap();
    fs::write(&key, STANDARD.encode([7; 32])).unwrap();
    let found = house.doctor(&[]);
    found.has("master_key", "error", "was sealed with master key");
    assert_eq!(found.code, Some(1));
    fs::remove_file(&key).unwrap();
    house.doctor(&[]).has("master_key", "error", "master.key");
    assert!(!key.exists());
    fs::write(&key, good).unwrap();

    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(house.data(), Permissions::from_mode(0o755)).unwrap();
    let file = house.data().join("keyward.db");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let found = house.doctor(&[]);
    found.has("files", "warning", "keyward.db (644, not 600)");
    found.has("files", "warning", "data (755, not 700)");
    fs::write(house.data().join("admin.env"), "").unwrap();
    house.doctor(&[]).has("admin_env", "warning", "admin.env");
}

#[tokio::test(flavor = "multi_thread")]
async fn master_keys_that_are_needed_are_found() {
    const CHECK: &str = "master_key_change";
    let house = House::new();
    house.doctor(&[]).has(CHECK, "ok", "needs the master key only");
    let old = fs::read_to_string(house.data().join("master.key")).unwrap();
    let new = STANDARD.encode([7; 32]);
    let (old, new) = (old.trim(), new.as_str());
    let (key, other) = ("KEYWARD_MASTER_KEY", "KEYWARD_ADDITIONAL_MASTER_KEY");
    let found = house.doctor(&[(key, old), (other, new)]);
    found.has(CHECK, "warning", "nothing stored needs the additional master key");
    let found = house.doctor(&[(key, new), (other, old)]);
    found.has(CHECK, "warning", "2 values and 1 hashes need master key");
    house.doctor(&[(key, new)]).has(CHECK, "error", "need master key");
    house.sql("delete from signing_keys").await;
    house.sql("delete from signing_key_history").await;
    let found = house.doctor(&[(key, new), (other, old)]);
    found.has(CHECK, "warning", "0 values and 1 hashes need master key");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_end_are_found() {
    let house = House::new();
    let soon = "(cast(strftime('%s', 'now') as integer) + 86400) * 1000000";
    house.sql(&format!("update credentials set expires_at = {soon}")).await;
    let found = house.doctor(&[]);
    found.has("admin_credentials", "warning", "the last of 1 ends at");
    found.has("credentials", "warning", "1 end within 7 days: tenants/system/applications/admin");
    house.sql("update credentials set expires_at = 1000000").await;
    let found = house.doctor(&[]);
    found.has("admin_credentials", "error", "no admin credential");
    assert_eq!(found.level("credentials"), "ok", "it has ended already");
    house.sql("update credentials set expires_at = null, disabled = 1").await;
    house.doctor(&[]).has("admin_credentials", "error", "no admin credential");
    house.sql("update signing_keys set created_at = 1").await;
    house.doctor(&[]).has("signing_key", "warning", "has signed for");
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_of_another_version_is_found() {
    let house = House::new();
    house.sql("delete from _sqlx_migrations where version = 14").await;
    house.doctor(&[]).has("schema", "warning", "1 migration of this version of keyward is missing");
    house
        .sql(
            "insert into _sqlx_migrations (version, description, success, checksum, \
             execution_time) values (9999, '', true, x'00', 0)",
        )
        .await;
    let found = house.doctor(&[]);
    found.has("schema", "error", "version 9999 is from a newer version");
    assert_eq!(found.code, Some(1));
    house.sql("update _sqlx_migrations set checksum = x'00' where version = 1").await;
    house.doctor(&[]).has("schema", "error", "version 1 differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn states_of_redis_are_found() {
    let house = House::new();
    let redis = block_in_place(RedisServer::start);
    let url = redis.url();
    let doctor = || house.doctor(&[("KEYWARD_REDIS_URL", &url)]);
    let found = doctor();
    assert_eq!((found.level("redis"), found.level("redis_clock")), ("ok", "ok"));
    redis.cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    doctor().has("redis_memory", "warning", "allkeys-lru");
    redis.cli(&["config", "set", "maxmemory", "100mb"]);
    let found = doctor();
    found.has("redis", "error", "its maxmemory-policy is allkeys-lru");
    assert_eq!(found.code, Some(1));
    redis.cli(&["config", "set", "maxmemory-policy", "noeviction"]);
    redis.cli(&["config", "set", "maxmemory", "1"]);
    doctor().has("redis_memory", "warning", "MiB are used");
    redis.cli(&["config", "set", "maxmemory", "0"]);
    redis.cli(&["replicaof", "127.0.0.1", "1"]);
    doctor().has("redis", "error", "it is a replica");
    block_in_place(|| drop(redis));
    doctor().has("redis", "warning", "does not answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn states_of_postgres_are_found() {
    let house = House(TempDir::new().unwrap());
    let url = fresh_database().await;
    let found = house.doctor(&[("KEYWARD_DATABASE_URL", &url)]);
    found.has("schema", "warning", "the database is empty");
    found.has("database_settings", "warning", "fsync is off");
    found.has("database", "ok", "PostgreSQL");
    assert_eq!((found.level("database_clock"), found.level("replication")), ("ok", "ok"));
    let many =
        [("KEYWARD_DATABASE_URL", url.as_str()), ("KEYWARD_DATABASE_MAX_CONNECTIONS", "1000")];
    house.doctor(&many).has("connections", "warning", "a server opens up to 1001");

    let mut bootstrap = house.command(&["bootstrap"]);
    block_in_place(|| Finished::of(bootstrap.env("KEYWARD_DATABASE_URL", &url))).worked();
    let found = house.doctor(&[("KEYWARD_DATABASE_URL", &url)]);
    for check in ["schema", "master_key", "signing_key", "admin_credentials"] {
        assert_eq!(found.level(check), "ok", "{check}: {:#?}", found.all);
    }
    let closed = format!("postgres://keyward@127.0.0.1:{}/keyward", free_port());
    let found = house.doctor(&[("KEYWARD_DATABASE_URL", &closed)]);
    found.has("database", "error", "cannot be used");
    assert_eq!(found.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn states_of_standbys_are_found() {
    let house = House(TempDir::new().unwrap());
    let mut pair = Pair::start().await;
    let url = pair.url();
    let doctor = || house.doctor(&[("KEYWARD_DATABASE_URL", &url)]);
    doctor().has("replication", "ok", "(sync)");
    let mut admin = pair.admin().await;
    admin.execute("alter system set synchronous_standby_names = ''").await.unwrap();
    admin.execute("select pg_reload_conf()").await.unwrap();
    let asynchronous = "select exists (select from pg_stat_replication where sync_state = 'async')";
    until("the standby is asynchronous", async || {
        sqlx::query_scalar::<_, bool>(asynchronous).fetch_one(&mut admin).await.unwrap()
    })
    .await;
    doctor().has("replication", "warning", "no standby is synchronous");
    drop(admin);
    pair.lead_to_standby().await;
    doctor().has("database", "error", "the server is a standby");
}
