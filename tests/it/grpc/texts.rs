//! Texts from people: names, descriptions, user ids, and timestamps that mean "never".

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokensRequest;
use prost_types::Timestamp;
use tonic::Status;

use super::raw::call_with;
use crate::harness::{Admin, Backend, mask, on_both_databases, reason};

on_both_databases!(
    invisible_character_in_text_is_named,
    description_and_reason_can_have_several_lines,
    ids_of_identity_providers_are_accepted,
    user_id_unfit_for_names_or_headers_is_refused,
    last_protobuf_timestamp_is_stored,
    search_ignores_case_and_unicode_form,
);

const ACME: &str = "tenants/acme";
const CRM: &str = "tenants/acme/applications/crm";

async fn named(admin: &mut Admin, display_name: &str) -> Result<pb::Application, Status> {
    let request = pb::CreateApplicationRequest {
        parent: ACME.to_owned(),
        application: Some(pb::Application {
            display_name: display_name.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = admin.applications.create_application(request).await?;
    Ok(made.into_inner().application.unwrap())
}

async fn invisible_character_in_text_is_named(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    for (text, fault) in [
        ("gnp\u{202e}exe.crm", "must not contain U+202E, which changes the text direction"),
        ("ad\u{200b}min", "must not contain the invisible character U+200B"),
        ("a\u{2028}b", "must not contain the control character U+2028"),
        ("a\nb", "must be a single line"),
        ("\u{7}", "must not contain the control character U+0007"),
        ("\u{a0} ", "must not be blank"),
        ("ad\u{200d}min", "must not contain U+200D between these characters"),
        (" crm", "must not begin or end with a space"),
    ] {
        let status = named(&mut admin, text).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{text:?}");
        let message = status.message();
        assert!(message.starts_with("application.display_name "), "{text:?}: {message}");
        assert!(message.contains(fault), "{text:?}: {message}");
        assert!(!message.contains(['\u{202e}', '\u{200b}', '\u{7}']), "{message:?}");
    }
    for text in ["\u{915}\u{94d}\u{200d}\u{937}", "\u{1f468}\u{200d}\u{1f4bb} dev", "Ca\u{301}"] {
        assert_eq!(named(&mut admin, text).await.unwrap().display_name, text);
    }
}

async fn description_and_reason_can_have_several_lines(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let text = "What it is for:\n\t- calls\r\n\t- messages";
    let request = pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: CRM.to_owned(),
            description: text.to_owned(),
            ..Default::default()
        }),
        update_mask: mask(&["description"]),
    };
    admin.applications.update_application(request).await.unwrap();
    let request = pb::GetApplicationRequest { name: CRM.to_owned() };
    let read = admin.applications.get_application(request).await.unwrap().into_inner();
    assert_eq!(read.application.unwrap().description, text);
    let request = RevokeTokensRequest {
        name: CRM.to_owned(),
        reason: "leaked\nin a ticket".to_owned(),
        ..Default::default()
    };
    admin.tokens.revoke_tokens(request).await.unwrap();
    let request = pb::ListAuditEventsRequest { parent: ACME.to_owned(), ..Default::default() };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    assert!(events[0].detail.ends_with("leaked\nin a ticket"), "{:?}", events[0]);
}

const IDS: [&str; 12] = [
    "auth0|5f7c8ec7c33c6c004bbafe82",
    "google-oauth2|103547991597142817347",
    "o'brien@example.com",
    "user:1",
    "urn:uuid:9b2b9a4e-5d8b-4f6e-8d0a-1f1f7c1f2f3a",
    "CN=John Smith,OU=Sales,DC=example,DC=com",
    "ACME\\john.smith",
    "{9B2B9A4E-5D8B-4F6E-8D0A-1F1F7C1F2F3A}",
    "AAdzZWNyZXQx+abc==",
    "jos%C3%A9@example.com",
    "https:%2F%2Fid.example%2Fsubject",
    "_spn$service",
];

async fn ids_of_identity_providers_are_accepted(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let verbs = ["applications.create.own", "applications.view.own"];
    admin.role("acme", "maker", &verbs, &["a"]).await;
    let console = admin.console(&kw).await;
    let longest = "x".repeat(255);
    for id in IDS.into_iter().chain([longest.as_str()]) {
        let name = admin.user("acme", id, &["maker"]).await;
        let request = pb::GetUserRequest { name: name.clone() };
        let user = admin.users.get_user(request).await.unwrap().into_inner().user.unwrap();
        assert_eq!(user.name, name);
        // The user can act, own applications, and be found in the log.
        let mut acting = console.acting_for(&name);
        let made = named(&mut acting, "theirs").await.unwrap();
        assert_eq!(made.owner, name);
        let request = pb::ListAuditEventsRequest {
            parent: ACME.to_owned(),
            actor: name.clone(),
            ..Default::default()
        };
        let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
        assert_eq!((events.len(), events[0].user.as_str()), (1, name.as_str()));
        let request = RevokeTokensRequest { name, ..Default::default() };
        admin.tokens.revoke_tokens(request).await.unwrap();
    }
}

async fn user_id_unfit_for_names_or_headers_is_refused(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let too_long = "x".repeat(256);
    for id in ["", " ", " a", "a ", "a/b", ".", "..", "-", "*", "jos\u{e9}", "a\tb", &too_long] {
        let request =
            pb::CreateUserRequest { parent: ACME.to_owned(), user_id: id.to_owned(), user: None };
        let status = admin.users.create_user(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{id:?}");
        assert!(status.message().starts_with("user_id must be"), "{}", status.message());
    }
    let status = {
        let authorization = format!("Bearer {}", admin.token);
        let metadata =
            [("authorization", authorization.as_str()), ("keyward-user", "tenants/acme/users/a/b")];
        let path = "/keyward.admin.v1.TenantService/ListTenants";
        call_with(&kw.grpc(), path, Vec::new(), &metadata).await.unwrap_err()
    };
    assert_eq!(reason(&status), "INVALID_FIELD");
}

async fn last_protobuf_timestamp_is_stored(backend: Backend) {
    // 9999-12-31T23:59:59Z, which means "never" in many systems.
    const LAST: i64 = 253_402_300_799;
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let last = Some(Timestamp { seconds: LAST, nanos: 0 });
    let request = pb::CreateCredentialRequest {
        parent: CRM.to_owned(),
        credential: Some(pb::Credential {
            kind: Kind::ApiKey.into(),
            expire_time: last,
            ..Default::default()
        }),
        request_id: String::new(),
    };
    let made = admin.credentials.create_credential(request).await.unwrap().into_inner();
    assert_eq!(made.credential.as_ref().unwrap().expire_time, last);
    let answer = admin.check(&made.secret, &["a"]).await;
    assert!(answer.allowed, "{answer:?}");
    assert_eq!(answer.principal.unwrap().expire_time, last);
    assert_eq!(admin.introspect(&made.secret).await.expire_time, last);
    let request = pb::UpdateApplicationRequest {
        application: Some(pb::Application {
            name: CRM.to_owned(),
            expire_time: last,
            ..Default::default()
        }),
        update_mask: mask(&["expire_time"]),
    };
    let after = admin.applications.update_application(request).await.unwrap().into_inner();
    assert_eq!(after.application.unwrap().expire_time, last);
    for beyond in [LAST + 1, -62_135_596_801] {
        let request = pb::ListApplicationsRequest {
            parent: ACME.to_owned(),
            expire_before: Some(Timestamp { seconds: beyond, nanos: 0 }),
            ..Default::default()
        };
        let status = admin.applications.list_applications(request).await.unwrap_err();
        let range = "expire_before must be between 0001-01-01T00:00:00Z and 9999-12-31T23:59:59";
        assert!(status.message().starts_with(range), "{}", status.message());
    }
    // The log has the whole history.
    let request = pb::ListAuditEventsRequest { parent: ACME.to_owned(), ..Default::default() };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    let after = &events[0].changes[0].after;
    assert_eq!(after, "9999-12-31T23:59:59Z");
}

async fn search_ignores_case_and_unicode_form(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    for (name, searches) in [
        ("ΟΔΥΣΣΕΥΣ", &["ΟΔΥΣ", "οδυς", "οδυσσευς", "ΣΕΥΣ"][..]),
        ("Straße", &["STRASSE", "straße", "STRAẞE", "rass"]),
        ("cafe\u{301}", &["CAFÉ", "caf\u{e9}", "CAFE\u{301}"]),
        ("ＡＣＭＥ　ｓｕｐｐｏｒｔ", &["acme support", "ACME"]),
        ("İzmir", &["İZMİR", "izmir", "İzmi"]),
        ("ﬁnance", &["FINANCE", "fin"]),
        ("می‌خواهم", &["میخواهم"]),
    ] {
        let made = named(&mut admin, name).await.unwrap();
        assert_eq!(made.display_name, name, "it is kept as it was sent");
        for search in searches {
            let request = pb::ListApplicationsRequest {
                parent: ACME.to_owned(),
                search: (*search).to_owned(),
                ..Default::default()
            };
            let found = admin.applications.list_applications(request).await.unwrap().into_inner();
            let found: Vec<_> = found.applications.into_iter().map(|one| one.name).collect();
            assert!(found.contains(&made.name), "{search} for {name}: {found:?}");
        }
    }
}
