//! What metrics count, on the real server.

use keyward::internals::domain::{CredentialId, SecretKind};
use keyward::internals::secrets::Prefixes;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use tonic::Code;

use super::value;
use crate::documents::root;
use crate::harness::{
    Admin, Backend, Credential, Keyward, RedisServer, mask, on_both_databases, question, until,
};

on_both_databases!(
    credentials_are_counted_by_when_they_expire,
    pools_show_their_connections,
    answers_are_counted_by_reason_on_each_interface,
    caches_count_hits_and_misses,
);

const CRM: &str = "tenants/acme/applications/crm";
const DAY: i64 = 24 * 60 * 60;

async fn metrics(kw: &Keyward) -> String {
    let url = format!("http://{}/metrics", kw.server().ops);
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

fn number(metrics: &str, name: &str) -> Option<i64> {
    value(metrics, name)
}

/// The value of a sample; 0 if it is not there yet.
async fn sample(kw: &Keyward, name: &str) -> i64 {
    number(&metrics(kw).await, name).unwrap_or_default()
}

/// A credential of the same client with a well-formed secret that is wrong.
fn with_wrong_secret(of: &Credential) -> Credential {
    let id = CredentialId::parse(&of.client_id).unwrap();
    let secret = Prefixes::default().generate(SecretKind::ClientSecret, &id).unwrap();
    Credential { client_id: of.client_id.clone(), secret: secret.expose().to_owned() }
}

async fn credential_ending(admin: &mut Admin, kw: &Keyward, seconds: i64, disabled: bool) {
    let end = prost_types::Timestamp { seconds: kw.now().as_second() + seconds, nanos: 0 };
    let credential = pb::Credential {
        kind: Kind::ClientSecret.into(),
        expire_time: Some(end),
        disabled,
        ..Default::default()
    };
    let request = pb::CreateCredentialRequest {
        parent: CRM.to_owned(),
        credential: Some(credential),
        request_id: String::new(),
    };
    admin.credentials.create_credential(request).await.unwrap();
}

async fn credentials_are_counted_by_when_they_expire(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    for end in [DAY / 2, DAY / 2, 3 * DAY, 20 * DAY, 40 * DAY] {
        credential_ending(&mut admin, &kw, end, false).await;
    }
    credential_ending(&mut admin, &kw, DAY / 2, true).await;
    let counts = async || {
        kw.server().service.expiry.refresh().await.unwrap();
        let metrics = metrics(&kw).await;
        let within = |period: &str| {
            number(&metrics, &format!(r#"keyward_credentials_expiring{{within="{period}"}}"#))
        };
        let expired = number(&metrics, "keyward_credentials_expired");
        [within("1d"), within("7d"), within("30d"), expired].map(Option::unwrap)
    };
    assert_eq!(counts().await, [2, 3, 4, 0], "without the disabled and the endless");
    kw.advance(DAY.unsigned_abs());
    assert_eq!(counts().await, [0, 1, 2, 2]);
}

async fn pools_show_their_connections(backend: Backend) {
    let kw = backend.start().await;
    kw.admin().await.acme().await;
    let metrics = metrics(&kw).await;
    let mut all = 0_i64;
    for pool in ["checks", "lists", "changes"] {
        let state = |state: &str| {
            let name = format!(r#"keyward_database_connections{{pool="{pool}",state="{state}"}}"#);
            number(&metrics, &name).unwrap()
        };
        let of_pool =
            |name: &str| number(&metrics, &format!(r#"{name}{{pool="{pool}"}}"#)).unwrap();
        let max = of_pool("keyward_database_connections_max");
        let open = state("used") + state("idle");
        assert!(open <= max, "{pool}: {open} of {max}");
        assert_eq!(of_pool("keyward_database_waiting_requests"), 0, "{pool}");
        all += open;
    }
    assert!(all >= 2, "{metrics}");
    let feed = r#"keyward_database_connections_max{pool="feed"}"#;
    let expected = (backend == Backend::Postgres).then_some(1_i64);
    assert_eq!(number(&metrics, feed), expected, "SQLite has none for the feed");
}

/// All connections for checks are in use, so a request waits.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_requests_and_used_connections_are_shown() {
    let kw = Backend::Postgres.start_with(&[("database.max_connections", "3")]).await;
    let store = kw.server().store();
    let held = store.read().await.unwrap();
    let used = r#"keyward_database_connections{pool="checks",state="used"}"#;
    assert_eq!(sample(&kw, used).await, 1, "of one");
    let waits = tokio::spawn({
        let store = store.clone();
        async move { store.read().await.map(drop) }
    });
    let waiting = r#"keyward_database_waiting_requests{pool="checks"}"#;
    until("a request waits", async || sample(&kw, waiting).await >= 1).await;
    drop(held);
    waits.await.unwrap().unwrap();
    until("none waits", async || sample(&kw, waiting).await == 0).await;
}

async fn answers_are_counted_by_reason_on_each_interface(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let errors = async |face: &str, reason: &str| {
        let labels = format!(r#"{{face="{face}",reason="{reason}"}}"#);
        sample(&kw, &format!("keyward_request_errors_total{labels}")).await
    };
    let issued = r#"keyward_tokens_issued_total{grant="client_credentials"}"#;
    let before = sample(&kw, issued).await;

    assert_eq!(kw.token_for(&crm, &[]).await.status, 200);
    crm.token(&kw.grpc()).await;
    assert_eq!(kw.token_for(&with_wrong_secret(&crm), &[]).await.status, 401);
    assert_eq!(kw.token_for(&crm, &[("scope", "c")]).await.status, 400);
    let refused = with_wrong_secret(&crm).exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = crm.exchange(&kw.grpc(), &["c"], &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let missing = pb::GetTenantRequest { name: "tenants/nothing".to_owned() };
    for _ in 0..2 {
        assert!(admin.tenants.get_tenant(missing.clone()).await.is_err());
    }
    assert_eq!(kw.send(kw.request(reqwest::Method::GET, "/nowhere")).await.status, 404);

    assert_eq!(sample(&kw, issued).await - before, 2, "over HTTP and gRPC");
    assert_eq!(errors("http", "invalid_client").await, 1);
    assert_eq!(errors("http", "invalid_scope").await, 1);
    assert_eq!(errors("http", "not_found").await, 1);
    assert_eq!(errors("grpc", "INVALID_CLIENT").await, 1);
    assert_eq!(errors("grpc", "SCOPE_NOT_ALLOWED").await, 1);
    assert_eq!(errors("grpc", "NOT_FOUND").await, 2);
    assert_eq!(errors("grpc", "other").await + errors("http", "other").await, 0);
    // Each is also counted by its code.
    let code = |face: &str, method: &str, code: &str| {
        let labels = format!(r#"{{face="{face}",method="{method}",code="{code}"}}"#);
        format!("keyward_requests_total{labels}")
    };
    let tenant = code("grpc", "/keyward.admin.v1.TenantService/GetTenant", "5");
    assert_eq!(sample(&kw, &tenant).await, 2);
    assert_eq!(sample(&kw, &code("http", "/oauth2/token", "401")).await, 1);
}

/// What a stranger sends becomes no label: not a path, nor a code.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_create_no_series() {
    let kw = Backend::Sqlite.start().await;
    let series = async || {
        let metrics = metrics(&kw).await;
        metrics.lines().filter(|line| !line.starts_with('#')).count()
    };
    let ask = async |n: usize| {
        let path = format!("/made/up/{n}");
        assert_eq!(kw.send(kw.request(reqwest::Method::GET, &path)).await.status, 404);
        let method = reqwest::Method::from_bytes(format!("MADEUP{n}").as_bytes()).unwrap();
        kw.send(kw.request(method, "/oauth2/token")).await;
        kw.post("/oauth2/token", &[("grant_type", &format!("made-up-{n}"))]).await;
        let url = format!("{}/keyward.madeup.v1.Service{n}/Method", kw.grpc());
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let request = client.post(url).header("content-type", "application/grpc");
        assert_eq!(request.send().await.unwrap().headers()["grpc-status"], "12");
    };
    ask(0).await;
    let before = series().await;
    for n in 1..10 {
        ask(n).await;
    }
    assert_eq!(series().await, before);
}

async fn caches_count_hits_and_misses(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let lookups = async || {
        let metrics = metrics(&kw).await;
        ["clients", "secrets", "tokens"].map(|cache| {
            ["hit", "miss"].map(|result| {
                let labels = format!(r#"{{cache="{cache}",result="{result}"}}"#);
                number(&metrics, &format!("keyward_cache_lookups_total{labels}")).unwrap()
            })
        })
    };
    let change = |from: [[i64; 2]; 3], to: [[i64; 2]; 3]| {
        [0, 1, 2].map(|cache| [0, 1].map(|n| to[cache][n] - from[cache][n]))
    };
    let start = lookups().await;
    assert_eq!(kw.token_for(&crm, &[]).await.status, 200);
    let first = lookups().await;
    let [clients, secrets, tokens] = change(start, first);
    assert!(clients[1] >= 1, "the client is loaded: {clients:?}");
    assert_eq!((secrets, tokens), ([0, 1], [0, 0]), "the secret is hashed");
    assert_eq!(kw.token_for(&crm, &[]).await.status, 200);
    let second = lookups().await;
    let [clients, secrets, _] = change(first, second);
    assert_eq!((clients[1], secrets), (0, [1, 0]), "both are known");
    let token = crm.token(&kw.grpc()).await;
    let before = lookups().await;
    for _ in 0..3 {
        assert!(
            admin.access.check_access(question(&token, &["a"])).await.unwrap().get_ref().allowed
        );
    }
    let [_, _, tokens] = change(before, lookups().await);
    // The caller's own token is looked up each time too. A token is cached when it is seen again.
    assert_eq!(tokens[0] + tokens[1], 6, "{tokens:?}");
    assert!(tokens[0] >= 3, "{tokens:?}");
}

/// One place in the queue, and many first secrets at once.
#[tokio::test(flavor = "multi_thread")]
async fn hash_queue_counts_waits_and_refusals() {
    let settings = [("secrets.hash_queue", "1"), ("secrets.wrong_secrets", "0")];
    let kw = Backend::Sqlite.start_with(&settings).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let refused = async || {
        let metrics = metrics(&kw).await;
        ["full", "timeout", "displaced"].map(|cause| {
            let name = format!(r#"keyward_hash_queue_refused_total{{cause="{cause}"}}"#);
            number(&metrics, &name).unwrap()
        })
    };
    assert_eq!(refused().await, [0; 3], "served from the start");
    let before = sample(&kw, "keyward_hash_queue_wait_seconds_count").await;
    let asked: Vec<_> = (0..40)
        .map(|_| {
            let wrong = with_wrong_secret(&crm);
            let form = [("grant_type", "client_credentials")];
            let request = kw.request(reqwest::Method::POST, "/oauth2/token").form(&form);
            let request = request.basic_auth(&wrong.client_id, Some(&wrong.secret));
            tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap());
    }
    let overloaded: i64 = answers.iter().map(|status| i64::from(*status == 429)).sum();
    assert!(overloaded > 0 && overloaded < 40, "{answers:?}");
    assert_eq!(refused().await.iter().sum::<i64>(), overloaded, "{answers:?}");
    let hashed = sample(&kw, "keyward_hash_queue_wait_seconds_count").await - before;
    assert!(hashed >= 40 - overloaded, "{hashed} waited");
    assert_eq!(sample(&kw, "keyward_hash_queue_length").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn limiter_shows_that_it_counts_alone_and_its_share() {
    let mut redis = RedisServer::start();
    let [kw, other] = Keyward::replicas(Some(&redis.url()), &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let application = pb::Application {
        name: CRM.to_owned(),
        limits: Some(pb::Limits { tokens: 1000, ..Default::default() }),
        ..Default::default()
    };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["limits"]),
    };
    admin.applications.update_application(request).await.unwrap();
    let share = "keyward_limiter_fallback_share_ratio";
    until("each knows of the other", async || {
        value::<String>(&metrics(&kw).await, share).as_deref() == Some("0.5")
    })
    .await;
    assert_eq!(kw.token_for(&crm, &[]).await.status, 200);
    let alone = "keyward_limiter_fallback_active";
    assert_eq!(sample(&kw, alone).await, 0);
    redis.stop();
    assert_eq!(kw.token_for(&crm, &[]).await.status, 200);
    assert_eq!(sample(&kw, alone).await, 1);
    assert_eq!(sample(&other, alone).await, 0, "it decided nothing yet");
    redis.start_again();
    until("limits are counted in Redis again", async || {
        assert_eq!(kw.token_for(&crm, &[]).await.status, 200);
        sample(&kw, alone).await == 0
    })
    .await;
    let in_flight = sample(&kw, "keyward_redis_commands_in_flight").await;
    assert!((0..=2).contains(&in_flight), "{in_flight}");
}

#[tokio::test(flavor = "multi_thread")]
async fn build_is_described() {
    let kw = Backend::Sqlite.start().await;
    let metrics = metrics(&kw).await;
    let build = metrics.lines().find(|line| line.starts_with("keyward_build_info{")).unwrap();
    let label = |name: &str| {
        let (_, rest) =
            build.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("{build}"));
        rest.split('"').next().unwrap().to_owned()
    };
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert!(!label("commit").is_empty(), "{build}");
    assert!(label("rustc").starts_with("1."), "{build}");
    let newest = std::fs::read_dir(root().join("migrations/sqlite")).unwrap().map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.split('_').next().unwrap().parse::<i64>().unwrap()
    });
    assert_eq!(label("schema"), newest.max().unwrap().to_string());
}
