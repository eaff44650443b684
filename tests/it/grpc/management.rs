//! Management: names, masks, etags, pages and repeated requests, as the AIPs define them.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Admin, Backend, mask, on_both_databases, reason};

on_both_databases!(
    tenant_is_created_read_changed_and_deleted,
    update_changes_only_masked_fields,
    outdated_etag_is_refused,
    update_without_change_keeps_the_etag,
    repeated_request_creates_one_application,
    pages_have_no_gaps,
    page_token_is_accepted_only_by_its_list,
    resource_of_another_tenant_is_not_found,
    resource_in_use_is_deleted_only_with_force,
    application_cannot_have_an_unknown_scope,
    disabled_scope_can_be_kept_but_not_added,
    built_in_tenant_cannot_be_changed,
    recreated_application_does_not_revive_old_tokens,
);

async fn tenant_is_created_read_changed_and_deleted(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let request = pb::CreateTenantRequest { tenant_id: "acme".to_owned(), tenant: None };
    let made = admin.tenants.create_tenant(request.clone()).await.unwrap();
    let made = made.into_inner().tenant.unwrap();
    assert_eq!(made.name, "tenants/acme");
    assert_eq!(made.display_name, "acme");
    assert_eq!(made.default_audience, "tenants/acme");
    assert_eq!(made.access_token_lifetime.unwrap().seconds, 900);
    assert_eq!(made.create_time.unwrap().seconds, kw.now().as_second());
    let status = admin.tenants.create_tenant(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));

    kw.advance(5);
    let change = pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant {
            name: made.name.clone(),
            access_token_lifetime: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..Default::default()
        }),
        update_mask: mask(&["access_token_lifetime"]),
    };
    let changed = admin.tenants.update_tenant(change).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(changed.access_token_lifetime.unwrap().seconds, 60);
    assert_ne!(changed.etag, made.etag);
    assert_eq!(changed.update_time.unwrap().seconds, made.update_time.unwrap().seconds + 5);

    let request = pb::DeleteTenantRequest { name: made.name.clone(), ..Default::default() };
    admin.tenants.delete_tenant(request.clone()).await.unwrap();
    let status = admin.tenants.delete_tenant(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "NOT_FOUND"));
}

async fn application_with_everything(admin: &mut Admin, seconds: i64) -> pb::Application {
    admin.tenant("acme", &["a", "b"]).await;
    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "crm".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            description: "Synchronises contacts".to_owned(),
            contact_email: "ops@example.com".to_owned(),
            scopes: vec!["b".to_owned(), "a".to_owned(), "b".to_owned()],
            expire_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        }),
        request_id: String::new(),
    };
    let made = admin.applications.create_application(request).await.unwrap();
    made.into_inner().application.unwrap()
}

async fn update_changes_only_masked_fields(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let made = application_with_everything(&mut admin, kw.now().as_second() + 99).await;
    assert_eq!(made.scopes, ["a", "b"]);
    let change = |paths: &[&str]| pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: made.name.clone(),
            display_name: "New".to_owned(),
            ..Default::default()
        }),
        update_mask: mask(paths),
    };
    let changed = admin.applications.update_application(change(&["display_name"])).await.unwrap();
    let changed = changed.into_inner().application.unwrap();
    let expected = pb::Application {
        display_name: "New".to_owned(),
        etag: changed.etag.clone(),
        ..made.clone()
    };
    assert_eq!(changed, expected);

    let all = admin.applications.update_application(change(&["*"])).await.unwrap();
    let all = all.into_inner().application.unwrap();
    assert_eq!((all.description.as_str(), all.scopes.len(), all.expire_time), ("", 0, None));

    for paths in [&[][..], &["name"], &["state"], &["display_name", "nonsense"]] {
        let status = admin.applications.update_application(change(paths)).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{paths:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "update_mask");
    }
}

async fn outdated_etag_is_refused(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let made = application_with_everything(&mut admin, kw.now().as_second() + 99).await;
    let change = |etag: &str, name: &str| pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: made.name.clone(),
            display_name: name.to_owned(),
            etag: etag.to_owned(),
            ..Default::default()
        }),
        update_mask: mask(&["display_name"]),
    };
    admin.applications.update_application(change(&made.etag, "first")).await.unwrap();
    let status =
        admin.applications.update_application(change(&made.etag, "second")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let delete = pb::DeleteApplicationRequest { name: made.name.clone(), etag: made.etag };
    let status = admin.applications.delete_application(delete).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    let request = pb::GetApplicationRequest { name: made.name };
    let left = admin.applications.get_application(request).await.unwrap().into_inner();
    assert_eq!(left.application.unwrap().display_name, "first");
}

async fn update_without_change_keeps_the_etag(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let made = application_with_everything(&mut admin, kw.now().as_second() + 99).await;
    let request =
        pb::UpdateApplicationRequest { application: Some(made.clone()), update_mask: mask(&["*"]) };
    let same = admin.applications.update_application(request).await.unwrap().into_inner();
    assert_eq!(same.application, Some(made));
}

async fn repeated_request_creates_one_application(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &[]).await;
    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application: Some(pb::Application { display_name: "x".to_owned(), ..Default::default() }),
        request_id: "0e8c6a5c-7a53-4d5e-9c1a-111111111111".to_owned(),
        ..Default::default()
    };
    let made = admin.applications.create_application(request.clone()).await.unwrap();
    let name = made.into_inner().application.unwrap().name;
    let status = admin.applications.create_application(request).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let resource = status.get_details_resource_info().unwrap();
    assert_eq!(resource.resource_name, name);
}

async fn list(admin: &mut Admin, tenant: &str, size: i32, token: &str) -> (Vec<String>, String) {
    let request = pb::ListApplicationsRequest {
        parent: format!("tenants/{tenant}"),
        page_size: size,
        page_token: token.to_owned(),
        ..Default::default()
    };
    let page = admin.applications.list_applications(request).await.unwrap().into_inner();
    (page.applications.into_iter().map(|a| a.display_name).collect(), page.next_page_token)
}

async fn pages_have_no_gaps(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &[]).await;
    let ids: Vec<_> = (0..7).map(|n| format!("app-{n}")).collect();
    for id in &ids {
        admin.application("acme", id, &[]).await;
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let (page, next) = list(&mut admin, "acme", 3, &token).await;
        assert!(!page.is_empty(), "no empty page at the end");
        seen.extend(page);
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ids);
    assert_eq!(list(&mut admin, "acme", 7, "").await, (ids.clone(), String::new()));
    assert_eq!(list(&mut admin, "acme", 0, "").await.0.len(), 7);
    let request = pb::ListApplicationsRequest {
        parent: "tenants/acme".to_owned(),
        page_size: -1,
        ..Default::default()
    };
    let status = admin.applications.list_applications(request).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
}

async fn page_token_is_accepted_only_by_its_list(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    for tenant in ["acme", "evil"] {
        admin.tenant(tenant, &["a", "b"]).await;
        admin.application(tenant, "one", &[]).await;
        admin.application(tenant, "two", &[]).await;
    }
    let (_, token) = list(&mut admin, "acme", 1, "").await;
    let (page, _) = list(&mut admin, "acme", 1, &token).await;
    assert_eq!(page, ["two"]);
    let mut cut = token.clone();
    cut.pop();
    for (tenant, token) in [("evil", token.as_str()), ("acme", "eA"), ("acme", &cut)] {
        let request = pb::ListApplicationsRequest {
            parent: format!("tenants/{tenant}"),
            page_size: 1,
            page_token: token.to_owned(),
            ..Default::default()
        };
        let status = admin.applications.list_applications(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_PAGE_TOKEN", "{tenant} {token}");
    }
    let request = pb::ListScopesRequest {
        parent: "tenants/acme".to_owned(),
        page_size: 1,
        page_token: token,
    };
    let status = admin.scopes.list_scopes(request).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_PAGE_TOKEN", "another method");
}

async fn resource_of_another_tenant_is_not_found(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, _) = admin.acme().await;
    admin.tenant("evil", &["x"]).await;
    admin.application("evil", "other", &[]).await;
    let id = credential.client_id;
    let names = [
        format!("tenants/evil/applications/crm/credentials/{id}"),
        format!("tenants/evil/applications/other/credentials/{id}"),
        format!("tenants/acme/applications/other/credentials/{id}"),
        format!("tenants/unknown/applications/crm/credentials/{id}"),
    ];
    for name in names {
        let application = name.split("/credentials/").next().unwrap().to_owned();
        let scope = "tenants/evil/scopes/a".to_owned();
        let empty = String::new;
        let calls = [
            admin
                .credentials
                .get_credential(pb::GetCredentialRequest { name: name.clone() })
                .await
                .map(drop),
            admin
                .credentials
                .delete_credential(pb::DeleteCredentialRequest {
                    name: name.clone(),
                    etag: empty(),
                })
                .await
                .map(drop),
            admin
                .credentials
                .rotate_credential(pb::RotateCredentialRequest {
                    name: name.clone(),
                    ..Default::default()
                })
                .await
                .map(drop),
            admin
                .credentials
                .update_credential(pb::UpdateCredentialRequest {
                    credential: Some(pb::Credential { name: name.clone(), ..Default::default() }),
                    update_mask: mask(&["disabled"]),
                })
                .await
                .map(drop),
            admin.scopes.get_scope(pb::GetScopeRequest { name: scope.clone() }).await.map(drop),
            admin
                .scopes
                .delete_scope(pb::DeleteScopeRequest { name: scope, ..Default::default() })
                .await
                .map(drop),
        ];
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.unwrap_err().code(), Code::NotFound, "call {n} of {name}");
        }
        if !application.ends_with("evil/applications/other") {
            let request = pb::GetApplicationRequest { name: application.clone() };
            let status = admin.applications.get_application(request).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound);
            let request = pb::DeleteApplicationRequest { name: application, etag: empty() };
            let status = admin.applications.delete_application(request).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound);
        }
    }
    let name = credential.name;
    let request = pb::GetCredentialRequest { name };
    assert!(admin.credentials.get_credential(request).await.is_ok(), "nothing was harmed");
}

async fn resource_in_use_is_deleted_only_with_force(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let scope = |force| pb::DeleteScopeRequest {
        name: "tenants/acme/scopes/a".to_owned(),
        etag: String::new(),
        force,
    };
    let status = admin.scopes.delete_scope(scope(false)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "IN_USE"));
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].subject, "tenants/acme/applications/crm");
    admin.scopes.delete_scope(scope(true)).await.unwrap();

    let tenant = |force| pb::DeleteTenantRequest {
        name: "tenants/acme".to_owned(),
        etag: String::new(),
        force,
    };
    let status = admin.tenants.delete_tenant(tenant(false)).await.unwrap_err();
    assert_eq!(reason(&status), "IN_USE");
    admin.tenants.delete_tenant(tenant(true)).await.unwrap();
}

async fn application_cannot_have_an_unknown_scope(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    admin.tenant("other", &["d"]).await;
    let disable = pb::UpdateScopeRequest {
        scope: Some(pb::Scope {
            name: "tenants/acme/scopes/c".to_owned(),
            disabled: true,
            ..Default::default()
        }),
        update_mask: mask(&["disabled"]),
    };
    admin.scopes.update_scope(disable).await.unwrap();
    for (lacking, why) in [("d", "another tenant's"), ("c", "disabled"), ("e", "unknown")] {
        let request = pb::UpdateApplicationRequest {
            application: Some(pb::Application {
                name: "tenants/acme/applications/crm".to_owned(),
                scopes: vec!["a".to_owned(), lacking.to_owned()],
                ..Default::default()
            }),
            update_mask: mask(&["scopes"]),
        };
        let status = admin.applications.update_application(request).await.unwrap_err();
        assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED", "{why}");
        assert_eq!(status.message(), format!("scope not allowed: {lacking}"));
    }
}

async fn disabled_scope_can_be_kept_but_not_added(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let disable = pb::UpdateScopeRequest {
        scope: Some(pb::Scope {
            name: "tenants/acme/scopes/a".to_owned(),
            disabled: true,
            ..Default::default()
        }),
        update_mask: mask(&["disabled"]),
    };
    admin.scopes.update_scope(disable).await.unwrap();
    let request = pb::GetApplicationRequest { name: "tenants/acme/applications/crm".to_owned() };
    let read = admin.applications.get_application(request).await.unwrap();
    let read = read.into_inner().application.unwrap();
    let written_back = pb::UpdateApplicationRequest {
        application: Some(pb::Application { description: "edited".to_owned(), ..read }),
        update_mask: mask(&["*"]),
    };
    let changed = admin.applications.update_application(written_back).await.unwrap();
    assert_eq!(changed.into_inner().application.unwrap().scopes, ["a", "b"]);
}

async fn built_in_tenant_cannot_be_changed(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let name = "tenants/system".to_owned();
    let delete = pb::DeleteTenantRequest { name: name.clone(), etag: String::new(), force: true };
    let disable = pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant { name: name.clone(), disabled: true, ..Default::default() }),
        update_mask: mask(&["disabled"]),
    };
    let scope =
        pb::CreateScopeRequest { parent: name.clone(), scope_id: "x".to_owned(), scope: None };
    let remove = pb::DeleteScopeRequest {
        name: format!("{name}/scopes/keyward.verify"),
        ..Default::default()
    };
    let profile = pb::ApplyProfileRequest {
        name,
        profile: Some(pb::Profile::default()),
        ..Default::default()
    };
    let refused = [
        admin.tenants.delete_tenant(delete).await.map(drop),
        admin.tenants.update_tenant(disable).await.map(drop),
        admin.tenants.apply_profile(profile).await.map(drop),
        admin.scopes.create_scope(scope).await.map(drop),
        admin.scopes.delete_scope(remove).await.map(drop),
    ];
    for call in refused {
        let status = call.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::FailedPrecondition, "BUILT_IN")
        );
    }
}

async fn recreated_application_does_not_revive_old_tokens(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let request = pb::DeleteApplicationRequest {
        name: "tenants/acme/applications/crm".to_owned(),
        etag: String::new(),
    };
    admin.applications.delete_application(request).await.unwrap();
    assert!(!admin.is_active(&token).await);
    admin.application("acme", "crm", &["a", "b"]).await;
    admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await;
    assert!(!admin.is_active(&token).await, "one of the same name is another one");
    assert!(crm.exchange(&kw.grpc(), &[], &[]).await.is_err());
}
