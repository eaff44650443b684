//! Which callers may call which methods.

use keyward::proto::admin::credential::Kind;
use tonic::Code;

use super::raw::{all_methods, call};
use crate::harness::{Backend, bearer, on_both_databases, reason};

on_both_databases!(
    only_public_rpcs_answer_without_authentication,
    management_rpcs_refuse_applications_of_tenants,
    built_in_scope_works_only_in_the_built_in_tenant,
    verifier_may_introspect_but_not_manage,
    system_api_key_may_manage,
    token_for_another_audience_does_not_authenticate,
    caller_loses_rights_with_their_credential,
);

/// Methods that need no authentication.
const PUBLIC: [&str; 4] = [
    "/keyward.token.v1.TokenService/IssueToken",
    "/keyward.token.v1.TokenService/ExchangeToken",
    "/keyward.access.v1.KeyService/GetJwks",
    WATCH_JWKS,
];
const WATCH_JWKS: &str = "/keyward.access.v1.KeyService/WatchJwks";

async fn only_public_rpcs_answer_without_authentication(backend: Backend) {
    let kw = backend.start().await;
    let key = format!("kwk_{}_{}", "0".repeat(32), "x".repeat(49));
    let wrong = [
        None,
        Some("Bearer ".to_owned()),
        Some("Bearer x".to_owned()),
        Some("Basic eDp5".to_owned()),
        Some("bearer".to_owned()),
        Some(format!("Bearer {key}")),
        Some(format!("Bearer {}", ".".repeat(7000))),
    ];
    for path in all_methods() {
        for authorization in &wrong {
            let answer = call(&kw.grpc(), &path, Vec::new(), authorization.as_deref()).await;
            // Without authentication the keys can be streamed; with an invalid one they cannot.
            let public = path != WATCH_JWKS || authorization.is_none();
            if public && PUBLIC.contains(&path.as_str()) {
                let refused = answer.err().map(|status| status.code());
                assert_ne!(refused, Some(Code::Unauthenticated), "{path}");
            } else {
                let status = answer.expect_err(&path);
                assert_eq!(status.code(), Code::Unauthenticated, "{path} {authorization:?}");
                assert_eq!(reason(&status), "UNAUTHENTICATED");
            }
        }
    }
}

async fn management_rpcs_refuse_applications_of_tenants(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let token = crm.exchange(&kw.grpc(), &[], &["keyward"]).await.unwrap().access_token;
    let authorization = format!("Bearer {token}");
    for path in all_methods().iter().filter(|path| path.contains("keyward.admin.v1")) {
        // The empty request is invalid, too, but the caller is refused first.
        let answer = call(&kw.grpc(), path, Vec::new(), Some(&authorization)).await;
        let status = answer.expect_err(path);
        assert_eq!(status.code(), Code::PermissionDenied, "{path}");
        assert_eq!(reason(&status), "PERMISSION_DENIED");
    }
}

async fn built_in_scope_works_only_in_the_built_in_tenant(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("evil", &["keyward.admin", "keyward.verify"]).await;
    let application = admin.application("evil", "x", &["keyward.admin", "keyward.verify"]).await;
    let (_, evil) = admin.credential(&application.name, Kind::ClientSecret).await;
    let token = evil.exchange(&kw.grpc(), &[], &["keyward"]).await.unwrap().access_token;
    let list = "/keyward.admin.v1.TenantService/ListTenants";
    let answer = call(&kw.grpc(), list, Vec::new(), Some(&format!("Bearer {token}"))).await;
    assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);

    let (_, crm) = admin.acme().await;
    let foreign = crm.token(&kw.grpc()).await;
    let mut tokens = keyward::proto::token::token_service_client::TokenServiceClient::new(
        bearer(&kw.grpc(), &token).await,
    );
    let request = keyward::proto::token::IntrospectTokenRequest { token: foreign };
    assert!(!tokens.introspect_token(request).await.unwrap().into_inner().active);
}

async fn verifier_may_introspect_but_not_manage(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, gateway) = admin.credential(&application.name, Kind::ClientSecret).await;
    let token = gateway.token(&kw.grpc()).await;

    let list = "/keyward.admin.v1.TenantService/ListTenants";
    let answer = call(&kw.grpc(), list, Vec::new(), Some(&format!("Bearer {token}"))).await;
    assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);

    let foreign = crm.token(&kw.grpc()).await;
    let channel = bearer(&kw.grpc(), &token).await;
    let mut tokens = keyward::proto::token::token_service_client::TokenServiceClient::new(channel);
    let request = keyward::proto::token::IntrospectTokenRequest { token: foreign.clone() };
    assert!(tokens.introspect_token(request).await.unwrap().into_inner().active);
    let request = keyward::proto::token::RevokeTokenRequest { token: foreign.clone() };
    let status = tokens.revoke_token(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::PermissionDenied, "NOT_YOUR_TOKEN")
    );
    assert!(admin.is_active(&foreign).await, "a refused revocation changes nothing");
}

async fn system_api_key_may_manage(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let application = admin.application("system", "console", &["keyward.admin"]).await;
    let (_, key) = admin.credential(&application.name, Kind::ApiKey).await;
    let list = "/keyward.admin.v1.TenantService/ListTenants";
    let authorization = format!("Bearer {}", key.secret);
    assert!(call(&kw.grpc(), list, Vec::new(), Some(&authorization)).await.is_ok());
}

async fn token_for_another_audience_does_not_authenticate(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let path = "/keyward.token.v1.TokenService/IntrospectToken";
    let answer = call(&kw.grpc(), path, Vec::new(), Some(&format!("Bearer {token}"))).await;
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("audience"), "{}", status.message());
}

async fn caller_loses_rights_with_their_credential(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let application = admin.application("system", "console", &["keyward.admin"]).await;
    let (credential, secret) = admin.credential(&application.name, Kind::ClientSecret).await;
    let token = secret.token(&kw.grpc()).await;
    let list = "/keyward.admin.v1.TenantService/ListTenants";
    let authorization = format!("Bearer {token}");
    assert!(call(&kw.grpc(), list, Vec::new(), Some(&authorization)).await.is_ok());
    let request = keyward::proto::admin::DeleteCredentialRequest {
        name: credential.name,
        etag: String::new(),
    };
    admin.credentials.delete_credential(request).await.unwrap();
    let answer = call(&kw.grpc(), list, Vec::new(), Some(&authorization)).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated);
}
