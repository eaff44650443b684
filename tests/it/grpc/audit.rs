//! The audit log: every change and every refused attempt, in order, without secrets.

use keyward::proto::admin as pb;
use keyward::proto::admin::audit_event::Outcome;
use keyward::proto::admin::credential::Kind;
use prost_types::{Duration, Timestamp};

use crate::harness::{Admin, Backend, mask, on_both_databases, reason, secret_free};

on_both_databases!(
    audit_log_has_the_whole_history_of_a_credential,
    refused_attempt_is_recorded_with_its_caller,
    attempt_on_another_tenant_is_in_the_callers_own_log,
    events_are_filtered_by_resource_actor_action_and_time,
    log_outlives_the_tenant_without_gaps_in_numbers,
    log_contains_no_secret,
    change_for_many_applications_has_an_event_for_each,
    first_start_is_recorded,
    database_refuses_to_change_or_delete_an_event,
);

async fn events(caller: &mut Admin, request: pb::ListAuditEventsRequest) -> Vec<pb::AuditEvent> {
    let tenant = if request.parent.is_empty() { "tenants/acme" } else { &request.parent };
    let request =
        pb::ListAuditEventsRequest { parent: tenant.to_owned(), page_size: 1000, ..request };
    caller.audit.list_audit_events(request).await.unwrap().into_inner().events
}

fn everything() -> pb::ListAuditEventsRequest {
    pb::ListAuditEventsRequest { order_by: "time".to_owned(), ..Default::default() }
}

/// An event in readable form.
fn readable(event: &pb::AuditEvent) -> String {
    let refused = if event.outcome() == Outcome::Refused { " refused" } else { "" };
    let short = |name: &str| name.rsplit('/').next().unwrap().to_owned();
    let who = if event.user.is_empty() { &event.service } else { &event.user };
    let changes = event.changes.iter().map(|c| format!(" {}:{}>{}", c.field, c.before, c.after));
    format!("{} {}{refused}{}", short(who), event.action, changes.collect::<String>())
}

async fn audit_log_has_the_whole_history_of_a_credential(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    let viewable = pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant {
            name: "tenants/acme".to_owned(),
            policy: Some(pb::Policy { secrets_viewable: true, ..Default::default() }),
            ..Default::default()
        }),
        update_mask: mask(&["policy"]),
    };
    admin.tenants.update_tenant(viewable).await.unwrap();
    let all = ["view", "create", "edit", "delete", "reveal"];
    let permissions: Vec<_> =
        all.iter().map(|verb| format!("applications.{verb}.account")).collect();
    let permissions: Vec<_> = permissions.iter().map(String::as_str).collect();
    admin.role("acme", "boss", &permissions, &["*"]).await;
    admin.role("acme", "viewer", &["applications.view.account"], &[]).await;
    let ann = admin.user("acme", "ann", &["boss"]).await;
    let vic = admin.user("acme", "vic", &["viewer"]).await;
    let console = admin.console(&kw).await;
    let (mut ann, mut vic) = (console.acting_for(&ann), console.acting_for(&vic));

    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "crm".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            owner: "tenants/acme".to_owned(),
            scopes: vec!["a".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = ann.applications.create_application(request).await.unwrap().into_inner();
    let application = made.application.unwrap().name;
    let (credential, secret) = ann.credential(&application, Kind::ClientSecret).await;
    let name = || credential.name.clone();
    let token = secret.token(&kw.grpc()).await;
    kw.advance(60);
    let request = pb::RevealCredentialRequest { name: name() };
    let status = vic.credentials.reveal_credential(request.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    ann.credentials.reveal_credential(request).await.unwrap();
    kw.advance(60);
    let request = pb::RotateCredentialRequest {
        name: name(),
        overlap: Some(Duration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    };
    let rotated = ann.credentials.rotate_credential(request).await.unwrap().into_inner();
    let request = pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: application.clone(),
            disabled: true,
            ..Default::default()
        }),
        update_mask: mask(&["disabled"]),
    };
    ann.applications.update_application(request).await.unwrap();
    let request = pb::DeleteCredentialRequest { name: name(), ..Default::default() };
    vic.credentials.delete_credential(request.clone()).await.unwrap_err();
    ann.credentials.delete_credential(request).await.unwrap();

    let request = pb::ListAuditEventsRequest { resource: name(), ..everything() };
    let story = events(&mut admin, request).await;
    let end = |secret: &str| secret[secret.len() - 4..].to_owned();
    let (old, new) = (end(&secret.secret), end(&rotated.secret));
    let expected = [
        "admin CreateTenant display_name:>acme default_audience:>tenants/acme \
         access_token_lifetime:>900s policy.user_deletion:>refuse"
            .to_owned(),
        "admin UpdateTenant policy.secrets_viewable:false>true".to_owned(),
        "ann CreateApplication owner:>account display_name:>CRM scopes:>a".to_owned(),
        "ann CreateCredential kind:>client_secret".to_owned(),
        "vic RevealCredential refused".to_owned(),
        "ann RevealCredential".to_owned(),
        format!("ann RotateCredential secrets:…{old}>…{new}"),
        "ann UpdateApplication disabled:false>true".to_owned(),
        "vic DeleteCredential refused".to_owned(),
        "ann DeleteCredential".to_owned(),
    ];
    assert_eq!(story.iter().map(readable).collect::<Vec<_>>(), expected);
    let revealed = &story[5];
    assert_eq!(revealed.service, "tenants/system/applications/console");
    assert_eq!(revealed.user, "tenants/acme/users/ann");
    assert_eq!(revealed.source_address, "127.0.0.1");
    assert_eq!(revealed.time.unwrap().seconds, kw.now().as_second() - 60);
    assert_eq!(revealed.detail, format!("the secret …{old} was shown"));
    assert!(story[4].detail.contains("applications.reveal.account"), "{}", story[4].detail);
    assert!(!admin.is_active(&token).await);
}

async fn refused_attempt_is_recorded_with_its_caller(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    admin.role("acme", "viewer", &["applications.view.account"], &[]).await;
    let vic = admin.user("acme", "vic", &["viewer"]).await;
    let mut vic = admin.console(&kw).await.acting_for(&vic);
    let request = pb::DeleteApplicationRequest {
        name: "tenants/acme/applications/crm".to_owned(),
        ..Default::default()
    };
    vic.applications.delete_application(request).await.unwrap_err();
    let request =
        pb::DeleteScopeRequest { name: "tenants/acme/scopes/a".to_owned(), ..Default::default() };
    admin.scopes.delete_scope(request).await.unwrap_err();
    let request = pb::DeleteTenantRequest { name: "tenants/acme".to_owned(), ..Default::default() };
    admin.tenants.delete_tenant(request.clone()).await.unwrap_err();
    vic.tenants.delete_tenant(request).await.unwrap_err();
    // An invalid request, an outdated one and one for a missing resource are not recorded.
    let request = pb::DeleteApplicationRequest {
        name: "tenants/acme/applications/crm".to_owned(),
        etag: "stale".to_owned(),
    };
    admin.applications.delete_application(request).await.unwrap_err();

    let mut refused = events(&mut admin, everything()).await;
    refused.retain(|event| event.outcome() == Outcome::Refused);
    let reported: Vec<_> = refused.iter().map(readable).collect();
    let expected = [
        "vic DeleteApplication refused",
        "admin DeleteScope refused",
        "admin DeleteTenant refused",
        "vic DeleteTenant refused",
    ];
    assert_eq!(reported, expected);
    assert!(refused[1].detail.contains("tenants/acme/applications/crm"), "{}", refused[1].detail);
}

async fn attempt_on_another_tenant_is_in_the_callers_own_log(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    admin.tenant("evil", &["a"]).await;
    admin.role("evil", "boss", &["applications.delete.account"], &["*"]).await;
    let eve = admin.user("evil", "eve", &["boss"]).await;
    let mut eve = admin.console(&kw).await.acting_for(&eve);
    let before = events(&mut admin, everything()).await;
    for name in ["tenants/acme/applications/crm", "tenants/nowhere/applications/crm"] {
        let request = pb::DeleteApplicationRequest { name: name.to_owned(), ..Default::default() };
        let status = eve.applications.delete_application(request).await.unwrap_err();
        assert_eq!(reason(&status), "NOT_FOUND");
        let tenant = name.split('/').nth(1).unwrap();
        assert_eq!(status.message(), format!("tenants/{tenant} does not exist"));
    }
    assert_eq!(events(&mut admin, everything()).await, before, "it is not in the log of acme");
    let request = pb::ListAuditEventsRequest {
        parent: "tenants/evil".to_owned(),
        action: "DeleteApplication".to_owned(),
        ..everything()
    };
    let attempts = events(&mut admin, request).await;
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].resource, "tenants/acme/applications/crm");
    assert_eq!(attempts[0].outcome(), Outcome::Refused);
}

async fn events_are_filtered_by_resource_actor_action_and_time(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let start = kw.now().as_second();
    kw.advance(100);
    admin.application("acme", "crm-2", &["a"]).await;
    admin.role("acme", "none", &[], &[]).await;
    let sam = admin.user("acme", "sam", &["none"]).await;
    let mut acting = admin.console(&kw).await.acting_for(&sam);
    let request = pb::DeleteApplicationRequest {
        name: "tenants/acme/applications/crm-2".to_owned(),
        ..Default::default()
    };
    acting.applications.delete_application(request).await.unwrap_err();
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let default = pb::ListAuditEventsRequest::default;
    let crm = "tenants/acme/applications/crm".to_owned();
    for (request, actions) in [
        // Not the events of crm-2, although its name has the same prefix.
        (
            pb::ListAuditEventsRequest { resource: crm, ..default() },
            &["CreateCredential", "CreateApplication", "CreateTenant"][..],
        ),
        (
            pb::ListAuditEventsRequest {
                resource: "tenants/acme/users/sam".to_owned(),
                ..default()
            },
            &["CreateUser", "CreateTenant"],
        ),
        (pb::ListAuditEventsRequest { actor: sam, ..default() }, &["DeleteApplication"]),
        (
            pb::ListAuditEventsRequest {
                actor: "tenants/system/applications/console".to_owned(),
                ..default()
            },
            &["DeleteApplication"],
        ),
        (
            pb::ListAuditEventsRequest { action: "CreateApplication".to_owned(), ..default() },
            &["CreateApplication", "CreateApplication"],
        ),
        (
            pb::ListAuditEventsRequest { start_time: at(start + 1), ..default() },
            &["DeleteApplication", "CreateUser", "CreateRole", "CreateApplication"],
        ),
        (
            pb::ListAuditEventsRequest {
                end_time: at(start + 1),
                order_by: "time".to_owned(),
                ..default()
            },
            &[
                "CreateTenant",
                "CreateScope",
                "CreateScope",
                "CreateScope",
                "CreateApplication",
                "CreateCredential",
            ],
        ),
    ] {
        let found = events(&mut admin, request.clone()).await;
        let found: Vec<_> = found.iter().map(|event| event.action.as_str()).collect();
        assert_eq!(found, actions, "{request:?}");
    }
    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let request = pb::ListAuditEventsRequest {
            parent: "tenants/acme".to_owned(),
            page_size: 3,
            page_token: token,
            ..default()
        };
        let page = admin.audit.list_audit_events(request).await.unwrap().into_inner();
        seen.extend(page.events);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, events(&mut admin, default()).await, "page by page without gaps");
    for request in [
        pb::ListAuditEventsRequest { action: "Frobnicate".to_owned(), ..default() },
        pb::ListAuditEventsRequest { order_by: "name".to_owned(), ..default() },
    ] {
        let request = pb::ListAuditEventsRequest { parent: "tenants/acme".to_owned(), ..request };
        let status = admin.audit.list_audit_events(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD");
    }
}

async fn log_outlives_the_tenant_without_gaps_in_numbers(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let delete = pb::DeleteTenantRequest {
        name: "tenants/acme".to_owned(),
        force: true,
        ..Default::default()
    };
    admin.tenants.delete_tenant(delete).await.unwrap();
    let after = events(&mut admin, everything()).await;
    let last = after.last().unwrap();
    assert_eq!(
        (last.action.as_str(), last.detail.as_str()),
        ("DeleteTenant", "and its 1 applications")
    );
    admin.tenant("acme", &["a"]).await;
    let all = events(&mut admin, everything()).await;
    let numbers: Vec<_> = all.iter().map(|event| event.name.clone()).collect();
    let expected: Vec<_> =
        (1..=all.len()).map(|n| format!("tenants/acme/auditEvents/{n}")).collect();
    assert_eq!(numbers, expected);
    let nowhere =
        pb::ListAuditEventsRequest { parent: "tenants/nowhere".to_owned(), ..Default::default() };
    let status = admin.audit.list_audit_events(nowhere).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_FOUND");
}

async fn log_contains_no_secret(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, secret) = admin.acme().await;
    let token = secret.token(&kw.grpc()).await;
    let request = keyward::proto::token::RevokeTokenRequest { token };
    admin.tokens.revoke_token(request).await.unwrap();
    let rotate = pb::RotateCredentialRequest { name: credential.name, ..Default::default() };
    let rotated = admin.credentials.rotate_credential(rotate).await.unwrap().into_inner();
    let log = format!("{:?}", events(&mut admin, everything()).await);
    secret_free(&log);
    assert!(log.contains("RevokeToken") && !log.contains(&rotated.secret), "{log}");
}

async fn change_for_many_applications_has_an_event_for_each(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a", "b"]).await;
    admin.role("acme", "gone", &[], &["a"]).await;
    for user in ["sam", "eve"] {
        admin.user("acme", user, &["gone"]).await;
    }
    admin.role("acme", "kept", &[], &["a", "b"]).await;
    for application in ["one", "two"] {
        admin.application("acme", application, &["a", "b"]).await;
    }
    let sams = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "sams".to_owned(),
        application: Some(pb::Application {
            display_name: "sams".to_owned(),
            owner: "tenants/acme/users/sam".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    admin.applications.create_application(sams).await.unwrap();
    let mut before = events(&mut admin, everything()).await.len();
    let role = pb::DeleteRoleRequest {
        name: "tenants/acme/roles/gone".to_owned(),
        force: true,
        ..Default::default()
    };
    let read = pb::GetUserRequest { name: "tenants/acme/users/sam".to_owned() };
    let sam = admin.users.get_user(read.clone()).await.unwrap().into_inner().user.unwrap();
    admin.roles.delete_role(role).await.unwrap();
    let less = admin.users.get_user(read).await.unwrap().into_inner().user.unwrap();
    assert_ne!(sam.etag, less.etag, "no change without its version");
    let scope = pb::DeleteScopeRequest {
        name: "tenants/acme/scopes/a".to_owned(),
        force: true,
        ..Default::default()
    };
    admin.scopes.delete_scope(scope).await.unwrap();
    let disable = pb::UpdateUserRequest {
        user: Some(pb::User {
            name: "tenants/acme/users/sam".to_owned(),
            disabled: true,
            ..Default::default()
        }),
        update_mask: mask(&["disabled"]),
        allow_missing: false,
    };
    admin.users.update_user(disable).await.unwrap();

    let all = events(&mut admin, everything()).await;
    let new: Vec<_> = all[before..]
        .iter()
        .map(|event| {
            let name = event.resource.rsplit('/').next().unwrap();
            format!("{} {name}: {}", event.action, event.detail)
        })
        .collect();
    let expected = [
        "UpdateApplication sams: its tokens were revoked: the role gone was deleted",
        "UpdateUser eve: the role gone was deleted",
        "UpdateUser sam: the role gone was deleted",
        "DeleteRole gone: ",
        "UpdateApplication one: its tokens were revoked: the scope a left the catalogue",
        "UpdateApplication two: its tokens were revoked: the scope a left the catalogue",
        "UpdateRole kept: the scope a left the catalogue",
        "DeleteScope a: ",
        "UpdateApplication sams: its tokens were revoked: its owner was disabled",
        "UpdateUser sam: ",
    ];
    assert_eq!(new, expected);
    for event in &all[before..] {
        before += 1;
        assert_eq!(event.name, format!("tenants/acme/auditEvents/{before}"), "without gaps");
    }
}

async fn first_start_is_recorded(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let request =
        pb::ListAuditEventsRequest { parent: "tenants/system".to_owned(), ..everything() };
    let reported: Vec<_> = events(&mut admin, request)
        .await
        .iter()
        .map(|event| (event.service.clone(), event.action.clone()))
        .collect();
    let by_keyward = |action: &str| ("keyward".to_owned(), action.to_owned());
    let expected = [
        "CreateTenant",
        "CreateScope",
        "CreateScope",
        "CreateScope",
        "CreateApplication",
        "CreateCredential",
        // The next key.
        "RotateSigningKey",
    ]
    .map(by_keyward);
    assert_eq!(reported, expected);
}

const CHANGES: [&str; 2] =
    ["update audit_events set detail = 'forged'", "delete from audit_events"];

async fn database_refuses_to_change_or_delete_an_event(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let before = events(&mut admin, everything()).await;
    for change in CHANGES {
        let error = kw.sql(change, None).await.expect_err(change).to_string();
        assert!(error.contains("audit events cannot be changed or deleted"), "{error}");
    }
    assert_eq!(events(&mut admin, everything()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_role_cannot_change_events() {
    let mut kw = Backend::Postgres.start().await;
    kw.sql(include_str!("../../../deploy/postgres-server-role.sql"), None).await.unwrap();
    let url = kw.database_as("keyward_server");
    kw.restart_with(&[("database.url", url.clone())]).await;

    // All operations of a server, with that role.
    let mut admin = kw.admin().await;
    let (credential, secret) = admin.acme().await;
    let token = secret.token(&kw.grpc()).await;
    let request = keyward::proto::token::RevokeTokenRequest { token };
    admin.tokens.revoke_token(request).await.unwrap();
    kw.server().service.usage.write().await.unwrap();
    kw.server().service.feeds.purge().await.unwrap();
    let request = pb::DeleteCredentialRequest { name: credential.name, ..Default::default() };
    admin.credentials.delete_credential(request).await.unwrap();
    let request = pb::DeleteTenantRequest {
        name: "tenants/acme".to_owned(),
        force: true,
        ..Default::default()
    };
    admin.tenants.delete_tenant(request).await.unwrap();

    for change in CHANGES.into_iter().chain(["truncate audit_events", "drop table audit_events"]) {
        let error = kw.sql(change, Some(&url)).await.expect_err(change).to_string();
        let refused = error.contains("permission denied") || error.contains("must be owner");
        assert!(refused, "{change}: {error}");
    }
}
