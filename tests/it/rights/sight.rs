//! A user learns nothing about resources that they may not view, including whether they exist.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token as tokens;
use tonic::{Code, Status};

use super::{
    Acme, application_name, assert_alike, assert_denied, change, disable_credential,
    new_application, new_credential, reveal, rotate,
};
use crate::harness::{Admin, Backend, mask, on_both_databases, reason};

on_both_databases!(
    editor_without_view_gets_only_the_name,
    hidden_application_looks_nonexistent,
    hidden_user_looks_nonexistent,
    id_of_a_hidden_application_reveals_nothing,
    request_ids_of_users_are_independent,
    scopes_of_a_hidden_application_are_not_named,
    editor_without_view_cannot_probe_fixed_fields,
    counts_of_hidden_resources_are_not_shown,
    rights_of_other_users_are_not_named,
);

const HIDDEN: &str = "tenants/acme/applications/hidden";
const ABSENT: &str = "tenants/acme/applications/absent";

async fn editor_without_view_gets_only_the_name(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let permissions = ["applications.edit.account", "users.edit"];
    let mut eve = acme.user("eve", &permissions, &["*"]).await;
    let hidden = pb::Application {
        description: "Merger with Initech".to_owned(),
        contact_email: "boss@acme.example".to_owned(),
        scopes: vec!["a".to_owned()],
        ..Default::default()
    };
    let create = new_application("hidden", hidden);
    acme.admin.applications.create_application(create).await.unwrap();
    let (credential, _) = acme.admin.credential(HIDDEN, Kind::ApiKey).await;
    for name in ["hidden", "new name", "new name"] {
        let named = pb::Application {
            name: HIDDEN.to_owned(),
            display_name: name.to_owned(),
            ..Default::default()
        };
        let answer = eve.applications.update_application(change(named, &["display_name"])).await;
        let shown = answer.unwrap().into_inner().application.unwrap();
        assert_eq!(shown, pb::Application { name: HIDDEN.to_owned(), ..Default::default() });
    }
    let only_name = pb::Credential {
        name: credential.name.clone(),
        client_id: credential.client_id.clone(),
        ..Default::default()
    };
    for disabled in [false, true, false] {
        let update = disable_credential(&credential.name, disabled);
        let answer = eve.credentials.update_credential(update).await.unwrap().into_inner();
        assert_eq!(answer.credential.unwrap(), only_name);
    }
    let rotated = eve.credentials.rotate_credential(rotate(&credential.name)).await.unwrap();
    let rotated = rotated.into_inner();
    assert_eq!(rotated.credential.unwrap(), only_name);
    assert!(acme.admin.is_active(&rotated.secret).await);
    // Viewing users needs another permission; users can view themselves.
    let bob = acme.admin.user("acme", "bob", &[]).await;
    let unchanged = |name: &str| pb::UpdateUserRequest {
        user: Some(pb::User { name: name.to_owned(), ..Default::default() }),
        update_mask: mask(&["disabled"]),
        allow_missing: false,
    };
    let shown = eve.users.update_user(unchanged(&bob)).await.unwrap().into_inner().user.unwrap();
    assert_eq!(shown, pb::User { name: bob, ..Default::default() });
    let shown = eve.users.update_user(unchanged("tenants/acme/users/eve")).await.unwrap();
    assert!(!shown.into_inner().user.unwrap().roles.is_empty());
}

/// Every call on an application or its credential, with names of the same form.
async fn everything(
    eve: &mut Admin,
    application: &str,
    credential: &str,
) -> Vec<(&'static str, Status)> {
    let name = || application.to_owned();
    let named = pb::Application {
        name: name(),
        description: "x".to_owned(),
        etag: "other".to_owned(),
        ..Default::default()
    };
    let batch = pb::BatchDeleteApplicationsRequest {
        parent: "tenants/acme".to_owned(),
        names: vec![name()],
    };
    let credential_name = || credential.to_owned();
    let batch = eve.applications.batch_delete_applications(batch).await.unwrap().into_inner();
    let batch = &batch.results[0];
    let etag = || "other".to_owned();
    let delete = pb::DeleteCredentialRequest { name: credential_name(), etag: etag() };
    let gone = pb::DeleteApplicationRequest { name: name(), etag: etag() };
    let usage = pb::ListApplicationUsageRequest { parent: name(), ..Default::default() };
    let list = pb::ListCredentialsRequest { parent: name(), ..Default::default() };
    let get = pb::GetApplicationRequest { name: name() };
    let get_credential = pb::GetCredentialRequest { name: credential_name() };
    let tokens_of = |name: String| tokens::RevokeTokensRequest { name, ..Default::default() };
    let (of_application, of_credential) = (tokens_of(name()), tokens_of(credential_name()));
    let apps = &mut eve.applications;
    let mut answers = vec![
        ("GetApplication", apps.get_application(get).await.map(drop)),
        ("ListApplicationUsage", apps.list_application_usage(usage).await.map(drop)),
        (
            "UpdateApplication",
            apps.update_application(change(named, &["description"])).await.map(drop),
        ),
        ("DeleteApplication", apps.delete_application(gone).await.map(drop)),
    ];
    let batched = Status::new(Code::PermissionDenied, &batch.message);
    assert_eq!(batch.reason(), keyward::proto::errors::ErrorReason::PermissionDenied);
    answers.push(("BatchDeleteApplications", Err(batched)));
    let credentials = &mut eve.credentials;
    answers.extend([
        ("GetCredential", credentials.get_credential(get_credential).await.map(drop)),
        ("ListCredentials", credentials.list_credentials(list).await.map(drop)),
        (
            "CreateCredential",
            credentials.create_credential(new_credential(application)).await.map(drop),
        ),
        (
            "UpdateCredential",
            credentials.update_credential(disable_credential(credential, true)).await.map(drop),
        ),
        ("RotateCredential", credentials.rotate_credential(rotate(credential)).await.map(drop)),
        ("RevealCredential", credentials.reveal_credential(reveal(credential)).await.map(drop)),
        ("DeleteCredential", credentials.delete_credential(delete).await.map(drop)),
    ]);
    answers.extend([
        ("RevokeTokens", eve.tokens.revoke_tokens(of_application).await.map(drop)),
        ("RevokeTokens of one", eve.tokens.revoke_tokens(of_credential).await.map(drop)),
    ]);
    answers.into_iter().map(|(call, answer)| (call, answer.expect_err(call))).collect()
}

async fn hidden_application_looks_nonexistent(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let own = ["view", "create", "edit", "delete", "reveal"]
        .map(|verb| format!("applications.{verb}.own"));
    let own = own.each_ref().map(String::as_str);
    let mut plain_user = acme.user("plain", &[], &["*"]).await;
    let mut own = acme.user("own", &own, &["*"]).await;
    acme.admin.application("acme", "hidden", &["a"]).await;
    let (credential, _) = acme.admin.credential(HIDDEN, Kind::ApiKey).await;
    let absent = format!("{ABSENT}/credentials/{}", "0".repeat(32));
    let of_hidden = format!("{HIDDEN}/credentials/{}", "0".repeat(32));
    for eve in [&mut plain_user, &mut own] {
        let there = everything(eve, HIDDEN, &credential.name).await;
        let not_there = everything(eve, ABSENT, &absent).await;
        let no_credential = everything(eve, HIDDEN, &of_hidden).await;
        for (((call, left), (_, right)), (_, third)) in
            there.iter().zip(&not_there).zip(&no_credential)
        {
            assert_denied(left);
            assert_eq!(left.code(), right.code(), "{call}");
            let plain = |status: &Status| {
                let text = status.message().replace(&credential.name, "C").replace(&absent, "C");
                text.replace(&of_hidden, "C").replace(HIDDEN, "A").replace(ABSENT, "A")
            };
            assert_eq!(plain(left), plain(right), "{call}");
            assert_eq!(plain(left), plain(third), "{call}");
        }
    }
    // Users who may view all applications get the real answer.
    let view = ["applications.view.users", "applications.view.account"];
    let mut vic = acme.user("vic", &view, &[]).await;
    let get = pb::GetApplicationRequest { name: ABSENT.to_owned() };
    let status = vic.applications.get_application(get).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_FOUND");
}

async fn hidden_user_looks_nonexistent(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    acme.user("boss", &["policy.edit"], &["*"]).await;
    let mut eve = acme.user("eve", &["users.edit"], &[]).await;
    let (boss, absent) = ("tenants/acme/users/boss", "tenants/acme/users/absent");
    let get = |name: &str| pb::GetUserRequest { name: name.to_owned() };
    let update = |name: &str| pb::UpdateUserRequest {
        user: Some(pb::User { name: name.to_owned(), ..Default::default() }),
        update_mask: mask(&["roles"]),
        allow_missing: false,
    };
    let delete = |name: &str| pb::DeleteUserRequest { name: name.to_owned(), ..Default::default() };
    let revoke =
        |name: &str| tokens::RevokeTokensRequest { name: name.to_owned(), ..Default::default() };
    let users = &mut eve.users;
    for (left, right) in [
        (
            users.get_user(get(boss)).await.unwrap_err(),
            users.get_user(get(absent)).await.unwrap_err(),
        ),
        (
            users.update_user(update(boss)).await.unwrap_err(),
            users.update_user(update(absent)).await.unwrap_err(),
        ),
        (
            users.delete_user(delete(boss)).await.unwrap_err(),
            users.delete_user(delete(absent)).await.unwrap_err(),
        ),
        (
            eve.tokens.revoke_tokens(revoke(boss)).await.unwrap_err(),
            eve.tokens.revoke_tokens(revoke(absent)).await.unwrap_err(),
        ),
    ] {
        assert_denied(&left);
        assert_alike(&left, boss, &right, absent);
    }
}

async fn id_of_a_hidden_application_reveals_nothing(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let own = ["applications.view.own", "applications.create.own"];
    let mut eve = acme.user("eve", &own, &["*"]).await;
    acme.admin.application("acme", "hidden", &["a"]).await;
    let create = new_application("hidden", pb::Application::default());
    let status = eve.applications.create_application(create).await.unwrap_err();
    assert_denied(&status);
    assert!(!status.message().contains("exists"), "{}", status.message());
    // Resources that eve may view are named.
    eve.application("acme", "mine", &["a"]).await;
    let create = new_application("mine", pb::Application::default());
    let status = eve.applications.create_application(create).await.unwrap_err();
    assert_eq!(reason(&status), "ALREADY_EXISTS");
}

async fn request_ids_of_users_are_independent(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let own = ["applications.view.own", "applications.create.own"];
    let mut sam = acme.user("sam", &own, &["*"]).await;
    let mut eve = acme.user("eve", &own, &["*"]).await;
    let request = || pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application: Some(pb::Application { display_name: "CRM".to_owned(), ..<_>::default() }),
        request_id: "e1b2".to_owned(),
        ..Default::default()
    };
    let sams = sam.applications.create_application(request()).await.unwrap().into_inner();
    let sams = sams.application.unwrap().name;
    let eves = eve.applications.create_application(request()).await.unwrap().into_inner();
    let eves = eves.application.unwrap().name;
    assert_ne!(sams, eves);
    for (user, made) in [(&mut sam, &sams), (&mut eve, &eves)] {
        let status = user.applications.create_application(request()).await.unwrap_err();
        assert_eq!(reason(&status), "ALREADY_EXISTS");
        assert!(status.message().contains(made), "{}", status.message());
    }
    // The same for credentials: two users may create one for the same application.
    let make = ["applications.create.account"];
    let mut ann = acme.user("ann", &make, &["*"]).await;
    let mut bob = acme.user("bob", &make, &["*"]).await;
    let crm = acme.admin.application("acme", "crm", &["a"]).await.name;
    let request =
        || pb::CreateCredentialRequest { request_id: "e1b2".to_owned(), ..new_credential(&crm) };
    ann.credentials.create_credential(request()).await.unwrap();
    bob.credentials.create_credential(request()).await.unwrap();
    for user in [&mut ann, &mut bob] {
        let status = user.credentials.create_credential(request()).await.unwrap_err();
        assert_eq!(reason(&status), "ALREADY_EXISTS");
    }
    // A later user with the same id is a different user.
    let delete =
        pb::DeleteUserRequest { name: "tenants/acme/users/ann".to_owned(), ..Default::default() };
    acme.admin.users.delete_user(delete).await.unwrap();
    acme.kw.advance(1);
    acme.admin.user("acme", "ann", &["ann"]).await;
    ann.credentials.create_credential(request()).await.unwrap();
}

async fn scopes_of_a_hidden_application_are_not_named(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let permissions =
        ["applications.create.account", "applications.edit.account", "applications.reveal.account"];
    acme.set_policy(pb::Policy { secrets_viewable: true, ..Default::default() }).await;
    let mut eve = acme.user("eve", &permissions, &["a"]).await;
    acme.admin.application("acme", "hidden", &["b"]).await;
    let (credential, _) = acme.admin.credential(HIDDEN, Kind::ApiKey).await;
    for status in [
        eve.credentials.create_credential(new_credential(HIDDEN)).await.unwrap_err(),
        eve.credentials.rotate_credential(rotate(&credential.name)).await.unwrap_err(),
        eve.credentials.reveal_credential(reveal(&credential.name)).await.unwrap_err(),
    ] {
        assert_denied(&status);
        assert!(status.message().contains("was given"), "{}", status.message());
        assert!(!status.message().contains(": b"), "{}", status.message());
    }
    // Requesting a scope does not reveal whether the application has it.
    for scope in ["b", "c"] {
        let wanted = pb::Application {
            name: HIDDEN.to_owned(),
            scopes: vec![scope.to_owned()],
            ..Default::default()
        };
        let status = eve.applications.update_application(change(wanted, &["scopes"])).await;
        assert_eq!(status.unwrap_err().message(), format!("scope not allowed: {scope}"));
    }
}

async fn editor_without_view_cannot_probe_fixed_fields(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let mut eve = acme.user("eve", &["applications.edit.account"], &["*"]).await;
    acme.admin.application("acme", "hidden", &["a"]).await;
    let fixed = pb::Policy { fixed_fields: vec!["display_name".to_owned()], ..Default::default() };
    acme.set_policy(fixed).await;
    for guess in ["hidden", "other"] {
        let named = pb::Application {
            name: application_name("hidden"),
            display_name: guess.to_owned(),
            ..Default::default()
        };
        let answer = eve.applications.update_application(change(named, &["display_name"])).await;
        assert_eq!(reason(&answer.unwrap_err()), "POLICY", "{guess}");
    }
}

async fn counts_of_hidden_resources_are_not_shown(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    let permissions =
        ["users.edit", "roles.edit", "catalogue.edit", "policy.edit", "applications.edit.users"];
    let mut eve = acme.user("eve", &permissions, &["*"]).await;
    acme.admin.role("acme", "held", &[], &[]).await;
    let bob = acme.admin.user("acme", "bob", &["held"]).await;
    for id in ["one", "two", "three"] {
        let owned = pb::Application { owner: bob.clone(), ..Default::default() };
        acme.admin.applications.create_application(new_application(id, owned)).await.unwrap();
        acme.admin.application("acme", &format!("{id}-of-all"), &["a"]).await;
    }
    let role =
        pb::DeleteRoleRequest { name: "tenants/acme/roles/held".to_owned(), ..Default::default() };
    let scope =
        pb::DeleteScopeRequest { name: "tenants/acme/scopes/a".to_owned(), ..Default::default() };
    let person = pb::DeleteUserRequest { name: bob.clone(), ..Default::default() };
    let preview = pb::DeleteUserRequest { validate_only: true, ..person.clone() };
    for status in [
        eve.roles.delete_role(role).await.unwrap_err(),
        eve.scopes.delete_scope(scope).await.unwrap_err(),
        eve.users.delete_user(person).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), "IN_USE");
        let tail = status.message().split("is in use by").nth(1).unwrap();
        assert!(!tail.contains(char::is_numeric), "{}", status.message());
    }
    let shown = eve.users.delete_user(preview).await.unwrap().into_inner();
    assert_eq!((shown.application_count, shown.credential_count), (0, 0));
    let revoke = tokens::RevokeTokensRequest { name: bob, ..Default::default() };
    let answer = eve.tokens.revoke_tokens(revoke).await.unwrap().into_inner();
    assert_eq!(answer.applications, 0);
    let request = pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant {
            name: "tenants/acme".to_owned(),
            policy: Some(pb::Policy {
                allowed_owners: vec![pb::policy::Owner::User.into()],
                ..Default::default()
            }),
            ..Default::default()
        }),
        update_mask: mask(&["policy"]),
    };
    let violations = eve.tenants.update_tenant(request).await.unwrap().into_inner().violations;
    assert!(violations.is_empty(), "{violations:?}");
}

async fn rights_of_other_users_are_not_named(backend: Backend) {
    let mut acme = Acme::new(backend).await;
    acme.user("boss", &["policy.edit"], &["b"]).await;
    let mut eve = acme.user("eve", &["users.edit"], &[]).await;
    let mut vic = acme.user("vic", &["users.edit", "users.view"], &[]).await;
    let update = pb::UpdateUserRequest {
        user: Some(pb::User { name: "tenants/acme/users/boss".to_owned(), ..Default::default() }),
        update_mask: mask(&["roles"]),
        allow_missing: false,
    };
    let status = eve.users.update_user(update.clone()).await.unwrap_err();
    assert_denied(&status);
    assert!(!status.message().contains("policy.edit"), "{}", status.message());
    let status = vic.users.update_user(update).await.unwrap_err();
    assert!(status.message().contains("policy.edit"), "{}", status.message());
}
