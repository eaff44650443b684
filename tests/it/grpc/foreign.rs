//! Access to resources of another tenant: nothing is revealed or changed.

use keyward::proto::admin as pb;
use keyward::proto::admin::audit_event::Outcome;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::{RevokeTokenRequest, RevokeTokenResponse};
use tonic::Code;

use crate::harness::{Admin, Backend, Credential, on_both_databases, reason};

on_both_databases!(
    foreign_token_answer_does_not_depend_on_its_state,
    attempts_on_another_tenant_reveal_and_record_nothing,
    token_of_another_application_is_refused_in_any_state,
);

const CRM: &str = "tenants/acme/applications/crm";

async fn evil(admin: &mut Admin) -> Credential {
    admin.tenant("evil", &["a"]).await;
    let application = admin.application("evil", "evil", &["a"]).await;
    admin.credential(&application.name, Kind::ClientSecret).await.1
}

async fn log(admin: &mut Admin, tenant: &str) -> Vec<pb::AuditEvent> {
    let request = pb::ListAuditEventsRequest {
        parent: format!("tenants/{tenant}"),
        page_size: 1000,
        order_by: "time".to_owned(),
        ..Default::default()
    };
    admin.audit.list_audit_events(request).await.unwrap().into_inner().events
}

async fn foreign_token_answer_does_not_depend_on_its_state(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    let evil = evil(&mut admin).await;
    let mut as_evil = Admin::new(kw.grpc(), &evil).await;
    let (live, dead) = (crm.token(&kw.grpc()).await, crm.token(&kw.grpc()).await);
    admin.tokens.revoke_token(RevokeTokenRequest { token: dead.clone() }).await.unwrap();
    let before = (log(&mut admin, "acme").await, log(&mut admin, "evil").await);

    let unknown = kw.post_as(&evil, "/oauth2/revoke", &[("token", "x")]).await;
    for token in [live.as_str(), &dead, "a.b.c", &live[..live.len() - 4]] {
        let request = RevokeTokenRequest { token: token.to_owned() };
        let answer = as_evil.tokens.revoke_token(request).await.map(tonic::Response::into_inner);
        assert_eq!(answer.unwrap(), RevokeTokenResponse::default());
        assert!(!as_evil.is_active(token).await);
        let answer = kw.post_as(&evil, "/oauth2/revoke", &[("token", token)]).await;
        assert_eq!((answer.status, &answer.body), (unknown.status, &unknown.body));
        let answer = kw.post_as(&evil, "/oauth2/introspect", &[("token", token)]).await;
        assert_eq!(answer.body, "{\"active\":false}");
    }
    // A foreign key is not hashed, so the response time reveals nothing.
    let hashes = kw.server().service.hashes().get();
    assert!(!as_evil.is_active(&key.secret).await);
    assert_eq!(kw.server().service.hashes().get(), hashes);

    assert!(admin.is_active(&live).await, "nothing was done");
    assert_eq!((log(&mut admin, "acme").await, log(&mut admin, "evil").await), before);
}

async fn attempts_on_another_tenant_reveal_and_record_nothing(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let evil = evil(&mut admin).await;
    let mut as_evil = Admin::new(kw.grpc(), &evil).await;
    let before = (log(&mut admin, "acme").await, log(&mut admin, "evil").await);
    let mut answers = Vec::new();
    for tenant in ["acme", "unknown"] {
        for _ in 0..20 {
            let request = pb::DeleteApplicationRequest {
                name: format!("tenants/{tenant}/applications/crm"),
                ..Default::default()
            };
            let status = as_evil.applications.delete_application(request).await.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied);
            answers.push((reason(&status), status.message().to_owned()));
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "it does not say whether a tenant exists: {answers:?}");
    assert_eq!((log(&mut admin, "acme").await, log(&mut admin, "evil").await), before);
}

/// The owner of another token gets the same error whether or not the token is still valid.
async fn token_of_another_application_is_refused_in_any_state(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let bi = admin.application("acme", "bi", &["a"]).await;
    let (_, bi) = admin.credential(&bi.name, Kind::ClientSecret).await;
    let mut as_bi = Admin::new(kw.grpc(), &bi).await;
    let (live, dead) = (crm.token(&kw.grpc()).await, crm.token(&kw.grpc()).await);
    admin.tokens.revoke_token(RevokeTokenRequest { token: dead.clone() }).await.unwrap();
    for token in [live, dead] {
        for _ in 0..5 {
            let request = RevokeTokenRequest { token: token.clone() };
            let status = as_bi.tokens.revoke_token(request).await.unwrap_err();
            assert_eq!(reason(&status), "NOT_YOUR_TOKEN");
        }
    }
    let log = log(&mut admin, "acme").await;
    let refused = log.iter().filter(|event| event.outcome() == Outcome::Refused);
    assert_eq!(refused.count(), 1, "the same again is only counted");
}
