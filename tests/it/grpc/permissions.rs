//! The whole table: which permission allows which call on whose applications.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Admin, Backend, Keyward, mask, on_both_databases, reason};

on_both_databases!(
    permission_allows_only_its_verb_and_reach,
    list_shows_only_viewable_applications,
    user_without_roles_can_do_nothing,
    users_can_give_only_what_they_have,
    users_can_read_catalogue_roles_and_themselves,
    other_permissions_allow_only_their_calls,
    manager_must_name_an_enabled_user,
);

const VERBS: [&str; 5] = ["view", "create", "edit", "delete", "reveal"];
const REACHES: [&str; 3] = ["own", "account", "users"];

/// The calls on an application or a credential, with the verb that each needs.
const CALLS: [(&str, &str); 13] = [
    ("view", "GetApplication"),
    ("view", "ListApplicationUsage"),
    ("view", "GetCredential"),
    ("view", "ListCredentials"),
    ("create", "CreateApplication"),
    ("create", "CreateCredential"),
    ("edit", "UpdateApplication"),
    ("edit", "UpdateCredential"),
    ("edit", "RotateCredential"),
    ("delete", "DeleteCredential"),
    ("delete", "DeleteApplication"),
    ("delete", "BatchDeleteApplications"),
    ("reveal", "RevealCredential"),
];

/// An application with a credential.
struct Target {
    /// From the view of the acting user: own, account, or users.
    reach: &'static str,
    owner: &'static str,
    application: String,
    credential: String,
}

impl Target {
    async fn make(admin: &mut Admin, reach: &'static str, owner: &'static str) -> Self {
        let (application, credential) = made(admin, owner).await;
        Self { reach, owner, application, credential }
    }

    /// Restores what an allowed call has deleted.
    async fn restore(&mut self, admin: &mut Admin) {
        let request = pb::GetCredentialRequest { name: self.credential.clone() };
        if admin.credentials.get_credential(request).await.is_err() {
            (self.application, self.credential) = made(admin, self.owner).await;
        }
    }
}

async fn made(admin: &mut Admin, owner: &str) -> (String, String) {
    let application = owned_application(admin, owner).await.unwrap();
    let (credential, _) = admin.credential(&application, Kind::ApiKey).await;
    (application, credential.name)
}

async fn owned_application(caller: &mut Admin, owner: &str) -> Result<String, Status> {
    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application: Some(pb::Application {
            display_name: "one".to_owned(),
            owner: owner.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = caller.applications.create_application(request).await?;
    Ok(made.into_inner().application.unwrap().name)
}

async fn call(user: &mut Admin, call: &str, target: &Target) -> Result<(), Status> {
    let Target { application, credential, .. } = target;
    let (application, credential) = (application.clone(), credential.clone());
    let etag = String::new();
    match call {
        "GetApplication" => {
            let request = pb::GetApplicationRequest { name: application };
            user.applications.get_application(request).await.map(drop)
        }
        "ListApplicationUsage" => {
            let request =
                pb::ListApplicationUsageRequest { parent: application, ..Default::default() };
            user.applications.list_application_usage(request).await.map(drop)
        }
        "GetCredential" => {
            let request = pb::GetCredentialRequest { name: credential };
            user.credentials.get_credential(request).await.map(drop)
        }
        "ListCredentials" => {
            let request = pb::ListCredentialsRequest { parent: application, ..Default::default() };
            user.credentials.list_credentials(request).await.map(drop)
        }
        "CreateApplication" => owned_application(user, target.owner).await.map(drop),
        "CreateCredential" => {
            let request = pb::CreateCredentialRequest {
                parent: application,
                credential: Some(pb::Credential {
                    kind: Kind::ApiKey.into(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            user.credentials.create_credential(request).await.map(drop)
        }
        "UpdateApplication" => {
            let request = pb::UpdateApplicationRequest {
                application: Some(pb::Application {
                    name: application,
                    description: "changed".to_owned(),
                    ..Default::default()
                }),
                update_mask: mask(&["description"]),
            };
            user.applications.update_application(request).await.map(drop)
        }
        "UpdateCredential" => {
            let request = pb::UpdateCredentialRequest {
                credential: Some(pb::Credential {
                    name: credential,
                    display_name: "changed".to_owned(),
                    ..Default::default()
                }),
                update_mask: mask(&["display_name"]),
            };
            user.credentials.update_credential(request).await.map(drop)
        }
        "RotateCredential" => {
            let overlap = Some(prost_types::Duration::default());
            let request = pb::RotateCredentialRequest { name: credential, etag, overlap };
            user.credentials.rotate_credential(request).await.map(drop)
        }
        "DeleteCredential" => {
            let request = pb::DeleteCredentialRequest { name: credential, etag };
            user.credentials.delete_credential(request).await.map(drop)
        }
        "DeleteApplication" => {
            let request = pb::DeleteApplicationRequest { name: application, etag };
            user.applications.delete_application(request).await.map(drop)
        }
        "BatchDeleteApplications" => {
            let request = pb::BatchDeleteApplicationsRequest {
                parent: "tenants/acme".to_owned(),
                names: vec![application],
            };
            let answer = user.applications.batch_delete_applications(request).await?.into_inner();
            match answer.results[0].message.as_str() {
                "" => Ok(()),
                message => Err(Status::permission_denied(message)),
            }
        }
        "RevealCredential" => {
            let request = pb::RevealCredentialRequest { name: credential };
            user.credentials.reveal_credential(request).await.map(drop)
        }
        other => panic!("{other}"),
    }
}

/// A tenant with viewable secrets, and its user sam with the role `role`.
async fn acme(kw: &Keyward, permissions: &[&str], scopes: &[&str]) -> (Admin, Admin) {
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a", "b", "c"]).await;
    let request = pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant {
            name: "tenants/acme".to_owned(),
            policy: Some(pb::Policy { secrets_viewable: true, ..Default::default() }),
            ..Default::default()
        }),
        update_mask: mask(&["policy"]),
    };
    admin.tenants.update_tenant(request).await.unwrap();
    admin.role("acme", "role", permissions, scopes).await;
    let sam = admin.user("acme", "sam", &["role"]).await;
    admin.user("acme", "eve", &[]).await;
    let sam = admin.console(kw).await.acting_for(&sam);
    (admin, sam)
}

async fn permit(admin: &mut Admin, permissions: &[String]) {
    let request = pb::UpdateRoleRequest {
        role: Some(pb::Role {
            name: "tenants/acme/roles/role".to_owned(),
            permissions: permissions.to_vec(),
            ..Default::default()
        }),
        update_mask: mask(&["permissions"]),
    };
    admin.roles.update_role(request).await.unwrap();
}

async fn permission_allows_only_its_verb_and_reach(backend: Backend) {
    // All tests share the same cores for hashes.
    let kw = backend.start_with(&[("secrets.hash_wait", "5m")]).await;
    let (mut admin, mut sam) = acme(&kw, &[], &["*"]).await;
    let mut targets = [
        Target::make(&mut admin, "own", "tenants/acme/users/sam").await,
        Target::make(&mut admin, "account", "tenants/acme").await,
        Target::make(&mut admin, "users", "tenants/acme/users/eve").await,
    ];
    let mut allowed = 0;
    for (held_verb, held_reach) in VERBS.iter().flat_map(|v| REACHES.map(|r| (*v, r))) {
        permit(&mut admin, &[format!("applications.{held_verb}.{held_reach}")]).await;
        for (verb, name) in CALLS {
            for target in &mut targets {
                let reaches =
                    held_reach == target.reach || (held_reach, target.reach) == ("users", "own");
                let outcome = call(&mut sam, name, target).await;
                let case = format!("{held_verb}.{held_reach}: {name} of {}", target.reach);
                if held_verb == verb && reaches {
                    assert!(outcome.is_ok(), "{case}: {outcome:?}");
                    allowed += 1;
                    target.restore(&mut admin).await;
                } else {
                    let status = outcome.expect_err(&case);
                    assert_eq!(status.code(), Code::PermissionDenied, "{case}");
                    let missing = format!("applications.{verb}.{}", target.reach);
                    assert!(status.message().contains(&missing), "{case}: {}", status.message());
                }
            }
        }
    }
    // With three reaches each, four pairs of existing and required reach are allowed.
    assert_eq!(allowed, CALLS.len() * 4);
}

async fn names(user: &mut Admin, request: pb::ListApplicationsRequest) -> Vec<String> {
    let parent = "tenants/acme".to_owned();
    let request = pb::ListApplicationsRequest { parent, ..request };
    let list = user.applications.list_applications(request).await.unwrap().into_inner();
    list.applications.into_iter().map(|application| application.owner).collect()
}

async fn list_shows_only_viewable_applications(backend: Backend) {
    use pb::list_applications_request::Ownership;
    let kw = backend.start().await;
    let (mut admin, mut sam) = acme(&kw, &["applications.view.own"], &[]).await;
    let (sams, eves, accounts) =
        ("tenants/acme/users/sam", "tenants/acme/users/eve", "tenants/acme");
    for owner in [sams, eves, accounts] {
        owned_application(&mut admin, owner).await.unwrap();
    }
    let all = pb::ListApplicationsRequest::default;
    for (permissions, seen) in [
        (&["own"][..], &[sams][..]),
        (&["account"], &[accounts]),
        (&["users"], &[sams, eves]),
        (&["own", "account"], &[sams, accounts]),
        (&["users", "account"], &[sams, eves, accounts]),
    ] {
        let held: Vec<_> =
            permissions.iter().map(|reach| format!("applications.view.{reach}")).collect();
        permit(&mut admin, &held).await;
        let mut shown = names(&mut sam, all()).await;
        let mut seen = seen.to_vec();
        shown.sort();
        seen.sort_unstable();
        assert_eq!(shown, seen, "{permissions:?}");
        let request = pb::ListCredentialsRequest {
            parent: "tenants/acme/applications/-".to_owned(),
            ..Default::default()
        };
        assert!(sam.credentials.list_credentials(request).await.is_ok());
    }
    let of = |ownership: Ownership| pb::ListApplicationsRequest {
        ownership: ownership.into(),
        ..Default::default()
    };
    assert_eq!(names(&mut sam, of(Ownership::Mine)).await, [sams]);
    assert_eq!(names(&mut sam, of(Ownership::Account)).await, [accounts]);
    assert_eq!(names(&mut sam, of(Ownership::Users)).await.len(), 2);
    let one = pb::ListApplicationsRequest { owner: eves.to_owned(), ..Default::default() };
    assert_eq!(names(&mut sam, one.clone()).await, [eves]);

    // A page token only continues the list that created it, and not a wider or narrower one.
    permit(&mut admin, &["applications.view.users".to_owned()]).await;
    let first = pb::ListApplicationsRequest {
        parent: "tenants/acme".to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let page = sam.applications.list_applications(first.clone()).await.unwrap().into_inner();
    let next = pb::ListApplicationsRequest { page_token: page.next_page_token, ..first };
    assert!(sam.applications.list_applications(next.clone()).await.is_ok());
    permit(&mut admin, &["applications.view.own".to_owned()]).await;
    let status = sam.applications.list_applications(next).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_PAGE_TOKEN");

    for wanted in [of(Ownership::Users), of(Ownership::Account), one] {
        let request = pb::ListApplicationsRequest { parent: "tenants/acme".to_owned(), ..wanted };
        let status = sam.applications.list_applications(request).await.unwrap_err();
        assert_eq!(reason(&status), "PERMISSION_DENIED", "{status:?}");
    }
    permit(&mut admin, &["applications.edit.own".to_owned()]).await;
    let request =
        pb::ListApplicationsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    let status = sam.applications.list_applications(request).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED", "who may view nothing gets no empty list");
}

async fn user_without_roles_can_do_nothing(backend: Backend) {
    let kw = backend.start().await;
    let (mut admin, mut sam) = acme(&kw, &[], &[]).await;
    let target = Target::make(&mut admin, "own", "tenants/acme/users/sam").await;
    for (_, name) in CALLS {
        let status = call(&mut sam, name, &target).await.expect_err(name);
        assert_eq!(status.code(), Code::PermissionDenied, "{name}");
    }
    let request = pb::ListUsersRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    let status = sam.users.list_users(request).await.unwrap_err();
    assert!(status.message().contains("users.view"), "{}", status.message());
}

/// Gives a user these roles, as `caller`.
async fn give(caller: &mut Admin, user: &str, roles: &[&str]) -> Result<(), Status> {
    let request = pb::UpdateUserRequest {
        user: Some(pb::User {
            name: format!("tenants/acme/users/{user}"),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Default::default()
        }),
        update_mask: mask(&["roles"]),
        allow_missing: true,
    };
    caller.users.update_user(request).await.map(drop)
}

async fn users_can_give_only_what_they_have(backend: Backend) {
    let kw = backend.start().await;
    let held = ["users.edit", "roles.edit", "applications.view.own", "applications.create.own"];
    let (mut admin, mut sam) = acme(&kw, &held, &["a"]).await;
    admin.role("acme", "boss", &["policy.edit"], &[]).await;
    admin.role("acme", "wide", &[], &["b"]).await;
    admin.role("acme", "all", &[], &["*"]).await;
    admin.role("acme", "small", &["applications.view.own"], &["a"]).await;
    admin.user("acme", "ann", &["boss"]).await;

    give(&mut sam, "eve", &["small"]).await.unwrap();
    let status = give(&mut sam, "eve", &["boss"]).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("policy.edit"), "{}", status.message());
    let status = give(&mut sam, "eve", &["wide"]).await.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
    assert!(status.message().contains('b'), "{}", status.message());
    let status = give(&mut sam, "eve", &["all"]).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    let status = give(&mut sam, "eve", &["nothing"]).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_FOUND");
    // A user with fewer rights cannot change or delete one with more.
    let status = give(&mut sam, "ann", &[]).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    let request =
        pb::DeleteUserRequest { name: "tenants/acme/users/ann".to_owned(), ..Default::default() };
    let status = sam.users.delete_user(request).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");

    let role = |permission: &str| pb::CreateRoleRequest {
        parent: "tenants/acme".to_owned(),
        role_id: permission.replace('.', "-"),
        role: Some(pb::Role { permissions: vec![permission.to_owned()], ..Default::default() }),
    };
    sam.roles.create_role(role("users.edit")).await.unwrap();
    let status = sam.roles.create_role(role("policy.edit")).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    let widened = pb::UpdateRoleRequest {
        role: Some(pb::Role {
            name: "tenants/acme/roles/role".to_owned(),
            all_scopes: true,
            ..Default::default()
        }),
        update_mask: mask(&["all_scopes"]),
    };
    let status = sam.roles.update_role(widened).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED", "they cannot widen their own role");

    // The same applies to the roles of an application.
    let application = |roles: &[&str]| pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application: Some(pb::Application {
            display_name: "one".to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    sam.applications.create_application(application(&["small"])).await.unwrap();
    for (roles, why) in [("boss", "PERMISSION_DENIED"), ("wide", "SCOPE_NOT_ALLOWED")] {
        let status = sam.applications.create_application(application(&[roles])).await.unwrap_err();
        assert_eq!(reason(&status), why, "{roles}");
    }
}

async fn users_can_read_catalogue_roles_and_themselves(backend: Backend) {
    let kw = backend.start().await;
    let (_, mut sam) = acme(&kw, &[], &[]).await;
    let parent = "tenants/acme".to_owned();
    let request = pb::ListScopesRequest { parent: parent.clone(), ..Default::default() };
    assert_eq!(sam.scopes.list_scopes(request).await.unwrap().into_inner().scopes.len(), 3);
    let request = pb::ListRolesRequest { parent: parent.clone(), ..Default::default() };
    assert_eq!(sam.roles.list_roles(request).await.unwrap().into_inner().roles.len(), 1);
    let request = pb::GetTenantRequest { name: parent };
    assert!(sam.tenants.get_tenant(request).await.is_ok());
    let request = |user: &str| pb::GetUserRequest { name: format!("tenants/acme/users/{user}") };
    assert!(sam.users.get_user(request("sam")).await.is_ok());
    let status = sam.users.get_user(request("eve")).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
}

async fn other_permissions_allow_only_their_calls(backend: Backend) {
    let kw = backend.start().await;
    let (mut admin, mut sam) = acme(&kw, &[], &["*"]).await;
    let parent = "tenants/acme".to_owned();
    let others =
        ["audit.view", "catalogue.edit", "users.view", "users.edit", "roles.edit", "policy.edit"];
    for held in others {
        permit(&mut admin, &[held.to_owned()]).await;
        for wanted in others {
            let outcome = match wanted {
                "audit.view" => {
                    let parent = parent.clone();
                    let request = pb::ListAuditEventsRequest { parent, ..Default::default() };
                    sam.audit.list_audit_events(request).await.map(drop)
                }
                "catalogue.edit" => {
                    let request = pb::UpdateScopeRequest {
                        scope: Some(pb::Scope {
                            name: "tenants/acme/scopes/c".to_owned(),
                            description: held.to_owned(),
                            ..Default::default()
                        }),
                        update_mask: mask(&["description"]),
                    };
                    sam.scopes.update_scope(request).await.map(drop)
                }
                "users.view" => {
                    let request =
                        pb::ListUsersRequest { parent: parent.clone(), ..Default::default() };
                    sam.users.list_users(request).await.map(drop)
                }
                "users.edit" => give(&mut sam, "eve", &[]).await,
                "roles.edit" => {
                    let request = pb::CreateRoleRequest {
                        parent: parent.clone(),
                        role_id: "fresh".to_owned(),
                        role: None,
                    };
                    sam.roles.create_role(request).await.map(drop)
                }
                _ => {
                    let request = pb::UpdateTenantRequest {
                        tenant: Some(pb::Tenant {
                            name: parent.clone(),
                            policy: Some(pb::Policy { max_credentials: 9, ..Default::default() }),
                            ..Default::default()
                        }),
                        update_mask: mask(&["policy"]),
                    };
                    sam.tenants.update_tenant(request).await.map(drop)
                }
            };
            if held == wanted {
                assert!(outcome.is_ok(), "{held}: {outcome:?}");
            } else {
                let status = outcome.expect_err(wanted);
                let info = status.get_details_error_info().unwrap();
                assert_eq!(info.metadata["permission"], wanted, "{held}");
            }
        }
    }
    permit(&mut admin, &["policy.edit".to_owned()]).await;
    for field in ["display_name", "default_audience", "additional_audiences", "disabled", "*"] {
        let request = pb::UpdateTenantRequest {
            tenant: Some(pb::Tenant { name: parent.clone(), ..Default::default() }),
            update_mask: mask(&[field]),
        };
        let status = sam.tenants.update_tenant(request).await.unwrap_err();
        assert_eq!(reason(&status), "PERMISSION_DENIED", "{field} is not the tenant's to decide");
    }
}

async fn manager_must_name_an_enabled_user(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    admin.role("acme", "viewer", &["applications.view.users"], &[]).await;
    let sam = admin.user("acme", "sam", &["viewer"]).await;
    let mut console = admin.console(&kw).await;
    let request =
        || pb::ListApplicationsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };

    let status = console.applications.list_applications(request()).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    assert!(status.message().contains("keyward-user"), "{}", status.message());
    let mut anonymous = console.acting_for("tenants/acme/users/unknown");
    let status = anonymous.applications.list_applications(request()).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    let mut malformed = console.acting_for("sam");
    let status = malformed.applications.list_applications(request()).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    assert!(
        status.message().starts_with("keyward-user must have the form"),
        "{}",
        status.message()
    );

    let mut acting = console.acting_for(&sam);
    acting.applications.list_applications(request()).await.unwrap();
    // The administrator is limited to the roles of the named user.
    let mut held = admin.acting_for(&sam);
    held.applications.list_applications(request()).await.unwrap();
    let status = owned_application(&mut held, "").await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
    let disable = pb::UpdateUserRequest {
        user: Some(pb::User { name: sam, disabled: true, ..Default::default() }),
        update_mask: mask(&["disabled"]),
        allow_missing: false,
    };
    admin.users.update_user(disable).await.unwrap();
    let status = acting.applications.list_applications(request()).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED");
}
