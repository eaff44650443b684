//! Enforcement of limits: on checked requests, on issued tokens, and on wrong secrets.

use keyward::internals::domain::{CredentialId, SecretKind};
use keyward::internals::secrets::Prefixes;
use keyward::proto::access as pb;
use keyward::proto::access::check_access_request::Requirement;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::access::limit_status::Counted;
use keyward::proto::admin;
use keyward::proto::admin::credential::Kind;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Admin, Backend, Credential, mask, on_both_databases, question, reason};

on_both_databases!(
    limit_admits_exactly_its_number_of_requests,
    request_counts_against_all_limits_or_none,
    applications_without_own_limits_have_the_policy_limits,
    peek_counts_nothing,
    observed_limit_refuses_nothing,
    too_many_items_are_refused_and_not_counted,
    tokens_are_issued_within_limits,
    tokens_are_issued_within_the_limits_of_every_level,
    wrong_secrets_of_one_source_are_limited,
);

const CRM: &str = "tenants/acme/applications/crm";

fn a_minute(requests: i64) -> admin::Limits {
    admin::Limits { requests, ..Default::default() }
}

async fn limit_application(admin: &mut Admin, limits: Option<admin::Limits>) {
    let application = admin::Application { name: CRM.to_owned(), limits, ..Default::default() };
    let request = admin::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["limits"]),
    };
    admin.applications.update_application(request).await.unwrap();
}

async fn limit_credential(admin: &mut Admin, name: &str, limits: admin::Limits) {
    let credential =
        admin::Credential { name: name.to_owned(), limits: Some(limits), ..Default::default() };
    let request = admin::UpdateCredentialRequest {
        credential: Some(credential),
        update_mask: mask(&["limits"]),
    };
    admin.credentials.update_credential(request).await.unwrap();
}

async fn set_policy(admin: &mut Admin, policy: admin::Policy) {
    let tenant = admin::Tenant {
        name: "tenants/acme".to_owned(),
        policy: Some(policy),
        ..Default::default()
    };
    let request =
        admin::UpdateTenantRequest { tenant: Some(tenant), update_mask: mask(&["policy"]) };
    admin.tenants.update_tenant(request).await.unwrap();
}

/// How many requests are allowed. The others must be refused because of a limit.
async fn allowed(admin: &mut Admin, token: &str, requests: usize) -> usize {
    let mut allowed = 0;
    for _ in 0..requests {
        let answer = admin.check(token, &["a"]).await;
        let expected = if answer.allowed { Outcome::Allowed } else { Outcome::RateLimited };
        assert_eq!(answer.outcome(), expected);
        assert_eq!(answer.retry_after.is_some(), !answer.allowed);
        allowed += usize::from(answer.allowed);
    }
    allowed
}

async fn limit_admits_exactly_its_number_of_requests(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    limit_application(&mut admin, Some(a_minute(40))).await;
    let first = admin.check(&token, &["a"]).await;
    let [limit] = &first.limits[..] else { panic!("{:?}", first.limits) };
    let expected = pb::LimitStatus {
        level: pb::limit_status::Level::Application.into(),
        name: CRM.to_owned(),
        counted: Counted::Requests.into(),
        limit: 40,
        window: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        remaining: 39,
        reset: limit.reset,
        exceeded: false,
        observe_only: false,
    };
    assert_eq!(*limit, expected);
    assert_eq!(allowed(&mut admin, &token, 50).await, 39);
    let refused = admin.check(&token, &["a"]).await;
    let wait = refused.retry_after.unwrap();
    assert!((60..62).contains(&wait.seconds), "{wait:?}");
    assert!(refused.limits[0].exceeded && refused.limits[0].remaining == 0);
    kw.advance(wait.seconds.unsigned_abs() + 1);
    let mut admin = kw.admin().await;
    assert_eq!(allowed(&mut admin, &token, 50).await, 40, "and then as many again");
    limit_application(&mut admin, Some(a_minute(45))).await;
    assert_eq!(allowed(&mut admin, &token, 10).await, 5, "a raised limit applies immediately");
}

async fn request_counts_against_all_limits_or_none(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let (_, sibling) = admin.credential(CRM, Kind::ClientSecret).await;
    admin.application("acme", "bi", &["a"]).await;
    let (_, bi) = admin.credential("tenants/acme/applications/bi", Kind::ClientSecret).await;
    limit_credential(&mut admin, &credential.name, a_minute(3)).await;
    limit_application(&mut admin, Some(a_minute(5))).await;
    let policy = admin::Policy { tenant_limits: Some(a_minute(7)), ..Default::default() };
    set_policy(&mut admin, policy).await;
    let tokens =
        [crm.token(&kw.grpc()).await, sibling.token(&kw.grpc()).await, bi.token(&kw.grpc()).await];
    let answer = admin.check(&tokens[0], &["a"]).await;
    let names: Vec<_> = answer.limits.iter().map(|limit| limit.name.as_str()).collect();
    assert_eq!(names, [credential.name.as_str(), CRM, "tenants/acme"]);
    // Requests that the credential's limit refuses do not count against other limits.
    assert_eq!(allowed(&mut admin, &tokens[0], 10).await, 2);
    assert_eq!(allowed(&mut admin, &tokens[1], 10).await, 2);
    assert_eq!(allowed(&mut admin, &tokens[2], 10).await, 2);
}

async fn applications_without_own_limits_have_the_policy_limits(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let policy = admin::Policy { default_limits: Some(a_minute(2)), ..Default::default() };
    set_policy(&mut admin, policy).await;
    assert_eq!(allowed(&mut admin, &token, 5).await, 2);
    limit_application(&mut admin, Some(a_minute(4))).await;
    assert_eq!(allowed(&mut admin, &token, 5).await, 2, "what was counted stays counted");
    limit_application(&mut admin, Some(admin::Limits::default())).await;
    assert_eq!(allowed(&mut admin, &token, 5).await, 5, "without any limit is a limit of its own");
    limit_application(&mut admin, None).await;
    assert_eq!(allowed(&mut admin, &token, 5).await, 0, "and then the policy's again");
}

async fn peek_counts_nothing(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let limits = admin::Limits { requests: 3, tokens: 5, ..Default::default() };
    limit_application(&mut admin, Some(limits)).await;
    assert_eq!(allowed(&mut admin, &token, 1).await, 1);
    let peek = pb::CheckAccessRequest { peek: true, ..question(&token, &["a"]) };
    for _ in 0..5 {
        let answer = admin.access.check_access(peek.clone()).await.unwrap().into_inner();
        let observed_value: Vec<_> =
            answer.limits.iter().map(|l| (l.counted(), l.remaining)).collect();
        assert_eq!(observed_value, [(Counted::Requests, 2), (Counted::Tokens, 5)]);
        assert!(answer.allowed);
    }
    assert_eq!(allowed(&mut admin, &token, 5).await, 2);
    let answer = admin.access.check_access(peek).await.unwrap().into_inner();
    assert_eq!((answer.allowed, answer.outcome()), (false, Outcome::RateLimited));
}

async fn observed_limit_refuses_nothing(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let limits = admin::Limits {
        requests: 2,
        tokens: 1,
        items_per_request: 10,
        observe_only: true,
        ..Default::default()
    };
    limit_application(&mut admin, Some(limits)).await;
    assert_eq!(allowed(&mut admin, &token, 5).await, 5);
    let answer = admin.check(&token, &["a"]).await;
    assert!(answer.limits[0].exceeded && answer.limits[0].observe_only, "but it is reported");
    let many = pb::CheckAccessRequest { items: 11, ..question(&token, &["a"]) };
    assert!(admin.access.check_access(many).await.unwrap().into_inner().allowed);
    for _ in 0..3 {
        crm.token(&kw.grpc()).await;
    }
    let metrics = reqwest::get(format!("http://{}/metrics", kw.server().ops)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        r#"keyward_limits_exceeded_total{counted="requests",level="application",observed="true"} 5"#,
        r#"keyward_limits_exceeded_total{counted="tokens",level="application",observed="true"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

async fn too_many_items_are_refused_and_not_counted(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let limits = admin::Limits { requests: 2, items_per_request: 1000, ..Default::default() };
    limit_application(&mut admin, Some(limits)).await;
    for (items, outcome) in [
        (1001, Outcome::TooManyItems),
        (i64::MAX, Outcome::TooManyItems),
        (1000, Outcome::Allowed),
        (0, Outcome::Allowed),
        (0, Outcome::RateLimited),
    ] {
        let request = pb::CheckAccessRequest { items, ..question(&token, &["a"]) };
        let answer = admin.access.check_access(request).await.unwrap().into_inner();
        assert_eq!((answer.outcome(), answer.max_items), (outcome, 1000), "{items}");
    }
}

/// The relevant parts of a refusal because of a limit.
fn refusal(status: &Status) -> (Code, String, String, u64) {
    let quota = status.get_details_quota_failure().unwrap().violations;
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    (status.code(), reason(status), quota[0].subject.clone(), wait.as_secs())
}

async fn tokens_are_issued_within_limits(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let window = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    let limits = admin::Limits { tokens: 3, token_window: window, ..Default::default() };
    limit_application(&mut admin, Some(limits)).await;
    let answer = kw.token_for(&crm, &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("ratelimit-policy"), "\"application\";q=3;w=600");
    assert!(answer.header("ratelimit").starts_with("\"application\";r=2;t=6"), "{answer:?}");
    for _ in 0..2 {
        crm.token(&kw.grpc()).await;
    }
    let status = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    let (code, reason, subject, wait) = refusal(&status);
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert_eq!(subject, format!("tokens of {CRM}"));
    assert!((600..612).contains(&wait), "{wait}");
    let answer = kw.token_for(&crm, &[]).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.error(), "temporarily_unavailable");
    assert!(answer.header("retry-after").starts_with('6'), "{answer:?}");
    assert_eq!(answer.header("ratelimit-policy"), "\"application\";q=3;w=600");
    assert!(answer.header("ratelimit").starts_with("\"application\";r=0;t=6"), "{answer:?}");
    // A request that is refused for another reason is not counted.
    kw.advance(wait + 1);
    for _ in 0..5 {
        let beyond = crm.exchange(&kw.grpc(), &["c"], &[]).await.unwrap_err();
        assert_eq!(crate::harness::reason(&beyond), "SCOPE_NOT_ALLOWED");
    }
    for _ in 0..3 {
        crm.token(&kw.grpc()).await;
    }
}

async fn tokens_are_issued_within_the_limits_of_every_level(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let (_, sibling) = admin.credential(CRM, Kind::ClientSecret).await;
    admin.application("acme", "bi", &["a"]).await;
    let (_, bi) = admin.credential("tenants/acme/applications/bi", Kind::ClientSecret).await;
    let tokens = |tokens| admin::Limits { tokens, ..Default::default() };
    limit_credential(&mut admin, &credential.name, tokens(2)).await;
    limit_application(&mut admin, Some(tokens(3))).await;
    let policy = admin::Policy { tenant_limits: Some(tokens(5)), ..Default::default() };
    set_policy(&mut admin, policy).await;
    for (client, issued, refusing) in
        [(&crm, 2, credential.name.as_str()), (&sibling, 1, CRM), (&bi, 2, "tenants/acme")]
    {
        for _ in 0..issued {
            client.token(&kw.grpc()).await;
        }
        for _ in 0..3 {
            let status = client.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
            assert_eq!(refusal(&status).2, format!("tokens of {refusing}"));
        }
    }
}

async fn wrong_secrets_of_one_source_are_limited(backend: Backend) {
    let budget = [
        ("secrets.wrong_secrets", "5"),
        ("secrets.hash_wait", "1m"),
        ("limits.request_timeout", "2m"),
    ];
    let kw = backend.start_with(&budget).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (key_credential, key) = admin.credential(CRM, Kind::ApiKey).await;
    let wrong = admin.credential(CRM, Kind::ClientSecret).await.1.secret;
    let wrong = Credential { secret: wrong, ..crm.clone() };
    let hashes = || kw.server().service.hashes().get();

    // Thirty concurrent guesses do not get around the limit.
    let before = hashes();
    let grpc = kw.grpc();
    let guesses: Vec<_> = (0..30)
        .map(|_| {
            let (wrong, grpc) = (wrong.clone(), grpc.clone());
            tokio::spawn(async move { wrong.exchange(&grpc, &[], &[]).await.unwrap_err() })
        })
        .collect();
    let mut reasons = Vec::new();
    for guess in guesses {
        reasons.push(reason(&guess.await.unwrap()));
    }
    let count = |wanted: &str| reasons.iter().filter(|reason| *reason == wanted).count();
    assert_eq!((count("INVALID_CLIENT"), count("RATE_LIMITED")), (5, 25));
    assert_eq!(hashes() - before, 5, "the others cost no hash");
    let status = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(refusal(&status).2, "wrong secrets of this client", "the right one too, from here");
    let answer = kw.token_for(&crm, &[]).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("ratelimit-policy"), "\"wrong-secrets\";q=5;w=60");

    // Other clients from this source, and this client from other sources, are not affected.
    admin.credential(CRM, Kind::ClientSecret).await.1.token(&kw.grpc()).await;
    let wrong_key = other_key(&key_credential);
    let check = async |admin: &mut Admin, key: &str, source: &str| {
        let request = pb::CheckAccessRequest {
            token: key.to_owned(),
            source_address: source.to_owned(),
            requirement: Some(Requirement::Scopes(pb::RequiredScopes::default())),
            ..Default::default()
        };
        admin.access.check_access(request).await.unwrap().into_inner().outcome()
    };
    for _ in 0..5 {
        assert_eq!(check(&mut admin, &wrong_key, "192.0.2.1").await, Outcome::InvalidToken);
    }
    assert_eq!(check(&mut admin, &wrong_key, "192.0.2.1").await, Outcome::TooManyFailures);
    assert_eq!(check(&mut admin, &key.secret, "192.0.2.1").await, Outcome::TooManyFailures);
    assert_eq!(check(&mut admin, &key.secret, "192.0.2.2").await, Outcome::Allowed);
    assert_eq!(check(&mut admin, &key.secret, "").await, Outcome::Allowed);
    kw.advance(62);
    let mut admin = kw.admin().await;
    assert_eq!(check(&mut admin, &key.secret, "192.0.2.1").await, Outcome::Allowed);
    crm.token(&kw.grpc()).await;
}

/// A wrong key of the same credential with a correct checksum, as an attacker would guess.
fn other_key(credential: &admin::Credential) -> String {
    let id = CredentialId::parse(&credential.client_id).unwrap();
    Prefixes::default().generate(SecretKind::ApiKey, &id).unwrap().expose().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_secrets_behind_a_proxy_do_not_block_other_clients() {
    let settings = [("trusted_proxies", "127.0.0.0/8"), ("secrets.wrong_secrets", "2")];
    let kw = Backend::Sqlite.start_with(&settings).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let wrong = admin.credential(CRM, Kind::ClientSecret).await.1.secret;
    let wrong = Credential { secret: wrong, ..crm.clone() };
    let exchange = async |client: &Credential, from: &str| {
        let request = kw
            .request(reqwest::Method::POST, "/oauth2/token")
            .basic_auth(&client.client_id, Some(&client.secret))
            .header("x-forwarded-for", format!("198.51.100.1, {from}"))
            .form(&[("grant_type", "client_credentials")]);
        kw.send(request).await.status.as_u16()
    };
    for expected in [401, 401, 429] {
        assert_eq!(exchange(&wrong, "192.0.2.1").await, expected);
    }
    assert_eq!(exchange(&crm, "192.0.2.1").await, 429);
    assert_eq!(exchange(&crm, "192.0.2.2").await, 200);
    kw.server().service.usage.write().await.unwrap();
    let request = admin::GetApplicationRequest { name: CRM.to_owned() };
    let read = admin.applications.get_application(request).await.unwrap().into_inner();
    assert_eq!(read.application.unwrap().last_use_address, "192.0.2.2");
}
