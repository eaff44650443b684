//! Every management RPC with different callers: unauthenticated, another tenant's administrator, a
//! viewer. The requests are valid, so that only the caller can be the reason for a refusal.

use std::collections::BTreeMap;

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::raw::{all_methods, call_for};
use crate::harness::{Admin, Backend, Keyward, mask, on_both_databases, reason};

on_both_databases!(
    every_call_requires_authentication,
    administrator_of_another_tenant_finds_nothing,
    viewer_can_read_and_not_change,
    administrator_can_do_everything,
);

/// What a call requires of a user of the tenant: what this test expects, written apart from the
/// `Needs` of `domain::rights`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Only to be a user: it reads what a viewer may read.
    View,
    /// A permission.
    Permission(&'static str),
    /// The platform, without an acting user.
    Platform,
}

/// The ids of keys are made by the server. Here the platform learns that there is no such key.
const NO_KEY: &str = "signingKeys/none";

/// A valid request of every method of `keyward.admin.v1`, about acme.
pub(crate) fn requests(credential: &str) -> BTreeMap<String, (Vec<u8>, Needs)> {
    use Needs::{Permission, Platform, View};
    let acme = || "tenants/acme".to_owned();
    let crm = || "tenants/acme/applications/crm".to_owned();
    let credential = || credential.to_owned();
    let scope = || "tenants/acme/scopes/c".to_owned();
    let role = || "tenants/acme/roles/spare".to_owned();
    let user = || "tenants/acme/users/spare".to_owned();
    let rows: [(&str, Vec<u8>, Needs); 45] = [
        (
            "TenantService/CreateTenant",
            pb::CreateTenantRequest { tenant_id: "fresh".to_owned(), tenant: None }.encode_to_vec(),
            Platform,
        ),
        ("TenantService/GetTenant", pb::GetTenantRequest { name: acme() }.encode_to_vec(), View),
        ("TenantService/ListTenants", Vec::new(), Platform),
        (
            "TenantService/UpdateTenant",
            pb::UpdateTenantRequest {
                tenant: Some(pb::Tenant { name: acme(), ..Default::default() }),
                update_mask: mask(&["policy"]),
            }
            .encode_to_vec(),
            Permission("policy.edit"),
        ),
        (
            "TenantService/DeleteTenant",
            pb::DeleteTenantRequest { name: acme(), force: true, ..Default::default() }
                .encode_to_vec(),
            Platform,
        ),
        (
            "TenantService/ApplyProfile",
            pb::ApplyProfileRequest {
                name: acme(),
                profile: Some(pb::Profile::default()),
                force: true,
                validate_only: true,
            }
            .encode_to_vec(),
            Platform,
        ),
        (
            "ScopeService/CreateScope",
            pb::CreateScopeRequest { parent: acme(), scope_id: "fresh".to_owned(), scope: None }
                .encode_to_vec(),
            Permission("catalogue.edit"),
        ),
        ("ScopeService/GetScope", pb::GetScopeRequest { name: scope() }.encode_to_vec(), View),
        (
            "ScopeService/ListScopes",
            pb::ListScopesRequest { parent: acme(), ..Default::default() }.encode_to_vec(),
            View,
        ),
        (
            "ScopeService/UpdateScope",
            pb::UpdateScopeRequest {
                scope: Some(pb::Scope { name: scope(), ..Default::default() }),
                update_mask: mask(&["description"]),
            }
            .encode_to_vec(),
            Permission("catalogue.edit"),
        ),
        (
            "ScopeService/DeleteScope",
            pb::DeleteScopeRequest { name: scope(), ..Default::default() }.encode_to_vec(),
            Permission("catalogue.edit"),
        ),
        (
            "RoleService/CreateRole",
            pb::CreateRoleRequest { parent: acme(), role_id: "fresh".to_owned(), role: None }
                .encode_to_vec(),
            Permission("roles.edit"),
        ),
        ("RoleService/GetRole", pb::GetRoleRequest { name: role() }.encode_to_vec(), View),
        (
            "RoleService/ListRoles",
            pb::ListRolesRequest { parent: acme(), ..Default::default() }.encode_to_vec(),
            View,
        ),
        (
            "RoleService/UpdateRole",
            pb::UpdateRoleRequest {
                role: Some(pb::Role { name: role(), ..Default::default() }),
                update_mask: mask(&["description"]),
            }
            .encode_to_vec(),
            Permission("roles.edit"),
        ),
        (
            "RoleService/DeleteRole",
            pb::DeleteRoleRequest { name: role(), ..Default::default() }.encode_to_vec(),
            Permission("roles.edit"),
        ),
        (
            "UserService/CreateUser",
            pb::CreateUserRequest { parent: acme(), user_id: "fresh".to_owned(), user: None }
                .encode_to_vec(),
            Permission("users.edit"),
        ),
        (
            "UserService/GetUser",
            pb::GetUserRequest { name: user() }.encode_to_vec(),
            Permission("users.view"),
        ),
        (
            "UserService/ListUsers",
            pb::ListUsersRequest { parent: acme(), ..Default::default() }.encode_to_vec(),
            Permission("users.view"),
        ),
        (
            "UserService/UpdateUser",
            pb::UpdateUserRequest {
                user: Some(pb::User { name: user(), ..Default::default() }),
                update_mask: mask(&["display_name"]),
                allow_missing: false,
            }
            .encode_to_vec(),
            Permission("users.edit"),
        ),
        (
            "UserService/DeleteUser",
            pb::DeleteUserRequest { name: user(), ..Default::default() }.encode_to_vec(),
            Permission("users.edit"),
        ),
        (
            "ApplicationService/CreateApplication",
            pb::CreateApplicationRequest {
                parent: acme(),
                application: Some(pb::Application {
                    display_name: "fresh".to_owned(),
                    owner: acme(),
                    ..Default::default()
                }),
                ..Default::default()
            }
            .encode_to_vec(),
            Permission("applications.create.account"),
        ),
        (
            "ApplicationService/GetApplication",
            pb::GetApplicationRequest { name: crm() }.encode_to_vec(),
            View,
        ),
        (
            "ApplicationService/ListApplications",
            pb::ListApplicationsRequest { parent: acme(), ..Default::default() }.encode_to_vec(),
            View,
        ),
        (
            "ApplicationService/UpdateApplication",
            pb::UpdateApplicationRequest {
                application: Some(pb::Application { name: crm(), ..Default::default() }),
                update_mask: mask(&["description"]),
            }
            .encode_to_vec(),
            Permission("applications.edit.account"),
        ),
        (
            "ApplicationService/ListApplicationUsage",
            pb::ListApplicationUsageRequest { parent: crm(), ..Default::default() }.encode_to_vec(),
            View,
        ),
        (
            "CredentialService/CreateCredential",
            pb::CreateCredentialRequest {
                parent: crm(),
                credential: Some(pb::Credential {
                    kind: Kind::ApiKey.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }
            .encode_to_vec(),
            Permission("applications.create.account"),
        ),
        (
            "CredentialService/GetCredential",
            pb::GetCredentialRequest { name: credential() }.encode_to_vec(),
            View,
        ),
        (
            "CredentialService/ListCredentials",
            pb::ListCredentialsRequest { parent: crm(), ..Default::default() }.encode_to_vec(),
            View,
        ),
        (
            "CredentialService/UpdateCredential",
            pb::UpdateCredentialRequest {
                credential: Some(pb::Credential { name: credential(), ..Default::default() }),
                update_mask: mask(&["display_name"]),
            }
            .encode_to_vec(),
            Permission("applications.edit.account"),
        ),
        (
            "CredentialService/RotateCredential",
            pb::RotateCredentialRequest { name: credential(), ..Default::default() }
                .encode_to_vec(),
            Permission("applications.edit.account"),
        ),
        (
            "CredentialService/RevealCredential",
            pb::RevealCredentialRequest { name: credential() }.encode_to_vec(),
            Permission("applications.reveal.account"),
        ),
        (
            "CredentialService/DeleteCredential",
            pb::DeleteCredentialRequest { name: credential(), ..Default::default() }
                .encode_to_vec(),
            Permission("applications.delete.account"),
        ),
        (
            "ApplicationService/DeleteApplication",
            pb::DeleteApplicationRequest { name: crm(), ..Default::default() }.encode_to_vec(),
            Permission("applications.delete.account"),
        ),
        (
            "EndpointService/ListEndpoints",
            pb::ListEndpointsRequest { parent: acme(), ..Default::default() }.encode_to_vec(),
            View,
        ),
        (
            "AuditService/ListAuditEvents",
            pb::ListAuditEventsRequest { parent: acme(), ..Default::default() }.encode_to_vec(),
            Permission("audit.view"),
        ),
        ("SigningKeyService/ListSigningKeys", Vec::new(), Platform),
        ("SigningKeyService/RotateSigningKey", Vec::new(), Platform),
        (
            "SigningKeyService/RetireSigningKey",
            pb::RetireSigningKeyRequest { name: NO_KEY.to_owned() }.encode_to_vec(),
            Platform,
        ),
        (
            "SigningKeyService/RevokeSigningKey",
            pb::RevokeSigningKeyRequest { name: NO_KEY.to_owned(), ..Default::default() }
                .encode_to_vec(),
            Platform,
        ),
        ("MasterKeyService/GetMasterKeyStatus", Vec::new(), Platform),
        ("MasterKeyService/RewrapValues", Vec::new(), Platform),
        (
            "AuditService/WatchAuditEvents",
            pb::WatchAuditEventsRequest { parent: acme(), ..Default::default() }.encode_to_vec(),
            Permission("audit.view"),
        ),
        (
            "AuditService/GetAuditLog",
            pb::GetAuditLogRequest { name: format!("{}/auditLog", acme()) }.encode_to_vec(),
            Permission("audit.view"),
        ),
        (
            "AuditService/ListAuditLogs",
            pb::ListAuditLogsRequest::default().encode_to_vec(),
            Platform,
        ),
    ];
    rows.into_iter()
        .map(|(name, bytes, needs)| (format!("/keyward.admin.v1.{name}"), (bytes, needs)))
        .collect()
}

/// Tested separately, because each item is refused by itself.
const BATCH: &str = "/keyward.admin.v1.ApplicationService/BatchDeleteApplications";

/// The tenant acme, with all resources that the requests are about, and the tenant evil.
struct World {
    kw: Keyward,
    admin: Admin,
    console: Admin,
    requests: BTreeMap<String, (Vec<u8>, Needs)>,
}

impl World {
    async fn new(backend: Backend) -> Self {
        let kw = backend.start().await;
        let mut admin = kw.admin().await;
        let (credential, _) = admin.acme().await;
        admin.role("acme", "viewer", &["applications.view.account"], &["*"]).await;
        admin.role("acme", "spare", &[], &[]).await;
        admin.user("acme", "vic", &["viewer"]).await;
        admin.user("acme", "spare", &[]).await;
        admin.tenant("evil", &["a"]).await;
        let all: Vec<_> = keyward::internals::domain::Permission::all()
            .map(|permission| permission.to_string())
            .collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        admin.role("evil", "boss", &all, &["*"]).await;
        admin.user("evil", "eve", &["boss"]).await;
        let console = admin.console(&kw).await;
        let requests = requests(&credential.name);
        let known: Vec<_> = requests.keys().cloned().chain([BATCH.to_owned()]).collect();
        let mut methods = all_methods();
        methods.retain(|path| path.contains("keyward.admin.v1"));
        for method in &methods {
            assert!(known.contains(method), "{method} is not tried: add a request for it");
        }
        assert_eq!(known.len(), methods.len());
        Self { kw, admin, console, requests }
    }

    async fn call(&self, path: &str, token: Option<&str>, user: &str) -> Result<Vec<u8>, Status> {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let (bytes, _) = &self.requests[path];
        call_for(&self.kw.grpc(), path, bytes.clone(), authorization.as_deref(), user).await
    }

    /// The state of acme, as the platform sees it, and the number of changes.
    async fn acme(&mut self) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        let lists = ["ListScopes", "ListRoles", "ListUsers", "ListApplications", "ListCredentials"];
        let paths: Vec<_> = self
            .requests
            .keys()
            .filter(|path| lists.iter().any(|list| path.ends_with(list)))
            .cloned()
            .collect();
        for path in paths {
            seen.push(self.call(&path, Some(&self.admin.token), "").await.unwrap());
        }
        let request = pb::ListAuditEventsRequest {
            parent: "tenants/acme".to_owned(),
            page_size: 1000,
            ..Default::default()
        };
        let events = self.admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
        let done = |event: &&pb::AuditEvent| event.outcome() == pb::audit_event::Outcome::Done;
        seen.push(vec![u8::try_from(events.iter().filter(done).count()).unwrap()]);
        seen
    }
}

async fn every_call_requires_authentication(backend: Backend) {
    let world = Box::pin(World::new(backend)).await;
    for path in world.requests.keys() {
        for token in [None, Some("x")] {
            let status = world.call(path, token, "tenants/acme/users/vic").await.expect_err(path);
            assert_eq!(status.code(), Code::Unauthenticated, "{path}");
        }
    }
}

async fn administrator_of_another_tenant_finds_nothing(backend: Backend) {
    let mut world = Box::pin(World::new(backend)).await;
    let before = world.acme().await;
    let token = world.console.token.clone();
    for (path, (_, needs)) in world.requests.clone() {
        let status =
            world.call(&path, Some(&token), "tenants/evil/users/eve").await.expect_err(&path);
        if needs == Needs::Platform {
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.metadata["scope"], "keyward.admin", "{path}");
        } else {
            assert_eq!(status.code(), Code::NotFound, "{path}");
            assert_eq!(status.message(), "tenants/acme does not exist", "{path}");
        }
    }
    let mut eve = world.console.acting_for("tenants/evil/users/eve");
    let request = pb::BatchDeleteApplicationsRequest {
        parent: "tenants/acme".to_owned(),
        names: vec!["tenants/acme/applications/crm".to_owned()],
    };
    let results = eve.applications.batch_delete_applications(request).await.unwrap().into_inner();
    assert_eq!(results.results[0].message, "tenants/acme does not exist");
    assert_eq!(world.acme().await, before, "and acme is as it was");
}

async fn viewer_can_read_and_not_change(backend: Backend) {
    let mut world = Box::pin(World::new(backend)).await;
    let before = world.acme().await;
    let token = world.console.token.clone();
    for (path, (_, needs)) in world.requests.clone() {
        let outcome = world.call(&path, Some(&token), "tenants/acme/users/vic").await;
        let (key, missing) = match needs {
            Needs::View => {
                assert!(outcome.is_ok(), "{path}: {outcome:?}");
                continue;
            }
            Needs::Permission(permission) => ("permission", permission),
            Needs::Platform => ("scope", "keyward.admin"),
        };
        let status = outcome.expect_err(&path);
        assert_eq!(status.code(), Code::PermissionDenied, "{path}");
        assert_eq!(reason(&status), "PERMISSION_DENIED", "{path}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata[key], missing, "{path}");
        assert!(status.message().contains(missing), "{path}: {}", status.message());
    }
    assert_eq!(world.acme().await, before, "and acme is as it was");
}

async fn administrator_can_do_everything(backend: Backend) {
    // Otherwise the refusals above could have another reason. Calls that delete are made last, and
    // those that delete parents at the very end.
    let world = Box::pin(World::new(backend)).await;
    let mut paths: Vec<_> = world.requests.keys().collect();
    let order = ["DeleteCredential", "DeleteApplication", "DeleteTenant"];
    paths.sort_by_key(|path| {
        let last = order.iter().position(|last| path.ends_with(last)).map_or(0, |n| n + 1);
        (path.contains("/Delete"), last)
    });
    for path in paths {
        let outcome = world.call(path, Some(&world.admin.token), "").await;
        if path.ends_with("RevealCredential") {
            assert_eq!(reason(&outcome.unwrap_err()), "NOT_VIEWABLE");
        } else if path.ends_with("RetireSigningKey") || path.ends_with("RevokeSigningKey") {
            assert_eq!(reason(&outcome.unwrap_err()), "NOT_FOUND", "{path}");
        } else {
            assert!(outcome.is_ok(), "{path}: {outcome:?}");
        }
    }
}
