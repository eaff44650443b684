//! Access checks.

use keyward::proto::access as pb;
use keyward::proto::access::check_access_request::Requirement;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin;
use keyward::proto::admin::credential::Kind;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Admin, Backend, Credential, mask, on_both_databases, question, reason};

on_both_databases!(
    valid_token_or_key_is_allowed_with_its_principal,
    answer_contains_the_application_roles,
    token_of_another_issuer_is_invalid_even_if_signed_by_our_key,
    invalid_token_is_an_outcome_and_not_an_error,
    all_of_and_any_of_scopes_are_checked,
    token_is_accepted_only_for_its_audiences,
    key_is_refused_as_soon_as_its_credential_is,
    invalid_check_names_every_field,
    batch_is_answered_in_order,
    check_requires_the_verify_scope,
    answer_is_cacheable_only_without_limits,
);

const CRM: &str = "tenants/acme/applications/crm";

async fn api_key(admin: &mut Admin) -> (admin::Credential, String) {
    let (credential, key) = admin.credential(CRM, Kind::ApiKey).await;
    (credential, key.secret)
}

async fn valid_token_or_key_is_allowed_with_its_principal(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let (key_credential, key) = api_key(&mut admin).await;
    let token = crm.exchange(&kw.grpc(), &["a"], &[]).await.unwrap().access_token;
    let answer = admin.check(&token, &["a"]).await;
    assert_eq!((answer.allowed, answer.outcome()), (true, Outcome::Allowed));
    let principal = answer.principal.unwrap();
    let expected = pb::Principal {
        tenant: "tenants/acme".to_owned(),
        application: CRM.to_owned(),
        credential: credential.name,
        roles: Vec::new(),
        scopes: vec!["a".to_owned()],
        token_id: principal.token_id.clone(),
        expire_time: Some(prost_types::Timestamp { seconds: kw.now().as_second() + 900, nanos: 0 }),
        exchanged_by: String::new(),
    };
    assert_eq!(principal, expected);
    assert_eq!(principal.token_id.len(), 32);

    let answer = admin.check(&key, &["a", "b"]).await;
    assert!(answer.allowed);
    let expected = pb::Principal {
        credential: key_credential.name,
        scopes: vec!["a".to_owned(), "b".to_owned()],
        token_id: String::new(),
        expire_time: None,
        ..expected
    };
    assert_eq!(answer.principal, Some(expected));
}

async fn answer_contains_the_application_roles(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a", "b"]).await;
    admin.role("acme", "reader", &[], &["a"]).await;
    admin.role("acme", "writer", &[], &["b"]).await;
    let request = admin::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "crm".to_owned(),
        application: Some(admin::Application {
            display_name: "CRM".to_owned(),
            roles: ["reader", "writer"].map(ToOwned::to_owned).to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    };
    admin.applications.create_application(request).await.unwrap();
    let (_, crm) = admin.credential(CRM, Kind::ClientSecret).await;
    let (_, key) = api_key(&mut admin).await;
    for token in [crm.token(&kw.grpc()).await, key] {
        let answer = admin.check(&token, &["a", "b"]).await;
        assert!(answer.allowed);
        assert_eq!(answer.principal.unwrap().roles, ["reader", "writer"]);
    }
}

async fn token_of_another_issuer_is_invalid_even_if_signed_by_our_key(backend: Backend) {
    let mut kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let token = crm.token(&kw.grpc()).await;
    for (issuer, outcome) in [
        ("https://keyward.test.example", Outcome::InvalidToken),
        ("https://keyward.tes", Outcome::InvalidToken),
        ("https://keyward.test/", Outcome::InvalidToken),
        ("https://keyward.test", Outcome::Allowed),
    ] {
        kw.restart_with(&[("issuer", issuer.to_owned())]).await;
        let answer = kw.admin().await.check(&token, &["a"]).await;
        assert_eq!(answer.outcome(), outcome, "{issuer}");
    }
}

async fn invalid_token_is_an_outcome_and_not_an_error(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let (_, key) = api_key(&mut admin).await;
    // Another Keyward with the same issuer: its keys are not accepted here.
    let other = Backend::Sqlite.start().await;
    let (_, foreign) = other.admin().await.acme().await;
    let unknown_key = foreign.token(&other.grpc()).await;
    let other = Backend::Sqlite.start_with(&[("issuer", "https://other.test")]).await;
    let (_, foreign) = other.admin().await.acme().await;
    let foreign_issuer = foreign.token(&other.grpc()).await;
    let parts: Vec<_> = token.split('.').collect();
    let invalid = [
        "x".to_owned(),
        ".".repeat(60_000),
        "a".repeat(60_000),
        unknown_key,
        foreign_issuer,
        format!("{}.{}.", parts[0], parts[1]),
        token[..token.len() - 2].to_owned(),
        format!("kwk_{}_{}", "0".repeat(32), "x".repeat(49)),
        key[..key.len() - 1].to_owned(),
        format!("{key}0"),
        format!("x{token}"),
    ];
    for bad in &invalid {
        let answer = admin.check(bad, &[]).await;
        assert_eq!((answer.allowed, answer.outcome()), (false, Outcome::InvalidToken), "{bad}");
        assert_eq!(answer.principal, None, "its owner is unknown");
    }
    // Larger than any message may be, so the transport refuses it.
    let request = question(&"a".repeat(3_000_000), &[]);
    let status = admin.access.check_access(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);

    let revoked = crm.token(&kw.grpc()).await;
    let request = keyward::proto::token::RevokeTokenRequest { token: revoked.clone() };
    admin.tokens.revoke_token(request).await.unwrap();
    let answer = admin.check(&revoked, &[]).await;
    assert_eq!((answer.allowed, answer.outcome()), (false, Outcome::Revoked));
    kw.advance(900);
    let mut admin = kw.admin().await;
    let answer = admin.check(&token, &[]).await;
    assert_eq!((answer.allowed, answer.outcome()), (false, Outcome::Expired));
    assert_eq!(answer.principal, None);
}

async fn all_of_and_any_of_scopes_are_checked(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let (_, key) = api_key(&mut admin).await;
    for (all_of, any_of, missing) in [
        (vec![], vec![], vec![]),
        (vec!["a", "b"], vec![], vec![]),
        (vec!["a", "c"], vec![], vec!["c"]),
        (vec!["a"], vec!["b", "c"], vec![]),
        (vec!["a"], vec!["c", "d"], vec!["c", "d"]),
        (vec!["A"], vec![], vec!["A"]),
    ] {
        let owned = |scopes: &[&str]| scopes.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let needed = pb::RequiredScopes { all_of: owned(&all_of), any_of: owned(&any_of) };
        for token in [&token, &key] {
            let request = pb::CheckAccessRequest {
                token: token.clone(),
                requirement: Some(Requirement::Scopes(needed.clone())),
                ..Default::default()
            };
            let answer = admin.access.check_access(request).await.unwrap().into_inner();
            assert_eq!(answer.missing_scopes, missing, "{all_of:?} {any_of:?}");
            assert_eq!(answer.allowed, missing.is_empty());
            assert!(answer.principal.is_some(), "it is known who may not");
            if !answer.allowed {
                assert_eq!(answer.outcome(), Outcome::InsufficientScope);
            }
        }
    }
}

async fn token_is_accepted_only_for_its_audiences(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, key) = api_key(&mut admin).await;
    let own = crm.token(&kw.grpc()).await;
    let keywards = crm.exchange(&kw.grpc(), &[], &["keyward"]).await.unwrap().access_token;
    for (token, audience, allowed) in [
        (&own, "", true),
        (&own, "tenants/acme", true),
        (&own, "tenants/acm", false),
        (&own, "keyward", false),
        (&keywards, "", false),
        (&keywards, "keyward", true),
        (&key, "", true),
        (&key, "tenants/acme", true),
        (&key, "https://elsewhere.example", false),
    ] {
        let audience = audience.to_owned();
        let request = pb::CheckAccessRequest { audience, ..question(token, &[]) };
        let answer = admin.access.check_access(request).await.unwrap().into_inner();
        assert_eq!(answer.allowed, allowed);
        if !allowed {
            assert_eq!(answer.outcome(), Outcome::WrongAudience);
        }
    }
}

async fn key_is_refused_as_soon_as_its_credential_is(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let (credential, key) = api_key(&mut admin).await;
    for disabled in [true, false, true] {
        let name = credential.name.clone();
        let change = admin::Credential { name, disabled, ..Default::default() };
        let request = admin::UpdateCredentialRequest {
            credential: Some(change),
            update_mask: mask(&["disabled"]),
        };
        admin.credentials.update_credential(request).await.unwrap();
        let answer = admin.check(&key, &[]).await;
        let expected = if disabled { Outcome::InvalidToken } else { Outcome::Allowed };
        assert_eq!(answer.outcome(), expected);
    }
}

async fn invalid_check_names_every_field(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let bad = pb::CheckAccessRequest {
        items: -1,
        audience: "two words".to_owned(),
        source_address: "localhost".to_owned(),
        ..Default::default()
    };
    let fields = ["token", "requirement", "items", "audience", "source_address"];
    let status = admin.access.check_access(bad.clone()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    let reported = |status: &tonic::Status| -> Vec<String> {
        let violations = status.get_details_bad_request().unwrap().field_violations;
        violations.into_iter().map(|violation| violation.field).collect()
    };
    assert_eq!(reported(&status), fields);
    let batch = pb::BatchCheckAccessRequest { requests: vec![question("x", &[]), bad] };
    let status = admin.access.batch_check_access(batch).await.unwrap_err();
    assert_eq!(reported(&status), fields.map(|field| format!("requests[1].{field}")));

    let bad = question("x", &["a", "two words", ""]);
    let status = admin.access.check_access(bad).await.unwrap_err();
    assert_eq!(reported(&status), ["scopes.all_of[1]", "scopes.all_of[2]"]);
    let batch = pb::BatchCheckAccessRequest { requests: vec![question("x", &[]); 101] };
    let status = admin.access.batch_check_access(batch).await.unwrap_err();
    assert_eq!(reported(&status), ["requests"]);
}

async fn batch_is_answered_in_order(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let mut requests = Vec::new();
    let mut expected = Vec::new();
    for _ in 0..20 {
        requests.extend([question(&token, &["a"]), question("x", &[]), question(&token, &["c"])]);
        expected.extend([Outcome::Allowed, Outcome::InvalidToken, Outcome::InsufficientScope]);
    }
    let batch = pb::BatchCheckAccessRequest { requests };
    let answers = admin.access.batch_check_access(batch).await.unwrap().into_inner().responses;
    let outcomes: Vec<_> = answers.iter().map(pb::CheckAccessResponse::outcome).collect();
    assert_eq!(outcomes, expected);
    let nothing = pb::BatchCheckAccessRequest::default();
    let answers = admin.access.batch_check_access(nothing).await.unwrap().into_inner().responses;
    assert!(answers.is_empty());
}

async fn check_requires_the_verify_scope(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, gateway) = admin.credential(&application.name, Kind::ClientSecret).await;
    let mut gateway = Admin::new(kw.grpc(), &gateway).await;
    assert!(gateway.check(&token, &["a"]).await.allowed);
    let console = admin.console(&kw).await;
    let own = Admin::new(kw.grpc(), &crm).await;
    for mut caller in [console, own] {
        let batch = pb::BatchCheckAccessRequest { requests: vec![question(&token, &[])] };
        for status in [
            // The request is invalid, too, but the caller is refused first.
            caller.access.check_access(pb::CheckAccessRequest::default()).await.unwrap_err(),
            caller.access.check_access(question(&token, &[])).await.unwrap_err(),
            caller.access.batch_check_access(batch).await.unwrap_err(),
        ] {
            assert_eq!(status.code(), Code::PermissionDenied);
            assert!(status.message().contains("keyward.verify"), "{}", status.message());
        }
    }
}

async fn answer_is_cacheable_only_without_limits(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let span = |answer: &pb::CheckAccessResponse| {
        let age = answer.max_age.unwrap();
        (age.seconds, age.nanos)
    };
    assert_eq!(span(&admin.check(&token, &["a"]).await), (1, 0));
    assert_eq!(span(&admin.check("x", &["a"]).await), (1, 0));
    let limits = admin::Limits { requests: 100, ..Default::default() };
    set_limits(&mut admin, Some(limits)).await;
    assert_eq!(span(&admin.check(&token, &["a"]).await), (0, 0), "each must be counted");
    set_limits(&mut admin, None).await;
    let request = keyward::proto::token::RevokeTokenRequest { token: token.clone() };
    admin.tokens.revoke_token(request).await.unwrap();
    assert_eq!(span(&admin.check(&token, &["a"]).await), (60, 0), "it will never be good again");
}

async fn set_limits(admin: &mut Admin, limits: Option<admin::Limits>) {
    let application = admin::Application { name: CRM.to_owned(), limits, ..Default::default() };
    let request = admin::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["limits"]),
    };
    admin.applications.update_application(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn check_is_recorded_as_use_and_peek_is_not() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm): (_, Credential) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    for _ in 0..3 {
        let source_address = "192.0.2.7".to_owned();
        let request = pb::CheckAccessRequest { source_address, ..question(&token, &["a"]) };
        admin.access.check_access(request).await.unwrap();
    }
    let request = pb::CheckAccessRequest { peek: true, ..question(&token, &["a"]) };
    admin.access.check_access(request).await.unwrap();
    admin.check("x", &[]).await;
    kw.server().service.usage.write().await.unwrap();
    let request =
        admin::ListApplicationUsageRequest { parent: CRM.to_owned(), ..Default::default() };
    let days = admin.applications.list_application_usage(request).await.unwrap().into_inner().days;
    assert_eq!((days[0].exchanges, days[0].checks), (1, 3));
    let request = admin::GetApplicationRequest { name: CRM.to_owned() };
    let read = admin.applications.get_application(request).await.unwrap().into_inner();
    assert_eq!(read.application.unwrap().last_use_address, "192.0.2.7");
}
