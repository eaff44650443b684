//! An older state of the database: a lagging standby, or a restored backup. No knowledge is lost
//! because of it: callers get UNAVAILABLE until the database catches up, or until an operator
//! declares it authoritative.

use std::process::Command;

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::verifier::{Refusal, Settings, Verifier, VerifierCredential};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::faults_postgres::{BOUND, SETTINGS, unknown, wired};
use super::scene::{STEPS, Scene, Word, ask, claims};
use crate::harness::{Credential, Keyward, PATIENCE, Proxy, RedisServer, fresh_database, until};

const MARKER: &str = "keyward:revocations:{list}:coded:marker";
const ROWS: &str = "keyward:revocations:{list}:coded:rows";

/// A database behind a proxy, and a copy of an earlier state. Either can be at the address.
struct Copies {
    proxy: Proxy,
    /// The URL through the proxy.
    url: String,
    /// The direct URL.
    direct: String,
}

impl Copies {
    async fn new() -> Self {
        let direct = fresh_database().await;
        let (proxy, url) = wired(&direct).await;
        Self { proxy, url, direct }
    }

    fn name(&self) -> &str {
        self.direct.rsplit_once('/').unwrap().1
    }

    /// Copies the current database.
    async fn copy(&mut self) {
        let name = self.name().to_owned();
        self.alone(&[format!("create database {name}_copy template {name}")]).await;
    }

    /// Moves the address to the other database.
    async fn swap(&mut self) {
        let name = self.name().to_owned();
        let steps = [(&*name, "_other"), ("_copy", ""), ("_other", "_copy")];
        let steps = steps.map(|(from, to)| {
            let from = if from == name { String::new() } else { from.to_owned() };
            format!("alter database {name}{from} rename to {name}{to}")
        });
        self.alone(&steps).await;
    }

    /// Runs statements that require that the databases have no connections.
    async fn alone(&mut self, statements: &[String]) {
        self.proxy.cut().await;
        let (server, name) = self.direct.rsplit_once('/').unwrap();
        let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
        for statement in statements {
            until(statement, async || {
                let end = format!(
                    "select pg_terminate_backend(pid) from pg_stat_activity \
                     where datname in ('{name}', '{name}_copy', '{name}_other')"
                );
                sqlx::raw_sql(AssertSqlSafe(end)).execute(&mut admin).await.unwrap();
                let statement = sqlx::raw_sql(AssertSqlSafe(statement.clone()));
                statement.execute(&mut admin).await.is_ok()
            })
            .await;
        }
        self.proxy.mend().await;
    }
}

/// Runs the operator's command on a server's machine.
async fn accept(server: &Keyward, database: &str, flags: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command
        .args(["revocations", "accept", "--yes", "--output", "json"])
        .args(["--database-url", database])
        .args(flags)
        .env("KEYWARD_MASTER_KEY_FILE", server.folder().join("master.key"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A verifier that follows a replica.
async fn verifier(server: &Keyward, gateway: &Credential) -> Verifier {
    let credential =
        VerifierCredential::client_secret(gateway.client_id.clone(), gateway.secret.clone());
    let settings = Settings {
        clock: server.clock(),
        ready_within: PATIENCE,
        max_lag: BOUND,
        ..Settings::new(server.grpc(), credential, "https://keyward.test", "tenants/acme")
    };
    Verifier::connect(settings).await.unwrap()
}

/// Two replicas with a database and a copy of it, from before a token was revoked at each replica
/// and an API key was deleted.
struct Changed {
    copies: Copies,
    redis: RedisServer,
    scene: Scene,
    gateway: Credential,
    verifier: Verifier,
    /// The revoked tokens.
    tokens: Vec<String>,
    deleted_key: String,
}

async fn changed_after_a_copy() -> Changed {
    let redis = RedisServer::start();
    let mut copies = Copies::new().await;
    let replicas: [Keyward; 2] =
        Keyward::replicas_on(copies.url.clone(), Some(&redis.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 6).await;
    let admin = &mut scene.admins[0];
    let (key, secret) = admin.credential("tenants/acme/applications/crm", Kind::ApiKey).await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let gateway = admin.credential(&application.name, Kind::ClientSecret).await.1;
    scene.revoke(0).await;
    let deleted_key = secret.secret;
    assert_eq!(ask(&mut scene.admins[1], &deleted_key).await, Word::Allowed);
    copies.copy().await;
    scene.recovered().await;
    let verifier = verifier(&scene.replicas[0], &gateway).await;
    let mut tokens = Vec::new();
    for at in [0, 1] {
        tokens.push(scene.stock.last().unwrap().clone());
        scene.revoke(at).await;
    }
    let request = pb::DeleteCredentialRequest { name: key.name, ..Default::default() };
    scene.admins[0].credentials.delete_credential(request).await.unwrap();
    for admin in &mut scene.admins {
        until("a deleted key is refused", async || ask(admin, &deleted_key).await != Word::Allowed)
            .await;
    }
    for token in &tokens {
        until("the verifier knows", async || verifier.verify(token) == Err(Refusal::Revoked)).await;
    }
    projected(&redis, 4).await;
    Changed { copies, redis, scene, gateway, verifier, tokens, deleted_key }
}

/// Waits until the projection is as long as the list.
async fn projected(redis: &RedisServer, last: i64) {
    let last = last.to_string();
    until("the list is in Redis", async || {
        redis.try_cli(&["hget", MARKER, "last"]).is_some_and(|there| there == last)
    })
    .await;
}

impl Changed {
    /// Checks that nothing is revived while twice the bound passes.
    async fn assert_nothing_is_revived(&mut self) {
        for _ in 0..STEPS {
            for admin in &mut self.scene.admins {
                for bad in self.tokens.iter().chain([&self.deleted_key]) {
                    assert_ne!(ask(admin, bad).await, Word::Allowed);
                }
            }
            for token in &self.tokens {
                assert!(self.verifier.verify(token).is_err());
            }
            self.scene.step();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_database_revives_nothing() {
    let mut it = Box::pin(changed_after_a_copy()).await;
    let traffic = it.scene.traffic();
    it.copies.swap().await;
    it.assert_nothing_is_revived().await;
    for at in [0, 1] {
        unknown(&mut it.scene, at).await;
        let live = it.scene.replicas[at].server().service.revocations();
        let why = live.trouble().unwrap();
        assert!(why.contains("4 are known") && why.contains("revocations accept"), "{why}");
        assert_eq!(live.index().last(), 4, "it never moves back");
    }
    assert_eq!(it.redis.cli(&["hget", MARKER, "last"]), "4", "nor does what Redis has");
    // A server that starts without knowledge is refused, too.
    let why = it.scene.replicas[0].refused_to_join().await.to_string();
    assert!(why.contains("1 revocations, but 4 are known"), "{why}");

    // The newer database again, as when a standby has caught up.
    it.copies.swap().await;
    it.scene.recovered().await;
    it.scene.assert_nothing_forgotten().await;
    let (verifier, live) = (&it.verifier, &it.scene.live);
    until("the verifier takes what is good", async || verifier.verify(live).is_ok()).await;
    assert!(it.scene.replicas[0].server().service.revocations().trouble().is_none());
    it.scene.revoke(1).await;
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_backup_is_used_by_all_and_old_tokens_are_refused() {
    let mut it = Box::pin(changed_after_a_copy()).await;
    it.copies.swap().await;
    unknown(&mut it.scene, 0).await;
    unknown(&mut it.scene, 1).await;
    let before = it.scene.replicas[0].server().service.revocations().index().feed();
    let declared = accept(&it.scene.replicas[0], &it.copies.direct, &[]).await;
    let list = declared["list"].as_str().unwrap().to_owned();
    assert_eq!(declared["list_before"], before.as_str());
    assert_eq!(
        (&declared["revocations_before"], &declared["tenants_revoked"]),
        (&1.into(), &2.into())
    );

    let old = it.scene.live.clone();
    for at in [0, 1] {
        let live = it.scene.replicas[at].server().service.revocations();
        until("it takes the list over", async || live.index().feed() == list).await;
        it.scene.admins[at] = it.scene.replicas[at].admin().await;
    }
    it.scene.live = it.scene.crm.token(&it.scene.replicas[0].grpc()).await;
    it.scene.recovered().await;
    it.scene.assert_nothing_forgotten().await;
    for admin in &mut it.scene.admins {
        assert!(!admin.is_active(&old).await, "it was made before");
        // What was deleted after the backup exists again, as declared.
        assert_eq!(ask(admin, &it.deleted_key).await, Word::Allowed);
    }
    let (verifier, live) = (&it.verifier, &it.scene.live);
    until("the verifier takes what is new", async || verifier.verify(live).is_ok()).await;
    for token in it.tokens.iter().chain([&old]) {
        assert_eq!(verifier.verify(token), Err(Refusal::Revoked));
    }
    until("the declared list is in Redis", async || {
        it.redis.try_cli(&["hget", MARKER, "feed"]).is_some_and(|feed| feed == list)
    })
    .await;
    // New servers refuse it, too.
    let late = it.scene.replicas[0].join().await;
    it.scene.add(late).await;
    it.scene.assert_nothing_forgotten().await;
    self::verifier(&it.scene.replicas[1], &it.gateway).await.verify(&it.scene.live).unwrap();

    let request =
        pb::ListAuditEventsRequest { parent: "tenants/system".to_owned(), ..Default::default() };
    let events = it.scene.admins[0].audit.list_audit_events(request).await.unwrap();
    let events = events.into_inner().events;
    let event = events.iter().find(|event| event.action == "AcceptDatabase").unwrap();
    assert!(event.detail.contains(&list), "{event:?}");

    // Accepting again is harmless, also with a backup from before the first time.
    it.copies.alone(&[format!("drop database {0}_copy", it.copies.name())]).await;
    let again = accept(&it.scene.replicas[0], &it.copies.direct, &[]).await;
    assert_eq!(again["list_before"], list.as_str());
    let list = again["list"].as_str().unwrap();
    for at in [0, 1, 2] {
        let live = it.scene.replicas[at].server().service.revocations();
        until("it takes the list over", async || live.index().feed() == list).await;
        it.scene.admins[at] = it.scene.replicas[at].admin().await;
    }
    assert!(!it.scene.admins[2].is_active(&it.scene.live).await);
    it.scene.live = it.scene.crm.token(&it.scene.replicas[0].grpc()).await;
    it.scene.recovered().await;
    it.scene.revoke(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_backup_with_kept_tokens_revives_no_token_known_to_be_revoked() {
    let mut copies = Copies::new().await;
    let replicas: [Keyward; 1] = Keyward::replicas_on(copies.url.clone(), None, &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 2).await;
    let (key, secret) =
        scene.admins[0].credential("tenants/acme/applications/crm", Kind::ApiKey).await;
    copies.copy().await;
    scene.recovered().await;
    scene.revoke(0).await;
    let request = pb::DeleteCredentialRequest { name: key.name, ..Default::default() };
    scene.admins[0].credentials.delete_credential(request).await.unwrap();
    copies.swap().await;
    unknown(&mut scene, 0).await;
    let declared = accept(&scene.replicas[0], &copies.direct, &["--keep-tokens"]).await;
    assert_eq!(declared["tenants_revoked"], 0);
    scene.recovered().await;
    scene.assert_nothing_forgotten().await;
    // The same applies to the deleted key, as long as its revocation is known.
    assert_ne!(ask(&mut scene.admins[0], &secret.secret).await, Word::Allowed);
    scene.revoke(0).await;
}

/// A list that lost its last revocation and assigned the number to another one; and a list of
/// another database.
#[tokio::test(flavor = "multi_thread")]
async fn list_with_other_rows_or_another_database_is_refused() {
    const OTHER_ROW: &str =
        "update revocations set subject = 'another', kind = 'token' where number = 3";
    const HOLE: &str = "begin; update revocation_feed set last_number = 5; \
        insert into revocations select 5, kind, subject, epoch, revoked_at, expires_at \
          from revocations where number = 3; commit";
    const OTHER_DATABASE: &str = "update revocation_feed set id = 'another'";
    for (meddle, why) in [
        (OTHER_ROW, "other revocations than are known"),
        (HOLE, "other revocations than are known"),
        (OTHER_DATABASE, "another database"),
    ] {
        let replicas: [Keyward; 1] = Keyward::replicas(None, &SETTINGS).await;
        let mut scene = Scene::new(replicas, BOUND, 3).await;
        for _ in 0..3 {
            scene.revoke(0).await;
        }
        scene.replicas[0].sql(meddle, None).await.unwrap();
        unknown(&mut scene, 0).await;
        let live = scene.replicas[0].server().service.revocations();
        let reported = live.trouble().unwrap();
        assert!(reported.contains(why), "{reported}");
        scene.assert_refused_or_unknown().await;
    }
}

/// An attacker who can only write to Redis can neither make the list look current nor add to it.
#[tokio::test(flavor = "multi_thread")]
async fn forged_projection_is_ignored() {
    const FORGE: &str = "\
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'checked', now, 'last', ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[2])
return now";
    let redis = RedisServer::start();
    let database = fresh_database().await;
    let (mut proxy, url) = wired(&database).await;
    let replicas: [Keyward; 2] = Keyward::replicas_on(url, Some(&redis.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 3).await;
    scene.revoke(0).await;
    projected(&redis, 1).await;
    let row = redis.cli(&["zrange", ROWS, "0", "0"]);
    proxy.cut().await;
    let jti = claims(&scene.live).jti;
    // A copy of a valid row with another subject and, if it has one, its code.
    let (start, _) = row.rsplit_once(' ').unwrap();
    let forged = format!("{start} {jti}").replacen(" 1 token", " 2 token", 1);
    let forged = forged.strip_prefix("1 ").map_or(forged.clone(), |rest| format!("2 {rest}"));
    until("nothing confirms what they know", async || {
        redis.cli(&["eval", FORGE, "2", MARKER, ROWS, "2", &forged]);
        let mut unknown = true;
        for replica in &scene.replicas {
            let live = replica.server().service.revocations();
            let answer = live.revokes(&claims(&scene.live).revocation_keys()).await;
            assert!(answer.as_ref().is_ok_and(|revoked| !revoked) || answer.is_err(), "{answer:?}");
            unknown &= answer.is_err();
        }
        unknown
    })
    .await;
    proxy.mend().await;
    scene.recovered().await;
    scene.revoke(1).await;
    scene.assert_nothing_forgotten().await;
    projected(&redis, 2).await;
}
