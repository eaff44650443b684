//! The contract of the store: one test per guarantee, on both databases.

mod revocations;

use std::time::Duration;

use jiff::Timestamp;
use keyward::internals::clock::later;
use keyward::internals::domain::{
    Application, ApplicationId, ApplicationName, ApplicationSettings, Audience, Client, Credential,
    CredentialId, CredentialKind, CredentialName, CredentialSettings, Endpoint, HttpMethod, Limits,
    NeededScopes, Owner, PageRequest, PathTemplate, Record, Scope, ScopeId, ScopeName, ScopeSet,
    ScopeSettings, SecretEnd, SecretRecord, Tenant, TenantId, TenantSettings, TokenLifetime,
};
use keyward::internals::store::{
    Affected, Database, FoundResources, PoolOptions, SealedSigningKey, Store,
};
use tempfile::TempDir;

use crate::harness::{Backend, fresh_database, on_both_databases};

mod changes;
mod federated;
mod last_uses;
mod migrations;
mod replay;
mod search;
mod spent_tokens;
mod usage;

on_both_databases!(
    stored_resources_round_trip,
    uncommitted_changes_are_not_stored,
    duplicate_key_does_not_end_the_transaction,
    update_of_old_revision_is_refused,
    names_are_paged_in_byte_order,
    deleted_scope_is_removed_from_applications,
    tenant_is_deleted_with_all_its_resources,
    new_secret_expires_the_old_ones,
    disabled_scope_is_not_effective,
    signing_key_generation_is_unique,
    writers_of_one_tenant_wait_for_each_other,
    rules_are_found_by_their_scopes,
);

struct Fresh {
    store: Store,
    /// The URL, for PostgreSQL.
    url: Option<String>,
    folder: TempDir,
}

async fn fresh(backend: Backend) -> Fresh {
    let folder = TempDir::new().unwrap();
    let url = match backend {
        Backend::Sqlite => None,
        Backend::Postgres => Some(fresh_database().await),
    };
    let database = match &url {
        None => Database::Sqlite(folder.path().join("keyward.db")),
        Some(url) => Database::parse(url).unwrap(),
    };
    let options = PoolOptions { max_connections: 4, acquire_timeout: Duration::from_mins(1) };
    Fresh { store: Store::open(&database, options).await.unwrap(), url, folder }
}

/// Another replica's connections to the same database.
async fn other_store(fresh: &Fresh) -> Store {
    let database = match &fresh.url {
        None => Database::Sqlite(fresh.folder.path().join("keyward.db")),
        Some(url) => Database::parse(url).unwrap(),
    };
    let options = PoolOptions { max_connections: 4, acquire_timeout: Duration::from_mins(1) };
    Store::open(&database, options).await.unwrap()
}

fn now() -> Timestamp {
    "2026-06-01T12:00:00.123456Z".parse().unwrap()
}

fn tenant(id: &str) -> Tenant {
    let id = TenantId::parse(id).unwrap();
    Tenant { settings: TenantSettings::new(&id), id, epoch: 0, life: 1, record: Record::new(now()) }
}

fn scope(tenant: &str, scope: &str) -> Scope {
    Scope {
        id: ScopeId {
            tenant: TenantId::parse(tenant).unwrap(),
            scope: ScopeName::parse(scope).unwrap(),
        },
        settings: ScopeSettings::default(),
        record: Record::new(now()),
    }
}

fn application(tenant: &str, id: &str, scopes: &str) -> Application {
    let scopes = ScopeSet::parse(scopes).unwrap();
    Application {
        name: ApplicationName {
            tenant: TenantId::parse(tenant).unwrap(),
            application: ApplicationId::parse(id).unwrap(),
        },
        settings: ApplicationSettings {
            display_name: "Zoë's \"CRM\"".to_owned(),
            scopes: scopes.clone(),
            expires_at: Some(later(now(), Duration::from_mins(1)).into()),
            exchange_audiences: ["https://a.example", "b"]
                .map(|audience| Audience::parse(audience).unwrap())
                .into(),
            access_token_lifetime: TokenLifetime::from_seconds(120).ok(),
            ..Default::default()
        },
        effective_scopes: scopes,
        owner: Owner::Account,
        owner_disabled: false,
        secret_ends: Vec::new(),
        last_use: None,
        epoch: 3,
        life: 0,
        record: Record::new(now()),
    }
}

fn credential(application: &Application, id: u8) -> Credential {
    Credential {
        name: CredentialName {
            application: application.name.clone(),
            credential: CredentialId::parse(&format!("{id:032x}")).unwrap(),
        },
        kind: CredentialKind::ApiKey,
        settings: CredentialSettings::default(),
        secrets: vec![secret(1)],
        last_use: None,
        epoch: 0,
        record: Record::new(now()),
    }
}

fn secret(version: i64) -> SecretRecord {
    SecretRecord {
        version,
        hash: format!("hash {version}"),
        last_four: "abcd".to_owned(),
        sealed: Some("sealed".to_owned()),
        created_at: now(),
        expires_at: None,
    }
}

/// A store with tenant `acme`, scopes `a` and `b`, and application `crm` with both.
async fn acme(backend: Backend) -> (Fresh, Application) {
    let fresh = fresh(backend).await;
    let application = application("acme", "crm", "a b");
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_tenant(&tenant("acme")).await.unwrap());
    assert!(tx.insert_scope(&scope("acme", "a")).await.unwrap());
    assert!(tx.insert_scope(&scope("acme", "b")).await.unwrap());
    assert!(tx.insert_application(&application, Some("r1")).await.unwrap());
    tx.commit().await.unwrap();
    (fresh, application)
}

async fn stored_resources_round_trip(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let credential = credential(&application, 1);
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_credential(&credential, None).await.unwrap());
    tx.commit().await.unwrap();

    let mut session = fresh.store.read().await.unwrap();
    let found = session.find_application(&application.name).await.unwrap();
    let end = SecretEnd { last_four: "abcd".to_owned(), expires_at: None };
    let application = Application { secret_ends: vec![end], ..application };
    assert_eq!(found, Some(application.clone()));
    let client = session.find_client(&credential.name.credential).await.unwrap().unwrap();
    assert_eq!(client, Client::new(tenant("acme"), application, &credential));
    let version = client.secret_ending("abcd", now()).unwrap();
    let hash = session.find_secret_hash(&credential.name.credential, version).await.unwrap();
    assert_eq!(hash, credential.secrets.first().map(|secret| secret.hash.clone()));
}

async fn uncommitted_changes_are_not_stored(backend: Backend) {
    let fresh = fresh(backend).await;
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_tenant(&tenant("acme")).await.unwrap());
    drop(tx);
    let mut session = fresh.store.read().await.unwrap();
    assert_eq!(session.find_tenant(&tenant("acme").id).await.unwrap(), None);
}

async fn duplicate_key_does_not_end_the_transaction(backend: Backend) {
    let (fresh, first) = acme(backend).await;
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(!tx.insert_tenant(&tenant("acme")).await.unwrap());
    assert!(!tx.insert_scope(&scope("acme", "a")).await.unwrap());
    assert!(!tx.insert_application(&first, None).await.unwrap(), "the same id");
    let other = application("acme", "other", "a");
    assert!(!tx.insert_application(&other, Some("r1")).await.unwrap(), "the same request");
    let made = tx.find_application_by_request(&other.name.tenant, "r1").await.unwrap();
    assert_eq!(made, Some(first), "the transaction continues");
}

async fn update_of_old_revision_is_refused(backend: Backend) {
    let (fresh, first) = acme(backend).await;
    let before = first.settings.clone();
    let changed = Application { record: first.record.changed(now()), ..first };
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.update_application(&changed, &before).await.unwrap());
    assert!(
        !tx.update_application(&changed, &before).await.unwrap(),
        "the same update a second time"
    );
    let gone = application("acme", "gone", "");
    let gone = Application { record: gone.record.changed(now()), ..gone };
    assert!(!tx.update_application(&gone, &before).await.unwrap());
}

async fn names_are_paged_in_byte_order(backend: Backend) {
    let fresh = fresh(backend).await;
    let names = ["!", "A", "Z", "_", "a", "a-b", "a:b", "ab", "z", "~"];
    let mut tx = fresh.store.begin().await.unwrap();
    tx.insert_tenant(&tenant("acme")).await.unwrap();
    for name in names.iter().rev() {
        tx.insert_scope(&scope("acme", name)).await.unwrap();
    }
    tx.commit().await.unwrap();

    let mut session = fresh.store.read().await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = PageRequest::new(3, after).unwrap();
        let page = session.list_scopes(&tenant("acme").id, &page).await.unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(page.items.iter().map(|scope| scope.id.scope.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, names);
}

async fn deleted_scope_is_removed_from_applications(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let id = scope("acme", "a").id;
    let mut tx = fresh.store.begin().await.unwrap();
    let holders = tx.scope_holders(&id).await.unwrap();
    let first = vec!["tenants/acme/applications/crm".to_owned()];
    assert_eq!(holders, FoundResources { count: 1, first });
    tx.change_affected(Affected::ApplicationsWithScope(&id), now()).await.unwrap();
    tx.delete_scope(&id).await.unwrap();
    tx.commit().await.unwrap();
    let mut session = fresh.store.read().await.unwrap();
    let left = session.find_application(&application.name).await.unwrap().unwrap();
    assert_eq!(left.settings.scopes.to_string(), "b");
    assert_eq!(left.epoch, application.epoch + 1);
    assert_ne!(left.record.etag(), application.record.etag(), "each change has a new revision");
}

async fn tenant_is_deleted_with_all_its_resources(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let credential = credential(&application, 1);
    let mut tx = fresh.store.begin().await.unwrap();
    tx.insert_credential(&credential, None).await.unwrap();
    tx.delete_tenant(&application.name.tenant).await.unwrap();
    assert!(tx.find_client(&credential.name.credential).await.unwrap().is_none());
    assert!(tx.catalogue(&application.name.tenant).await.unwrap().is_empty());
    // Nothing remains for a new tenant with the same name.
    assert!(tx.insert_tenant(&tenant("acme")).await.unwrap());
    assert!(tx.find_application(&application.name).await.unwrap().is_none());
}

async fn new_secret_expires_the_old_ones(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let credential = credential(&application, 1);
    let id = &credential.name.credential;
    let end = later(now(), Duration::from_secs(10));
    let mut tx = fresh.store.begin().await.unwrap();
    tx.insert_credential(&credential, None).await.unwrap();
    tx.add_secret(id, &secret(2), end).await.unwrap();
    let read = tx.find_credential(&credential.name).await.unwrap().unwrap();
    let ends: Vec<_> = read.secrets.iter().map(|s| (s.version, s.expires_at)).collect();
    assert_eq!(ends, [(2, None), (1, Some(end))], "newest first");

    tx.add_secret(id, &secret(3), now()).await.unwrap();
    let read = tx.find_credential(&credential.name).await.unwrap().unwrap();
    assert_eq!(read.secrets, [secret(3)], "expired secrets are deleted");
}

async fn disabled_scope_is_not_effective(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let disabled = ScopeSettings { disabled: true, ..Default::default() };
    let scope = Scope {
        settings: disabled,
        record: scope("acme", "b").record.changed(now()),
        ..scope("acme", "b")
    };
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.update_scope(&scope).await.unwrap());
    let read = tx.find_application(&application.name).await.unwrap().unwrap();
    assert_eq!(read.settings.scopes.to_string(), "a b");
    assert_eq!(read.effective_scopes.to_string(), "a");
}

async fn signing_key_generation_is_unique(backend: Backend) {
    let fresh = fresh(backend).await;
    let key = |id: &str| SealedSigningKey {
        generation: 1,
        id: id.to_owned(),
        algorithm: "ES256".to_owned(),
        sealed_private_key: "sealed".to_owned(),
        created_at: now(),
        activates_at: now(),
    };
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_signing_key(&key("one")).await.unwrap());
    assert!(!tx.insert_signing_key(&key("two")).await.unwrap());
    tx.commit().await.unwrap();
    let keys = fresh.store.read().await.unwrap().list_signing_keys().await.unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].id, "one");
}

async fn writers_of_one_tenant_wait_for_each_other(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let writers = (0..20).map(|_| {
        let (store, name) = (fresh.store.clone(), application.name.clone());
        tokio::spawn(async move {
            let mut tx = store.begin().await.unwrap();
            tx.lock_tenant(&name.tenant).await.unwrap().unwrap();
            let before = tx.find_application(&name).await.unwrap().unwrap();
            let settings = before.settings.clone();
            let after = Application {
                epoch: before.epoch + 1,
                record: before.record.changed(now()),
                ..before
            };
            assert!(tx.update_application(&after, &settings).await.unwrap(), "read under the lock");
            tx.commit().await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut session = fresh.store.read().await.unwrap();
    let left = session.find_application(&application.name).await.unwrap().unwrap();
    assert_eq!(left.epoch, application.epoch + 20);
}

async fn rules_are_found_by_their_scopes(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let tenant = &application.name.tenant;
    let rule = |path: &str, all_of: &str, any_of: &str| Endpoint {
        method: HttpMethod::parse("GET").unwrap(),
        path: PathTemplate::parse(path).unwrap(),
        needs: NeededScopes {
            all_of: ScopeSet::parse(all_of).unwrap(),
            any_of: ScopeSet::parse(any_of).unwrap(),
        },
        limits: Limits::parse("requests=40/60 observe_only").ok(),
        description: "Zoë's".to_owned(),
    };
    let rules = [
        rule("/1", "a.read", ""),
        rule("/2", "x a.read y", ""),
        rule("/3", "", "x a.read"),
        rule("/4", "xa.read a.readx a_read A.READ", "aXread"),
        rule("/5", "", ""),
        rule("/6", "%", "_ a'b"),
    ];
    let mut tx = fresh.store.begin().await.unwrap();
    for rule in rules.iter().rev() {
        tx.write_endpoint(tenant, rule).await.unwrap();
    }
    assert_eq!(tx.endpoints(tenant).await.unwrap(), rules);
    for (scope, paths) in [
        ("a.read", &["/1", "/2", "/3"][..]),
        ("x", &["/2", "/3"]),
        ("a_read", &["/4"]),
        ("%", &["/6"]),
        ("_", &["/6"]),
        ("a'b", &["/6"]),
        ("a", &[]),
        ("read", &[]),
    ] {
        let first = paths.iter().map(|path| format!("tenants/acme/endpoints/GET {path}")).collect();
        let found = FoundResources { count: i64::try_from(paths.len()).unwrap(), first };
        let id = self::scope("acme", scope).id;
        assert_eq!(tx.endpoints_with_scope(&id).await.unwrap(), found, "{scope}");
    }
    assert_eq!(tx.endpoints_with_scope(&scope("evil", "x").id).await.unwrap().count, 0);

    let changed = Endpoint { limits: None, ..rule("/1", "", "b") };
    tx.write_endpoint(tenant, &changed).await.unwrap();
    tx.delete_endpoint(tenant, &rules[1]).await.unwrap();
    let left = tx.endpoints(tenant).await.unwrap();
    assert_eq!((left.len(), &left[0], &left[1]), (5, &changed, &rules[2]));
    tx.delete_tenant(tenant).await.unwrap();
    assert_eq!(tx.endpoints(tenant).await.unwrap(), [], "deleted with the tenant");
}
