//! The metadata `keyward-user` is applied or refused by every method, and ignored by none.

use keyward::proto::access;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token as tokens;
use prost::Message;
use tonic::{Code, Status};

use super::Acme;
use crate::grpc::raw::{all_methods, call_with};
use crate::harness::{Admin, Backend, on_both_databases, question, reason};

on_both_databases!(
    revoke_token_applies_the_rights_of_the_acting_user,
    methods_for_services_refuse_keyward_user,
);

async fn revoke(caller: &mut Admin, token: &str) -> Result<(), Status> {
    let request = tokens::RevokeTokenRequest { token: token.to_owned() };
    caller.tokens.revoke_token(request).await.map(drop)
}

async fn revoke_token_applies_the_rights_of_the_acting_user(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let grpc = acme.kw.grpc();
    let view = ["applications.view.account"];
    let mut vic = acme.user("vic", &view, &["*"]).await;
    let mut eve = acme.user("eve", &["applications.edit.account"], &[]).await;
    let crm = acme.admin.application("acme", "crm", &["a"]).await.name;
    let (_, credential) = acme.admin.credential(&crm, Kind::ClientSecret).await;
    let token = credential.token(&grpc).await;

    // The administrator's own scope allows more than the user may do.
    let mut admin_for_vic = acme.admin.acting_for("tenants/acme/users/vic");
    for caller in [&mut vic, &mut admin_for_vic] {
        let status = revoke(caller, &token).await.unwrap_err();
        assert_eq!(reason(&status), "PERMISSION_DENIED", "{status:?}");
        assert!(status.message().contains("applications.edit.account"), "{}", status.message());
    }
    let mut ghost = acme.console.acting_for("tenants/acme/users/ghost");
    for text in [token.as_str(), "no-token"] {
        let status = revoke(&mut ghost, text).await.unwrap_err();
        assert_eq!(reason(&status), "PERMISSION_DENIED", "whether or not it is a token");
    }
    // A user of another tenant has no rights to it, and an application without the scope cannot act
    // for a user.
    acme.admin.tenant("evil", &["a"]).await;
    acme.admin.role("evil", "boss", &["applications.edit.account"], &["*"]).await;
    let mallory = acme.admin.user("evil", "mallory", &["boss"]).await;
    revoke(&mut acme.console.acting_for(&mallory), &token).await.ok();
    assert!(acme.admin.is_active(&token).await);
    let own = credential.exchange(&grpc, &[], &["keyward"]).await.unwrap().access_token;
    let application = Admin::with_token(&grpc, &own).await;
    let mut application = application.acting_for("tenants/acme/users/eve");
    let status = revoke(&mut application, &token).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    assert!(acme.admin.is_active(&token).await, "none of them revoked it");

    // A console revokes for a user with the right, and the log names the user.
    revoke(&mut eve, &token).await.unwrap();
    assert!(!acme.admin.is_active(&token).await);
    let request = pb::ListAuditEventsRequest {
        parent: "tenants/acme".to_owned(),
        action: "RevokeToken".to_owned(),
        ..Default::default()
    };
    let events = acme.admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    let done: Vec<_> = events.iter().filter(|event| event.is_done()).collect();
    assert_eq!(done.len(), 1);
    assert_eq!(done[0].user, "tenants/acme/users/eve");
    let refused = events.iter().filter(|event| !event.is_done());
    assert!(refused.clone().count() > 0);
    assert!(refused.clone().all(|event| !event.user.is_empty()), "{events:?}");
}

/// Whether an event was successful.
trait Done {
    fn is_done(&self) -> bool;
}

impl Done for pb::AuditEvent {
    fn is_done(&self) -> bool {
        self.outcome() == pb::audit_event::Outcome::Done
    }
}

/// A valid request for the method.
fn request(path: &str, token: &str) -> Vec<u8> {
    match path.rsplit('/').next().unwrap() {
        "CheckAccess" => question(token, &["a"]).encode_to_vec(),
        "BatchCheckAccess" => {
            access::BatchCheckAccessRequest { requests: vec![question(token, &["a"])] }
                .encode_to_vec()
        }
        "IntrospectToken" => {
            tokens::IntrospectTokenRequest { token: token.to_owned() }.encode_to_vec()
        }
        _ => Vec::new(),
    }
}

async fn methods_for_services_refuse_keyward_user(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let grpc = acme.kw.grpc();
    let view = ["applications.view.account"];
    acme.user("vic", &view, &[]).await;
    let crm = acme.admin.application("acme", "crm", &["a"]).await.name;
    let (_, credential) = acme.admin.credential(&crm, Kind::ClientSecret).await;
    let token = credential.token(&grpc).await;
    let authorization = format!("Bearer {}", acme.admin.token);
    let mut refused = Vec::new();
    for path in all_methods() {
        if path.starts_with("/keyward.admin.") {
            continue;
        }
        let metadata =
            [("authorization", authorization.as_str()), ("keyward-user", "tenants/acme/users/vic")];
        let answer = call_with(&grpc, &path, request(&path, &token), &metadata).await;
        let method = path.rsplit('/').next().unwrap().to_owned();
        if ["RevokeToken", "RevokeTokens"].contains(&method.as_str()) {
            continue;
        }
        let status = answer.expect_err(&path);
        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
        assert_eq!(reason(&status), "INVALID_FIELD", "{path}");
        assert!(status.message().starts_with("keyward-user "), "{path}: {}", status.message());
        refused.push(method);
    }
    refused.sort();
    assert_eq!(
        refused,
        [
            "BatchCheckAccess",
            "CheckAccess",
            "ExchangeToken",
            "GetJwks",
            "IntrospectToken",
            "IssueToken",
            "ListRevocations",
            "WatchJwks",
            "WatchRevocations",
        ]
    );
    // HTTP does not accept an acting user either.
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let request = acme
            .kw
            .request(reqwest::Method::POST, path)
            .basic_auth(&credential.client_id, Some(&credential.secret))
            .header("keyward-user", "tenants/acme/users/vic")
            .form(&[("token", token.as_str()), ("grant_type", "client_credentials")]);
        let answer = acme.kw.send(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error()),
            (400, "invalid_request".to_owned()),
            "{path}"
        );
        assert!(answer.body.contains("keyward-user"), "{}", answer.body);
    }
    assert!(acme.admin.is_active(&token).await);
}
