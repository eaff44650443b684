//! `keyward backup` and `keyward restore`, and what must hold afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyward::proto::access::WatchRevocationsRequest;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokenRequest;
use keyward::verifier::{Refusal, Settings, Verifier, VerifierCredential};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tempfile::TempDir;
use tokio::task::block_in_place;

use super::binary::{FREE_PORTS, Finished, Serving, exported, keyward};
use super::full_disk::on_full_disk;
use crate::harness::{
    Admin, Credential, Proxy, RedisServer, free_port, fresh_database, mask, reason, until,
};

const ISSUER: &str = "https://keyward.test";
const PATIENCE: Duration = Duration::from_mins(1);

/// A data folder, and the settings of everything that uses it.
struct House {
    folder: TempDir,
    settings: Vec<(&'static str, String)>,
    admin: Credential,
}

impl House {
    fn new(settings: &[(&'static str, &str)]) -> Self {
        let mut house = Self {
            folder: TempDir::new().unwrap(),
            settings: vec![("KEYWARD_ISSUER", ISSUER.to_owned())],
            admin: Credential { client_id: String::new(), secret: String::new() },
        };
        house.settings.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let printed = house.run(&["bootstrap"]).worked();
        house.admin = Credential {
            client_id: exported(&printed, "KEYWARD_CLIENT_ID").to_owned(),
            secret: exported(&printed, "KEYWARD_CLIENT_SECRET").to_owned(),
        };
        house
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = keyward(arguments.iter().copied());
        command.env("KEYWARD_DATA_DIR", self.data());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        block_in_place(|| Finished::of(&mut self.command(arguments)))
    }

    fn backup(&self, name: &str) -> Value {
        self.run(&["backup", self.file(name).to_str().unwrap(), "-o", "json"]).json()
    }

    fn restore(&self, name: &str, flags: &[&str]) -> Finished {
        let file = self.file(name);
        let arguments = ["restore", file.to_str().unwrap(), "-o", "json"];
        self.run(&[&arguments, flags].concat())
    }

    /// The message of a restore that must fail, and change nothing.
    fn refused(&self, name: &str, flags: &[&str]) -> String {
        let before = tree(&self.data());
        let message = self.refusal(name, flags);
        assert_eq!(tree(&self.data()), before, "{message}");
        message
    }

    fn refusal(&self, name: &str, flags: &[&str]) -> String {
        let finished = self.restore(name, flags);
        let error: Value = serde_json::from_str(&finished.stderr).expect(&finished.stderr);
        let code = if error["reason"] == "WRONG_MASTER_KEY" { 7 } else { 1 };
        assert_eq!(finished.code, Some(code), "{finished:?}");
        error["message"].as_str().unwrap().to_owned()
    }

    fn serve(&self) -> Serving {
        let arguments = ["serve"].iter().chain(&FREE_PORTS).copied().collect::<Vec<_>>();
        let started = block_in_place(|| Serving::try_start(&mut self.command(&arguments)));
        started.unwrap_or_else(|log| panic!("the server starts: {log}"))
    }

    /// The only value of a query on the database.
    async fn value(&self, sql: &str) -> String {
        query(&self.data().join("keyward.db"), sql).await
    }
}

async fn query(file: &Path, sql: &str) -> String {
    let url = format!("sqlite:{}", file.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let sql = AssertSqlSafe(format!("select cast(({sql}) as text)"));
    let value = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    value
}

async fn change(file: &Path, sql: &str) {
    let url = format!("sqlite:{}", file.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The names and contents of the files of a folder.
fn tree(folder: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    let entries = entries.map(|entry| entry.unwrap());
    entries
        // Both are for locks only.
        .filter(|entry| {
            let name = entry.file_name();
            !["-shm", ".lock"].iter().any(|end| name.to_str().unwrap().ends_with(end))
        })
        .map(|entry| {
            let contents = fs::read(entry.path()).unwrap_or_default();
            (entry.file_name().into_string().unwrap(), contents)
        })
        .collect()
}

fn stop(serving: Serving) {
    block_in_place(|| serving.stop("-TERM"));
}

async fn revoke(admin: &mut Admin, token: &str) {
    let request = RevokeTokenRequest { token: token.to_owned() };
    admin.tokens.revoke_token(request).await.unwrap();
}

async fn verifier(server: &str, gateway: &Credential) -> Verifier {
    let access =
        VerifierCredential::client_secret(gateway.client_id.clone(), gateway.secret.clone());
    let settings = Settings {
        ready_within: PATIENCE,
        ..Settings::new(server, access, ISSUER, "tenants/acme")
    };
    Verifier::connect(settings).await.unwrap()
}

async fn gateway(admin: &mut Admin) -> Credential {
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    admin.credential(&application.name, Kind::ClientSecret).await.1
}

fn address(url: &str) -> std::net::SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

/// The cursor at which a stream of revocations is.
async fn cursor(admin: &mut Admin) -> String {
    let request = WatchRevocationsRequest::default();
    let mut news = admin.revocations.watch_revocations(request).await.unwrap().into_inner();
    loop {
        let message = news.message().await.unwrap().unwrap();
        if message.staleness.is_some() {
            return message.cursor;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_backup_revives_nothing() {
    let redis = block_in_place(RedisServer::start);
    let house = House::new(&[("KEYWARD_REDIS_URL", &redis.url())]);
    let serving = house.serve();
    let mut proxy = Proxy::to(address(&serving.grpc)).await;
    let mut admin = Admin::new(serving.grpc.clone(), &house.admin).await;
    let (_, crm) = admin.acme().await;
    let gateway = gateway(&mut admin).await;
    let verifier = verifier(&format!("http://{}", proxy.address), &gateway).await;
    let early = crm.token(&serving.grpc).await;
    let (lost, live) = (crm.token(&serving.grpc).await, crm.token(&serving.grpc).await);
    revoke(&mut admin, &early).await;
    let manifest = house.backup("backup.db");
    assert_eq!(manifest["last_revocation"], 1);

    // After the backup: a revocation, an application with a token, and a new etag.
    revoke(&mut admin, &lost).await;
    let other = admin.application("acme", "other", &["a"]).await;
    let other = admin.credential(&other.name, Kind::ClientSecret).await.1;
    let late = other.token(&serving.grpc).await;
    let update = |description: &str, etag: &str| pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: "tenants/acme/applications/crm".to_owned(),
            description: description.to_owned(),
            etag: etag.to_owned(),
            ..Default::default()
        }),
        update_mask: mask(&["description"]),
    };
    let changed = admin.applications.update_application(update("later", "")).await.unwrap();
    let etag = changed.into_inner().application.unwrap().etag;
    let old_cursor = cursor(&mut admin).await;
    until("the verifier follows", async || verifier.verify(&lost) == Err(Refusal::Revoked)).await;
    until("Redis has the list", async || {
        let marker = "keyward:revocations:{list}:coded:marker";
        redis.cli(&["hget", marker, "last"]) == "2"
    })
    .await;
    let epoch = "select max(epoch) from (select epoch from tenants union select epoch from \
        applications union select epoch from credentials)";
    let newest: i64 = house.value(epoch).await.parse().unwrap();
    stop(serving);

    let restored = house.restore("backup.db", &["--force"]).json();
    assert_eq!(restored["list_before"], manifest["list"]);
    assert_ne!(restored["list"], manifest["list"]);
    assert_eq!(restored["tenants_revoked"], 2);
    assert_eq!(restored["revocations_put_back"], 1, "what only Redis knew");
    let kept = house.data().join("keyward.db.before");
    assert_eq!(restored["kept"], kept.to_str().unwrap());
    assert_eq!(query(&kept, "select count(*) from applications where id = 'other'").await, "1");
    let oldest: i64 = house.value(&epoch.replace("max", "min")).await.parse().unwrap();
    assert!(oldest > newest, "no epoch is used twice: {oldest} {newest}");

    let serving = house.serve();
    proxy.lead_to(address(&serving.grpc)).await;
    let mut admin = Admin::new(serving.grpc.clone(), &house.admin).await;
    let new = crm.token(&serving.grpc).await;
    until("new tokens are accepted", async || verifier.verify(&new).is_ok()).await;
    assert_eq!(verifier.verify(&lost), Err(Refusal::Revoked), "it was never forgotten");
    until("the verifier starts over", async || verifier.verify(&live) == Err(Refusal::Revoked))
        .await;
    for token in [&early, &lost, &live, &late] {
        assert!(!admin.is_active(token).await, "the server refuses it");
        assert_eq!(verifier.verify(token), Err(Refusal::Revoked));
    }
    assert!(admin.is_active(&new).await);
    let request = WatchRevocationsRequest { cursor: old_cursor };
    let status = match admin.revocations.watch_revocations(request).await {
        Ok(news) => news.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(reason(&status), "CURSOR_TOO_OLD");
    let status = admin.applications.update_application(update("x", &etag)).await.unwrap_err();
    assert_eq!(reason(&status), "ETAG_MISMATCH");
    admin.applications.update_application(update("y", "")).await.unwrap();
    // The same name again: tokens of the lost application stay refused.
    let again = admin.application("acme", "other", &["a"]).await;
    admin.credential(&again.name, Kind::ClientSecret).await;
    assert!(!admin.is_active(&late).await);
    assert_eq!(verifier.verify(&late), Err(Refusal::Revoked));
    stop(serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_under_load_is_one_consistent_state() {
    let house = House::new(&[]);
    let serving = house.serve();
    let mut admin = Admin::new(serving.grpc.clone(), &house.admin).await;
    let (_, crm) = admin.acme().await;
    let (ended, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn({
        let (ended, written, grpc) = (ended.clone(), written.clone(), serving.grpc.clone());
        let credential = house.admin.clone();
        async move {
            let mut admin = Admin::new(grpc.clone(), &credential).await;
            while !ended.load(Ordering::Relaxed) {
                let number = written.load(Ordering::Relaxed);
                admin.application("acme", &format!("app-{number}"), &["a"]).await;
                revoke(&mut admin, &crm.token(&grpc).await).await;
                written.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for number in 0..3 {
        let before = written.load(Ordering::Relaxed);
        let name = format!("backup-{number}.db");
        let manifest = house.backup(&name);
        until("the load goes on", async || written.load(Ordering::Relaxed) > before).await;
        let file = house.file(&name);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let key = fs::read(house.data().join("master.key")).unwrap();
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(44).any(|part| part == &key[..44]), "no master key");
        // One more than revocations at most: each application is written before its revocation.
        let last = manifest["last_revocation"].as_u64().unwrap();
        let count = "select count(*) from applications where id like 'app-%'";
        let applications: u64 = query(&file, count).await.parse().unwrap();
        assert!((last..=last + 1).contains(&applications), "{applications} {last}");
        assert_eq!(query(&file, "select count(*) from revocations").await, last.to_string());
    }
    ended.store(true, Ordering::Relaxed);
    load.await.unwrap();
    stop(serving);
    let names: BTreeSet<_> = tree(house.folder.path()).into_iter().map(|(name, _)| name).collect();
    let expected = ["backup-0.db", "backup-1.db", "backup-2.db", "data"];
    assert!(names.iter().map(String::as_str).eq(expected), "nothing else is left: {names:?}");
    house.restore("backup-2.db", &["--force"]).worked();
    stop(house.serve());
}

#[tokio::test(flavor = "multi_thread")]
async fn unsuitable_backup_is_refused_and_nothing_changes() {
    let house = House::new(&[]);
    house.backup("backup.db");
    let whole = fs::read(house.file("backup.db")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(house.file(name), bytes).unwrap();

    let why = house.refused("backup.db", &[]);
    assert!(why.contains("there is a database") && why.contains("--force"), "{why}");
    let serving = house.serve();
    let why = house.refusal("backup.db", &["--force"]);
    assert!(why.contains("a keyward server uses") && why.contains("stop it"), "{why}");
    let why = house.refusal("backup.db", &["--force", "--dry-run"]);
    assert!(why.contains("a keyward server uses"), "{why}");
    stop(serving);

    write("cut.db", &whole[..whole.len() - 1000]);
    assert!(house.refused("cut.db", &["--force"]).contains("not a complete backup"));
    write("text.db", b"hello\n");
    assert!(house.refused("text.db", &["--force"]).contains("not a complete backup"));
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    write("flipped.db", &flipped);
    assert!(house.refused("flipped.db", &["--force"]).contains("checksum"));
    let mut longer = whole[..4096].to_vec();
    longer.extend(&whole);
    write("longer.db", &longer);
    assert!(house.refused("longer.db", &["--force"]).contains("length"));
    assert!(house.refused("absent.db", &["--force"]).contains("cannot be read"));

    // The line of a newer version.
    let at = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    let line = String::from_utf8(whole[at..].to_vec()).unwrap();
    let mut manifest: Value = serde_json::from_str(&line).unwrap();
    manifest["schema"] = 9999.into();
    let newer = [&whole[..=at], format!("{manifest}\n").as_bytes()].concat();
    write("newer.db", &newer);
    let why = house.refused("newer.db", &["--force"]);
    assert!(why.contains("schema version 9999"), "{why}");

    let before = tree(&house.data());
    let dry = house.restore("backup.db", &["--force", "--dry-run"]).json();
    assert_eq!(dry["list_before"], house.value("select id from revocation_feed").await);
    assert_eq!(tree(&house.data()), before, "a dry run changes nothing");
    house.restore("backup.db", &["--force"]).worked();
    let why = house.refused("backup.db", &["--force"]);
    assert!(why.contains("keyward.db.before exists"), "{why}");

    let postgres = ["backup", "x.db", "--database-url", "postgres://keyward@db/keyward"];
    let finished = house.run(&postgres);
    assert!(finished.stderr.contains("pg_dump"), "{finished:?}");
    let finished = house.run(&["backup", house.file("backup.db").to_str().unwrap()]);
    assert!(finished.stderr.contains("exists") && finished.stderr.contains("--force"));
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_of_another_master_key_is_refused() {
    let (house, other) = (House::new(&[]), House::new(&[]));
    house.backup("backup.db");
    fs::copy(house.file("backup.db"), other.file("backup.db")).unwrap();
    let why = other.refused("backup.db", &["--force"]);
    assert!(why.contains("was sealed with master key"), "{why}");
    // Without any key, none is created.
    fs::remove_dir_all(other.data()).unwrap();
    let finished = other.restore("backup.db", &[]);
    assert!(finished.stderr.contains("master.key is missing"), "{finished:?}");
    assert!(tree(&other.data()).is_empty());
    fs::copy(house.data().join("master.key"), other.data().join("master.key")).unwrap();
    other.restore("backup.db", &[]).worked();
    let serving = other.serve();
    Admin::new(serving.grpc.clone(), &house.admin).await.acme().await;
    stop(serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_from_before_a_change_of_the_master_key_is_restored() {
    let mut house = House::new(&[]);
    let manifest = house.backup("backup.db");
    assert_eq!(manifest["master_keys"], serde_json::json!([manifest["master_key"]]));
    let key = house.data().join("master.key");
    let old = house.file("old.key");
    fs::copy(&key, &old).unwrap();
    fs::write(&key, STANDARD.encode([7; 32])).unwrap();
    let why = house.refused("backup.db", &["--force"]);
    assert!(why.contains("was sealed with master key"), "{why}");
    let old = old.display().to_string();
    house.settings.push(("KEYWARD_ADDITIONAL_MASTER_KEY_FILE", old));
    house.restore("backup.db", &["--force"]).worked();
    let serving = house.serve();
    Admin::new(serving.grpc.clone(), &house.admin).await.acme().await;
    let manifest = house.backup("later.db");
    assert_eq!(manifest["master_keys"].as_array().unwrap().len(), 2, "{manifest}");
    stop(serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_of_an_older_schema_is_migrated() {
    const OLDER: &str = "drop trigger audit_events_add_tenant_changes; drop table tenant_changes; \
        delete from _sqlx_migrations where version = 14";
    let house = House::new(&[]);
    change(&house.data().join("keyward.db"), OLDER).await;
    house.backup("backup.db");
    house.restore("backup.db", &["--force"]).worked();
    assert_eq!(house.value("select count(*) from _sqlx_migrations where version = 14").await, "1");
    let serving = house.serve();
    Admin::new(serving.grpc.clone(), &house.admin).await.acme().await;
    stop(serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_made_after_the_backup_is_not_used_again() {
    const NEWEST: &str = "select id from signing_keys order by generation desc limit 1";
    let mut house = House::new(&[]);
    house.backup("backup.db");
    house.settings.push(("KEYWARD_TOKENS_SIGNING_ALGORITHM", "EdDSA".to_owned()));
    stop(house.serve());
    let lost = house.value(NEWEST).await;
    house.restore("backup.db", &["--force"]).worked();
    stop(house.serve());
    let new = house.value(NEWEST).await;
    assert_ne!(new, lost);
    assert_eq!(house.value("select count(*) from signing_keys").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_leaves_no_half_backup_and_no_half_restore() {
    let house = House::new(&[]);
    house.backup("backup.db");
    let size = fs::metadata(house.file("backup.db")).unwrap().len();
    let limited = |limit: u64, arguments: &[&str]| {
        let mut command = on_full_disk(limit, arguments);
        command.env("KEYWARD_DATA_DIR", house.data()).env("KEYWARD_ISSUER", ISSUER);
        block_in_place(|| Finished::of(&mut command))
    };
    let outside = tree(house.folder.path());
    for limit in [0, 1, 4096, size / 2, size - 10] {
        let second = house.file("second.db");
        let finished = limited(limit, &["backup", second.to_str().unwrap()]);
        assert_eq!(finished.code, Some(1), "{limit}: {finished:?}");
        assert!(finished.stderr.contains("second.db cannot be written"), "{finished:?}");
        let reasons = ["disk I/O error", "is full", "File too large"];
        assert!(reasons.iter().any(|why| finished.stderr.contains(why)), "{finished:?}");
        assert_eq!(tree(house.folder.path()), outside, "{limit}");
        if limit > size / 2 {
            // The database itself fits.
            continue;
        }
        let before = tree(&house.data());
        let file = house.file("backup.db");
        let finished = limited(limit, &["restore", file.to_str().unwrap(), "--force"]);
        assert_eq!(finished.code, Some(1), "{limit}: {finished:?}");
        assert_eq!(tree(&house.data()), before, "{limit}: {finished:?}");
    }
    house.backup("second.db");
    house.restore("second.db", &["--force"]).worked();
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_postgres_dump_revives_nothing_after_accept() {
    let redis = block_in_place(RedisServer::start);
    let url = fresh_database().await;
    let house = House::new(&[("KEYWARD_REDIS_URL", &redis.url()), ("KEYWARD_DATABASE_URL", &url)]);
    let serving = house.serve();
    let mut proxy = Proxy::to(address(&serving.grpc)).await;
    let mut admin = Admin::new(serving.grpc.clone(), &house.admin).await;
    let (_, crm) = admin.acme().await;
    let gateway = gateway(&mut admin).await;
    let verifier = verifier(&format!("http://{}", proxy.address), &gateway).await;
    let (lost, live) = (crm.token(&serving.grpc).await, crm.token(&serving.grpc).await);
    let dump = house.file("dump");
    let postgres = |program: &str, arguments: &[&str]| {
        let done = block_in_place(|| {
            Command::new(program).args(arguments).arg(&url).arg(&dump).output().unwrap()
        });
        assert!(done.status.success(), "{program}: {done:?}");
    };
    // The file follows the URL.
    let script = "exec pg_dump --format=custom --file=\"$2\" \"$1\"";
    postgres("sh", &["-c", script, "sh"]);
    revoke(&mut admin, &lost).await;
    until("the verifier follows", async || verifier.verify(&lost) == Err(Refusal::Revoked)).await;
    until("Redis has the list", async || {
        redis.cli(&["hget", "keyward:revocations:{list}:coded:marker", "last"]) == "1"
    })
    .await;
    stop(serving);
    let script = "exec pg_restore --clean --if-exists --exit-on-error --dbname=\"$1\" \"$2\"";
    postgres("sh", &["-c", script, "sh"]);
    let arguments = ["serve"].iter().chain(&FREE_PORTS).copied().collect::<Vec<_>>();
    let log = block_in_place(|| Serving::try_start(&mut house.command(&arguments)));
    let log = log.err().expect("Redis knows more");
    assert!(log.contains("0 revocations, but 1 are known"), "{log}");

    let accepted = house.run(&["revocations", "accept", "--yes", "-o", "json"]).json();
    assert_eq!(accepted["revocations_put_back"], 1, "{accepted}");
    assert_eq!(accepted["tenants_revoked"], 2);
    let serving = house.serve();
    proxy.lead_to(address(&serving.grpc)).await;
    let mut admin = Admin::new(serving.grpc.clone(), &house.admin).await;
    let new = crm.token(&serving.grpc).await;
    until("new tokens are accepted", async || verifier.verify(&new).is_ok()).await;
    assert_eq!(verifier.verify(&lost), Err(Refusal::Revoked), "it was never forgotten");
    until("the verifier starts over", async || verifier.verify(&live) == Err(Refusal::Revoked))
        .await;
    for token in [&lost, &live] {
        assert!(!admin.is_active(token).await);
        assert_eq!(verifier.verify(token), Err(Refusal::Revoked));
    }
    stop(serving);
}

/// With kept tokens, only the revocation that Redis knew refuses the token after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn revocation_that_only_redis_knows_is_put_back() {
    let redis = block_in_place(RedisServer::start);
    let house = House::new(&[("KEYWARD_REDIS_URL", &redis.url())]);
    let serving = house.serve();
    let mut admin = Admin::new(serving.grpc.clone(), &house.admin).await;
    let (_, crm) = admin.acme().await;
    let (lost, live) = (crm.token(&serving.grpc).await, crm.token(&serving.grpc).await);
    let copy = house.file("copy.db");
    let vacuum = format!("vacuum into '{}'", copy.display());
    change(&house.data().join("keyward.db"), &vacuum).await;
    revoke(&mut admin, &lost).await;
    until("Redis has the list", async || {
        redis.cli(&["hget", "keyward:revocations:{list}:coded:marker", "last"]) == "1"
    })
    .await;
    stop(serving);
    fs::rename(&copy, house.data().join("keyward.db")).unwrap();
    let accept = ["revocations", "accept", "--yes", "--keep-tokens", "-o", "json"];
    assert_eq!(house.run(&accept).json()["revocations_put_back"], 1);
    let serving = house.serve();
    let mut admin = Admin::new(serving.grpc.clone(), &house.admin).await;
    assert!(!admin.is_active(&lost).await);
    assert!(admin.is_active(&live).await);
    stop(serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_continues_without_redis_and_says_so() {
    let away = format!("redis://127.0.0.1:{}", free_port());
    let house = House::new(&[("KEYWARD_REDIS_URL", &away)]);
    house.backup("backup.db");
    let finished = house.restore("backup.db", &["--force"]);
    assert!(finished.stderr.contains("Redis cannot be read"), "{finished:?}");
    assert_eq!(finished.json()["revocations_put_back"], 0);
}
