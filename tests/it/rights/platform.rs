//! Only the platform can enable what it disabled.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use tonic::Status;

use super::{Acme, disable_application, disable_credential, disable_scope, disable_user};
use crate::harness::{Backend, mask, on_both_databases, reason};

on_both_databases!(
    only_the_platform_enables_what_it_disabled,
    users_can_enable_what_users_disabled,
    users_cannot_delete_what_the_platform_disabled,
    platform_can_take_over_a_users_disabling,
);

const ALL: [&str; 8] = [
    "applications.view.own",
    "applications.create.own",
    "applications.edit.own",
    "applications.delete.own",
    "catalogue.edit",
    "users.view",
    "users.edit",
    "policy.edit",
];

#[track_caller]
fn platforms<T: std::fmt::Debug>(answer: Result<T, Status>, name: &str) {
    let status = answer.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED", "{status:?}");
    assert!(status.message().contains("the platform disabled"), "{}", status.message());
    assert!(status.message().contains(name), "{}", status.message());
}

fn api_credentials(disabled: bool, max_credentials: i64) -> pb::UpdateTenantRequest {
    let policy =
        pb::Policy { api_credentials_disabled: disabled, max_credentials, ..Default::default() };
    let name = "tenants/acme".to_owned();
    pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant { name, policy: Some(policy), ..Default::default() }),
        update_mask: mask(&["policy"]),
    }
}

async fn only_the_platform_enables_what_it_disabled(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let mut eve = acme.user("eve", &ALL, &["*"]).await;
    let crm = eve.application("acme", "crm", &["a"]).await.name;
    let (credential, _) = eve.credential(&crm, Kind::ApiKey).await;
    let bob = acme.admin.user("acme", "bob", &[]).await;
    let admin = &mut acme.admin;

    admin.applications.update_application(disable_application(&crm, true)).await.unwrap();
    admin.credentials.update_credential(disable_credential(&credential.name, true)).await.unwrap();
    admin.scopes.update_scope(disable_scope("c", true)).await.unwrap();
    admin.users.update_user(disable_user(&bob, true)).await.unwrap();
    admin.tenants.update_tenant(api_credentials(true, 7)).await.unwrap();

    platforms(eve.tenants.update_tenant(api_credentials(false, 7)).await, "tenants/acme");
    let kept = eve.tenants.update_tenant(api_credentials(true, 9)).await.unwrap().into_inner();
    assert!(kept.tenant.unwrap().policy.unwrap().api_credentials_disabled);
    admin.tenants.update_tenant(api_credentials(false, 0)).await.unwrap();

    for _ in 0..2 {
        platforms(
            eve.applications.update_application(disable_application(&crm, false)).await,
            &crm,
        );
        platforms(
            eve.credentials.update_credential(disable_credential(&credential.name, false)).await,
            &credential.name,
        );
        platforms(eve.scopes.update_scope(disable_scope("c", false)).await, "scopes/c");
        platforms(eve.users.update_user(disable_user(&bob, false)).await, &bob);
        // Disabling it again does not make it the user's.
        eve.applications.update_application(disable_application(&crm, true)).await.unwrap();
        eve.credentials
            .update_credential(disable_credential(&credential.name, true))
            .await
            .unwrap();
        eve.scopes.update_scope(disable_scope("c", true)).await.unwrap();
        eve.users.update_user(disable_user(&bob, true)).await.unwrap();
    }
    admin.applications.update_application(disable_application(&crm, false)).await.unwrap();
    admin.credentials.update_credential(disable_credential(&credential.name, false)).await.unwrap();
    admin.scopes.update_scope(disable_scope("c", false)).await.unwrap();
    admin.users.update_user(disable_user(&bob, false)).await.unwrap();
    // After that, users can disable and enable it again.
    eve.applications.update_application(disable_application(&crm, true)).await.unwrap();
    eve.applications.update_application(disable_application(&crm, false)).await.unwrap();
}

async fn users_can_enable_what_users_disabled(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let mut eve = acme.user("eve", &ALL, &["*"]).await;
    let crm = eve.application("acme", "crm", &["a"]).await.name;
    let (credential, _) = eve.credential(&crm, Kind::ApiKey).await;
    let bob = acme.admin.user("acme", "bob", &[]).await;
    for disabled in [true, false] {
        eve.applications.update_application(disable_application(&crm, disabled)).await.unwrap();
        let switched = disable_credential(&credential.name, disabled);
        eve.credentials.update_credential(switched).await.unwrap();
        eve.scopes.update_scope(disable_scope("c", disabled)).await.unwrap();
        eve.users.update_user(disable_user(&bob, disabled)).await.unwrap();
        eve.tenants.update_tenant(api_credentials(disabled, 0)).await.unwrap();
        eve.tenants.update_tenant(api_credentials(false, 0)).await.unwrap();
    }
}

async fn users_cannot_delete_what_the_platform_disabled(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let mut eve = acme.user("eve", &ALL, &["*"]).await;
    let bob = acme.admin.user("acme", "bob", &[]).await;
    acme.admin.scopes.update_scope(disable_scope("c", true)).await.unwrap();
    acme.admin.users.update_user(disable_user(&bob, true)).await.unwrap();
    let scope = pb::DeleteScopeRequest {
        name: "tenants/acme/scopes/c".to_owned(),
        force: true,
        ..Default::default()
    };
    let user = pb::DeleteUserRequest { name: bob.clone(), ..Default::default() };
    platforms(eve.scopes.delete_scope(scope.clone()).await, "scopes/c");
    platforms(eve.users.delete_user(user.clone()).await, &bob);
    acme.admin.scopes.delete_scope(scope).await.unwrap();
    acme.admin.users.delete_user(user).await.unwrap();
}

async fn platform_can_take_over_a_users_disabling(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let mut eve = acme.user("eve", &ALL, &["*"]).await;
    let crm = eve.application("acme", "crm", &["a"]).await.name;
    eve.applications.update_application(disable_application(&crm, true)).await.unwrap();
    acme.admin.applications.update_application(disable_application(&crm, true)).await.unwrap();
    platforms(eve.applications.update_application(disable_application(&crm, false)).await, &crm);
}
