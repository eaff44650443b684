//! `kill -9` at random points, while clients make changes continuously. After the next start,
//! every acknowledged change is in effect from the first answer on. A change that was not
//! acknowledged is in effect completely or not at all.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::join_all;
use keyward::internals::config::{Config, Layers};
use keyward::internals::domain::{Client, CredentialId, GrantRequest, ScopeSet};
use keyward::internals::server::{build_service, open_store};
use keyward::internals::service::{GrantType, RequestContext, Service};
use keyward::internals::store::Store;
use keyward::proto::access::BatchCheckAccessRequest;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokenRequest;
use sqlx::{Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::task::{JoinSet, spawn_blocking};
use tonic::Code;

use super::binary::{Finished, Serving, exported, keyward};
use crate::harness::{
    Admin, Credential, Dice, RedisServer, fresh_database, mask, pause, question, reason, until,
};

const ISSUER: &str = "https://keyward.test";
/// The longest delay before a server is killed, in microseconds. It counts from the server's start
/// or from the event that a round waits for.
const SOON: u64 = 80_000;
/// The same for every third round.
const LATER: u64 = 200_000;

/// Issues tokens like the servers, without the cost of a secret hash.
struct Mint {
    service: Service,
    store: Store,
}

impl Mint {
    async fn client(&self, id: &str) -> Client {
        let id = CredentialId::parse(id).unwrap();
        self.store.read().await.unwrap().find_client(&id).await.unwrap().unwrap()
    }

    async fn token(&self, client: &Client) -> String {
        let request = GrantRequest { scopes: ScopeSet::default(), audiences: Vec::new() };
        let grant = GrantType::ClientCredentials(request);
        let context = RequestContext::new(None, self.service.now());
        let client = Arc::new(client.clone());
        let issued = self.service.tokens.issue_to(&context, &client, grant).await.unwrap();
        issued.access_token.expose().to_owned()
    }
}

/// The acknowledged state. It leaves out credentials whose change is in flight.
#[derive(Default)]
struct Acknowledged {
    /// Tokens that were revoked since the last start.
    refused: Vec<String>,
    /// Secrets that were replaced or deleted since then.
    gone: Vec<Credential>,
    /// Valid secrets, by the names of their credentials.
    works: HashMap<String, Credential>,
    /// Credentials to delete, oldest first.
    made: VecDeque<pb::Credential>,
    /// Whether credentials are disabled, by name.
    disabled: HashMap<String, bool>,
    since_start: Counts,
}

/// The number of acknowledged changes of each kind.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    tokens: usize,
    rotations: usize,
    deletions: usize,
    disables: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.rotations += other.rotations;
        self.deletions += other.deletions;
        self.disables += other.disables;
    }

    fn fewest(&self) -> usize {
        self.tokens.min(self.rotations).min(self.deletions).min(self.disables)
    }
}

/// A client that makes changes at one server until the server is killed.
#[derive(Clone)]
struct Worker {
    admin: Admin,
    mint: Arc<Mint>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    killed: Arc<AtomicBool>,
}

impl Worker {
    fn acknowledged(&self) -> MutexGuard<'_, Acknowledged> {
        self.acknowledged.lock().unwrap()
    }

    /// The answer, or `None` if the server was killed first.
    fn answered<T>(&self, answer: Result<T, tonic::Status>) -> Option<T> {
        if let Err(status) = &answer {
            assert!(
                self.killed.load(Ordering::SeqCst),
                "an error before the server was killed: {status:?}"
            );
        }
        answer.ok()
    }

    async fn token_of(&self, credential: &pb::Credential) -> String {
        let client = self.mint.client(&credential.client_id).await;
        self.mint.token(&client).await
    }

    async fn revoke_tokens(mut self, client: Arc<Client>) -> Option<()> {
        loop {
            let token = self.mint.token(&client).await;
            let request = RevokeTokenRequest { token: token.clone() };
            let answer = self.admin.tokens.revoke_token(request).await;
            self.answered(answer)?;
            let mut acknowledged = self.acknowledged();
            acknowledged.since_start.tokens += 1;
            acknowledged.refused.push(token);
        }
    }

    async fn set_disabled(&mut self, name: &str, disabled: bool) -> Option<()> {
        self.acknowledged().disabled.remove(name);
        let credential = pb::Credential { name: name.to_owned(), disabled, ..Default::default() };
        let request = pb::UpdateCredentialRequest {
            credential: Some(credential),
            update_mask: mask(&["disabled"]),
        };
        let answer = self.admin.credentials.update_credential(request).await;
        self.answered(answer)?;
        self.acknowledged().disabled.insert(name.to_owned(), disabled);
        Some(())
    }

    async fn disable(mut self, credential: pb::Credential) -> Option<()> {
        loop {
            self.set_disabled(&credential.name, false).await?;
            let token = self.token_of(&credential).await;
            self.set_disabled(&credential.name, true).await?;
            let mut acknowledged = self.acknowledged();
            acknowledged.since_start.disables += 1;
            acknowledged.refused.push(token);
        }
    }

    /// Replaces the secrets of credentials, one credential at a time. So at most one credential has
    /// an unknown secret after a kill.
    async fn rotate(mut self, credentials: Vec<pb::Credential>) -> Option<()> {
        for credential in credentials.iter().cycle() {
            let name = credential.name.clone();
            let token = self.token_of(credential).await;
            let old = self.acknowledged().works.remove(&name);
            let overlap = Some(prost_types::Duration::default());
            let request = pb::RotateCredentialRequest { name, overlap, ..Default::default() };
            let answer = self.admin.credentials.rotate_credential(request).await;
            let secret = self.answered(answer)?.into_inner().secret;
            let mut acknowledged = self.acknowledged();
            acknowledged.since_start.rotations += 1;
            acknowledged.refused.push(token);
            acknowledged.gone.extend(old);
            acknowledged.works.insert(credential.name.clone(), of(credential, secret));
        }
        None
    }

    /// Creates and deletes credentials. At least one stays.
    async fn turn_over(mut self) -> Option<()> {
        loop {
            let oldest = {
                let made = &mut self.acknowledged().made;
                if made.len() > 1 { made.pop_front() } else { None }
            };
            match oldest {
                Some(credential) => self.delete(&credential).await?,
                None => self.create().await?,
            }
        }
    }

    async fn create(&mut self) -> Option<()> {
        let request = pb::CreateCredentialRequest {
            parent: "tenants/acme/applications/crm".to_owned(),
            credential: Some(pb::Credential {
                kind: Kind::ClientSecret.into(),
                ..Default::default()
            }),
            request_id: String::new(),
        };
        let answer = self.admin.credentials.create_credential(request).await;
        let made = self.answered(answer)?.into_inner();
        let credential = made.credential.unwrap();
        let mut acknowledged = self.acknowledged();
        acknowledged.works.insert(credential.name.clone(), of(&credential, made.secret));
        acknowledged.made.push_back(credential);
        Some(())
    }

    async fn delete(&mut self, credential: &pb::Credential) -> Option<()> {
        let name = credential.name.clone();
        let token = self.token_of(credential).await;
        let secret = self.acknowledged().works.remove(&name);
        let request = pb::DeleteCredentialRequest { name, etag: String::new() };
        let answer = self.admin.credentials.delete_credential(request).await;
        self.answered(answer)?;
        let mut acknowledged = self.acknowledged();
        acknowledged.since_start.deletions += 1;
        acknowledged.refused.push(token);
        acknowledged.gone.extend(secret);
        Some(())
    }

    /// Waits until a round reaches the point after which the server is killed.
    async fn reached(&self, round: u64) {
        let there = |done: Counts| match round % 6 {
            // The first requests after a start are slow, and are interrupted too.
            0 => true,
            // Both take long: the server hashes a secret first.
            2 | 5 => done.rotations > 0 && done.deletions > 0,
            _ => done.tokens > 0,
        };
        until("the round is under way", async || there(self.acknowledged().since_start)).await;
    }
}

fn of(credential: &pb::Credential, secret: String) -> Credential {
    Credential { client_id: credential.client_id.clone(), secret }
}

/// A database, and the servers on it.
struct World {
    folder: TempDir,
    database: Option<String>,
    _redis: Option<RedisServer>,
    admin: Credential,
}

impl World {
    fn new(database: Option<String>) -> Self {
        let folder = TempDir::new().unwrap();
        let redis = database.is_some().then(RedisServer::start);
        let mut file = format!(
            "issuer = \"{ISSUER}\"\ndata_dir = \"{}\"\n[secrets]\nhash_wait = \"1m\"\n\
             wrong_secrets = 0\n[revocations]\npoll_interval = \"200ms\"\n",
            folder.path().display()
        );
        if let (Some(database), Some(redis)) = (&database, &redis) {
            let redis = redis.url();
            let urls = format!("[database]\nurl = \"{database}\"\n[redis]\nurl = \"{redis}\"\n");
            file.push_str(&urls);
        }
        let config = folder.path().join("keyward.toml");
        std::fs::write(&config, file).unwrap();
        let arguments = ["bootstrap", "--config", config.to_str().unwrap()];
        let printed = Finished::of(&mut keyward(arguments)).worked();
        let admin = Credential {
            client_id: exported(&printed, "KEYWARD_CLIENT_ID").to_owned(),
            secret: exported(&printed, "KEYWARD_CLIENT_SECRET").to_owned(),
        };
        Self { folder, database, _redis: redis, admin }
    }

    async fn start(&self) -> Serving {
        let config = self.folder.path().join("keyward.toml").display().to_string();
        spawn_blocking(move || Serving::start(&["--config", &config])).await.unwrap()
    }

    async fn mint(&self) -> Mint {
        let layers = Layers::default()
            .with_flag("data_dir", "test", Some(self.folder.path().display()))
            .with_flag("issuer", "test", Some(ISSUER))
            .with_flag("database.url", "test", self.database.as_deref());
        let config = Config::read(layers).unwrap();
        let store = open_store(&config).await.unwrap();
        let service = build_service(&config, &store).await;
        Mint { service: service.unwrap(), store }
    }

    /// Runs queries on the database that return one number each.
    async fn numbers<const N: usize>(&self, queries: [&'static str; N]) -> Vec<i64> {
        let mut numbers = Vec::with_capacity(N);
        if let Some(url) = &self.database {
            let mut connection = PgConnection::connect(url).await.unwrap();
            for sql in queries {
                numbers.push(sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap());
            }
            return numbers;
        }
        let file = self.folder.path().join("keyward.db");
        let mut connection = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
        for sql in queries {
            numbers.push(sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap());
        }
        numbers
    }

    /// Asserts that each change is stored together with its revocation and its event.
    async fn assert_changes_are_atomic(&self) {
        let faults = [
            (
                "the list has a gap",
                "select count(*) from revocation_feed where last_number <> (select count(*) from \
                 revocations) or last_number <> (select coalesce(max(number), 0) from revocations)",
            ),
            (
                "the log has a gap",
                "select count(*) from (select tenant_id from audit_events group by tenant_id \
                 having count(*) <> max(number)) x",
            ),
            (
                "a token was revoked without an event, or an event has no revocation",
                "select (select count(*) from revocations where kind = 'token') - (select count(*) \
                 from audit_events where action = 'RevokeToken' and not refused)",
            ),
            (
                "an epoch was raised without a revocation, or a revocation has no epoch",
                "select count(*) from credentials c where tenant_id = 'acme' and epoch <> \
                 coalesce((select max(epoch) from revocations where kind = 'credential' and \
                 subject = 'tenants/acme/applications/crm/credentials/' || c.id), 0)",
            ),
            (
                "a rotation left two secrets, or none, or no event",
                "select count(*) from credentials c where tenant_id = 'acme' and (select \
                 count(*) from secrets where credential_id = c.id) <> 1 or (select max(version) - 1 \
                 from secrets where credential_id = c.id) <> (select count(*) from audit_events \
                 where action = 'RotateCredential' and not refused and resource = \
                 'tenants/acme/applications/crm/credentials/' || c.id)",
            ),
            (
                "a credential was created or deleted without an event",
                "select (select count(*) from credentials where tenant_id = 'acme') - (select \
                 count(*) from audit_events where action = 'CreateCredential' and tenant_id = \
                 'acme' and not refused) + (select count(*) from audit_events where action = \
                 'DeleteCredential' and not refused)",
            ),
        ];
        let numbers = self.numbers(faults.map(|(_, sql)| sql)).await;
        for ((what, _), number) in faults.iter().zip(numbers) {
            assert_eq!(number, 0, "{what}");
        }
    }

    /// Kills and restarts a server `count` times. `survivor` is a second server on the same
    /// database that keeps running.
    async fn rounds(&self, count: u64, survivor: Option<&Serving>) {
        let (mut dice, seed) = Dice::any();
        report(&format!("{count} kills at random points, {seed}"));
        let mint = Arc::new(self.mint().await);
        let mut server = self.start().await;
        let first = Admin::new(server.grpc.clone(), &self.admin).await;
        let token = first.token.clone();
        let mut admin = first;
        let TestCredentials { crm, switches, rotated, known } =
            create_credentials(&mut admin).await;
        let crm = Arc::new(mint.client(&crm.client_id).await);
        let mut surviving = match survivor {
            Some(survivor) => Some(Admin::with_token(&survivor.grpc, &token).await),
            None => None,
        };
        let acknowledged =
            Arc::new(Mutex::new(Acknowledged { works: known, ..Default::default() }));
        let mut refused = Vec::new();
        let mut counts = Counts::default();
        for round in 0..count {
            let worker = Worker {
                admin: admin.clone(),
                mint: Arc::clone(&mint),
                acknowledged: Arc::clone(&acknowledged),
                killed: Arc::default(),
            };
            let mut working = JoinSet::new();
            working.spawn(worker.clone().revoke_tokens(Arc::clone(&crm)));
            working.spawn(worker.clone().revoke_tokens(Arc::clone(&crm)));
            working.spawn(worker.clone().turn_over());
            working.spawn(worker.clone().rotate(rotated.clone()));
            for switch in &switches {
                working.spawn(worker.clone().disable(switch.clone()));
            }
            let after = dice.micros(if round % 3 < 2 { SOON } else { LATER });
            let point = async {
                worker.reached(round).await;
                pause(after).await;
            };
            tokio::select! {
                () = point => {}
                ended = working.join_next() => panic!("a worker ended before the kill: {ended:?}"),
            }
            worker.killed.store(true, Ordering::SeqCst);
            server.kill();
            working.join_all().await;

            let new = std::mem::take(&mut worker.acknowledged().refused);
            if let Some(surviving) = &mut surviving {
                until("the other replica applies it", async || allowed(surviving, &new).await == 0)
                    .await;
            }
            server = self.start().await;
            admin = Admin::with_token(&server.grpc, &token).await;
            assert_eq!(allowed(&mut admin, &new).await, 0, "round {round}: in its first answer");
            refused.extend(new);

            let (gone, works, disabled) = {
                let mut acknowledged = worker.acknowledged();
                counts.add(std::mem::take(&mut acknowledged.since_start));
                let gone = std::mem::take(&mut acknowledged.gone);
                let works: Vec<_> = acknowledged.works.values().cloned().collect();
                (gone, works, std::mem::take(&mut acknowledged.disabled))
            };
            assert_secrets(&server.grpc, &works, &gone, round).await;
            if let Some(survivor) = survivor {
                // A wrong secret costs this server a hash, and a right one costs none: so only
                // one wrong secret is tried.
                let newest = gone.last().map(std::slice::from_ref).unwrap_or_default();
                assert_secrets(&survivor.grpc, &works, newest, round).await;
            }
            for (name, disabled) in disabled {
                let request = pb::GetCredentialRequest { name };
                let read = admin.credentials.get_credential(request).await.unwrap().into_inner();
                assert_eq!(read.credential.unwrap().disabled, disabled, "round {round}");
            }
            self.assert_changes_are_atomic().await;
        }
        assert_eq!(allowed(&mut admin, &refused).await, 0, "revocations are kept");
        if let Some(surviving) = &mut surviving {
            assert_eq!(allowed(surviving, &refused).await, 0);
        }
        server.kill();
        report(&format!("{count} kills, acknowledged and kept: {counts:?}"));
        let least = usize::try_from(count / 3).unwrap();
        assert!(counts.fewest() >= least, "too few changes of some kind: {counts:?}");
    }
}

/// Asserts that a server accepts the valid secrets and refuses the others.
async fn assert_secrets(grpc: &str, works: &[Credential], gone: &[Credential], round: u64) {
    let exchange = async |credential: &Credential| credential.exchange(grpc, &[], &[]).await;
    for issued in join_all(works.iter().map(exchange)).await {
        assert!(issued.is_ok(), "round {round}: {issued:?}");
    }
    for issued in join_all(gone.iter().map(exchange)).await {
        let status = issued.expect_err("the secret was replaced or deleted");
        let refused = (status.code(), reason(&status));
        assert_eq!(refused, (Code::Unauthenticated, "INVALID_CLIENT".to_owned()), "round {round}");
    }
}

/// The credentials that the workers change.
struct TestCredentials {
    /// Its tokens are revoked one by one.
    crm: pb::Credential,
    /// Credentials that are disabled and enabled.
    switches: Vec<pb::Credential>,
    /// Credentials whose secrets are replaced.
    rotated: Vec<pb::Credential>,
    /// The secrets of these, by credential name.
    known: HashMap<String, Credential>,
}

async fn create_credentials(admin: &mut Admin) -> TestCredentials {
    let (crm, _) = admin.acme().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await);
    }
    let (switches, rotated) = made.split_at(2);
    let all = |of: &[(pb::Credential, Credential)]| of.iter().map(|(it, _)| it.clone()).collect();
    let known = rotated.iter().map(|(it, secret)| (it.name.clone(), secret.clone())).collect();
    TestCredentials { crm, switches: all(switches), rotated: all(rotated), known }
}

/// The number of tokens that a server does not report as revoked.
async fn allowed(admin: &mut Admin, tokens: &[String]) -> usize {
    let asked = tokens.chunks(50).map(|tokens| {
        let requests = tokens.iter().map(|token| question(token, &[])).collect();
        let mut access = admin.access.clone();
        async move { access.batch_check_access(BatchCheckAccessRequest { requests }).await }
    });
    let mut allowed = 0;
    for answer in join_all(asked).await {
        let answers = answer.unwrap().into_inner().responses;
        allowed += answers.iter().filter(|answer| answer.outcome() != Outcome::Revoked).count();
    }
    allowed
}

#[expect(clippy::print_stdout, reason = "the counts are part of the test's report")]
fn report(what: &str) {
    println!("{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_server_on_sqlite_keeps_acknowledged_changes() {
    let world = World::new(None);
    Box::pin(world.rounds(60, None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_replica_keeps_acknowledged_changes_survivor_applies_them() {
    let world = World::new(Some(fresh_database().await));
    let survivor = world.start().await;
    Box::pin(world.rounds(200, Some(&survivor))).await;
}
