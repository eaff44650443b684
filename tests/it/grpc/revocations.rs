//! The revocation list: it contains everything that ends a token, and verifiers receive it.

use keyward::internals::domain::{NewRevocation, Subject};
use keyward::internals::keys::Claims;
use keyward::internals::store::{Database, PoolOptions, Store};
use keyward::proto::access;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::access::key_service_client::KeyServiceClient;
use keyward::proto::access::revocation::Revoked;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::{RevokeTokenRequest, RevokeTokensRequest};
use tonic::{Code, Status, Streaming};

use crate::harness::{
    Admin, Backend, Credential, Keyward, connect, mask, on_both_databases, reason, until,
};

on_both_databases!(
    everything_that_ends_a_token_is_in_the_list,
    reused_name_does_not_accept_old_tokens,
    tokens_are_revoked_at_every_level,
    answer_says_whether_a_token_was_revoked,
    user_can_revoke_what_they_may_edit,
    watcher_receives_all_revocations_in_order,
    old_foreign_or_future_cursor_is_refused,
    list_is_paged_and_its_cursor_continues,
    list_requires_the_verify_scope,
    stream_ends_with_the_rights_of_its_caller,
);

async fn answer_says_whether_a_token_was_revoked(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let mut revoke = async |token: String| {
        let request = RevokeTokenRequest { token };
        admin.tokens.revoke_token(request).await.map(|answer| answer.into_inner().revoked)
    };
    for nothing in ["garbage", &token[1..], &token[..token.len() - 1]] {
        assert!(!revoke(nothing.to_owned()).await.unwrap(), "{nothing}");
    }
    assert_eq!(reason(&revoke(" \n".to_owned()).await.unwrap_err()), "INVALID_FIELD");
    assert!(revoke(format!("Bearer {token}\n")).await.unwrap(), "as it is pasted");
    assert!(is_listed(&kw, &token));
    assert!(!revoke(token).await.unwrap(), "it was revoked before");
    let ended = crm.token(&kw.grpc()).await;
    kw.advance(3600);
    let mut admin = kw.admin().await;
    let request = RevokeTokenRequest { token: ended };
    assert!(!admin.tokens.revoke_token(request).await.unwrap().into_inner().revoked);
}

fn claims(token: &str) -> Claims {
    jsonwebtoken::dangerous::insecure_decode::<Claims>(token).unwrap().claims
}

/// Whether the list revokes a token.
fn is_listed(kw: &Keyward, token: &str) -> bool {
    kw.server().service.revocations().index().revokes(&claims(token).revocation_keys())
}

/// A tenant with a catalogue, a role that gives `a`, a user who has it, and an application of that
/// user with `a` and `b`. Returns its credential.
async fn peopled(admin: &mut Admin, tenant: &str) -> (pb::Credential, Credential) {
    admin.tenant(tenant, &["a", "b"]).await;
    admin.role(tenant, "giver", &["applications.edit.own"], &["a", "b"]).await;
    admin.role(tenant, "heirs", &["applications.edit.own"], &["a", "b"]).await;
    admin.role(tenant, "bearer", &[], &["a"]).await;
    let ann = admin.user(tenant, "ann", &["giver"]).await;
    admin.user(tenant, "eve", &["heirs"]).await;
    let request = pb::CreateApplicationRequest {
        parent: format!("tenants/{tenant}"),
        application_id: "crm".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            scopes: vec!["b".to_owned()],
            roles: vec!["bearer".to_owned()],
            owner: ann,
            ..Default::default()
        }),
        ..Default::default()
    };
    admin.applications.create_application(request).await.unwrap();
    admin.credential(&format!("tenants/{tenant}/applications/crm"), Kind::ClientSecret).await
}

/// Ends the tokens of a tenant's application in one of the possible ways.
async fn end(admin: &mut Admin, way: &str, tenant: &str, credential: &pb::Credential) {
    let name = format!("tenants/{tenant}");
    let crm = format!("{name}/applications/crm");
    let hour = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    match way {
        "tenant disabled" | "API credentials disabled" | "credentials live shorter" => {
            let policy = pb::Policy {
                api_credentials_disabled: way == "API credentials disabled",
                max_credential_lifetime: hour.filter(|_| way == "credentials live shorter"),
                ..Default::default()
            };
            let disabled = way == "tenant disabled";
            let tenant = pb::Tenant { name, disabled, policy: Some(policy), ..Default::default() };
            let update_mask = mask(&["disabled", "policy"]);
            let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
            admin.tenants.update_tenant(request).await.unwrap();
        }
        "tenant deleted" => {
            let request = pb::DeleteTenantRequest { name, force: true, ..Default::default() };
            admin.tenants.delete_tenant(request).await.unwrap();
        }
        "application disabled" | "role taken from application" | "application ends earlier" => {
            let in_a_year = prost_types::Timestamp { seconds: 1_811_678_400, nanos: 0 };
            let application = pb::Application {
                name: crm,
                disabled: true,
                expire_time: Some(in_a_year),
                ..Default::default()
            };
            let path = match way {
                "application disabled" => "disabled",
                "application ends earlier" => "expire_time",
                _ => "roles",
            };
            let application = Some(application);
            let request = pb::UpdateApplicationRequest { application, update_mask: mask(&[path]) };
            admin.applications.update_application(request).await.unwrap();
        }
        "application deleted" => {
            let request = pb::DeleteApplicationRequest { name: crm, etag: String::new() };
            admin.applications.delete_application(request).await.unwrap();
        }
        "credential disabled" => {
            let name = credential.name.clone();
            let credential = Some(pb::Credential { name, disabled: true, ..Default::default() });
            let update_mask = mask(&["disabled"]);
            let request = pb::UpdateCredentialRequest { credential, update_mask };
            admin.credentials.update_credential(request).await.unwrap();
        }
        "credential deleted" => {
            let name = credential.name.clone();
            let request = pb::DeleteCredentialRequest { name, etag: String::new() };
            admin.credentials.delete_credential(request).await.unwrap();
        }
        "secret rotated at once" => {
            let name = credential.name.clone();
            let overlap = Some(prost_types::Duration::default());
            let request = pb::RotateCredentialRequest { name, overlap, ..Default::default() };
            admin.credentials.rotate_credential(request).await.unwrap();
        }
        "scope disabled" => {
            let name = format!("{name}/scopes/a");
            let scope = Some(pb::Scope { name, disabled: true, ..Default::default() });
            let request = pb::UpdateScopeRequest { scope, update_mask: mask(&["disabled"]) };
            admin.scopes.update_scope(request).await.unwrap();
        }
        "scope deleted" => {
            let name = format!("{name}/scopes/b");
            let request = pb::DeleteScopeRequest { name, force: true, ..Default::default() };
            admin.scopes.delete_scope(request).await.unwrap();
        }
        "owner demoted" => {
            admin.user(tenant, "ann", &[]).await;
        }
        "owner disabled" => {
            let name = format!("{name}/users/ann");
            let user = Some(pb::User { name, disabled: true, ..Default::default() });
            let update_mask = mask(&["disabled"]);
            let request = pb::UpdateUserRequest { user, update_mask, ..Default::default() };
            admin.users.update_user(request).await.unwrap();
        }
        "role of owner narrowed" | "role of application narrowed" => {
            let id = if way == "role of owner narrowed" { "giver" } else { "bearer" };
            let role = Some(pb::Role { name: format!("{name}/roles/{id}"), ..Default::default() });
            let request = pb::UpdateRoleRequest { role, update_mask: mask(&["scopes"]) };
            admin.roles.update_role(request).await.unwrap();
        }
        "role deleted" => {
            let name = format!("{name}/roles/bearer");
            let request = pb::DeleteRoleRequest { name, force: true, ..Default::default() };
            admin.roles.delete_role(request).await.unwrap();
        }
        "handed over" | "deleted with its owner" => {
            let mut policy = pb::Policy::default();
            let handed_over = way == "handed over";
            policy.set_user_deletion(if handed_over {
                pb::policy::UserDeletion::HandOver
            } else {
                pb::policy::UserDeletion::Delete
            });
            let tenant =
                pb::Tenant { name: name.clone(), policy: Some(policy), ..Default::default() };
            let request =
                pb::UpdateTenantRequest { tenant: Some(tenant), update_mask: mask(&["policy"]) };
            admin.tenants.update_tenant(request).await.unwrap();
            let heir = if handed_over { format!("{name}/users/eve") } else { String::new() };
            let request = pb::DeleteUserRequest {
                name: format!("{name}/users/ann"),
                hand_over_to: heir,
                ..Default::default()
            };
            admin.users.delete_user(request).await.unwrap();
        }
        _ => panic!("{way}?"),
    }
}

const WAYS: [&str; 20] = [
    "tenant disabled",
    "API credentials disabled",
    "credentials live shorter",
    "tenant deleted",
    "application disabled",
    "application ends earlier",
    "role taken from application",
    "application deleted",
    "credential disabled",
    "credential deleted",
    "secret rotated at once",
    "scope disabled",
    "scope deleted",
    "owner demoted",
    "owner disabled",
    "role of owner narrowed",
    "role of application narrowed",
    "role deleted",
    "handed over",
    "deleted with its owner",
];

async fn everything_that_ends_a_token_is_in_the_list(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, bystander) = admin.acme().await;
    let other = bystander.token(&kw.grpc()).await;
    for (n, way) in WAYS.into_iter().enumerate() {
        let tenant = format!("t{n}");
        let (credential, crm) = peopled(&mut admin, &tenant).await;
        let token = crm.token(&kw.grpc()).await;
        assert!(admin.is_active(&token).await && !is_listed(&kw, &token), "{way}");
        assert!(admin.check(&token, &["a", "b"]).await.allowed, "{way}");
        end(&mut admin, way, &tenant, &credential).await;
        assert!(is_listed(&kw, &token), "{way}: the list alone is enough");
        assert!(!admin.is_active(&token).await, "{way}");
        let answer = admin.check(&token, &[]).await;
        assert_eq!((answer.allowed, answer.outcome()), (false, Outcome::Revoked), "{way}");
    }
    assert!(!is_listed(&kw, &other), "and no other token");
    assert!(admin.is_active(&other).await);
}

async fn reused_name_does_not_accept_old_tokens(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let old = crm.token(&kw.grpc()).await;
    for way in ["application deleted", "tenant deleted"] {
        end(&mut admin, way, "acme", &pb::Credential::default()).await;
        if way == "tenant deleted" {
            admin.tenant("acme", &["a", "b"]).await;
        }
        admin.application("acme", "crm", &["a", "b"]).await;
        let (_, crm) = admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await;
        let new = crm.token(&kw.grpc()).await;
        assert!(is_listed(&kw, &old), "{way}");
        assert!(!is_listed(&kw, &new), "{way}: the new one has done nothing");
        assert!(admin.is_active(&new).await, "{way}");
    }
}

async fn revoke(admin: &mut Admin, name: &str, token_id: &str) -> Result<i64, Status> {
    let request = RevokeTokensRequest {
        name: name.to_owned(),
        token_id: token_id.to_owned(),
        reason: "a laptop was lost".to_owned(),
    };
    Ok(admin.tokens.revoke_tokens(request).await?.into_inner().applications)
}

async fn tokens_are_revoked_at_every_level(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = peopled(&mut admin, "acme").await;
    let (_, sibling) = admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await;
    admin.application("acme", "bi", &["a"]).await;
    let (_, bi) = admin.credential("tenants/acme/applications/bi", Kind::ClientSecret).await;
    let all = [&crm, &sibling, &bi];
    // What is revoked: the tokens of crm's first credential, of its second, of bi.
    for (name, applications, revoked) in [
        (credential.name.as_str(), 0, [true, false, false]),
        ("tenants/acme/applications/crm", 0, [true, true, false]),
        ("tenants/acme/users/ann", 1, [true, true, false]),
        ("tenants/acme/users/eve", 0, [false, false, false]),
        ("tenants/acme", 0, [true, true, true]),
    ] {
        let mut before = Vec::new();
        for credential in all {
            before.push(credential.token(&kw.grpc()).await);
        }
        assert_eq!(revoke(&mut admin, name, "").await.unwrap(), applications, "{name}");
        for (token, revoked) in before.iter().zip(revoked) {
            assert_eq!(admin.is_active(token).await, !revoked, "{name}");
            assert_eq!(is_listed(&kw, token), revoked, "{name}");
        }
        let after = crm.token(&kw.grpc()).await;
        assert!(admin.is_active(&after).await, "{name}: a new token can be had at once");
    }
    let (one, other) = (crm.token(&kw.grpc()).await, crm.token(&kw.grpc()).await);
    revoke(&mut admin, &credential.name, &claims(&one).jti).await.unwrap();
    assert!(!admin.is_active(&one).await && admin.is_active(&other).await);

    for (name, token_id, field) in [
        ("tenants/acme/roles/giver", "", "name"),
        ("", "", "name"),
        ("tenants/acme", "jti", "name"),
        (credential.name.as_str(), &"x".repeat(65), "token_id"),
    ] {
        let status = revoke(&mut admin, name, token_id).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_FIELD")
        );
        assert!(status.message().starts_with(field), "{}", status.message());
    }
    for missing in ["tenants/unknown", "tenants/acme/users/unknown", "tenants/acme/applications/no"]
    {
        assert_eq!(revoke(&mut admin, missing, "").await.unwrap_err().code(), Code::NotFound);
    }
    let request = pb::ListAuditEventsRequest {
        parent: "tenants/acme".to_owned(),
        action: "RevokeTokens".to_owned(),
        ..Default::default()
    };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 6, "each that was done");
    assert!(events.iter().all(|event| event.detail.ends_with(": a laptop was lost")));
}

async fn user_can_revoke_what_they_may_edit(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, _) = peopled(&mut admin, "acme").await;
    admin.application("acme", "bi", &["a"]).await;
    let console = admin.console(&kw).await;
    let mut ann = console.acting_for("tenants/acme/users/ann");
    let mut eve = console.acting_for("tenants/acme/users/eve");
    for name in [&credential.name, "tenants/acme/applications/crm", "tenants/acme/users/ann"] {
        revoke(&mut ann, name, "").await.unwrap();
        let status = revoke(&mut eve, name, "").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{name}");
        assert!(status.message().contains("applications.edit.users"), "{}", status.message());
    }
    for name in ["tenants/acme/applications/bi", "tenants/acme"] {
        let status = revoke(&mut ann, name, "").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{name}");
    }
    let status = revoke(&mut ann, &credential.name, "whose").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "an id may be another tenant's");
    let status = revoke(&mut ann, "tenants/system", "").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "another tenant's is not there");
}

async fn watch(admin: &mut Admin, cursor: &str) -> Streaming<access::WatchRevocationsResponse> {
    let request = access::WatchRevocationsRequest { cursor: cursor.to_owned() };
    admin.revocations.watch_revocations(request).await.unwrap().into_inner()
}

/// The next message, or why there is none.
async fn next(
    watch: &mut Streaming<access::WatchRevocationsResponse>,
) -> Result<access::WatchRevocationsResponse, Status> {
    watch.message().await.map(|message| message.expect("it ends with a status"))
}

/// The next message with entries.
async fn news(
    watch: &mut Streaming<access::WatchRevocationsResponse>,
) -> access::WatchRevocationsResponse {
    loop {
        let message = next(watch).await.unwrap();
        if !message.revocations.is_empty() {
            return message;
        }
    }
}

fn numbers(message: &access::WatchRevocationsResponse) -> Vec<i64> {
    message.revocations.iter().map(|revocation| revocation.number).collect()
}

async fn watcher_receives_all_revocations_in_order(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let jti = claims(&crm.token(&kw.grpc()).await).jti;
    revoke(&mut admin, "tenants/acme", "").await.unwrap();
    revoke(&mut admin, "tenants/acme/applications/crm", "").await.unwrap();

    let mut watcher = watch(&mut admin, "").await;
    let snapshot = next(&mut watcher).await.unwrap();
    assert!(snapshot.snapshot);
    assert_eq!(numbers(&snapshot), [1, 2]);
    let end = next(&mut watcher).await.unwrap();
    assert!(!end.snapshot && end.revocations.is_empty(), "the snapshot has an end");
    assert_eq!(end.cursor, snapshot.cursor);
    assert!(end.staleness.unwrap().seconds < 5);

    revoke(&mut admin, &credential.name, &jti).await.unwrap();
    let one = news(&mut watcher).await;
    let now = Some(prost_types::Timestamp { seconds: kw.now().as_second(), nanos: 0 });
    let hour = Some(prost_types::Timestamp { seconds: kw.now().as_second() + 3600, nanos: 0 });
    let expected = |number, revoked, epoch| access::Revocation {
        number,
        revoked: Some(revoked),
        epoch,
        revoke_time: now,
        expire_time: hour,
    };
    assert_eq!(one.revocations, [expected(3, Revoked::TokenId(jti), 0)]);
    assert!(!one.snapshot);
    drop(watcher);

    // A reconnecting client receives what happened meanwhile.
    revoke(&mut admin, &credential.name, "").await.unwrap();
    revoke(&mut admin, "tenants/acme/applications/crm", "").await.unwrap();
    let mut watcher = watch(&mut admin, &one.cursor).await;
    let missed = next(&mut watcher).await.unwrap();
    let subject = Revoked::Subject("tenants/acme/applications/crm".to_owned());
    let client = Revoked::ClientId(credential.client_id);
    assert_eq!(missed.revocations, [expected(4, client, 1), expected(5, subject, 2)]);
    assert!(!missed.snapshot);
    let heartbeat = next(&mut watcher).await.unwrap();
    assert!(heartbeat.revocations.is_empty());
    assert_eq!(heartbeat.cursor, missed.cursor);
}

async fn old_foreign_or_future_cursor_is_refused(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    revoke(&mut admin, "tenants/acme", "").await.unwrap();
    let mut watcher = watch(&mut admin, "").await;
    let first = next(&mut watcher).await.unwrap().cursor;
    revoke(&mut admin, "tenants/acme", "").await.unwrap();
    // Both expire, and are kept for another hour.
    kw.advance(3600 + 3600 - 1);
    kw.server().service.feeds.purge().await.unwrap();
    let mut admin = kw.admin().await;
    let mut watcher = watch(&mut admin, &first).await;
    assert_eq!(numbers(&next(&mut watcher).await.unwrap()), [2]);
    kw.advance(1);
    kw.server().service.feeds.purge().await.unwrap();
    let mut admin = kw.admin().await;
    let foreign = format!("{}-2", "0".repeat(32));
    let ahead = format!("{}3", first.strip_suffix('1').unwrap());
    for cursor in [&first, &foreign] {
        let mut watcher = watch(&mut admin, cursor).await;
        let status = next(&mut watcher).await.unwrap_err();
        let reported = (status.code(), reason(&status));
        assert_eq!(reported, (Code::OutOfRange, "CURSOR_TOO_OLD".to_owned()), "{cursor}");
    }
    // This server knows less than the client, which must not start again with it.
    let declared = format!("{}.1-0", first.strip_suffix("-1").unwrap());
    for cursor in [&ahead, &declared] {
        let mut watcher = watch(&mut admin, cursor).await;
        let status = next(&mut watcher).await.unwrap_err();
        let reported = (status.code(), reason(&status));
        assert_eq!(reported, (Code::Unavailable, "UNAVAILABLE".to_owned()), "{cursor}");
    }
    for bad in ["x", "1", "-", "a-b", &"9".repeat(5000)] {
        let request = access::WatchRevocationsRequest { cursor: bad.to_owned() };
        let status = admin.revocations.watch_revocations(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{bad}");
    }
    let mut watcher = watch(&mut admin, "").await;
    let fresh = next(&mut watcher).await.unwrap();
    assert_eq!((numbers(&fresh), fresh.snapshot), (vec![], true), "an empty snapshot is one");
    assert_eq!(fresh.cursor, format!("{}2", first.strip_suffix('1').unwrap()));
}

async fn list_is_paged_and_its_cursor_continues(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    for _ in 0..5 {
        revoke(&mut admin, "tenants/acme", "").await.unwrap();
    }
    let mut page_token = String::new();
    let mut seen = Vec::new();
    let cursor = loop {
        let request = access::ListRevocationsRequest { page_size: 2, page_token };
        let page = admin.revocations.list_revocations(request).await.unwrap().into_inner();
        seen.extend(page.revocations.iter().map(|revocation| revocation.number));
        if page.next_page_token.is_empty() {
            break page.cursor;
        }
        assert_eq!(page.cursor, "", "only where the list ends");
        page_token = page.next_page_token;
        // Entries that are added meanwhile are on a later page.
        if seen.len() == 2 {
            revoke(&mut admin, "tenants/acme", "").await.unwrap();
        }
    };
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    revoke(&mut admin, "tenants/acme", "").await.unwrap();
    let mut watcher = watch(&mut admin, &cursor).await;
    assert_eq!(numbers(&news(&mut watcher).await), [7]);
    let forged = access::ListRevocationsRequest { page_size: 2, page_token: "MQ".to_owned() };
    let status = admin.revocations.list_revocations(forged).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_PAGE_TOKEN");
}

async fn list_requires_the_verify_scope(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let mut console = admin.console(&kw).await;
    let mut crm = Admin::new(kw.grpc(), &crm).await;
    for caller in [&mut console, &mut crm] {
        let list = access::ListRevocationsRequest::default();
        let watch = access::WatchRevocationsRequest::default();
        for status in [
            caller.revocations.list_revocations(list).await.unwrap_err(),
            caller.revocations.watch_revocations(watch).await.unwrap_err(),
        ] {
            assert_eq!(status.code(), Code::PermissionDenied);
            assert!(status.message().contains("keyward.verify"), "{}", status.message());
        }
    }
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, gateway) = admin.credential(&application.name, Kind::ClientSecret).await;
    let mut gateway = Admin::new(kw.grpc(), &gateway).await;
    let list = access::ListRevocationsRequest::default();
    assert!(gateway.revocations.list_revocations(list).await.is_ok());
}

async fn stream_ends_with_the_rights_of_its_caller(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, secret) = admin.credential(&application.name, Kind::ClientSecret).await;
    let (_, key) = admin.credential(&application.name, Kind::ApiKey).await;
    let token = secret.token(&kw.grpc()).await;
    let mut watchers = Vec::new();
    for bearer in [&token, &key.secret] {
        let channel = crate::harness::bearer(&kw.grpc(), bearer).await;
        let mut client = access::revocation_service_client::RevocationServiceClient::new(channel);
        let request = access::WatchRevocationsRequest::default();
        let mut watcher = client.watch_revocations(request).await.unwrap().into_inner();
        assert!(next(&mut watcher).await.unwrap().snapshot);
        watchers.push(watcher);
    }
    let request = RevokeTokenRequest { token };
    admin.tokens.revoke_token(request).await.unwrap();
    end_application(&mut admin, &application.name).await;
    for watcher in &mut watchers {
        let status = loop {
            match next(watcher).await {
                Ok(_) => {}
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}

async fn end_application(admin: &mut Admin, name: &str) {
    let request = pb::DeleteApplicationRequest { name: name.to_owned(), etag: String::new() };
    admin.applications.delete_application(request).await.unwrap();
}

/// Revokes tokens directly in the database, which the server finds by polling.
async fn revoke_beside(kw: &Keyward, many: &[NewRevocation]) {
    let database = Database::Sqlite(kw.folder().join("keyward.db"));
    let pool =
        PoolOptions { max_connections: 1, acquire_timeout: std::time::Duration::from_mins(1) };
    let store = Store::open(&database, pool).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    tx.insert_revocations(many, kw.now()).await.unwrap();
    tx.commit().await.unwrap();
    kw.server().service.revocations().catch_up().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_message_of_a_batch_has_staleness() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let token = |n: i64| Subject::Token(n.to_string());
    let many: Vec<_> = (0..600).map(|n| NewRevocation::older_than(token(n), 0, kw.now())).collect();
    let cursor = next(&mut watch(&mut admin, "").await).await.unwrap().cursor;
    revoke_beside(&kw, &many).await;
    for (cursor, snapshot) in [("", true), (cursor.as_str(), false)] {
        let mut watcher = watch(&mut admin, cursor).await;
        for (count, all) in [(500, false), (100, true)] {
            let message = next(&mut watcher).await.unwrap();
            assert_eq!((message.revocations.len(), message.snapshot), (count, snapshot));
            assert_eq!(message.staleness.is_some(), all, "{count}");
        }
        let heartbeat = next(&mut watcher).await.unwrap();
        assert!(heartbeat.revocations.is_empty() && heartbeat.staleness.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cursor_ahead_of_a_replica_waits_for_it() {
    let slow = [("revocations.poll_interval", "1h"), ("revocations.max_staleness", "2h")];
    let [a, b] = Keyward::replicas(None, &slow).await;
    let mut admin = a.admin().await;
    admin.acme().await;
    let mut at_a = watch(&mut admin, "").await;
    revoke(&mut admin, "tenants/acme", "").await.unwrap();
    let cursor = news(&mut at_a).await.cursor;
    let at_b = b.server().service.revocations().index();
    assert_eq!(at_b.last(), 0, "it was not notified");
    let mut admin = b.admin().await;
    let mut watcher = watch(&mut admin, &cursor).await;
    assert_eq!(next(&mut watcher).await.unwrap().cursor, cursor);
    assert_eq!(at_b.last(), 1, "it has asked the database");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_reader_is_dropped_with_too_slow() {
    let kw = Backend::Sqlite.start_with(&[("limits.watch_patience", "100ms")]).await;
    let mut admin = kw.admin().await;
    let mut watcher = watch(&mut admin, "").await;
    next(&mut watcher).await.unwrap();
    // Far more than the connection buffers.
    let long = |n: i64| Subject::Token(format!("{n}{}", "x".repeat(4000)));
    let many: Vec<_> = (0..4000).map(|n| NewRevocation::older_than(long(n), 0, kw.now())).collect();
    revoke_beside(&kw, &many).await;
    // The place of the stream is free after the server ends it.
    until("the stream ends", async || kw.server().service.feeds.watching() == 0).await;
    let mut read = 0;
    let status = loop {
        match next(&mut watcher).await {
            Ok(message) => read += message.revocations.len(),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "TOO_SLOW"));
    assert!(read < many.len(), "the stream buffered everything: {read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_ends_its_streams() {
    let kw = Backend::Sqlite.start_with(&[("limits.shutdown_grace", "10m")]).await;
    let mut admin = kw.admin().await;
    let mut revocations = watch(&mut admin, "").await;
    next(&mut revocations).await.unwrap();
    let mut keys = KeyServiceClient::new(connect(&kw.grpc()).await);
    let mut keys = keys.watch_jwks(access::WatchJwksRequest {}).await.unwrap().into_inner();
    keys.message().await.unwrap().unwrap();
    let stopping = tokio::spawn(tokio::time::timeout(std::time::Duration::from_mins(1), kw.stop()));
    let status = loop {
        if let Err(status) = next(&mut revocations).await {
            break status;
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert_eq!(keys.message().await.unwrap_err().code(), Code::Unavailable);
    assert!(stopping.await.unwrap().is_ok(), "and waits for neither");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_stream_announces_a_new_key_before_it_signs() {
    let mut kw = Backend::Sqlite.start().await;
    let mut client = KeyServiceClient::new(connect(&kw.grpc()).await);
    let mut keys = client.watch_jwks(access::WatchJwksRequest {}).await.unwrap().into_inner();
    let first = keys.message().await.unwrap().unwrap();
    assert_eq!(first.max_age.unwrap().seconds, 300);
    let count = |jwks: &str| {
        serde_json::from_str::<serde_json::Value>(jwks).unwrap()["keys"].as_array().unwrap().len()
    };
    assert_eq!(count(&first.jwks), 2, "the active key, and the next one");
    let eddsa = [("tokens.signing_algorithm", "EdDSA".to_owned())];
    kw.restart_with(&eddsa).await;
    let mut client = KeyServiceClient::new(connect(&kw.grpc()).await);
    let mut keys = client.watch_jwks(access::WatchJwksRequest {}).await.unwrap().into_inner();
    assert_eq!(count(&keys.message().await.unwrap().unwrap().jwks), 2);
    // The old key signs for another ten minutes, and its last token expires an hour later. Then it
    // is published for ten minutes more.
    kw.advance(600 + 3600 + 600 + 1);
    assert_eq!(count(&keys.message().await.unwrap().unwrap().jwks), 1, "the old key has expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_of_another_server_is_announced_before_it_signs() {
    let [kw] = Keyward::replicas(None, &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let mut client = KeyServiceClient::new(connect(&kw.grpc()).await);
    let mut keys = client.watch_jwks(access::WatchJwksRequest {}).await.unwrap().into_inner();
    let first = keys.message().await.unwrap().unwrap().jwks;
    let other = kw.join_with(&[("tokens.signing_algorithm", "EdDSA")]).await;
    kw.server().service.signing.refresh().await.unwrap();
    let second = keys.message().await.unwrap().unwrap().jwks;
    let kids = |jwks: &str| {
        let jwks: serde_json::Value = serde_json::from_str(jwks).unwrap();
        let keys = jwks["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let old = kids(&first);
    let new: Vec<_> = kids(&second).into_iter().filter(|kid| !old.contains(kid)).collect();
    assert_eq!((old.len(), new.len()), (2, 1));
    let signers = async || {
        let mut signers = Vec::new();
        for server in [&kw, &other] {
            let token = crm.token(&server.grpc()).await;
            signers.extend(jsonwebtoken::decode_header(token).unwrap().kid);
        }
        signers
    };
    // The stream has announced the key, but it does not sign yet.
    kw.advance(599);
    assert_eq!(signers().await, [old[0].clone(), old[0].clone()]);
    kw.advance(1);
    assert_eq!(signers().await, [new[0].clone(), new[0].clone()]);
}
