//! Rights to a secret are compared with everything that the application was given, including
//! disabled scopes and those beyond what the owner may grant today.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use tonic::Status;

use super::{
    Acme, application_name, change, disable_application, disable_credential, disable_scope,
    disable_user, new_application, new_credential, reveal, rotate,
};
use crate::harness::{Admin, Backend, on_both_databases, reason};

on_both_databases!(
    disabling_a_scope_does_not_give_access_to_secrets,
    demoting_an_owner_does_not_give_access_to_secrets,
    secret_with_a_disabled_scope_is_not_shown_again,
    user_cannot_revive_a_credential_beyond_their_rights,
    user_cannot_revive_an_application_beyond_their_rights,
    user_cannot_enable_an_owner_beyond_their_rights,
    user_cannot_hand_over_applications_beyond_their_rights,
    secret_of_an_application_with_a_role_needs_the_right_to_give_the_role,
    user_gains_no_right_to_exchange_by_a_credential,
    user_gains_no_right_to_exchange_of_other_owners,
    other_fields_of_an_application_beyond_a_user_can_be_changed,
);

const ACCOUNT: [&str; 5] = [
    "applications.view.account",
    "applications.create.account",
    "applications.edit.account",
    "applications.reveal.account",
    "catalogue.edit",
];
const USERS: [&str; 5] = [
    "applications.view.users",
    "applications.create.users",
    "applications.edit.users",
    "applications.reveal.users",
    "users.edit",
];

/// The error names the scope, if the caller may view the application.
#[track_caller]
fn beyond<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED", "{status:?}");
    assert_eq!(status.message(), "scope not allowed: b");
}

async fn disabling_a_scope_does_not_give_access_to_secrets(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let mut eve = acme.user("eve", &ACCOUNT, &["a"]).await;
    let wide = acme.admin.application("acme", "wide", &["a", "b"]).await.name;
    let (old, _) = acme.admin.credential(&wide, Kind::ApiKey).await;

    eve.scopes.update_scope(disable_scope("b", true)).await.unwrap();
    beyond(eve.credentials.create_credential(new_credential(&wide)).await);
    beyond(eve.credentials.rotate_credential(rotate(&old.name)).await);
    // A user who may not grant a scope cannot enable it for others either.
    beyond(eve.scopes.update_scope(disable_scope("b", false)).await);
    let mut sam = acme.user("sam", &ACCOUNT, &["*"]).await;
    sam.scopes.update_scope(disable_scope("b", false)).await.unwrap();
}

/// An application of sam with `a` and `b`, and its credential. Sam may grant both.
async fn sams(acme: &mut Acme) -> (String, String) {
    acme.user("sam", &[], &["a", "b"]).await;
    acme.admin.role("acme", "lesser", &[], &["a"]).await;
    let owner = "tenants/acme/users/sam".to_owned();
    let scopes = vec!["a".to_owned(), "b".to_owned()];
    let crm = pb::Application { owner, scopes, ..Default::default() };
    let made = acme.admin.applications.create_application(new_application("crm", crm)).await;
    let crm = made.unwrap().into_inner().application.unwrap().name;
    let (credential, _) = acme.admin.credential(&crm, Kind::ApiKey).await;
    (crm, credential.name)
}

async fn demoting_an_owner_does_not_give_access_to_secrets(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let (crm, credential) = sams(&mut acme).await;
    let mut eve = acme.user("eve", &USERS, &["a"]).await;
    acme.admin.user("acme", "sam", &["lesser"]).await;
    beyond(eve.credentials.create_credential(new_credential(&crm)).await);
    beyond(eve.credentials.rotate_credential(rotate(&credential)).await);
}

async fn secret_with_a_disabled_scope_is_not_shown_again(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    acme.set_policy(pb::Policy { secrets_viewable: true, ..Default::default() }).await;
    let mut eve = acme.user("eve", &ACCOUNT, &["a"]).await;
    let wide = acme.admin.application("acme", "wide", &["a", "b"]).await.name;
    let (credential, _) = acme.admin.credential(&wide, Kind::ApiKey).await;
    beyond(eve.credentials.reveal_credential(reveal(&credential.name)).await);
    acme.admin.scopes.update_scope(disable_scope("b", true)).await.unwrap();
    beyond(eve.credentials.reveal_credential(reveal(&credential.name)).await);
}

fn end_credential(name: &str, seconds: Option<i64>) -> pb::UpdateCredentialRequest {
    let end = seconds.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 });
    pb::UpdateCredentialRequest {
        credential: Some(pb::Credential {
            name: name.to_owned(),
            expire_time: end,
            ..Default::default()
        }),
        update_mask: crate::harness::mask(&["expire_time"]),
    }
}

async fn user_cannot_revive_a_credential_beyond_their_rights(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let mut eve = acme.user("eve", &ACCOUNT, &["a"]).await;
    let mut sam = acme.user("sam", &ACCOUNT, &["a", "b"]).await;
    let wide = acme.admin.application("acme", "wide", &["a", "b"]).await.name;
    let (credential, _) = acme.admin.credential(&wide, Kind::ApiKey).await;
    let name = &credential.name;
    eve.credentials.update_credential(disable_credential(name, true)).await.unwrap();
    beyond(eve.credentials.update_credential(disable_credential(name, false)).await);
    sam.credentials.update_credential(disable_credential(name, false)).await.unwrap();

    // An earlier expiry takes a right away, a later one gives it.
    let now = acme.kw.now().as_second();
    eve.credentials.update_credential(end_credential(name, Some(now + 100))).await.unwrap();
    eve.credentials.update_credential(end_credential(name, Some(now + 50))).await.unwrap();
    beyond(eve.credentials.update_credential(end_credential(name, Some(now + 60))).await);
    beyond(eve.credentials.update_credential(end_credential(name, None)).await);
    sam.credentials.update_credential(end_credential(name, None)).await.unwrap();
}

async fn user_cannot_revive_an_application_beyond_their_rights(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let mut eve = acme.user("eve", &ACCOUNT, &["a"]).await;
    let mut sam = acme.user("sam", &ACCOUNT, &["a", "b"]).await;
    let wide = acme.admin.application("acme", "wide", &["a", "b"]).await.name;
    eve.applications.update_application(disable_application(&wide, true)).await.unwrap();
    beyond(eve.applications.update_application(disable_application(&wide, false)).await);
    sam.applications.update_application(disable_application(&wide, false)).await.unwrap();

    let end = |seconds: Option<i64>| {
        let end = seconds.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 });
        let ended = pb::Application { name: wide.clone(), expire_time: end, ..Default::default() };
        change(ended, &["expire_time"])
    };
    let now = acme.kw.now().as_second();
    eve.applications.update_application(end(Some(now + 100))).await.unwrap();
    beyond(eve.applications.update_application(end(Some(now + 101))).await);
    beyond(eve.applications.update_application(end(None)).await);
    sam.applications.update_application(end(None)).await.unwrap();
}

async fn user_cannot_enable_an_owner_beyond_their_rights(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    sams(&mut acme).await;
    let sam = "tenants/acme/users/sam";
    let mut eve = acme.user("eve", &USERS, &["a"]).await;
    let mut ann = acme.user("ann", &USERS, &["a", "b"]).await;
    // With the current role of sam, eve may change that user; but the application was given more.
    acme.admin.user("acme", "sam", &["lesser"]).await;
    eve.users.update_user(disable_user(sam, true)).await.unwrap();
    beyond(eve.users.update_user(disable_user(sam, false)).await);
    ann.users.update_user(disable_user(sam, false)).await.unwrap();
}

async fn user_cannot_hand_over_applications_beyond_their_rights(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let policy = pb::Policy {
        user_deletion: pb::policy::UserDeletion::HandOver.into(),
        ..Default::default()
    };
    acme.set_policy(policy).await;
    sams(&mut acme).await;
    let mut eve = acme.user("eve", &USERS, &["a"]).await;
    let mut ann = acme.user("ann", &USERS, &["a", "b"]).await;
    acme.admin.user("acme", "sam", &["lesser"]).await;
    let hand_over = |to: &str| pb::DeleteUserRequest {
        name: "tenants/acme/users/sam".to_owned(),
        hand_over_to: format!("tenants/acme/users/{to}"),
        ..Default::default()
    };
    let preview = pb::DeleteUserRequest { validate_only: true, ..hand_over("eve") };
    beyond(eve.users.delete_user(preview).await);
    beyond(eve.users.delete_user(hand_over("eve")).await);
    ann.users.delete_user(hand_over("ann")).await.unwrap();
}

async fn secret_of_an_application_with_a_role_needs_the_right_to_give_the_role(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    acme.admin.role("acme", "platform-admin", &[], &[]).await;
    acme.admin.role("acme", "everything", &[], &["*"]).await;
    let mut eve = acme.user("eve", &ACCOUNT, &["a", "b", "c"]).await;
    let with_role =
        |role: &str| pb::Application { roles: vec![role.to_owned()], ..Default::default() };
    for role in ["platform-admin", "everything"] {
        let made = new_application(role, with_role(role));
        let made = acme.admin.applications.create_application(made).await.unwrap().into_inner();
        let name = made.application.unwrap().name;
        let (credential, _) = acme.admin.credential(&name, Kind::ApiKey).await;
        for status in [
            eve.credentials.create_credential(new_credential(&name)).await.map(drop),
            eve.credentials.rotate_credential(rotate(&credential.name)).await.map(drop),
        ] {
            let status = status.unwrap_err();
            assert_eq!(reason(&status), "PERMISSION_DENIED");
            assert!(status.message().contains(role), "{role}: {}", status.message());
        }
    }
    let mut holder = acme
        .console
        .acting_for(&acme.admin.user("acme", "holder", &["eve", "platform-admin"]).await);
    holder
        .credentials
        .create_credential(new_credential("tenants/acme/applications/platform-admin"))
        .await
        .unwrap();
}

/// The error says that only the platform gives this right.
#[track_caller]
fn of_platform<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(reason(&status), "PERMISSION_DENIED", "{status:?}");
    assert!(status.message().contains("exchange_audiences"), "{status:?}");
}

async fn user_gains_no_right_to_exchange_by_a_credential(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    acme.set_policy(pb::Policy { secrets_viewable: true, ..Default::default() }).await;
    let mut eve = acme.user("eve", &ACCOUNT, &["*"]).await;
    acme.admin.exchanger("acme", "gateway", &["tenants/acme"]).await;
    let gateway = application_name("gateway");
    let (credential, _) = acme.admin.credential(&gateway, Kind::ApiKey).await;
    let name = &credential.name;
    of_platform(eve.credentials.create_credential(new_credential(&gateway)).await);
    of_platform(eve.credentials.rotate_credential(rotate(name)).await);
    of_platform(eve.credentials.reveal_credential(reveal(name)).await);
    // Taking a right away stays possible, giving it back is not.
    eve.credentials.update_credential(disable_credential(name, true)).await.unwrap();
    of_platform(eve.credentials.update_credential(disable_credential(name, false)).await);
    eve.applications.update_application(disable_application(&gateway, true)).await.unwrap();
    of_platform(eve.applications.update_application(disable_application(&gateway, false)).await);
    // The platform, and an application without the right.
    acme.admin.credentials.rotate_credential(rotate(name)).await.unwrap();
    acme.admin.applications.update_application(disable_application(&gateway, false)).await.unwrap();
    acme.admin.allow_exchange(&gateway, &[]).await.unwrap();
    eve.credentials.create_credential(new_credential(&gateway)).await.unwrap();
}

async fn user_gains_no_right_to_exchange_of_other_owners(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let policy = pb::Policy {
        user_deletion: pb::policy::UserDeletion::HandOver.into(),
        ..Default::default()
    };
    acme.set_policy(policy).await;
    let (crm, _) = sams(&mut acme).await;
    let mut eve = acme.user("eve", &USERS, &["*"]).await;
    let sam = "tenants/acme/users/sam";
    acme.admin.allow_exchange(&crm, &["tenants/acme"]).await.unwrap();
    eve.users.update_user(disable_user(sam, true)).await.unwrap();
    of_platform(eve.users.update_user(disable_user(sam, false)).await);
    let hand_over = pb::DeleteUserRequest {
        name: sam.to_owned(),
        hand_over_to: "tenants/acme/users/eve".to_owned(),
        ..Default::default()
    };
    of_platform(eve.users.delete_user(hand_over.clone()).await);
    acme.admin.allow_exchange(&crm, &[]).await.unwrap();
    eve.users.delete_user(hand_over).await.unwrap();
}

async fn other_fields_of_an_application_beyond_a_user_can_be_changed(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let mut eve: Admin = acme.user("eve", &ACCOUNT, &["a"]).await;
    let wide = acme.admin.application("acme", "wide", &["b"]).await.name;
    acme.admin.scopes.update_scope(disable_scope("b", true)).await.unwrap();
    let renamed = pb::Application {
        name: wide.clone(),
        display_name: "New".to_owned(),
        scopes: vec!["a".to_owned(), "b".to_owned()],
        ..Default::default()
    };
    let made = eve
        .applications
        .update_application(change(renamed, &["display_name", "scopes"]))
        .await
        .unwrap();
    assert_eq!(made.into_inner().application.unwrap().scopes, ["a", "b"], "it keeps what it has");
    beyond(eve.credentials.create_credential(new_credential(&wide)).await);
    let narrow =
        pb::Application { name: wide.clone(), scopes: vec!["a".to_owned()], ..Default::default() };
    eve.applications.update_application(change(narrow, &["scopes"])).await.unwrap();
    eve.credentials.create_credential(new_credential(&wide)).await.unwrap();
}
