//! Cached clients, whose secret was verified recently. They need no hash, and are refused at the
//! same time as others.

use futures_util::future::join_all;
use keyward::internals::domain::{CredentialId, SecretKind};
use keyward::internals::secrets::Prefixes;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;

use crate::harness::{
    Admin, Backend, Credential, Keyward, RedisServer, mask, on_both_databases, reason,
};

on_both_databases!(
    verified_secret_is_not_hashed_again,
    concurrent_first_uses_of_a_secret_share_one_hash,
    similar_secret_is_not_taken_from_the_cache,
    every_way_to_end_a_client_applies_to_cached_ones,
    cached_client_gets_additions_immediately,
    ended_secret_of_a_cached_client_is_refused,
    change_of_an_application_keeps_others_cached,
);

const TENANT: &str = "tenants/acme";
const CRM: &str = "tenants/acme/applications/crm";

fn hashes(kw: &Keyward) -> u64 {
    kw.server().service.hashes().get()
}

async fn refused(kw: &Keyward, client: &Credential) -> String {
    reason(&client.exchange(&kw.grpc(), &[], &[]).await.unwrap_err())
}

async fn verified_secret_is_not_hashed_again(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    for client in [crm, key] {
        let before = hashes(&kw);
        for _ in 0..5 {
            client.token(&kw.grpc()).await;
        }
        assert_eq!(hashes(&kw) - before, 1);
    }
}

async fn concurrent_first_uses_of_a_secret_share_one_hash(backend: Backend) {
    const MANY: usize = 20;
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    for client in [crm, key] {
        let before = hashes(&kw);
        let grpc = kw.grpc();
        let uses = join_all((0..MANY).map(|_| client.exchange(&grpc, &[], &[]))).await;
        assert!(uses.iter().all(Result::is_ok));
        assert_eq!(hashes(&kw) - before, 1, "one finds out for all");
    }
}

/// A well-formed secret that does not exist.
fn unknown_secret() -> String {
    let id = CredentialId::parse(&"0".repeat(32)).unwrap();
    let secret = Prefixes::default().generate(SecretKind::ClientSecret, &id).unwrap();
    secret.expose().to_owned()
}

async fn similar_secret_is_not_taken_from_the_cache(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, other) = admin.credential(CRM, Kind::ClientSecret).await;
    crm.token(&kw.grpc()).await;
    other.token(&kw.grpc()).await;
    let with = |secret: String| Credential { secret, ..crm.clone() };
    let before = hashes(&kw);
    assert_eq!(refused(&kw, &with(unknown_secret())).await, "INVALID_CLIENT");
    assert_eq!(refused(&kw, &with(other.secret.clone())).await, "INVALID_CLIENT", "another's");
    assert_eq!(hashes(&kw) - before, 2, "as everybody's");
    let cut = crm.secret[..crm.secret.len() - 1].to_owned();
    for malformed in [cut, format!("{}0", crm.secret), format!("{}\0", crm.secret)] {
        assert_eq!(refused(&kw, &with(malformed)).await, "INVALID_CLIENT");
    }
    assert_eq!(hashes(&kw) - before, 2, "those cannot be secrets");
    crm.token(&kw.grpc()).await;
}

/// The ways to end a client, in turn, with the resulting error.
pub(crate) const ENDS: [(&str, &str); 10] = [
    ("delete credential", "INVALID_CLIENT"),
    ("disable credential", "INVALID_CLIENT"),
    ("rotate", "INVALID_CLIENT"),
    ("end credential", "INVALID_CLIENT"),
    ("delete application", "INVALID_CLIENT"),
    ("disable application", "INVALID_CLIENT"),
    ("demote owner", "SCOPE_NOT_ALLOWED"),
    ("disable owner", "INVALID_CLIENT"),
    ("disable tenant", "INVALID_CLIENT"),
    ("turn off", "INVALID_CLIENT"),
];

pub(crate) async fn end(owned: &mut Owned, kw: &Keyward, what: &str) {
    let (application, credential) = (owned.application.clone(), owned.credential.clone());
    let admin = &mut owned.admin;
    let soon = prost_types::Timestamp { seconds: kw.now().as_second() + 1, nanos: 0 };
    let of_credential = |credential, path| pb::UpdateCredentialRequest {
        credential: Some(credential),
        update_mask: mask(&[path]),
    };
    match what {
        "delete credential" => {
            let request = pb::DeleteCredentialRequest { name: credential, ..Default::default() };
            admin.credentials.delete_credential(request).await.map(drop)
        }
        "disable credential" => {
            let change = pb::Credential { name: credential, disabled: true, ..Default::default() };
            let request = of_credential(change, "disabled");
            admin.credentials.update_credential(request).await.map(drop)
        }
        "rotate" => {
            let overlap = Some(prost_types::Duration::default());
            let request =
                pb::RotateCredentialRequest { name: credential, overlap, ..Default::default() };
            admin.credentials.rotate_credential(request).await.map(drop)
        }
        "end credential" => {
            let expire_time = Some(soon);
            let change = pb::Credential { name: credential, expire_time, ..Default::default() };
            let request = of_credential(change, "expire_time");
            admin.credentials.update_credential(request).await.unwrap();
            kw.advance(1);
            Ok(())
        }
        "delete application" => {
            let request = pb::DeleteApplicationRequest { name: application, ..Default::default() };
            admin.applications.delete_application(request).await.map(drop)
        }
        "disable application" => {
            let change =
                pb::Application { name: application, disabled: true, ..Default::default() };
            let request = pb::UpdateApplicationRequest {
                application: Some(change),
                update_mask: mask(&["disabled"]),
            };
            admin.applications.update_application(request).await.map(drop)
        }
        "demote owner" => {
            admin.user("acme", "sam", &[]).await;
            Ok(())
        }
        "disable owner" => {
            let name = format!("{TENANT}/users/sam");
            let user = Some(pb::User { name, disabled: true, ..Default::default() });
            let request = pb::UpdateUserRequest {
                user,
                update_mask: mask(&["disabled"]),
                ..Default::default()
            };
            admin.users.update_user(request).await.map(drop)
        }
        "disable tenant" | "turn off" => {
            let policy = pb::Policy { api_credentials_disabled: true, ..Default::default() };
            let tenant = pb::Tenant {
                name: TENANT.to_owned(),
                disabled: true,
                policy: Some(policy),
                ..Default::default()
            };
            let path = if what == "turn off" { "policy" } else { "disabled" };
            let request =
                pb::UpdateTenantRequest { tenant: Some(tenant), update_mask: mask(&[path]) };
            admin.tenants.update_tenant(request).await.map(drop)
        }
        other => panic!("{other}"),
    }
    .unwrap();
}

/// Clients of an application that a user owns.
pub(crate) struct Owned {
    pub(crate) admin: Admin,
    pub(crate) application: String,
    pub(crate) credential: String,
    pub(crate) client: Credential,
    pub(crate) key: Credential,
}

impl Owned {
    pub(crate) async fn new(kw: &Keyward) -> Self {
        let mut admin = kw.admin().await;
        admin.tenant("acme", &["a", "b"]).await;
        admin.role("acme", "maker", &["applications.create.own"], &["a"]).await;
        let sam = admin.user("acme", "sam", &["maker"]).await;
        let mut sam = admin.console(kw).await.acting_for(&sam);
        let application = sam.application("acme", "crm", &["a"]).await.name;
        let (made, client) = sam.credential(&application, Kind::ClientSecret).await;
        let (_, key) = sam.credential(&application, Kind::ApiKey).await;
        Self { admin, application, credential: made.name, client, key }
    }

    /// Uses both credentials until they are cached.
    pub(crate) async fn warm_up(&self, kw: &Keyward) {
        let mut admin = kw.admin().await;
        let mut hashed = Vec::new();
        for _ in 0..2 {
            let before = hashes(kw);
            self.client.token(&kw.grpc()).await;
            assert!(admin.check(&self.key.secret, &["a"]).await.allowed);
            hashed.push(hashes(kw) - before);
        }
        assert_eq!(hashed, [2, 0]);
    }
}

async fn every_way_to_end_a_client_applies_to_cached_ones(backend: Backend) {
    for (what, reported) in ENDS {
        let kw = backend.start().await;
        let mut owned = Owned::new(&kw).await;
        owned.warm_up(&kw).await;
        end(&mut owned, &kw, what).await;
        assert_eq!(refused(&kw, &owned.client).await, reported, "{what}");
        // Other keys of the application still work if only one credential ended.
        let lives = what.contains("credential") || what == "rotate";
        let key = owned.admin.check(&owned.key.secret, &["a"]).await;
        assert_eq!(key.allowed, lives, "{what}");
    }
}

async fn cached_client_gets_additions_immediately(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let scopes = async || crm.exchange(&kw.grpc(), &[], &[]).await.unwrap().scopes;
    assert_eq!(scopes().await, ["a", "b"]);
    let change = pb::Application {
        name: CRM.to_owned(),
        scopes: ["a", "b", "c"].map(ToOwned::to_owned).to_vec(),
        ..Default::default()
    };
    let request =
        pb::UpdateApplicationRequest { application: Some(change), update_mask: mask(&["scopes"]) };
    admin.applications.update_application(request).await.unwrap();
    assert_eq!(scopes().await, ["a", "b", "c"]);

    let settings = pb::Tenant {
        name: TENANT.to_owned(),
        access_token_lifetime: Some(prost_types::Duration { seconds: 77, nanos: 0 }),
        ..Default::default()
    };
    let request = pb::UpdateTenantRequest {
        tenant: Some(settings),
        update_mask: mask(&["access_token_lifetime"]),
    };
    admin.tenants.update_tenant(request).await.unwrap();
    let token = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap();
    assert_eq!(token.expires_in.unwrap().seconds, 77);
}

async fn ended_secret_of_a_cached_client_is_refused(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (made, old) = admin.acme().await;
    old.token(&kw.grpc()).await;
    let request = pb::RotateCredentialRequest {
        name: made.name,
        overlap: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let rotated = admin.credentials.rotate_credential(request).await.unwrap().into_inner();
    let new = Credential { secret: rotated.secret, ..old.clone() };
    let before = hashes(&kw);
    old.token(&kw.grpc()).await;
    new.token(&kw.grpc()).await;
    assert_eq!(hashes(&kw) - before, 1, "the old one is warm, the new one is not yet");
    kw.advance(60);
    assert_eq!(refused(&kw, &old).await, "INVALID_CLIENT");
    let before = hashes(&kw);
    new.token(&kw.grpc()).await;
    assert_eq!(hashes(&kw), before);
}

async fn change_of_an_application_keeps_others_cached(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let erp = admin.application("acme", "erp", &["a"]).await.name;
    let (_, erp) = admin.credential(&erp, Kind::ClientSecret).await;
    for client in [&crm, &erp] {
        client.token(&kw.grpc()).await;
    }
    let before = hashes(&kw);
    let change = pb::Application { name: CRM.to_owned(), disabled: true, ..Default::default() };
    let request = pb::UpdateApplicationRequest {
        application: Some(change),
        update_mask: mask(&["disabled"]),
    };
    admin.applications.update_application(request).await.unwrap();
    erp.token(&kw.grpc()).await;
    assert_eq!(hashes(&kw), before);
    assert_eq!(refused(&kw, &crm).await, "INVALID_CLIENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_with_redis_does_not_repeat_hashes() {
    let redis = RedisServer::start();
    let [mut kw] = Keyward::replicas(Some(&redis.url()), &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    crm.token(&kw.grpc()).await;
    kw.restart().await;
    let other = kw.join().await;
    for replica in [&kw, &other] {
        let before = hashes(replica);
        crm.token(&replica.grpc()).await;
        assert_eq!(hashes(replica), before, "the other one, or an earlier life, found it right");
    }
    let (_, wrong) = kw.admin().await.credential(CRM, Kind::ClientSecret).await;
    let wrong = Credential { client_id: crm.client_id.clone(), ..wrong };
    assert_eq!(refused(&kw, &wrong).await, "INVALID_CLIENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_stores_only_a_keyed_tag_of_a_secret() {
    let redis = RedisServer::start();
    let [kw, other] = Keyward::replicas(Some(&redis.url()), &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, stranger) = admin.credential(CRM, Kind::ClientSecret).await;
    crm.token(&kw.grpc()).await;
    stranger.token(&kw.grpc()).await;
    let key = |client: &Credential| format!("keyward:verified:{}:1", client.client_id);
    assert_eq!(redis.cli(&["exists", &key(&crm), &key(&stranger)]), "2");
    let left: i64 = redis.cli(&["ttl", &key(&crm)]).parse().unwrap();
    assert!(left > 0, "it goes by itself: {left}");

    // Copying an entry in Redis to another key makes no other secret valid.
    redis.cli(&["copy", &key(&stranger), &key(&crm), "replace"]);
    let before = hashes(&other);
    let as_crm = Credential { secret: stranger.secret.clone(), ..crm.clone() };
    assert_eq!(refused(&other, &as_crm).await, "INVALID_CLIENT");
    crm.token(&other.grpc()).await;
    assert_eq!(hashes(&other) - before, 2, "what is there says nothing, so both are hashed");
    redis.cli(&["flushall"]);
    stranger.token(&other.grpc()).await;
    assert_eq!(hashes(&other) - before, 3);
}
