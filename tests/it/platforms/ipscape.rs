//! Page 003, ipSCAPE: "API Keys".
//!
//! An API key is an application with a credential of the kind "API key"; the Client Name is its
//! display name.
//!
//! Not covered, because it belongs to the user interface: the Workspace and its menu, icons,
//! checkboxes, dialogs. Not covered, because it belongs to others: the Account Manager and Support;
//! how an integration uses its key.

use keyward::proto::admin as pb;
use keyward::proto::admin::batch_delete_applications_response::Result as BatchResult;
use keyward::proto::admin::credential::Kind;
use keyward::proto::admin::list_applications_request::Ownership;
use keyward::proto::errors::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    Platform, against_policy, beyond, called, faulty, lacks, masked, no_client, refused, tenant_of,
};
use crate::harness::{Admin, Backend, Credential, on_both_databases, secret_free};

on_both_databases!(
    disabled_api_credentials_refuse_keys,
    a_key_identifies_its_caller_and_is_its_secret,
    use_of_the_api_is_tracked_and_controlled,
    the_catalogue_has_what_each_kind_of_system_needs,
    the_default_key_cannot_be_edited_or_deleted,
    only_the_client_name_can_be_edited,
    the_list_shows_each_key_and_its_client,
    quick_search_finds_a_key_by_its_client,
    selected_keys_are_deleted_in_bulk,
    agent_cannot_access_keys,
);

const TENANT: &str = "tenants/ipscape";
const DEFAULT: &str = "tenants/ipscape/applications/default";
const ACME: &str = "tenants/ipscape/applications/acme";

/// "Add a new API Key", for a client.
async fn add(
    who: &mut Admin,
    name: &str,
    client: &str,
    scopes: &[&str],
) -> Result<(pb::Credential, Credential), Status> {
    who.make(name, called(client, scopes)).await?;
    who.add_credential(name, Kind::ApiKey).await
}

/// An installation with an administrator and one key.
async fn with_a_key(backend: Backend) -> (Platform, Admin, pb::Credential, Credential) {
    let mut ipscape = Platform::start(backend, "ipscape").await;
    let mut ann = ipscape.user("ann", &["administrator"]).await;
    let (made, key) = add(&mut ann, ACME, "Acme Ltd", &["reports:read"]).await.unwrap();
    (ipscape, ann, made, key)
}

/// The application cannot be changed, and the error names it.
#[track_caller]
fn is_protected<T: std::fmt::Debug>(answer: Result<T, Status>, name: &str) {
    let status = refused(answer, Code::FailedPrecondition, "PROTECTED");
    assert!(status.message().contains(name), "{}", status.message());
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].subject, name);
}

async fn disabled_api_credentials_refuse_keys(backend: Backend) {
    let (mut ipscape, mut ann, _, key) = with_a_key(backend).await;
    // Introduction: API keys "may not be available in your installation".
    ipscape.change_policy(|policy| policy.api_credentials_disabled = true).await;
    let other = ipscape.application("other");
    let answer = add(&mut ann, &other, "Other", &[]).await;
    against_policy(answer.map(drop), "api_credentials_disabled");
    against_policy(ann.rename(ACME, "Acme Inc").await, "api_credentials_disabled");
    no_client(ipscape.exchange(&key, &[]).await);
    assert!(!ipscape.admin.is_active(&key.secret).await);
}

async fn a_key_identifies_its_caller_and_is_its_secret(backend: Backend) {
    let (mut ipscape, mut ann, made, key) = with_a_key(backend).await;
    // What is an API key: it identifies the calling program ...
    let info = ipscape.admin.introspect(&key.secret).await;
    assert_eq!((info.client_id.as_str(), info.subject.as_str()), (made.client_id.as_str(), ACME));
    // ... is "both a unique identifier and a secret token": one string is both, and is exchanged as
    // such.
    assert!(key.client_id.is_empty());
    ipscape.exchange(&key, &[]).await.unwrap();
    // "A randomly generated unique number": no two are the same.
    let (_, second) = ann.add_credential(ACME, Kind::ApiKey).await.unwrap();
    assert_ne!(key.secret, second.secret);
    // It has "a set of access rights on the API".
    assert_eq!(info.scopes, ["reports:read"]);
    beyond(ipscape.exchange(&key, &["recordings:read"]).await, "recordings:read");
}

async fn use_of_the_api_is_tracked_and_controlled(backend: Backend) {
    let (ipscape, mut ann, made, key) = with_a_key(backend).await;
    // What is an API key: keys are used to track how the API is used ...
    for _ in 0..3 {
        ipscape.exchange(&key, &[]).await.unwrap();
    }
    ipscape.kw.server().service.usage.write().await.unwrap();
    let request = pb::ListApplicationUsageRequest { parent: ACME.to_owned(), ..Default::default() };
    let days = ann.applications.list_application_usage(request).await.unwrap().into_inner().days;
    assert_eq!((days.len(), days[0].exchanges), (1, 3));
    assert_eq!(days[0].credential, made.name);
    // ... and to control it, "to prevent malicious use or abuse": a key that is abused goes.
    ann.delete(ACME).await.unwrap();
    no_client(ipscape.exchange(&key, &[]).await);
}

async fn the_catalogue_has_what_each_kind_of_system_needs(backend: Backend) {
    let mut ipscape = Platform::start(backend, "ipscape").await;
    let mut ann = ipscape.user("ann", &["administrator"]).await;
    let catalogue = ann.catalogue(TENANT).await;
    let of = |family: &str| {
        let all = catalogue.iter().filter(|scope| scope.family == family);
        all.map(|scope| scope.name.rsplit('/').next().unwrap()).collect::<Vec<_>>()
    };
    // What is the API: logging in as a proxy, making calls, interacting with the data.
    // Customer Relationship Management: contacts and numbers to call, and the wraps.
    let crm = of("Customer Relationship Management (CRM)");
    assert_eq!(crm, ["calls:write", "contacts:write", "sessions:write", "wraps:read"]);
    // Workforce management, quality assurance, business intelligence and the rest: read-only
    // access is what the page gives them.
    for (family, scopes) in [
        ("Workforce Management", &["agent-states:read", "call-times:read"][..]),
        ("Quality Assurance", &["agents:read", "recordings:read"]),
        ("Business Intelligence", &["data:read", "reports:read"]),
        ("Miscellaneous", &["queues:read"]),
    ] {
        assert_eq!(of(family), scopes, "{family}");
        assert!(scopes.iter().all(|scope| scope.ends_with(":read")));
    }
}

async fn the_default_key_cannot_be_edited_or_deleted(backend: Backend) {
    let (mut ipscape, mut ann, _, _) = with_a_key(backend).await;
    let before = ann.see(DEFAULT).await.unwrap();
    assert_eq!((before.display_name.as_str(), before.protected), ("Default API Key", true));
    let (made, key) = ann.add_credential(DEFAULT, Kind::ApiKey).await.unwrap();
    // "One key, the Default API Key, cannot be edited": not even its client name ...
    is_protected(ann.rename(DEFAULT, "Mine").await, DEFAULT);
    is_protected(ann.set_scopes(DEFAULT, &[]).await, DEFAULT);
    let renamed = pb::Credential { display_name: "Mine".to_owned(), ..made.clone() };
    is_protected(ann.edit_credential(renamed, &["display_name"]).await, DEFAULT);
    is_protected(ann.rotate(&made.name).await, DEFAULT);
    // ... nor deleted, alone or in bulk; and what was selected with it is.
    is_protected(ann.delete(DEFAULT).await, DEFAULT);
    is_protected(ann.delete_credential(&made.name).await, DEFAULT);
    let results = delete_all(&mut ann, &[DEFAULT, ACME]).await.unwrap();
    assert_eq!((results[0].name.as_str(), results[0].reason()), (DEFAULT, ErrorReason::Protected));
    assert!(results[0].message.contains(DEFAULT), "{}", results[0].message);
    assert_eq!((results[1].name.as_str(), results[1].reason()), (ACME, ErrorReason::Unspecified));
    assert_eq!(ann.list(TENANT, Ownership::Unspecified).await.unwrap(), ["default"]);
    // An administrator cannot change the protection.
    let unprotected = pb::Application { protected: false, ..before.clone() };
    let status = ann.edit(unprotected, &["protected"]).await;
    refused(status, Code::PermissionDenied, "PERMISSION_DENIED");
    // Even the platform cannot change it while it is protected.
    is_protected(ipscape.admin.delete(DEFAULT).await, DEFAULT);
    let after = ann.see(DEFAULT).await.unwrap();
    assert_eq!((after.etag, after.display_name), (before.etag, before.display_name));
    ipscape.exchange(&key, &["data:read"]).await.unwrap();
}

async fn only_the_client_name_can_be_edited(backend: Backend) {
    let (ipscape, mut ann, made, key) = with_a_key(backend).await;
    let before = ann.see(ACME).await.unwrap();
    // "Edit the Client Name": it can be, and nothing else is changed by it.
    let after = ann.rename(ACME, "Acme Incorporated").await.unwrap();
    let expected = pb::Application {
        display_name: "Acme Incorporated".to_owned(),
        etag: after.etag.clone(),
        ..before
    };
    assert_eq!(after, expected);
    // A client has a name.
    faulty(ann.rename(ACME, "").await, "application.display_name");
    // "You can only edit the Client name": every other field is refused, and named.
    let other = pb::Application {
        description: "Another".to_owned(),
        contact_email: "a@example.com".to_owned(),
        scopes: vec!["data:read".to_owned()],
        roles: vec!["agent".to_owned()],
        expire_time: Some(ipscape.after(60)),
        limits: Some(pb::Limits { requests: 1, ..Default::default() }),
        disabled: true,
        ..after.clone()
    };
    let fields =
        ["description", "contact_email", "scopes", "roles", "expire_time", "limits", "disabled"];
    for field in fields {
        let status = against_policy(ann.edit(other.clone(), &[field]).await, "fixed_fields");
        assert!(status.message().contains(field), "{}", status.message());
        // If the name changes in the same request, neither is changed.
        let renamed = pb::Application { display_name: "Mine".to_owned(), ..other.clone() };
        against_policy(ann.edit(renamed, &["display_name", field]).await, "fixed_fields");
    }
    assert_eq!(ann.see(ACME).await.unwrap(), after);
    // "You cannot edit an API Key": the key stays the one that was generated.
    against_policy(ann.rotate(&made.name).await, "fixed_fields");
    let ended = pb::Credential { expire_time: Some(ipscape.after(60)), ..made.clone() };
    against_policy(ann.edit_credential(ended, &["expire_time"]).await, "fixed_fields");
    let disabled = pb::Credential { disabled: true, ..made };
    against_policy(ann.edit_credential(disabled, &["disabled"]).await, "fixed_fields");
    ipscape.exchange(&key, &[]).await.unwrap();
}

async fn the_list_shows_each_key_and_its_client(backend: Backend) {
    let (mut ipscape, mut ann, made, key) = with_a_key(backend).await;
    // Display API Keys: each record has the client name, and the key ...
    let request = pb::ListApplicationsRequest { parent: TENANT.to_owned(), ..Default::default() };
    let rows = ann.list_by(request).await.unwrap();
    let shown: Vec<_> =
        rows.iter().map(|row| (row.display_name.as_str(), row.masked_secrets.clone())).collect();
    let expected = [("Acme Ltd", vec![masked(&key)]), ("Default API Key", vec![])];
    assert_eq!(shown, expected);
    // ... of which the list itself only has the end. The whole key can be shown for one record at a
    // time, which is recorded in the audit log.
    secret_free(&format!("{rows:?}"));
    assert_eq!(ann.reveal(&made.name).await.unwrap(), key.secret);
    let reported = ann.history(&made.name).await.unwrap();
    let anns = ("RevealCredential".to_owned(), "tenants/ipscape/users/ann".to_owned());
    assert!(reported.contains(&anns), "{reported:?}");
    // The default key is one of them.
    let (of_default, default) = ipscape.admin.add_credential(DEFAULT, Kind::ApiKey).await.unwrap();
    assert_eq!(ann.reveal(&of_default.name).await.unwrap(), default.secret);
}

async fn quick_search_finds_a_key_by_its_client(backend: Backend) {
    let (ipscape, mut ann, _, _) = with_a_key(backend).await;
    for (id, client) in [("emca", "EMCA GmbH"), ("acme-au", "ACME Australia")] {
        ann.make(&ipscape.application(id), called(client, &[])).await.unwrap();
    }
    // Search API Keys: "if you know the Client Name", it locates the client's key. The search
    // ignores case and finds parts of names.
    for (known, found) in [
        ("Acme Ltd", &["acme"][..]),
        ("acme", &["acme", "acme-au"]),
        ("default", &["default"]),
        ("Umbrella", &[]),
    ] {
        assert_eq!(ann.search(TENANT, known).await.unwrap(), found, "{known}");
    }
}

async fn delete_all(who: &mut Admin, names: &[&str]) -> Result<Vec<BatchResult>, Status> {
    let request = pb::BatchDeleteApplicationsRequest {
        parent: tenant_of(names[0]),
        names: super::owned(names),
    };
    Ok(who.applications.batch_delete_applications(request).await?.into_inner().results)
}

async fn selected_keys_are_deleted_in_bulk(backend: Backend) {
    let (mut ipscape, mut ann, _, key) = with_a_key(backend).await;
    let [one, two] = ["one", "two"].map(|id| ipscape.application(id));
    let (_, first) = add(&mut ann, &one, "One", &["data:read"]).await.unwrap();
    let (_, kept) = add(&mut ann, &two, "Two", &["data:read"]).await.unwrap();
    let gone = ipscape.application("gone");
    // "Click the checkbox to select the API Key for bulk deletion": each has its own result.
    let results = delete_all(&mut ann, &[ACME, &gone, &one]).await.unwrap();
    let reported: Vec<_> =
        results.iter().map(|result| (result.name.as_str(), result.reason())).collect();
    let expected = [
        (ACME, ErrorReason::Unspecified),
        (gone.as_str(), ErrorReason::NotFound),
        (one.as_str(), ErrorReason::Unspecified),
    ];
    assert_eq!(reported, expected);
    assert!(results[0].message.is_empty());
    // The selected keys do not work any more, the others do.
    for key in [&key, &first] {
        assert!(!ipscape.admin.is_active(&key.secret).await);
    }
    assert!(ipscape.admin.is_active(&kept.secret).await);
    assert_eq!(ann.list(TENANT, Ownership::Unspecified).await.unwrap(), ["default", "two"]);
}

async fn agent_cannot_access_keys(backend: Backend) {
    let (mut ipscape, mut ann, made, _) = with_a_key(backend).await;
    let mut joe = ipscape.user("joe", &["agent"]).await;
    // Where to find this feature: in the Administration menu, which agents do not have.
    lacks(joe.list(TENANT, Ownership::Account).await, "applications.view.account");
    lacks(joe.see(ACME).await, "applications.view.account");
    lacks(joe.reveal(&made.name).await, "applications.reveal.account");
    lacks(
        joe.make(&ipscape.application("joes"), called("Joe", &[])).await,
        "applications.create.account",
    );
    lacks(joe.rename(ACME, "Joe").await, "applications.edit.account");
    let results = delete_all(&mut joe, &[ACME]).await.unwrap();
    assert_eq!(results[0].reason(), ErrorReason::PermissionDenied);
    ann.see(ACME).await.unwrap();
}
