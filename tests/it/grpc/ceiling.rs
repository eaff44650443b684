//! The live ceiling: an application can use what it was given, as far as the catalogue and its
//! owner's roles allow it today.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use tonic_types::StatusExt;

use crate::harness::{Admin, Backend, Credential, Keyward, mask, on_both_databases, reason};

on_both_databases!(
    supervisor_cannot_grant_an_admin_scope,
    user_ceiling_applies_to_account_applications,
    demoted_owner_narrows_their_applications,
    new_rights_of_an_owner_do_not_widen_applications,
    role_without_scope_narrows_owned_and_assigned_applications,
    all_scopes_role_does_not_bypass_the_owner_ceiling,
    user_gets_no_secret_beyond_their_ceiling,
    disabled_owner_disables_applications_and_tokens,
    application_roles_give_scopes_and_appear_in_tokens,
    role_in_use_is_deleted_only_with_force,
    deleted_scope_disappears_from_roles_and_tokens,
    api_key_has_the_current_scopes,
);

const OWN: [&str; 4] = [
    "applications.view.own",
    "applications.create.own",
    "applications.edit.own",
    "applications.delete.own",
];

/// A tenant with the scopes a, b and c; sam is an admin (all scopes), eve a supervisor (a).
struct Acme {
    kw: Keyward,
    admin: Admin,
    sam: Admin,
    eve: Admin,
}

impl Acme {
    async fn new(backend: Backend) -> Self {
        let kw = backend.start().await;
        let mut admin = kw.admin().await;
        admin.tenant("acme", &["a", "b", "c"]).await;
        admin.role("acme", "admin", &OWN, &["*"]).await;
        admin.role("acme", "supervisor", &OWN, &["a"]).await;
        let sam = admin.user("acme", "sam", &["admin"]).await;
        let eve = admin.user("acme", "eve", &["supervisor"]).await;
        let console = admin.console(&kw).await;
        let (sam, eve) = (console.acting_for(&sam), console.acting_for(&eve));
        Self { kw, admin, sam, eve }
    }

    /// An application of sam with `a` and `b`, its credential and a token.
    async fn sams(&mut self) -> (String, Credential, String) {
        let application = self.sam.application("acme", "crm", &["a", "b"]).await;
        assert_eq!(application.owner, "tenants/acme/users/sam");
        let (_, credential) = self.sam.credential(&application.name, Kind::ClientSecret).await;
        let token = credential.token(&self.kw.grpc()).await;
        (application.name, credential, token)
    }

    async fn effective(&mut self, name: &str) -> Vec<String> {
        let request = pb::GetApplicationRequest { name: name.to_owned() };
        let found = self.admin.applications.get_application(request).await.unwrap();
        found.into_inner().application.unwrap().effective_scopes
    }
}

async fn supervisor_cannot_grant_an_admin_scope(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let create = |scopes: &[&str]| pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "crm".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = acme.eve.applications.create_application(create(&["a", "b"])).await.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
    assert_eq!(status.message(), "scope not allowed: b");
    let made = acme.eve.applications.create_application(create(&["a"])).await.unwrap();
    let name = made.into_inner().application.unwrap().name;

    let widen = pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: name.clone(),
            scopes: vec!["a".to_owned(), "c".to_owned()],
            ..Default::default()
        }),
        update_mask: mask(&["scopes"]),
    };
    let status = acme.eve.applications.update_application(widen.clone()).await.unwrap_err();
    assert_eq!(status.message(), "scope not allowed: c");
    // The platform cannot give it either, because it would be beyond the owner.
    let status = acme.admin.applications.update_application(widen).await.unwrap_err();
    assert_eq!(status.message(), "scope not allowed: c");
    let (_, credential) = acme.eve.credential(&name, Kind::ClientSecret).await;
    let status = credential.exchange(&acme.kw.grpc(), &["a", "b"], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED", "and asking for it gets it nothing");
}

async fn user_ceiling_applies_to_account_applications(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    acme.admin.role("acme", "maker", &["applications.create.account"], &["a"]).await;
    acme.admin.user("acme", "eve", &["maker"]).await;
    let create = |scope: &str| pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            owner: "tenants/acme".to_owned(),
            scopes: vec![scope.to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = acme.eve.applications.create_application(create("b")).await.unwrap_err();
    assert_eq!(status.message(), "scope not allowed: b");
    acme.eve.applications.create_application(create("a")).await.unwrap();
}

async fn demoted_owner_narrows_their_applications(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let grpc = acme.kw.grpc();
    let (name, credential, token) = acme.sams().await;
    assert!(acme.admin.is_active(&token).await);

    acme.admin.user("acme", "sam", &["supervisor"]).await;
    assert!(!acme.admin.is_active(&token).await, "the old token is dead");
    assert_eq!(acme.effective(&name).await, ["a"]);
    let narrower = credential.exchange(&grpc, &[], &[]).await.unwrap();
    assert_eq!(narrower.scopes, ["a"]);
    let status = credential.exchange(&grpc, &["b"], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
    let answer = acme
        .kw
        .post_as(
            &credential,
            "/oauth2/token",
            &[("grant_type", "client_credentials"), ("scope", "b")],
        )
        .await;
    assert_eq!(answer.error(), "invalid_scope");

    acme.admin.user("acme", "sam", &[]).await;
    assert!(!acme.admin.is_active(&narrower.access_token).await);
    let status = credential.exchange(&grpc, &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED", "no scope is left");
}

async fn new_rights_of_an_owner_do_not_widen_applications(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let made = acme.eve.application("acme", "wfm", &["a"]).await;
    let (_, credential) = acme.eve.credential(&made.name, Kind::ClientSecret).await;
    let token = credential.token(&acme.kw.grpc()).await;
    acme.admin.user("acme", "eve", &["admin"]).await;
    assert_eq!(acme.effective(&made.name).await, ["a"]);
    let status = credential.exchange(&acme.kw.grpc(), &["b"], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
    assert!(acme.admin.is_active(&token).await, "a promotion revokes nothing either");

    // Demoted and promoted again: the scopes come back, but old tokens stay revoked.
    let (name, _, token) = acme.sams().await;
    acme.admin.user("acme", "sam", &["supervisor"]).await;
    acme.admin.user("acme", "sam", &["admin"]).await;
    assert_eq!(acme.effective(&name).await, ["a", "b"]);
    assert!(!acme.admin.is_active(&token).await);
}

async fn role_without_scope_narrows_owned_and_assigned_applications(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let grpc = acme.kw.grpc();
    acme.admin.role("acme", "reader", &[], &["a", "b"]).await;
    acme.admin.user("acme", "sam", &["admin", "reader"]).await;
    let (name, credential, token) = acme.sams().await;
    let held = pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: name.clone(),
            roles: vec!["reader".to_owned()],
            ..Default::default()
        }),
        update_mask: mask(&["roles", "scopes"]),
    };
    acme.sam.applications.update_application(held).await.unwrap();
    assert!(!acme.admin.is_active(&token).await, "its own scopes were taken from it");
    let token = credential.token(&grpc).await;
    assert_eq!(acme.admin.introspect(&token).await.scopes, ["a", "b"]);

    let narrow = |scopes: &[&str]| pb::UpdateRoleRequest {
        role: Some(pb::Role {
            name: "tenants/acme/roles/reader".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            ..Default::default()
        }),
        update_mask: mask(&["scopes"]),
    };
    acme.admin.roles.update_role(narrow(&["b"])).await.unwrap();
    assert!(!acme.admin.is_active(&token).await);
    let token = credential.token(&grpc).await;
    assert_eq!(acme.admin.introspect(&token).await.scopes, ["b"]);
    acme.admin.roles.update_role(narrow(&["b", "c"])).await.unwrap();
    assert!(acme.admin.is_active(&token).await, "a wider role revokes nothing");
    acme.admin.roles.update_role(narrow(&["c"])).await.unwrap();
    acme.admin.roles.update_role(narrow(&["b", "c"])).await.unwrap();
    assert!(!acme.admin.is_active(&token).await, "nor brings it back what was revoked");
}

async fn all_scopes_role_does_not_bypass_the_owner_ceiling(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    acme.admin.role("acme", "everything", &[], &["*"]).await;
    let create = |owner: &str| pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            owner: format!("tenants/acme/users/{owner}"),
            roles: vec!["everything".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    // It would widen with eve's promotion, although it was not given more.
    let status = acme.admin.applications.create_application(create("eve")).await.unwrap_err();
    assert_eq!(status.message(), "scope not allowed: b c");
    acme.admin.applications.create_application(create("sam")).await.unwrap();
}

async fn user_gets_no_secret_beyond_their_ceiling(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let made = acme.admin.application("acme", "wide", &["a", "b"]).await;
    let (credential, _) = acme.admin.credential(&made.name, Kind::ApiKey).await;
    let permissions =
        ["applications.view.account", "applications.create.account", "applications.edit.account"];
    acme.admin.role("acme", "maker", &permissions, &["a"]).await;
    acme.admin.user("acme", "eve", &["maker"]).await;
    let create = pb::CreateCredentialRequest {
        parent: made.name.clone(),
        credential: Some(pb::Credential { kind: Kind::ApiKey.into(), ..Default::default() }),
        ..Default::default()
    };
    let rotate = pb::RotateCredentialRequest { name: credential.name, ..Default::default() };
    for status in [
        acme.eve.credentials.create_credential(create.clone()).await.unwrap_err(),
        acme.eve.credentials.rotate_credential(rotate).await.unwrap_err(),
    ] {
        assert_eq!(status.message(), "scope not allowed: b");
    }
    let narrow = pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: made.name,
            scopes: vec!["a".to_owned()],
            ..Default::default()
        }),
        update_mask: mask(&["scopes"]),
    };
    acme.eve.applications.update_application(narrow).await.unwrap();
    acme.eve.credentials.create_credential(create).await.unwrap();
}

async fn disabled_owner_disables_applications_and_tokens(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let (name, credential, token) = acme.sams().await;
    let disable = |disabled| pb::UpdateUserRequest {
        user: Some(pb::User {
            name: "tenants/acme/users/sam".to_owned(),
            disabled,
            ..Default::default()
        }),
        update_mask: mask(&["disabled"]),
        allow_missing: false,
    };
    acme.admin.users.update_user(disable(true)).await.unwrap();
    assert!(!acme.admin.is_active(&token).await);
    let status = credential.exchange(&acme.kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_CLIENT");
    let request = pb::GetApplicationRequest { name };
    let found = acme.admin.applications.get_application(request).await.unwrap().into_inner();
    assert_eq!(found.application.unwrap().state(), pb::application::State::Disabled);

    acme.admin.users.update_user(disable(false)).await.unwrap();
    assert!(!acme.admin.is_active(&token).await, "the old token does not come back");
    assert!(acme.admin.is_active(&credential.token(&acme.kw.grpc()).await).await);
}

async fn application_roles_give_scopes_and_appear_in_tokens(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    acme.admin.role("acme", "reader", &[], &["b"]).await;
    acme.admin.role("acme", "everything", &[], &["*"]).await;
    let create = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "crm".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            scopes: vec!["a".to_owned()],
            roles: vec!["tenants/acme/roles/reader".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = acme.admin.applications.create_application(create).await.unwrap().into_inner();
    let made = made.application.unwrap();
    assert_eq!(made.roles, ["tenants/acme/roles/reader"]);
    assert_eq!((made.scopes.len(), made.effective_scopes.len()), (1, 2));
    let (_, credential) = acme.admin.credential(&made.name, Kind::ClientSecret).await;
    let token = credential.token(&acme.kw.grpc()).await;
    let info = acme.admin.introspect(&token).await;
    assert_eq!((info.scopes, info.roles), (vec!["a".into(), "b".into()], vec!["reader".into()]));

    let roles = |roles: &[&str]| pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: made.name.clone(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Default::default()
        }),
        update_mask: mask(&["roles"]),
    };
    acme.admin.applications.update_application(roles(&["everything"])).await.unwrap();
    assert!(!acme.admin.is_active(&token).await, "a role was taken from it");
    assert_eq!(acme.effective(&made.name).await, ["a", "b", "c"]);
    let status = acme.admin.applications.update_application(roles(&["nothing"])).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_FOUND");
    let status = acme
        .admin
        .applications
        .update_application(roles(&["tenants/x/roles/reader"]))
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
}

async fn role_in_use_is_deleted_only_with_force(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let (name, _, token) = acme.sams().await;
    let delete = |force| pb::DeleteRoleRequest {
        name: "tenants/acme/roles/admin".to_owned(),
        force,
        ..Default::default()
    };
    let status = acme.admin.roles.delete_role(delete(false)).await.unwrap_err();
    assert_eq!(reason(&status), "IN_USE");
    let standing = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(standing[0].subject, "tenants/acme/users/sam");
    assert!(acme.admin.is_active(&token).await);
    acme.admin.roles.delete_role(delete(true)).await.unwrap();
    assert!(!acme.admin.is_active(&token).await);
    assert_eq!(acme.effective(&name).await, [""; 0]);
}

async fn deleted_scope_disappears_from_roles_and_tokens(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    acme.admin.role("acme", "reader", &[], &["b", "c"]).await;
    let create = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "crm".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            roles: vec!["reader".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = acme.admin.applications.create_application(create).await.unwrap().into_inner();
    let name = made.application.unwrap().name;
    let (_, credential) = acme.admin.credential(&name, Kind::ClientSecret).await;
    let token = credential.token(&acme.kw.grpc()).await;
    let disable = pb::UpdateScopeRequest {
        scope: Some(pb::Scope {
            name: "tenants/acme/scopes/c".to_owned(),
            disabled: true,
            ..Default::default()
        }),
        update_mask: mask(&["disabled"]),
    };
    acme.admin.scopes.update_scope(disable).await.unwrap();
    assert!(!acme.admin.is_active(&token).await, "it held the scope by its role");
    assert_eq!(acme.effective(&name).await, ["b"]);
    let token = credential.token(&acme.kw.grpc()).await;
    let delete = |force| pb::DeleteScopeRequest {
        name: "tenants/acme/scopes/b".to_owned(),
        force,
        ..Default::default()
    };
    let status = acme.admin.scopes.delete_scope(delete(false)).await.unwrap_err();
    assert_eq!(reason(&status), "IN_USE", "an application holds it by its role");
    acme.admin.scopes.delete_scope(delete(true)).await.unwrap();
    assert!(!acme.admin.is_active(&token).await);
    let request = pb::GetRoleRequest { name: "tenants/acme/roles/reader".to_owned() };
    let role = acme.admin.roles.get_role(request).await.unwrap().into_inner().role.unwrap();
    assert_eq!(role.scopes, ["c"]);
}

async fn api_key_has_the_current_scopes(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let made = acme.sam.application("acme", "crm", &["a", "b"]).await;
    let (_, key) = acme.sam.credential(&made.name, Kind::ApiKey).await;
    assert_eq!(acme.admin.introspect(&key.secret).await.scopes, ["a", "b"]);
    acme.admin.user("acme", "sam", &["supervisor"]).await;
    assert_eq!(acme.admin.introspect(&key.secret).await.scopes, ["a"]);
}
