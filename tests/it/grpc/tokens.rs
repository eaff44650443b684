//! Tokens: their content, and everything that ends them.

use std::time::Duration;

use keyward::proto::access::GetJwksRequest;
use keyward::proto::access::key_service_client::KeyServiceClient;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::{IntrospectTokenResponse, RevokeTokenRequest};
use serde_json::Value;
use tonic::Code;

use crate::harness::{
    Admin, Backend, Credential, Keyward, connect, mask, on_both_databases, reason,
};

on_both_databases!(
    token_has_the_claims_of_rfc_9068,
    token_contains_only_what_was_requested,
    unavailable_scope_is_refused_by_name,
    only_audiences_of_the_tenant_are_granted,
    api_key_is_exchanged_and_introspected,
    every_way_to_end_a_token_ends_it,
    token_expires_exactly,
    token_does_not_outlive_its_client,
    only_the_revoked_token_is_refused,
    application_sees_and_revokes_only_its_own_tokens,
    application_without_scopes_gets_no_token,
    token_that_would_be_too_long_is_not_issued,
    failed_clients_get_identical_answers,
    tokens_are_valid_after_a_restart,
    new_algorithm_is_published_before_it_signs,
);

fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap().claims
}

fn kid_and_algorithm(token: &str) -> (String, String) {
    let header = jsonwebtoken::decode_header(token).unwrap();
    (header.kid.unwrap(), format!("{:?}", header.alg))
}

async fn token_has_the_claims_of_rfc_9068(backend: Backend) {
    let kw = backend.start().await;
    let (credential, crm) = kw.admin().await.acme().await;
    let issued = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap();
    assert_eq!(issued.token_type, "Bearer");
    assert_eq!(issued.expires_in.unwrap().seconds, 900);
    let header = jsonwebtoken::decode_header(&issued.access_token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let claims = claims(&issued.access_token);
    let now = kw.now().as_second();
    assert_eq!(claims["iss"], "https://keyward.test");
    assert_eq!(claims["sub"], "tenants/acme/applications/crm");
    assert_eq!(claims["aud"], "tenants/acme");
    assert_eq!(claims["client_id"], credential.client_id);
    assert_eq!((claims["iat"].as_i64(), claims["exp"].as_i64()), (Some(now), Some(now + 900)));
    assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
    assert_eq!(claims["scope"], "a b");
    assert_eq!(claims["tenant"], "acme");
}

async fn token_contains_only_what_was_requested(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let issued = crm.exchange(&kw.grpc(), &["b"], &["tenants/acme", "keyward"]).await.unwrap();
    assert_eq!(issued.scopes, ["b"]);
    let claims = claims(&issued.access_token);
    assert_eq!(claims["scope"], "b");
    assert_eq!(claims["aud"], serde_json::json!(["tenants/acme", "keyward"]));
}

async fn unavailable_scope_is_refused_by_name(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    for beyond in ["c", "unknown", "A"] {
        let status = crm.exchange(&kw.grpc(), &["a", beyond], &[]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
        assert_eq!(status.message(), format!("scope not allowed: {beyond}"));
    }
}

async fn only_audiences_of_the_tenant_are_granted(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let status = crm.exchange(&kw.grpc(), &[], &["https://api.example"]).await.unwrap_err();
    assert_eq!(reason(&status), "AUDIENCE_NOT_ALLOWED");
    let tenant = pb::Tenant {
        name: "tenants/acme".to_owned(),
        additional_audiences: vec!["https://api.example".to_owned()],
        ..Default::default()
    };
    update_tenant(&mut admin, tenant, &["additional_audiences"]).await;
    let issued = crm.exchange(&kw.grpc(), &[], &["https://api.example"]).await.unwrap();
    assert_eq!(claims(&issued.access_token)["aud"], "https://api.example");
    let status = crm.exchange(&kw.grpc(), &[], &["https://api.example/x"]).await.unwrap_err();
    assert_eq!(reason(&status), "AUDIENCE_NOT_ALLOWED");
}

async fn api_key_is_exchanged_and_introspected(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let (credential, key) = admin.credential("tenants/acme/applications/crm", Kind::ApiKey).await;
    assert!(key.secret.starts_with(&format!("kwk_{}_", credential.client_id)));
    let token = key.token(&kw.grpc()).await;
    assert_eq!(claims(&token)["client_id"], credential.client_id);

    let info = admin.introspect(&key.secret).await;
    assert!(info.active);
    assert_eq!(info.scopes, ["a", "b"]);
    assert_eq!(info.client_id, credential.client_id);
    let request = RevokeTokenRequest { token: key.secret.clone() };
    let status = admin.tokens.revoke_token(request).await.unwrap_err();
    assert_eq!(reason(&status), "UNSUPPORTED_TOKEN_TYPE");

    delete_credential(&mut admin, &credential.name).await;
    assert_eq!(admin.introspect(&key.secret).await, IntrospectTokenResponse::default());
    assert_eq!(admin.introspect(&token).await, IntrospectTokenResponse::default());
}

async fn delete_credential(admin: &mut Admin, name: &str) {
    let request = pb::DeleteCredentialRequest { name: name.to_owned(), etag: String::new() };
    admin.credentials.delete_credential(request).await.unwrap();
}

async fn update_tenant(admin: &mut Admin, tenant: pb::Tenant, paths: &[&str]) {
    let update_mask = mask(paths);
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
    admin.tenants.update_tenant(request).await.unwrap();
}

async fn update_application(admin: &mut Admin, application: pb::Application, paths: &[&str]) {
    let application =
        pb::Application { name: "tenants/acme/applications/crm".to_owned(), ..application };
    let update_mask = mask(paths);
    let request = pb::UpdateApplicationRequest { application: Some(application), update_mask };
    admin.applications.update_application(request).await.unwrap();
}

async fn update_credential(admin: &mut Admin, credential: pb::Credential, paths: &[&str]) {
    let update_mask = mask(paths);
    let request = pb::UpdateCredentialRequest { credential: Some(credential), update_mask };
    admin.credentials.update_credential(request).await.unwrap();
}

fn in_an_hour(kw: &Keyward) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: kw.now().as_second() + 3600, nanos: 0 })
}

/// One server and one application for each way to end a token. Undoing it, if possible, must not
/// revive the token.
async fn every_way_to_end_a_token_ends_it(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let scope = |disabled| pb::Scope {
        name: "tenants/acme/scopes/a".to_owned(),
        disabled,
        ..Default::default()
    };
    for way in [
        "tenant disabled",
        "application disabled",
        "application narrowed",
        "application ends earlier",
        "credential disabled",
        "credential ends earlier",
        "secret rotated at once",
        "scope disabled",
        "scope deleted",
    ] {
        let crm = if way == "scope disabled" || way == "scope deleted" {
            admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await.1
        } else {
            crm.clone()
        };
        let Ok(issued) = crm.exchange(&kw.grpc(), &[], &[]).await else {
            panic!("no token before: {way}");
        };
        let token = issued.access_token;
        assert!(admin.is_active(&token).await, "{way}");
        match way {
            "tenant disabled" => {
                for disabled in [true, false] {
                    let name = "tenants/acme".to_owned();
                    let tenant = pb::Tenant { name, disabled, ..Default::default() };
                    update_tenant(&mut admin, tenant, &["disabled"]).await;
                    let again = crm.exchange(&kw.grpc(), &[], &[]).await.is_ok();
                    assert_eq!(again, !disabled, "a disabled parent issues nothing");
                }
            }
            "application disabled" => {
                for disabled in [true, false] {
                    let change = pb::Application { disabled, ..Default::default() };
                    update_application(&mut admin, change, &["disabled"]).await;
                    let again = crm.exchange(&kw.grpc(), &[], &[]).await.is_ok();
                    assert_eq!(again, !disabled);
                }
            }
            "application narrowed" => {
                for scopes in [vec!["b".to_owned()], vec!["a".to_owned(), "b".to_owned()]] {
                    let change = pb::Application { scopes, ..Default::default() };
                    update_application(&mut admin, change, &["scopes"]).await;
                }
            }
            "application ends earlier" => {
                for expire_time in [in_an_hour(&kw), None] {
                    let change = pb::Application { expire_time, ..Default::default() };
                    update_application(&mut admin, change, &["expire_time"]).await;
                }
            }
            "credential disabled" => {
                for disabled in [true, false] {
                    let name = credential.name.clone();
                    let change = pb::Credential { name, disabled, ..Default::default() };
                    update_credential(&mut admin, change, &["disabled"]).await;
                    let again = crm.exchange(&kw.grpc(), &[], &[]).await.is_ok();
                    assert_eq!(again, !disabled);
                }
            }
            "credential ends earlier" => {
                for expire_time in [in_an_hour(&kw), None] {
                    let name = credential.name.clone();
                    let change = pb::Credential { name, expire_time, ..Default::default() };
                    update_credential(&mut admin, change, &["expire_time"]).await;
                }
            }
            "secret rotated at once" => {
                let request = pb::RotateCredentialRequest {
                    name: credential.name.clone(),
                    overlap: Some(prost_types::Duration::default()),
                    ..Default::default()
                };
                admin.credentials.rotate_credential(request).await.unwrap();
            }
            "scope disabled" => {
                for disabled in [true, false] {
                    let request = pb::UpdateScopeRequest {
                        scope: Some(scope(disabled)),
                        update_mask: mask(&["disabled"]),
                    };
                    admin.scopes.update_scope(request).await.unwrap();
                }
            }
            _ => {
                let request = pb::DeleteScopeRequest {
                    name: scope(false).name,
                    etag: String::new(),
                    force: true,
                };
                admin.scopes.delete_scope(request).await.unwrap();
                let left = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap();
                assert_eq!(left.scopes, ["b"], "a removed grant is in no new token");
            }
        }
        let info = admin.introspect(&token).await;
        assert_eq!(info, IntrospectTokenResponse::default(), "{way}");
    }
}

async fn token_expires_exactly(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let token = crm.token(&kw.grpc()).await;
    kw.advance(899);
    assert!(kw.admin().await.is_active(&token).await);
    kw.advance(1);
    assert!(!kw.admin().await.is_active(&token).await);
}

async fn token_does_not_outlive_its_client(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let end = prost_types::Timestamp { seconds: kw.now().as_second() + 100, nanos: 0 };
    let change = pb::Credential {
        name: credential.name.clone(),
        expire_time: Some(end),
        ..Default::default()
    };
    update_credential(&mut admin, change, &["expire_time"]).await;
    let issued = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap();
    assert_eq!(issued.expires_in.unwrap().seconds, 100);
    kw.advance(100);
    let status = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_CLIENT");
}

async fn only_the_revoked_token_is_refused(backend: Backend) {
    let mut kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (one, other) = (crm.token(&kw.grpc()).await, crm.token(&kw.grpc()).await);
    for _ in 0..2 {
        admin.tokens.revoke_token(RevokeTokenRequest { token: one.clone() }).await.unwrap();
    }
    assert!(!admin.is_active(&one).await);
    assert!(admin.is_active(&other).await);
    kw.restart().await;
    let mut admin = kw.admin().await;
    assert!(!admin.is_active(&one).await, "a restart forgets no revocation");
    for unknown in ["x", "a.b.c", &".".repeat(60_000)] {
        let request = RevokeTokenRequest { token: unknown.to_owned() };
        assert!(admin.tokens.revoke_token(request).await.is_ok(), "unknown is no error");
    }
}

async fn application_sees_and_revokes_only_its_own_tokens(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let application = admin.application("acme", "bi", &["a"]).await;
    let (_, bi) = admin.credential(&application.name, Kind::ClientSecret).await;
    let token = crm.token(&kw.grpc()).await;

    let mut as_bi = Admin::new(kw.grpc(), &bi).await;
    assert_eq!(as_bi.introspect(&token).await, IntrospectTokenResponse::default());
    let request = RevokeTokenRequest { token: token.clone() };
    let status = as_bi.tokens.revoke_token(request.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_YOUR_TOKEN");

    let mut as_crm = Admin::new(kw.grpc(), &crm).await;
    assert!(as_crm.is_active(&token).await);
    as_crm.tokens.revoke_token(request).await.unwrap();
    assert!(!as_crm.is_active(&token).await);
}

async fn application_without_scopes_gets_no_token(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    let application = admin.application("acme", "bare", &[]).await;
    let (_, bare) = admin.credential(&application.name, Kind::ClientSecret).await;
    let status = bare.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
    assert_eq!(status.message(), "the application has no scopes");
}

async fn token_that_would_be_too_long_is_not_issued(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let scopes: Vec<_> = (0..100).map(|n| format!("{n:0>120}")).collect();
    let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
    admin.tenant("acme", &scopes).await;
    let application = admin.application("acme", "greedy", &scopes).await;
    let (_, greedy) = admin.credential(&application.name, Kind::ClientSecret).await;
    let status = greedy.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
    assert!(status.message().contains("fewer"), "{}", status.message());
    // Such a refusal does not count against limits.
    let limits = Some(pb::Limits { tokens: 1, ..Default::default() });
    let limited = pb::Application { name: application.name, limits, ..Default::default() };
    let request =
        pb::UpdateApplicationRequest { application: Some(limited), update_mask: mask(&["limits"]) };
    admin.applications.update_application(request).await.unwrap();
    for _ in 0..3 {
        let status = greedy.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
        assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
    }
    let issued = greedy.exchange(&kw.grpc(), &scopes[..30], &[]).await.unwrap();
    assert!(admin.is_active(&issued.access_token).await);
}

/// The status of each failure with everything that could distinguish it.
async fn failed_clients_get_identical_answers(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let (disabled, secret) =
        admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await;
    let change = pb::Credential { name: disabled.name, disabled: true, ..Default::default() };
    update_credential(&mut admin, change, &["disabled"]).await;
    let (other, _) = admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await;
    let client = |client_id: &str, secret: &str| Credential {
        client_id: client_id.to_owned(),
        secret: secret.to_owned(),
    };
    let failures = [
        secret,
        client(&other.client_id, &crm.secret),
        client(&"0".repeat(32), &crm.secret),
        client("unknown", &crm.secret),
        client(&credential.client_id, &crm.secret[..crm.secret.len() - 1]),
        client(&credential.client_id, &format!("{}0", crm.secret)),
        client(&credential.client_id, ""),
        client("", "kwk_x"),
    ];
    let mut seen = Vec::new();
    for failure in &failures {
        let status = failure.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
        let mut metadata = status.metadata().clone();
        metadata.remove("date");
        seen.push(format!(
            "{:?} {} {:?} {:?}",
            status.code(),
            status.message(),
            status.details(),
            metadata
        ));
        assert_eq!(reason(&status), "INVALID_CLIENT");
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

async fn tokens_are_valid_after_a_restart(backend: Backend) {
    let mut kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let token = crm.token(&kw.grpc()).await;
    kw.restart().await;
    assert!(kw.server().first_credential.is_none(), "the first credential is made once");
    assert!(kw.admin().await.is_active(&token).await);
    assert_eq!(kid_and_algorithm(&crm.token(&kw.grpc()).await), kid_and_algorithm(&token));
}

async fn published(kw: &Keyward) -> Vec<(String, String)> {
    let mut client = KeyServiceClient::new(connect(&kw.grpc()).await);
    let jwks = client.get_jwks(GetJwksRequest {}).await.unwrap().into_inner();
    assert_eq!(jwks.max_age.unwrap().seconds, 300);
    let jwks: Value = serde_json::from_str(&jwks.jwks).unwrap();
    let keys = jwks["keys"].as_array().unwrap().iter();
    keys.map(|key| {
        assert_eq!(key["d"], Value::Null, "public members only");
        let text = |member: &str| key[member].as_str().unwrap().to_owned();
        (text("kid"), text("alg"))
    })
    .collect()
}

async fn new_algorithm_is_published_before_it_signs(backend: Backend) {
    let mut kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let old = kid_and_algorithm(&crm.token(&kw.grpc()).await);
    assert_eq!(old.1, "ES256");
    let before = published(&kw).await;
    assert_eq!((before.len(), &before[0]), (2, &old));

    kw.restart_with(&[("tokens.signing_algorithm", "EdDSA".to_owned())]).await;
    assert_eq!(published(&kw).await.len(), 2);
    kw.advance(Duration::from_secs(599).as_secs());
    let last = crm.token(&kw.grpc()).await;
    assert_eq!(kid_and_algorithm(&last), old, "two lives of a verifier's cache");
    kw.advance(1);
    let new = kid_and_algorithm(&crm.token(&kw.grpc()).await);
    assert_eq!(new.1, "EdDSA");
    assert!(published(&kw).await.contains(&new));
    assert!(kw.admin().await.is_active(&last).await, "the old key verifies its tokens");
    // An hour for the last token, and ten minutes for servers that learn of the new key late.
    kw.advance(70 * 60 + 1);
    assert_eq!(published(&kw).await, [new], "and goes when all of them have ended");
}
