//! Policies: a tenant's rules, enforced within the transaction for every caller.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::admin::delete_user_response::Outcome;
use keyward::proto::admin::policy::{Owner, UserDeletion};
use reqwest::StatusCode;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Admin, Backend, Keyward, mask, on_both_databases, reason};

on_both_databases!(
    concurrent_creates_respect_max_credentials,
    disabled_api_credentials_can_only_be_viewed_and_deleted,
    new_applications_require_an_allowed_owner,
    fixed_field_cannot_be_changed,
    maximum_lifetime_applies_to_existing_credentials,
    secret_is_shown_again_only_if_the_policy_allows,
    protected_application_cannot_be_changed,
    deleting_an_owner_follows_the_policy,
    policy_violations_are_reported_and_kept,
    profile_sets_policy_roles_and_default_application,
    profile_removes_deleted_scopes_from_roles,
    hand_over_requires_rights_to_applications_and_heir,
    blocking_resources_are_named_only_to_viewers,
    built_in_tenant_policy_cannot_be_changed,
    shared_secrets_can_be_forbidden,
    unbound_tokens_can_be_forbidden,
    tokens_carry_the_claims_of_the_policy,
);

async fn set(admin: &mut Admin, policy: pb::Policy) -> Vec<pb::PolicyViolation> {
    let request = pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant {
            name: "tenants/acme".to_owned(),
            policy: Some(policy),
            ..Default::default()
        }),
        update_mask: mask(&["policy"]),
    };
    admin.tenants.update_tenant(request).await.unwrap().into_inner().violations
}

async fn acme(backend: Backend, policy: pb::Policy) -> (Keyward, Admin) {
    let kw = Box::pin(backend.start_with(&[("secrets.hash_wait", "5m")])).await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a", "b"]).await;
    assert_eq!(set(&mut admin, policy).await, []);
    (kw, admin)
}

/// The policy field that refused a call.
fn rule(status: &Status) -> String {
    assert_eq!(reason(status), "POLICY", "{status:?}");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert!(status.message().contains(&violations[0].r#type), "{}", status.message());
    violations[0].r#type.clone()
}

fn new_credential(application: &str) -> pb::CreateCredentialRequest {
    pb::CreateCredentialRequest {
        parent: application.to_owned(),
        credential: Some(pb::Credential { kind: Kind::ApiKey.into(), ..Default::default() }),
        ..Default::default()
    }
}

async fn owned(admin: &mut Admin, id: &str, owner: &str) -> Result<String, Status> {
    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: id.to_owned(),
        application: Some(pb::Application {
            display_name: "one".to_owned(),
            owner: owner.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = admin.applications.create_application(request).await?;
    Ok(made.into_inner().application.unwrap().name)
}

async fn concurrent_creates_respect_max_credentials(backend: Backend) {
    let policy = pb::Policy { max_credentials: 50, ..Default::default() };
    let (_kw, mut admin) = acme(backend, policy).await;
    let application = admin.application("acme", "crm", &["a"]).await.name;
    let creates = (0..200).map(|_| {
        let mut credentials = admin.credentials.clone();
        let request = new_credential(&application);
        tokio::spawn(async move { credentials.create_credential(request).await })
    });
    let (mut made, mut refused) = (0, 0);
    for create in creates.collect::<Vec<_>>() {
        match create.await.unwrap() {
            Ok(_) => made += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                assert_eq!(reason(&status), "QUOTA_EXCEEDED");
                let quota = status.get_details_quota_failure().unwrap();
                assert_eq!(quota.violations[0].subject, "credentials");
                assert!(quota.violations[0].description.contains("50"), "{quota:?}");
                refused += 1;
            }
        }
    }
    assert_eq!((made, refused), (50, 150));
    let request = pb::ListCredentialsRequest {
        parent: "tenants/acme/applications/-".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    let list = admin.credentials.list_credentials(request).await.unwrap().into_inner();
    assert_eq!(list.credentials.len(), 50);
    // A deleted credential makes room for another.
    let request = pb::DeleteCredentialRequest {
        name: list.credentials[0].name.clone(),
        ..Default::default()
    };
    admin.credentials.delete_credential(request).await.unwrap();
    admin.credentials.create_credential(new_credential(&application)).await.unwrap();
    let status = admin.credentials.create_credential(new_credential(&application)).await;
    assert_eq!(reason(&status.unwrap_err()), "QUOTA_EXCEEDED");
}

async fn disabled_api_credentials_can_only_be_viewed_and_deleted(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let application = admin.application("acme", "crm", &["a"]).await.name;
    let (made, credential) = admin.credential(&application, Kind::ClientSecret).await;
    let token = credential.token(&kw.grpc()).await;
    let off = pb::Policy { api_credentials_disabled: true, ..Default::default() };
    set(&mut admin, off).await;
    assert!(!admin.is_active(&token).await);
    let status = credential.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_CLIENT");
    let status = owned(&mut admin, "other", "").await.unwrap_err();
    assert_eq!(rule(&status), "api_credentials_disabled");
    let status = admin.credentials.create_credential(new_credential(&application)).await;
    assert_eq!(rule(&status.unwrap_err()), "api_credentials_disabled");
    let rotate = pb::RotateCredentialRequest { name: made.name.clone(), ..Default::default() };
    let status = admin.credentials.rotate_credential(rotate).await.unwrap_err();
    assert_eq!(rule(&status), "api_credentials_disabled");
    let request = pb::GetCredentialRequest { name: made.name.clone() };
    assert!(admin.credentials.get_credential(request).await.is_ok());

    set(&mut admin, pb::Policy::default()).await;
    assert!(!admin.is_active(&token).await, "what was revoked stays so");
    assert!(credential.exchange(&kw.grpc(), &[], &[]).await.is_ok());
    set(&mut admin, pb::Policy { api_credentials_disabled: true, ..Default::default() }).await;
    let request = pb::DeleteApplicationRequest { name: application, ..Default::default() };
    admin.applications.delete_application(request).await.unwrap();
}

async fn new_applications_require_an_allowed_owner(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let permissions = ["applications.create.own", "applications.create.account"];
    admin.role("acme", "maker", &permissions, &[]).await;
    let name = admin.user("acme", "sam", &["maker"]).await;
    let mut sam = admin.console(&kw).await.acting_for(&name);
    let only =
        |owner: Owner| pb::Policy { allowed_owners: vec![owner.into()], ..Default::default() };
    for (policy, by_default, refused) in [
        (pb::Policy::default(), "tenants/acme/users/sam", None),
        (only(Owner::User), "tenants/acme/users/sam", Some("tenants/acme")),
        (only(Owner::Account), "tenants/acme", Some("tenants/acme/users/sam")),
    ] {
        set(&mut admin, policy).await;
        let made = owned(&mut sam, "", "").await.unwrap();
        let request = pb::GetApplicationRequest { name: made };
        let made = admin.applications.get_application(request).await.unwrap().into_inner();
        assert_eq!(made.application.unwrap().owner, by_default);
        for caller in [&mut sam, &mut admin] {
            for owner in ["tenants/acme", "tenants/acme/users/sam"] {
                match owned(caller, "", owner).await {
                    Ok(_) => assert_ne!(Some(owner), refused),
                    Err(status) => {
                        assert_eq!(rule(&status), "allowed_owners");
                        assert_eq!(Some(owner), refused);
                    }
                }
            }
        }
    }
    // The existing application gets no new credential either, but can be edited.
    set(&mut admin, only(Owner::User)).await;
    let accounts = pb::ListApplicationsRequest {
        parent: "tenants/acme".to_owned(),
        owner: "tenants/acme".to_owned(),
        ..Default::default()
    };
    let list = admin.applications.list_applications(accounts).await.unwrap().into_inner();
    let old = list.applications[0].name.clone();
    let status = admin.credentials.create_credential(new_credential(&old)).await.unwrap_err();
    assert_eq!(rule(&status), "allowed_owners");
    set(&mut admin, pb::Policy::default()).await;
    let status = owned(&mut admin, "", "tenants/acme/users/unknown").await.unwrap_err();
    assert_eq!(reason(&status), "NOT_FOUND");
    for malformed in ["sam", "tenants/other", "tenants/other/users/sam"] {
        let status = owned(&mut admin, "", malformed).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{malformed}");
    }
}

async fn fixed_field_cannot_be_changed(backend: Backend) {
    let fields = ["description", "contact_email", "scopes", "roles", "expire_time", "limits"];
    let fixed: Vec<_> = fields.iter().chain(&["secrets"]).map(|f| (*f).to_owned()).collect();
    let policy = pb::Policy { fixed_fields: fixed, ..Default::default() };
    let (kw, mut admin) = acme(backend, policy).await;
    admin.role("acme", "reader", &[], &[]).await;
    let application = admin.application("acme", "crm", &["a"]).await.name;
    let (credential, _) = admin.credential(&application, Kind::ApiKey).await;
    let expire_time = Some(prost_types::Timestamp { seconds: kw.now().as_second() + 99, nanos: 0 });
    let changed = pb::Application {
        name: application.clone(),
        display_name: "renamed".to_owned(),
        description: "new".to_owned(),
        contact_email: "a@b".to_owned(),
        scopes: vec!["b".to_owned()],
        roles: vec!["reader".to_owned()],
        expire_time,
        limits: Some(pb::Limits { requests: 1, ..Default::default() }),
        ..Default::default()
    };
    let change = |field: &str| pb::UpdateApplicationRequest {
        application: Some(changed.clone()),
        update_mask: mask(&[field, "display_name"]),
    };
    for field in fields {
        let status = admin.applications.update_application(change(field)).await.unwrap_err();
        assert_eq!(rule(&status), "fixed_fields", "{field}");
        assert!(status.message().starts_with(field), "{}", status.message());
    }
    let renamed = admin.applications.update_application(change("display_name")).await.unwrap();
    let renamed = renamed.into_inner().application.unwrap();
    assert_eq!((renamed.display_name.as_str(), renamed.scopes.len()), ("renamed", 1));

    let ended = pb::UpdateCredentialRequest {
        credential: Some(pb::Credential {
            name: credential.name.clone(),
            expire_time,
            ..Default::default()
        }),
        update_mask: mask(&["expire_time"]),
    };
    let status = admin.credentials.update_credential(ended).await.unwrap_err();
    assert_eq!(rule(&status), "fixed_fields");
    let rotate = pb::RotateCredentialRequest { name: credential.name, ..Default::default() };
    let status = admin.credentials.rotate_credential(rotate).await.unwrap_err();
    assert!(status.message().starts_with("secrets"), "{}", status.message());
}

async fn maximum_lifetime_applies_to_existing_credentials(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let application = admin.application("acme", "crm", &["a"]).await.name;
    let (_, old) = admin.credential(&application, Kind::ClientSecret).await;
    let (_, key) = admin.credential(&application, Kind::ApiKey).await;
    let created = kw.now().as_second();
    let hour = pb::Policy {
        max_credential_lifetime: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    };
    let token = old.token(&kw.grpc()).await;
    let violations = set(&mut admin, hour).await;
    assert_eq!((violations[0].field.as_str(), violations[0].count), ("max_credential_lifetime", 2));
    assert!(!admin.is_active(&token).await, "it might outlive its credential");

    let (made, _) = admin.credential(&application, Kind::ClientSecret).await;
    assert_eq!(made.expire_time.unwrap().seconds, created + 3600, "the longest there is");
    let at = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let mut late = new_credential(&application);
    late.credential.as_mut().unwrap().expire_time = at(created + 3601);
    let status = admin.credentials.create_credential(late).await.unwrap_err();
    assert_eq!(rule(&status), "max_credential_lifetime");
    let extend = |expire_time| pb::UpdateCredentialRequest {
        credential: Some(pb::Credential {
            name: made.name.clone(),
            expire_time,
            ..Default::default()
        }),
        update_mask: mask(&["expire_time"]),
    };
    let status = admin.credentials.update_credential(extend(at(created + 3601))).await;
    assert_eq!(rule(&status.unwrap_err()), "max_credential_lifetime");

    kw.advance(3590);
    let last = old.exchange(&kw.grpc(), &[], &[]).await.unwrap();
    assert_eq!(last.expires_in.unwrap().seconds, 10, "no token outlives it");
    let mut admin = kw.admin().await;
    assert!(admin.is_active(&key.secret).await);
    kw.advance(10);
    assert!(!admin.is_active(&key.secret).await);
    let status = old.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_CLIENT", "an old one is held to it when it is used");
}

async fn secret_is_shown_again_only_if_the_policy_allows(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let application = admin.application("acme", "crm", &["a"]).await.name;
    let (before, _) = admin.credential(&application, Kind::ApiKey).await;
    let reveal = |name: &str| pb::RevealCredentialRequest { name: name.to_owned() };
    let status = admin.credentials.reveal_credential(reveal(&before.name)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "NOT_VIEWABLE")
    );

    let viewable = pb::Policy { secrets_viewable: true, ..Default::default() };
    set(&mut admin, viewable.clone()).await;
    let status = admin.credentials.reveal_credential(reveal(&before.name)).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_VIEWABLE", "it was made when secrets were shown once");
    let (made, secret) = admin.credential(&application, Kind::ClientSecret).await;
    assert!(made.viewable && !before.viewable);
    let seen = admin.credentials.reveal_credential(reveal(&made.name)).await.unwrap().into_inner();
    assert_eq!(seen.secret, secret.secret);
    let stored = kw.stored_bytes().await;
    let stored = String::from_utf8_lossy(&stored);
    assert!(!stored.contains(&secret.secret), "the copy is sealed");

    let rotate = pb::RotateCredentialRequest { name: made.name.clone(), ..Default::default() };
    let rotated = admin.credentials.rotate_credential(rotate).await.unwrap().into_inner();
    let seen = admin.credentials.reveal_credential(reveal(&made.name)).await.unwrap().into_inner();
    assert_eq!(seen.secret, rotated.secret, "the newest one");

    set(&mut admin, pb::Policy::default()).await;
    set(&mut admin, viewable).await;
    let status = admin.credentials.reveal_credential(reveal(&made.name)).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_VIEWABLE", "turning it off destroyed the copies");
    let request = pb::ListAuditEventsRequest {
        parent: "tenants/acme".to_owned(),
        action: "UpdateTenant".to_owned(),
        ..Default::default()
    };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    assert!(events.iter().any(|event| event.detail.contains("copies of 1 secrets")), "{events:?}");
}

async fn protected_application_cannot_be_changed(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let permissions =
        ["applications.edit.account", "applications.delete.account", "applications.create.account"];
    admin.role("acme", "editor", &permissions, &["*"]).await;
    let sam = admin.user("acme", "sam", &["editor"]).await;
    let mut sam = admin.console(&kw).await.acting_for(&sam);
    let application = admin.application("acme", "default", &["a"]).await.name;
    let protect = |protected| pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: application.clone(),
            protected,
            ..Default::default()
        }),
        update_mask: mask(&["protected"]),
    };
    let status = sam.applications.update_application(protect(true)).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED", "protection is the platform's");
    admin.applications.update_application(protect(true)).await.unwrap();
    let (credential, _) = sam.credential(&application, Kind::ApiKey).await;
    let status = sam.credentials.create_credential(new_credential(&application)).await;
    assert_eq!(reason(&status.unwrap_err()), "PROTECTED", "it could never be rid of another");

    for caller in [&mut sam, &mut admin] {
        let name = || application.clone();
        let rename = pb::UpdateApplicationRequest {
            application: Some(pb::Application {
                name: name(),
                display_name: "new".to_owned(),
                ..Default::default()
            }),
            update_mask: mask(&["display_name"]),
        };
        let delete = pb::DeleteApplicationRequest { name: name(), ..Default::default() };
        let batch = pb::BatchDeleteApplicationsRequest {
            parent: "tenants/acme".to_owned(),
            names: vec![name()],
        };
        let credential = || credential.name.clone();
        let gone = pb::DeleteCredentialRequest { name: credential(), ..Default::default() };
        let rotate = pb::RotateCredentialRequest { name: credential(), ..Default::default() };
        let disable = pb::UpdateCredentialRequest {
            credential: Some(pb::Credential {
                name: credential(),
                disabled: true,
                ..Default::default()
            }),
            update_mask: mask(&["disabled"]),
        };
        for status in [
            caller.applications.update_application(rename).await.unwrap_err(),
            caller.applications.delete_application(delete).await.unwrap_err(),
            caller.credentials.delete_credential(gone).await.unwrap_err(),
            caller.credentials.rotate_credential(rotate).await.unwrap_err(),
            caller.credentials.update_credential(disable).await.unwrap_err(),
        ] {
            assert_eq!(reason(&status), "PROTECTED");
            assert_eq!(status.code(), Code::FailedPrecondition);
            let subject = &status.get_details_precondition_failure().unwrap().violations[0].subject;
            assert_eq!(*subject, application);
        }
        let results = caller.applications.batch_delete_applications(batch).await.unwrap();
        let result = &results.into_inner().results[0];
        assert_eq!(result.reason(), keyward::proto::errors::ErrorReason::Protected);
    }
    admin.applications.update_application(protect(false)).await.unwrap();
    let delete = pb::DeleteApplicationRequest { name: application, ..Default::default() };
    sam.applications.delete_application(delete).await.unwrap();
}

async fn deleting_an_owner_follows_the_policy(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    admin.role("acme", "maker", &[], &["a"]).await;
    admin.role("acme", "lesser", &[], &[]).await;
    let sam = admin.user("acme", "sam", &["maker"]).await;
    let eve = admin.user("acme", "eve", &["lesser"]).await;
    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: "crm".to_owned(),
        application: Some(pb::Application {
            display_name: "CRM".to_owned(),
            owner: sam.clone(),
            scopes: vec!["a".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = admin.applications.create_application(request.clone()).await.unwrap().into_inner();
    let application = made.application.unwrap().name;
    let (credential, secret) = admin.credential(&application, Kind::ClientSecret).await;
    let token = secret.token(&kw.grpc()).await;
    let delete = |hand_over_to: &str, validate_only| pb::DeleteUserRequest {
        name: sam.clone(),
        hand_over_to: hand_over_to.to_owned(),
        validate_only,
        ..Default::default()
    };
    let policy = |deletion: UserDeletion| pb::Policy {
        user_deletion: deletion.into(),
        ..Default::default()
    };

    // REFUSE, the default.
    let reported = admin.users.delete_user(delete("", true)).await.unwrap().into_inner();
    assert_eq!(reported.outcome(), Outcome::Refused);
    assert_eq!(
        (&reported.applications[..], &reported.credentials[..]),
        (&[application.clone()][..], &[credential.name.clone()][..])
    );
    let status = admin.users.delete_user(delete("", false)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "IN_USE"));
    let standing = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(standing[0].subject, credential.name);
    let status = admin.users.delete_user(delete(&eve, false)).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD", "this policy hands nothing over");

    // HAND_OVER: from then on the new owner's ceiling applies.
    set(&mut admin, policy(UserDeletion::HandOver)).await;
    let status = admin.users.delete_user(delete("", false)).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    let status = admin.users.delete_user(delete(&sam, false)).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD", "not to the deleted user");
    let status = admin.users.delete_user(delete("tenants/acme/users/x", false)).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_FOUND");
    let reported = admin.users.delete_user(delete(&eve, true)).await.unwrap().into_inner();
    assert_eq!((reported.outcome(), reported.application_count), (Outcome::HandedOver, 1));
    assert!(admin.is_active(&token).await, "a preview changes nothing");
    admin.users.delete_user(delete(&eve, false)).await.unwrap();
    assert!(!admin.is_active(&token).await);
    let get = pb::GetApplicationRequest { name: application.clone() };
    let found = admin.applications.get_application(get.clone()).await.unwrap().into_inner();
    let found = found.application.unwrap();
    assert_eq!((found.owner.as_str(), found.effective_scopes.len()), (eve.as_str(), 0));

    // DELETE.
    set(&mut admin, policy(UserDeletion::Delete)).await;
    let delete_eve = |validate_only| pb::DeleteUserRequest {
        name: eve.clone(),
        validate_only,
        ..Default::default()
    };
    let reported = admin.users.delete_user(delete_eve(true)).await.unwrap().into_inner();
    assert_eq!((reported.outcome(), reported.credential_count), (Outcome::Deleted, 1));
    admin.users.delete_user(delete_eve(false)).await.unwrap();
    assert_eq!(reason(&admin.applications.get_application(get).await.unwrap_err()), "NOT_FOUND");
    let status = secret.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_CLIENT");
}

async fn policy_violations_are_reported_and_kept(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let application = admin.application("acme", "crm", &["a"]).await.name;
    let (_, first) = admin.credential(&application, Kind::ClientSecret).await;
    admin.credential(&application, Kind::ApiKey).await;
    let stricter = pb::Policy {
        max_credentials: 1,
        allowed_owners: vec![Owner::User.into()],
        ..Default::default()
    };
    let profile = pb::Profile {
        scopes: ["a", "b"]
            .map(|name| pb::Scope { name: name.to_owned(), ..Default::default() })
            .to_vec(),
        policy: Some(stricter),
        ..Default::default()
    };
    let apply = |validate_only| pb::ApplyProfileRequest {
        name: "tenants/acme".to_owned(),
        profile: Some(profile.clone()),
        validate_only,
        force: false,
    };
    let reported = admin.tenants.apply_profile(apply(true)).await.unwrap().into_inner();
    let applied = admin.tenants.apply_profile(apply(false)).await.unwrap().into_inner();
    assert_eq!(reported, applied, "the dry run showed the same changes");
    let fields: Vec<_> = applied.violations.iter().map(|v| (v.field.as_str(), v.count)).collect();
    assert_eq!(fields, [("max_credentials", 1), ("allowed_owners", 1)]);
    assert_eq!(applied.violations[1].resources, [application]);
    assert!(first.exchange(&kw.grpc(), &[], &[]).await.is_ok(), "what exists goes on working");
}

async fn profile_sets_policy_roles_and_default_application(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let profile = pb::Profile {
        scopes: vec![pb::Scope {
            name: "a".to_owned(),
            display_name: "All of it".to_owned(),
            ..Default::default()
        }],
        policy: Some(pb::Policy { max_credentials: 9, ..Default::default() }),
        role_set: Some(pb::RoleSet {
            roles: vec![pb::Role {
                name: "admin".to_owned(),
                permissions: vec!["audit.view".to_owned()],
                scopes: vec!["a".to_owned()],
                ..Default::default()
            }],
        }),
        default_application: Some(pb::DefaultApplication {
            application_id: "default".to_owned(),
            display_name: "Default".to_owned(),
            scopes: vec!["a".to_owned()],
        }),
        ..Default::default()
    };
    let request = pb::ApplyProfileRequest {
        name: "tenants/acme".to_owned(),
        profile: Some(profile.clone()),
        ..Default::default()
    };
    let applied = admin.tenants.apply_profile(request.clone()).await.unwrap().into_inner();
    let made: Vec<_> = applied.changes.iter().map(|change| change.resource.as_str()).collect();
    let expected = [
        "tenants/acme",
        "tenants/acme/scopes/a",
        "tenants/acme/roles/admin",
        "tenants/acme/applications/default",
    ];
    assert_eq!(made, expected);
    let again = admin.tenants.apply_profile(request).await.unwrap().into_inner();
    assert_eq!(again.changes, [], "applied twice it changes nothing the second time");
    let get = pb::GetApplicationRequest { name: expected[3].to_owned() };
    let default = admin.applications.get_application(get).await.unwrap().into_inner();
    assert!(default.application.unwrap().protected);

    // The scopes of the application must be in the profile's catalogue.
    let mut beyond = profile.clone();
    beyond.default_application = Some(pb::DefaultApplication {
        application_id: "other".to_owned(),
        display_name: "Other".to_owned(),
        scopes: vec!["z".to_owned()],
    });
    let request = pb::ApplyProfileRequest {
        name: "tenants/acme".to_owned(),
        profile: Some(beyond),
        ..Default::default()
    };
    let status = admin.tenants.apply_profile(request).await.unwrap_err();
    assert_eq!(status.message(), "scope not allowed: z");

    // A profile without roles and policy keeps the existing ones.
    let bare = pb::Profile { policy: None, role_set: None, ..profile.clone() };
    let apply = |profile: pb::Profile, force| pb::ApplyProfileRequest {
        name: "tenants/acme".to_owned(),
        profile: Some(profile),
        force,
        ..Default::default()
    };
    let kept = admin.tenants.apply_profile(apply(bare, false)).await.unwrap().into_inner();
    assert_eq!(kept.changes, []);
    // A profile with an empty set of roles removes all; if users have one, only with force.
    admin.user("acme", "sam", &["admin"]).await;
    let none = pb::Profile { role_set: Some(pb::RoleSet::default()), ..profile };
    let status = admin.tenants.apply_profile(apply(none.clone(), false)).await.unwrap_err();
    assert_eq!(reason(&status), "IN_USE");
    let gone = admin.tenants.apply_profile(apply(none, true)).await.unwrap().into_inner();
    assert_eq!(gone.changes[0].affected_applications, 1);
}

async fn profile_removes_deleted_scopes_from_roles(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let apply = |scopes: &[&str], held: &[&str]| pb::ApplyProfileRequest {
        name: "tenants/acme".to_owned(),
        profile: Some(pb::Profile {
            scopes: scopes
                .iter()
                .map(|name| pb::Scope { name: (*name).to_owned(), ..Default::default() })
                .collect(),
            role_set: Some(pb::RoleSet {
                roles: vec![pb::Role {
                    name: "reader".to_owned(),
                    scopes: held.iter().map(|scope| (*scope).to_owned()).collect(),
                    description: format!("may grant {}", held.join(" ")),
                    ..Default::default()
                }],
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    admin.tenants.apply_profile(apply(&["a", "b"], &["a", "b"])).await.unwrap();
    let changes = admin.tenants.apply_profile(apply(&["b"], &["b"])).await.unwrap().into_inner();
    let reported: Vec<_> = changes.changes.iter().map(|change| change.resource.as_str()).collect();
    assert_eq!(reported, ["tenants/acme/scopes/a", "tenants/acme/roles/reader"]);
    let request = pb::GetRoleRequest { name: "tenants/acme/roles/reader".to_owned() };
    let role = admin.roles.get_role(request).await.unwrap().into_inner().role.unwrap();
    assert_eq!(role.scopes, ["b"]);
    // A role with an unknown scope is refused with the scope's name, and nothing is changed.
    let status = admin.tenants.apply_profile(apply(&["b"], &["b", "z"])).await.unwrap_err();
    assert_eq!(status.message(), "scope not allowed: z");
}

async fn hand_over_requires_rights_to_applications_and_heir(backend: Backend) {
    let policy = pb::Policy { user_deletion: UserDeletion::HandOver.into(), ..Default::default() };
    let (kw, mut admin) = acme(backend, policy).await;
    let console = admin.console(&kw).await;
    let keeper = ["users.view", "users.edit", "applications.create.own"];
    admin.role("acme", "keeper", &keeper, &["a"]).await;
    admin.role("acme", "greater", &["policy.edit"], &["b"]).await;
    admin.role("acme", "editor", &["applications.edit.users"], &[]).await;
    let sam = admin.user("acme", "sam", &["keeper"]).await;
    let ann = admin.user("acme", "ann", &["greater"]).await;
    let bob = admin.user("acme", "bob", &[]).await;
    owned(&mut admin, "bobs", &bob).await.unwrap();
    let mut acting = console.acting_for(&sam);
    let delete = |heir: &str| pb::DeleteUserRequest {
        name: bob.clone(),
        hand_over_to: heir.to_owned(),
        ..Default::default()
    };
    let preview = pb::DeleteUserRequest { validate_only: true, ..delete(&sam) };
    let status = acting.users.delete_user(preview).await.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED", "a preview tells the truth");
    let status = acting.users.delete_user(delete(&sam)).await.unwrap_err();
    assert!(status.message().contains("applications.edit.users"), "{}", status.message());
    admin.user("acme", "sam", &["keeper", "editor"]).await;
    let status = acting.users.delete_user(delete(&ann)).await.unwrap_err();
    assert!(status.message().contains("policy.edit"), "{}", status.message());
    let disable = pb::UpdateUserRequest {
        user: Some(pb::User { name: ann.clone(), disabled: true, ..Default::default() }),
        update_mask: mask(&["disabled"]),
        allow_missing: false,
    };
    admin.users.update_user(disable).await.unwrap();
    let status = admin.users.delete_user(delete(&ann)).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD", "an heir can act");
    acting.users.delete_user(delete(&sam)).await.unwrap();

    // Users who may not delete applications cannot delete them with their owner.
    let deleting = pb::Policy { user_deletion: UserDeletion::Delete.into(), ..Default::default() };
    set(&mut admin, deleting).await;
    let eve = admin.user("acme", "eve", &[]).await;
    owned(&mut admin, "eves", &eve).await.unwrap();
    let request = pb::DeleteUserRequest { name: eve, ..Default::default() };
    let status = acting.users.delete_user(request).await.unwrap_err();
    assert!(status.message().contains("applications.delete.users"), "{}", status.message());
}

async fn blocking_resources_are_named_only_to_viewers(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let console = admin.console(&kw).await;
    let blind = ["users.edit", "roles.edit", "catalogue.edit", "policy.edit"];
    let seeing: Vec<_> = blind
        .into_iter()
        .chain(["users.view", "applications.view.users", "applications.view.account"])
        .collect();
    admin.role("acme", "blind", &blind, &["*"]).await;
    admin.role("acme", "seeing", &seeing, &["*"]).await;
    admin.role("acme", "held", &[], &[]).await;
    let sam = admin.user("acme", "sam", &["blind"]).await;
    let ann = admin.user("acme", "ann", &["seeing"]).await;
    let bob = admin.user("acme", "bob", &["held"]).await;
    owned(&mut admin, "bobs", &bob).await.unwrap();
    admin.application("acme", "crm", &["a"]).await;
    for (user, named) in [(&sam, false), (&ann, true)] {
        let mut acting = console.acting_for(user);
        let role = pb::DeleteRoleRequest {
            name: "tenants/acme/roles/held".to_owned(),
            ..Default::default()
        };
        let scope = pb::DeleteScopeRequest {
            name: "tenants/acme/scopes/a".to_owned(),
            ..Default::default()
        };
        let person = pb::DeleteUserRequest { name: bob.clone(), ..Default::default() };
        let preview = pb::DeleteUserRequest { validate_only: true, ..person.clone() };
        for status in [
            acting.roles.delete_role(role).await.unwrap_err(),
            acting.scopes.delete_scope(scope).await.unwrap_err(),
            acting.users.delete_user(person).await.unwrap_err(),
        ] {
            assert_eq!(reason(&status), "IN_USE");
            let tells = status.message().contains("/users/bob,")
                || status.message().contains("/users/bob:")
                || status.message().contains("/applications/");
            assert_eq!(tells, named, "{user}: {}", status.message());
        }
        let reported = acting.users.delete_user(preview).await.unwrap().into_inner();
        assert_eq!(
            (reported.application_count == 1, !reported.applications.is_empty()),
            (named, named)
        );
        let request = pb::UpdateTenantRequest {
            tenant: Some(pb::Tenant {
                name: "tenants/acme".to_owned(),
                policy: Some(pb::Policy {
                    allowed_owners: vec![Owner::User.into()],
                    max_credentials: if named { 7 } else { 8 },
                    ..Default::default()
                }),
                ..Default::default()
            }),
            update_mask: mask(&["policy"]),
        };
        let violations =
            acting.tenants.update_tenant(request).await.unwrap().into_inner().violations;
        let violation = violations.first();
        let shown = violation.map(|found| (found.count, !found.resources.is_empty()));
        assert_eq!(shown, named.then_some((1, true)));
    }
}

async fn built_in_tenant_policy_cannot_be_changed(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let system = || "tenants/system".to_owned();
    let request = pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant {
            name: system(),
            policy: Some(pb::Policy { max_credentials: 1, ..Default::default() }),
            ..Default::default()
        }),
        update_mask: mask(&["policy"]),
    };
    let status = admin.tenants.update_tenant(request).await.unwrap_err();
    assert_eq!(reason(&status), "BUILT_IN", "it must not lock its operators out");
    let user = pb::CreateUserRequest { parent: system(), user_id: "x".to_owned(), user: None };
    let role = pb::CreateRoleRequest { parent: system(), role_id: "x".to_owned(), role: None };
    let scope = pb::CreateScopeRequest { parent: system(), scope_id: "x".to_owned(), scope: None };
    for status in [
        admin.users.create_user(user.clone()).await.unwrap_err(),
        admin.roles.create_role(role.clone()).await.unwrap_err(),
        admin.scopes.create_scope(scope.clone()).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), "BUILT_IN");
    }
    // For a user of another tenant the tenant does not exist.
    let all: Vec<_> = ["users.edit", "roles.edit", "catalogue.edit"].to_vec();
    admin.role("acme", "boss", &all, &["*"]).await;
    let sam = admin.user("acme", "sam", &["boss"]).await;
    let mut sam = admin.console(&kw).await.acting_for(&sam);
    for status in [
        sam.users.create_user(user).await.unwrap_err(),
        sam.roles.create_role(role).await.unwrap_err(),
        sam.scopes.create_scope(scope).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), "NOT_FOUND");
    }
}

async fn shared_secrets_can_be_forbidden(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let application = admin.application("acme", "crm", &["a"]).await.name;
    let (made, credential) = admin.credential(&application, Kind::ClientSecret).await;
    let kinds = ["public_key", "certificate", "federated"].map(str::to_owned).to_vec();
    let policy = pb::Policy { allowed_credential_kinds: kinds, ..Default::default() };
    let violations = set(&mut admin, policy).await;
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].field, "allowed_credential_kinds");
    assert_eq!((violations[0].count, &violations[0].resources), (1, &vec![made.name.clone()]));
    let status = admin.credentials.create_credential(new_credential(&application)).await;
    let status = status.unwrap_err();
    assert_eq!(rule(&status), "allowed_credential_kinds");
    assert!(status.message().contains("api_key"), "{}", status.message());
    let rotate = pb::RotateCredentialRequest { name: made.name, ..Default::default() };
    let status = admin.credentials.rotate_credential(rotate).await.unwrap_err();
    assert_eq!(rule(&status), "allowed_credential_kinds");
    assert!(credential.exchange(&kw.grpc(), &[], &[]).await.is_ok(), "it keeps working");
    let only_keys = vec!["api_key".to_owned()];
    let policy = pb::Policy { allowed_credential_kinds: only_keys, ..Default::default() };
    assert_eq!(set(&mut admin, policy).await.len(), 1);
    admin.credentials.create_credential(new_credential(&application)).await.unwrap();
}

async fn unbound_tokens_can_be_forbidden(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let application = admin.application("acme", "crm", &["a"]).await.name;
    let (_, credential) = admin.credential(&application, Kind::ClientSecret).await;
    let before = credential.token(&kw.grpc()).await;
    let policy = pb::Policy { require_bound_tokens: true, ..Default::default() };
    set(&mut admin, policy).await;
    assert!(!admin.is_active(&before).await, "it was issued unbound");
    let status = credential.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(rule(&status), "require_bound_tokens");
    let answer = kw.token_for(&credential, &[]).await;
    assert_eq!(
        (answer.status, answer.error()),
        (StatusCode::BAD_REQUEST, "invalid_request".to_owned())
    );
    set(&mut admin, pb::Policy::default()).await;
    assert!(credential.exchange(&kw.grpc(), &[], &[]).await.is_ok());
}

async fn tokens_carry_the_claims_of_the_policy(backend: Backend) {
    let (kw, mut admin) = acme(backend, pb::Policy::default()).await;
    let application = admin.application("acme", "crm", &["a"]).await.name;
    let (_, credential) = admin.credential(&application, Kind::ClientSecret).await;
    let text = |text: &str| prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(text.to_owned())),
    };
    let name = "https://acme.example/tier";
    let fields = [("region".to_owned(), text("nz")), (name.to_owned(), text("gold"))];
    let claims = Some(prost_types::Struct { fields: fields.into() });
    set(&mut admin, pb::Policy { token_claims: claims.clone(), ..Default::default() }).await;
    let token = credential.token(&kw.grpc()).await;
    let decoded = jsonwebtoken::dangerous::insecure_decode::<serde_json::Value>(&token).unwrap();
    assert_eq!(decoded.claims["region"], "nz");
    assert_eq!(decoded.claims[name], "gold");
    assert_eq!(decoded.claims["tenant"], "acme", "the others are as before");
    let info = admin.introspect(&token).await;
    assert!(info.active);
    assert_eq!(info.token_claims, claims);
    let answer = kw.post_as(&credential, "/oauth2/introspect", &[("token", &token)]).await;
    assert_eq!(answer.json()["region"], "nz");
    assert_eq!(answer.json()["client_id"], credential.client_id);
    set(&mut admin, pb::Policy::default()).await;
    let info = admin.introspect(&credential.token(&kw.grpc()).await).await;
    assert!(info.active && info.token_claims.is_none(), "{info:?}");
}
