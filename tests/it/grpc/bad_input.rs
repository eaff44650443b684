//! Invalid requests: a clear error that names the field, and no changes.

use keyward::proto::admin as pb;
use prost::Message;
use tonic_types::StatusExt;

use super::raw::call;
use crate::harness::{Backend, mask, on_both_databases, reason};

on_both_databases!(
    every_invalid_field_is_named,
    malformed_name_error_shows_its_form,
    stored_rule_of_a_newer_version_refuses_its_operations,
);

fn rule(method: &str, path: &str) -> pb::Endpoint {
    pb::Endpoint { method: method.to_owned(), path: path.to_owned(), ..Default::default() }
}

/// A profile with one scope, `a`, and these rules.
fn endpoints(rules: &[pb::Endpoint]) -> Vec<u8> {
    let profile = pb::Profile {
        scopes: vec![pb::Scope { name: "a".to_owned(), ..Default::default() }],
        endpoint_set: Some(pb::EndpointSet { endpoints: rules.to_vec() }),
        ..Default::default()
    };
    let name = "tenants/acme".to_owned();
    pb::ApplyProfileRequest { name, profile: Some(profile), ..Default::default() }.encode_to_vec()
}

/// A request, and the fields that the error must name.
fn cases() -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
    let application = |application: pb::Application| {
        pb::CreateApplicationRequest {
            parent: "tenants/acme".to_owned(),
            application: Some(pb::Application { display_name: "x".to_owned(), ..application }),
            ..Default::default()
        }
        .encode_to_vec()
    };
    let create = "/keyward.admin.v1.ApplicationService/CreateApplication";
    let past = Some(prost_types::Timestamp { seconds: 0, nanos: 0 });
    let beyond = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let nanos = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: -1 });
    vec![
        (create, Vec::new(), vec!["parent", "application"]),
        (
            create,
            pb::CreateApplicationRequest {
                parent: "tenants/Acme!".to_owned(),
                application_id: "a b".to_owned(),
                application: Some(pb::Application {
                    contact_email: "unknown".to_owned(),
                    scopes: vec!["ok".to_owned(), "not ok".to_owned()],
                    ..Default::default()
                }),
                request_id: "\u{7f}".to_owned(),
            }
            .encode_to_vec(),
            vec![
                "parent",
                "application_id",
                "request_id",
                "application.display_name",
                "application.contact_email",
                "application.scopes[1]",
            ],
        ),
        (
            create,
            application(pb::Application { expire_time: past, ..Default::default() }),
            vec!["application.expire_time"],
        ),
        (
            create,
            application(pb::Application { expire_time: beyond, ..Default::default() }),
            vec!["application.expire_time"],
        ),
        (
            create,
            application(pb::Application { expire_time: nanos, ..Default::default() }),
            vec!["application.expire_time"],
        ),
        (
            create,
            application(pb::Application { description: "x".repeat(1001), ..Default::default() }),
            vec!["application.description"],
        ),
        (
            create,
            application(pb::Application {
                scopes: vec!["x".to_owned(); 201],
                ..Default::default()
            }),
            vec!["application.scopes"],
        ),
        (
            "/keyward.admin.v1.CredentialService/CreateCredential",
            pb::CreateCredentialRequest {
                parent: "tenants/acme/applications/crm".to_owned(),
                credential: Some(pb::Credential::default()),
                request_id: String::new(),
            }
            .encode_to_vec(),
            vec!["credential.kind"],
        ),
        (
            "/keyward.admin.v1.CredentialService/UpdateCredential",
            pb::UpdateCredentialRequest {
                credential: Some(pb::Credential {
                    name: "crm".to_owned(),
                    limits: Some(pb::Limits { tokens: -1, ..Default::default() }),
                    ..Default::default()
                }),
                update_mask: mask(&["limits"]),
            }
            .encode_to_vec(),
            vec!["credential.name", "credential.limits.tokens"],
        ),
        (
            "/keyward.admin.v1.CredentialService/RotateCredential",
            pb::RotateCredentialRequest {
                name: format!("tenants/acme/applications/crm/credentials/{}", "0".repeat(32)),
                etag: String::new(),
                overlap: Some(prost_types::Duration { seconds: 31 * 86_400, nanos: 0 }),
            }
            .encode_to_vec(),
            vec!["overlap"],
        ),
        (
            "/keyward.admin.v1.TenantService/CreateTenant",
            pb::CreateTenantRequest {
                tenant_id: "x".repeat(64),
                tenant: Some(pb::Tenant {
                    display_name: "x".repeat(129),
                    default_audience: "a b".to_owned(),
                    additional_audiences: vec![String::new()],
                    access_token_lifetime: Some(prost_types::Duration { seconds: 3601, nanos: 0 }),
                    ..Default::default()
                }),
            }
            .encode_to_vec(),
            vec![
                "tenant_id",
                "tenant.display_name",
                "tenant.default_audience",
                "tenant.additional_audiences[0]",
                "tenant.access_token_lifetime",
            ],
        ),
        (
            "/keyward.admin.v1.ScopeService/CreateScope",
            pb::CreateScopeRequest {
                parent: "tenants/acme".to_owned(),
                scope_id: "say \"hi\"".to_owned(),
                scope: None,
            }
            .encode_to_vec(),
            vec!["scope_id"],
        ),
        (
            create,
            application(pb::Application {
                owner: "sam".to_owned(),
                roles: vec!["a role".to_owned(), "tenants/other/roles/x".to_owned()],
                limits: Some(pb::Limits {
                    requests: -1,
                    request_window: Some(prost_types::Duration { seconds: 1, nanos: 1 }),
                    items_per_request: i64::MIN,
                    tokens: 1_000_000_000_001,
                    token_window: Some(prost_types::Duration { seconds: 86_401, nanos: 0 }),
                    observe_only: true,
                }),
                ..Default::default()
            }),
            vec![
                "application.owner",
                "application.roles[0]",
                "application.roles[1]",
                "application.limits.requests",
                "application.limits.request_window",
                "application.limits.items_per_request",
                "application.limits.tokens",
                "application.limits.token_window",
            ],
        ),
        (
            "/keyward.admin.v1.UserService/CreateUser",
            pb::CreateUserRequest {
                parent: "tenants/acme".to_owned(),
                user_id: "Sam/Smith".to_owned(),
                user: Some(pb::User {
                    display_name: "x".repeat(129),
                    roles: vec!["a role".to_owned()],
                    ..Default::default()
                }),
            }
            .encode_to_vec(),
            vec!["user_id", "user.display_name", "user.roles[0]"],
        ),
        (
            "/keyward.admin.v1.UserService/DeleteUser",
            pb::DeleteUserRequest {
                name: "sam".to_owned(),
                hand_over_to: "eve".to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
            vec!["name", "hand_over_to"],
        ),
        (
            "/keyward.admin.v1.RoleService/CreateRole",
            pb::CreateRoleRequest {
                parent: "tenants/acme".to_owned(),
                role_id: "Admin".to_owned(),
                role: Some(pb::Role {
                    permissions: vec!["applications.view.own".to_owned(), "everything".to_owned()],
                    scopes: vec!["a b".to_owned()],
                    ..Default::default()
                }),
            }
            .encode_to_vec(),
            vec!["role_id", "role.permissions[1]", "role.scopes[0]"],
        ),
        (
            "/keyward.admin.v1.TenantService/UpdateTenant",
            pb::UpdateTenantRequest {
                tenant: Some(pb::Tenant {
                    name: "tenants/acme".to_owned(),
                    policy: Some(pb::Policy {
                        max_credentials: -1,
                        allowed_owners: vec![99, pb::policy::Owner::Unspecified.into()],
                        user_deletion: 4,
                        fixed_fields: vec!["colour".to_owned()],
                        max_credential_lifetime: Some(prost_types::Duration {
                            seconds: 59,
                            nanos: 0,
                        }),
                        default_limits: Some(pb::Limits {
                            request_window: Some(prost_types::Duration { seconds: 0, nanos: 0 }),
                            ..Default::default()
                        }),
                        tenant_limits: Some(pb::Limits { requests: -1, ..Default::default() }),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                update_mask: mask(&["policy"]),
            }
            .encode_to_vec(),
            vec![
                "tenant.policy.max_credentials",
                "tenant.policy.allowed_owners[0]",
                "tenant.policy.allowed_owners[1]",
                "tenant.policy.user_deletion",
                "tenant.policy.fixed_fields[0]",
                "tenant.policy.max_credential_lifetime",
                "tenant.policy.default_limits.request_window",
                "tenant.policy.tenant_limits.requests",
            ],
        ),
        (
            "/keyward.admin.v1.TenantService/ApplyProfile",
            pb::ApplyProfileRequest {
                name: "tenants/acme".to_owned(),
                profile: Some(pb::Profile {
                    role_set: Some(pb::RoleSet {
                        roles: ["x", "x", "tenants/other/roles/x"]
                            .map(|name| pb::Role { name: name.to_owned(), ..Default::default() })
                            .to_vec(),
                    }),
                    default_application: Some(pb::DefaultApplication::default()),
                    ..Default::default()
                }),
                ..Default::default()
            }
            .encode_to_vec(),
            vec![
                "profile.role_set.roles[1].name",
                "profile.role_set.roles[2].name",
                "profile.default_application.application_id",
                "profile.default_application.display_name",
            ],
        ),
        (
            "/keyward.admin.v1.TenantService/ApplyProfile",
            endpoints(&[
                pb::Endpoint { all_of: vec!["b".to_owned()], ..rule("get", "v1") },
                rule("GET", "/v1/{id}"),
                rule("GET", "/v1/{other}"),
                pb::Endpoint {
                    any_of: vec!["a".to_owned(), "a b".to_owned()],
                    limits: Some(pb::Limits { tokens: 1, requests: -1, ..Default::default() }),
                    description: "x".repeat(1001),
                    ..rule("*", "/v1/**")
                },
            ]),
            vec![
                "profile.endpoint_set.endpoints[0].method",
                "profile.endpoint_set.endpoints[0].path",
                "profile.endpoint_set.endpoints[0].all_of[0]",
                "profile.endpoint_set.endpoints[2].path",
                "profile.endpoint_set.endpoints[3].any_of[1]",
                "profile.endpoint_set.endpoints[3].limits.requests",
                "profile.endpoint_set.endpoints[3].limits.tokens",
                "profile.endpoint_set.endpoints[3].description",
            ],
        ),
        (
            "/keyward.admin.v1.TenantService/ApplyProfile",
            endpoints(&[pb::Endpoint {
                all_of: vec!["a".to_owned(); 21],
                any_of: vec!["a".to_owned(); 21],
                ..rule("", "")
            }]),
            vec![
                "profile.endpoint_set.endpoints[0].method",
                "profile.endpoint_set.endpoints[0].path",
                "profile.endpoint_set.endpoints[0].all_of",
                "profile.endpoint_set.endpoints[0].any_of",
            ],
        ),
        (
            "/keyward.admin.v1.TenantService/ApplyProfile",
            endpoints(&(0..5001).map(|n| rule("GET", &format!("/v1/{n}"))).collect::<Vec<_>>()),
            vec!["profile.endpoint_set.endpoints"],
        ),
        (
            "/keyward.admin.v1.ApplicationService/ListApplications",
            pb::ListApplicationsRequest {
                parent: "acme".to_owned(),
                search: "x".repeat(129),
                order_by: "colour desc".to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
            vec!["parent", "search", "order_by"],
        ),
        (
            "/keyward.admin.v1.ApplicationService/ListApplications",
            pb::ListApplicationsRequest {
                parent: "tenants/acme".to_owned(),
                ownership: pb::list_applications_request::Ownership::Mine.into(),
                owner: "tenants/acme".to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
            vec!["owner"],
        ),
        (
            "/keyward.admin.v1.ApplicationService/ListApplications",
            pb::ListApplicationsRequest {
                parent: "tenants/acme".to_owned(),
                ownership: pb::list_applications_request::Ownership::Mine.into(),
                ..Default::default()
            }
            .encode_to_vec(),
            vec!["ownership"],
        ),
        (
            "/keyward.admin.v1.ApplicationService/BatchDeleteApplications",
            pb::BatchDeleteApplicationsRequest {
                parent: "tenants/acme".to_owned(),
                names: vec!["crm".to_owned(), "tenants/other/applications/crm".to_owned()],
            }
            .encode_to_vec(),
            vec!["names[0]", "names[1]"],
        ),
        (
            "/keyward.admin.v1.ApplicationService/BatchDeleteApplications",
            pb::BatchDeleteApplicationsRequest {
                parent: "tenants/acme".to_owned(),
                names: Vec::new(),
            }
            .encode_to_vec(),
            vec!["names"],
        ),
        (
            "/keyward.admin.v1.AuditService/ListAuditEvents",
            pb::ListAuditEventsRequest {
                parent: "acme".to_owned(),
                action: "Frobnicate".to_owned(),
                start_time: beyond,
                order_by: "time time".to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
            vec!["parent", "action", "start_time", "order_by"],
        ),
        (
            "/keyward.admin.v1.AuditService/WatchAuditEvents",
            pb::WatchAuditEventsRequest { parent: "acme".to_owned(), cursor: "x".to_owned() }
                .encode_to_vec(),
            vec!["parent", "cursor"],
        ),
        (
            "/keyward.admin.v1.AuditService/GetAuditLog",
            pb::GetAuditLogRequest { name: "tenants/acme".to_owned() }.encode_to_vec(),
            vec!["name"],
        ),
        (
            "/keyward.token.v1.TokenService/IssueToken",
            keyward::proto::token::IssueTokenRequest {
                credential: None,
                scopes: vec!["a b".to_owned()],
                audiences: vec![String::new()],
            }
            .encode_to_vec(),
            vec!["credential", "scopes[0]", "audiences[0]"],
        ),
        (
            "/keyward.token.v1.TokenService/ExchangeToken",
            keyward::proto::token::ExchangeTokenRequest {
                credential: None,
                scopes: vec!["a b".to_owned()],
                audiences: vec![String::new()],
                subject_token: String::new(),
                subject_token_type: "jwt".to_owned(),
                actor_token: String::new(),
                actor_token_type: "x".to_owned(),
                requested_token_type: "x".to_owned(),
            }
            .encode_to_vec(),
            vec![
                "credential",
                "scopes[0]",
                "audiences[0]",
                "subject_token",
                "subject_token_type",
                "actor_token",
                "actor_token_type",
                "requested_token_type",
            ],
        ),
    ]
}

async fn every_invalid_field_is_named(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let token = kw.admin_credential().exchange(&kw.grpc(), &[], &[]).await.unwrap().access_token;
    let authorization = format!("Bearer {token}");
    for (path, bytes, fields) in cases() {
        let answer = call(&kw.grpc(), path, bytes, Some(&authorization)).await;
        let status = answer.expect_err(path);
        assert_eq!(reason(&status), "INVALID_FIELD", "{path}: {}", status.message());
        let violations = status.get_details_bad_request().unwrap().field_violations;
        let named: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, fields, "{path}");
        for field in fields {
            assert!(status.message().contains(field), "{}", status.message());
        }
    }
    let request =
        pb::ListApplicationsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    let left = admin.applications.list_applications(request).await.unwrap().into_inner();
    assert_eq!(left.applications.len(), 1, "everything is as it was");
}

async fn malformed_name_error_shows_its_form(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    for name in ["", "crm", "tenants/acme/applications/", "tenants/a/applications/b/c"] {
        let request = pb::GetApplicationRequest { name: name.to_owned() };
        let status = admin.applications.get_application(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{name}");
        let shape = "name must have the form tenants/{tenant}/applications/{application}";
        assert_eq!(status.message(), shape, "{name}");
    }
}

/// A rule of a newer version must not be ignored: operations that depend on it are refused.
async fn stored_rule_of_a_newer_version_refuses_its_operations(backend: Backend) {
    let mut kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    for sql in [
        "update tenants set allowed_owners = 'user robot' where id = 'acme'",
        "update tenants set allowed_owners = '', fixed_fields = 'colour' where id = 'acme'",
        "update tenants set fixed_fields = '', tenant_limits = 'bytes=1/60' where id = 'acme'",
    ] {
        kw.sql(sql, None).await.unwrap();
        let request = pb::CreateApplicationRequest {
            parent: "tenants/acme".to_owned(),
            application: Some(pb::Application {
                display_name: "x".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let status = admin.applications.create_application(request).await.unwrap_err();
        assert_eq!(reason(&status), "INTERNAL", "{sql}");
    }
    // A server that has not cached the tenant refuses all of its operations.
    kw.restart().await;
    assert!(crm.exchange(&kw.grpc(), &[], &[]).await.is_err());
}
