//! Page 004, SIP Caller: "API Keys".
//!
//! An API key is an application with roles, an expiry and one credential of the kind "API key"; its
//! token is the credential's secret.
//!
//! Not covered, because it belongs to the user interface: Settings and its buttons, dialogs,
//! copying the token. Not covered, because it belongs to the REST API: its resources; it gets a
//! key's roles by introspection.

use keyward::proto::admin as pb;
use keyward::proto::admin::application::State;
use keyward::proto::admin::credential::Kind;
use keyward::proto::admin::list_applications_request::Ownership;
use tonic::{Code, Status};

use super::{Platform, against_policy, called, faulty, ids, lacks, no_client, owned, refused};
use crate::harness::{Admin, Backend, Credential, on_both_databases, secret_free};

on_both_databases!(
    as_many_keys_as_needed_each_with_an_expiry_and_roles,
    an_external_system_authenticates_with_the_token_of_its_key,
    an_administrator_creates_and_edits,
    account_reader_can_only_view,
    an_expiry_is_kept_and_cannot_be_extended,
    roles_cannot_be_changed_after_creation,
    the_token_is_shown_once_and_cannot_be_recovered,
    only_the_name_can_be_edited,
    deleting_a_key_revokes_the_access,
);

const TENANT: &str = "tenants/sip-caller";
const KEY: &str = "tenants/sip-caller/applications/crm";
const ADMINISTRATOR: &str = "administrator";
const READER: &str = "account-reader";

/// The form of a new key: a name, roles, and an optional expiry.
fn form(
    name: &str,
    roles: &[&str],
    expire_time: Option<prost_types::Timestamp>,
) -> pb::Application {
    pb::Application { roles: owned(roles), expire_time, ..called(name, &[]) }
}

/// "Save": the key is created and its token is shown.
async fn save(
    who: &mut Admin,
    name: &str,
    form: pb::Application,
) -> Result<(pb::Credential, Credential), Status> {
    who.make(name, form).await?;
    who.add_credential(name, Kind::ApiKey).await
}

/// An account with an administrator and one read-only key for a day.
async fn with_a_key(backend: Backend) -> (Platform, Admin, pb::Credential, Credential) {
    let mut sip = Platform::start(backend, "sip-caller").await;
    let mut ann = sip.user("ann", &[ADMINISTRATOR]).await;
    let day = Some(sip.after(DAY));
    let (made, token) = save(&mut ann, KEY, form("CRM", &[READER], day)).await.unwrap();
    (sip, ann, made, token)
}

const DAY: i64 = 86_400;

async fn as_many_keys_as_needed_each_with_an_expiry_and_roles(backend: Backend) {
    let mut sip = Platform::start(backend, "sip-caller").await;
    let mut ann = sip.user("ann", &[ADMINISTRATOR]).await;
    // Overview: "as many API Keys as you need", each with an expiration and roles.
    for n in 0_i64..5 {
        let name = sip.application(&format!("key-{n}"));
        let roles: &[&str] = if n % 2 == 0 { &[READER] } else { &[ADMINISTRATOR, READER] };
        let end = (n > 0).then(|| sip.after(n * DAY));
        save(&mut ann, &name, form("Key", roles, end)).await.unwrap();
        let made = ann.see(&name).await.unwrap();
        assert_eq!((made.expire_time, made.roles.len()), (end, roles.len()));
        assert_eq!(made.owner, TENANT, "it serves a system, not a person");
    }
    let tenant = ann.read_tenant(TENANT).await.unwrap();
    assert_eq!(tenant.policy.unwrap().max_credentials, 0, "and there is no limit to them");
}

async fn an_external_system_authenticates_with_the_token_of_its_key(backend: Backend) {
    let (mut sip, mut ann, _, token) = with_a_key(backend).await;
    // Overview: the REST API authenticates with the token of the key, and grants what its roles
    // allow.
    let info = sip.admin.introspect(&token.secret).await;
    assert!(info.active);
    assert_eq!((info.subject.as_str(), &info.roles[..]), (KEY, &owned(&[READER])[..]));
    assert!(info.scopes.iter().all(|scope| scope.ends_with(":read")), "{:?}", info.scopes);
    assert_eq!(info.expire_time, Some(sip.after(DAY)));
    let (_, writer) =
        save(&mut ann, &sip.application("pbx"), form("PBX", &[ADMINISTRATOR], None)).await.unwrap();
    let info = sip.admin.introspect(&writer.secret).await;
    assert_eq!((&info.roles[..], info.scopes.len()), (&owned(&[ADMINISTRATOR])[..], 8));
    // The access token that it is exchanged for also has the roles.
    let access = sip.exchange(&token, &[]).await.unwrap();
    let info = sip.admin.introspect(&access.text).await;
    assert_eq!(info.roles, [READER]);
    assert_eq!(info.scopes, ["accounts:read", "calls:read", "recordings:read", "settings:read"]);
    let wrong = sip.exchange(&token, &["calls:write"]).await;
    refused(wrong, Code::InvalidArgument, "SCOPE_NOT_ALLOWED");
}

async fn an_administrator_creates_and_edits(backend: Backend) {
    let mut sip = Platform::start(backend, "sip-caller").await;
    // Required roles: creating or editing a key requires Administrator ...
    let mut ann = sip.user("ann", &[ADMINISTRATOR]).await;
    save(&mut ann, KEY, form("CRM", &[READER], None)).await.unwrap();
    assert_eq!(ann.rename(KEY, "CRM (EU)").await.unwrap().display_name, "CRM (EU)");
    // ... and users without a role can do neither, and see nothing.
    let mut bob = sip.user("bob", &[]).await;
    let other = sip.application("other");
    lacks(bob.make(&other, form("Other", &[], None)).await, "applications.create.account");
    lacks(bob.rename(KEY, "Bob's").await, "applications.edit.account");
    lacks(bob.see(KEY).await, "applications.view.account");
    lacks(bob.list(TENANT, Ownership::Account).await, "applications.view.account");
}

async fn account_reader_can_only_view(backend: Backend) {
    let (mut sip, _, made, _) = with_a_key(backend).await;
    let mut rea = sip.user("rea", &[READER]).await;
    // Required roles: viewing a key requires Account Reader: the key is in the list, and can be
    // opened, with its creation, its expiration and its roles.
    let request = pb::ListApplicationsRequest { parent: TENANT.to_owned(), ..Default::default() };
    assert_eq!(ids(&rea.list_by(request).await.unwrap()), ["crm"]);
    let key = rea.see(KEY).await.unwrap();
    assert_eq!((key.create_time, key.expire_time), (Some(sip.after(0)), Some(sip.after(DAY))));
    assert_eq!(key.roles, ["tenants/sip-caller/roles/account-reader"]);
    rea.see_credential(&made.name).await.unwrap();
    // Everything else requires the other role.
    let other = sip.application("other");
    lacks(rea.make(&other, form("Other", &[READER], None)).await, "applications.create.account");
    lacks(rea.add_credential(KEY, Kind::ApiKey).await.map(drop), "applications.create.account");
    lacks(rea.rename(KEY, "Rea's").await, "applications.edit.account");
    lacks(rea.rotate(&made.name).await, "applications.edit.account");
    lacks(rea.delete_credential(&made.name).await, "applications.delete.account");
    lacks(rea.delete(KEY).await, "applications.delete.account");
    lacks(rea.reveal(&made.name).await, "applications.reveal.account");
}

async fn an_expiry_is_kept_and_cannot_be_extended(backend: Backend) {
    let (mut sip, mut ann, made, token) = with_a_key(backend).await;
    // Create an API Key, step 3: the expiration "can't be extended once the API Key has been
    // created" (or removed, or brought forward), on the key or on its token.
    for end in [Some(sip.after(2 * DAY)), None, Some(sip.after(60))] {
        let key = pb::Application { name: KEY.to_owned(), expire_time: end, ..<_>::default() };
        against_policy(ann.edit(key, &["expire_time"]).await, "fixed_fields");
    }
    let longer = pb::Credential { expire_time: Some(sip.after(2 * DAY)), ..made.clone() };
    against_policy(ann.edit_credential(longer, &["expire_time"]).await, "fixed_fields");
    // A time in the past is refused.
    let over = form("Over", &[READER], Some(sip.after(0)));
    faulty(ann.make(&sip.application("over"), over).await, "application.expire_time");
    // The expiry is enforced: the token works until then, and access tokens do not outlast it.
    sip.advance(86_400 - 60).await;
    assert!(sip.admin.is_active(&token.secret).await);
    let access = sip.exchange(&token, &[]).await.unwrap();
    let info = sip.admin.introspect(&access.text).await;
    assert_eq!(info.expire_time, Some(sip.after(60)));
    sip.advance(60).await;
    assert!(!sip.admin.is_active(&token.secret).await);
    assert!(!sip.admin.is_active(&access.text).await);
    no_client(sip.exchange(&token, &[]).await);
    // The page says so, and another token for the key would not work either: "you will need to
    // create another API Key".
    let mut ann = sip.user("ann", &[ADMINISTRATOR]).await;
    assert_eq!(ann.see(KEY).await.unwrap().state(), State::Expired);
    let late = ann.add_credential(KEY, Kind::ApiKey).await;
    refused(late, Code::FailedPrecondition, "EXPIRED");
}

async fn roles_cannot_be_changed_after_creation(backend: Backend) {
    let (mut sip, mut ann, _, token) = with_a_key(backend).await;
    // Create an API Key, step 4: the roles "can't be changed once the API Key has been created":
    // roles cannot be added or removed.
    for roles in [&[ADMINISTRATOR][..], &[ADMINISTRATOR, READER], &[]] {
        let key = pb::Application { name: KEY.to_owned(), ..form("", roles, None) };
        let status = against_policy(ann.edit(key, &["roles"]).await, "fixed_fields");
        assert!(status.message().starts_with("roles"), "{}", status.message());
    }
    // Scopes cannot be changed either, because that would have the same effect.
    against_policy(ann.set_scopes(KEY, &["calls:write"]).await, "fixed_fields");
    assert_eq!(sip.admin.introspect(&token.secret).await.roles, [READER]);
    // Only existing roles can be selected.
    let answer = ann.make(&sip.application("other"), form("Other", &["owner"], None)).await;
    refused(answer, Code::NotFound, "NOT_FOUND");
}

async fn the_token_is_shown_once_and_cannot_be_recovered(backend: Backend) {
    let (mut sip, mut ann, made, token) = with_a_key(backend).await;
    // Create an API Key, step 6: a dialog shows the token of the key just created ...
    assert!(token.secret.starts_with("kwk_"));
    // ... which "will not be shown again" ...
    let listed = ann.credentials_of(KEY).await.unwrap();
    let rows = pb::ListApplicationsRequest { parent: TENANT.to_owned(), ..Default::default() };
    let rows = ann.list_by(rows).await.unwrap();
    secret_free(&format!("{listed:?} {rows:?} {:?}", ann.see(KEY).await.unwrap()));
    // ... "can't be recovered", by the administrator or by the platform ...
    assert!(!made.viewable);
    lacks(ann.reveal(&made.name).await, "applications.reveal.account");
    let status = sip.admin.reveal(&made.name).await;
    refused(status, Code::FailedPrecondition, "NOT_VIEWABLE");
    // ... because it is not stored.
    let bytes = sip.kw.stored_bytes().await;
    let found = bytes.windows(token.secret.len()).any(|w| w == token.secret.as_bytes());
    assert!(!found);
    // "If you lose it, you will need to create another API Key": the key gets no new token.
    against_policy(ann.rotate(&made.name).await, "fixed_fields");
    against_policy(sip.admin.rotate(&made.name).await, "fixed_fields");
    let other = sip.application("crm-2");
    let (_, second) = save(&mut ann, &other, form("CRM", &[READER], None)).await.unwrap();
    assert_ne!(second.secret, token.secret);
    sip.exchange(&second, &[]).await.unwrap();
}

async fn only_the_name_can_be_edited(backend: Backend) {
    let (sip, mut ann, made, token) = with_a_key(backend).await;
    let before = ann.see(KEY).await.unwrap();
    // Create an API Key, step 2: it has a name.
    faulty(ann.rename(KEY, "").await, "application.display_name");
    // Edit an API Key, step 2: "you can only edit the name" ...
    let after = ann.rename(KEY, "CRM (EU)").await.unwrap();
    let expected =
        pb::Application { display_name: "CRM (EU)".to_owned(), etag: after.etag.clone(), ..before };
    assert_eq!(after, expected);
    // ... and see when it was created, when it expires, and its roles.
    assert_eq!((after.create_time, after.expire_time), (Some(sip.after(0)), Some(sip.after(DAY))));
    assert_eq!(after.roles, ["tenants/sip-caller/roles/account-reader"]);
    // "If you need to change other values", you need another key.
    let other = pb::Application {
        description: "Another".to_owned(),
        contact_email: "a@example.com".to_owned(),
        scopes: vec!["calls:write".to_owned()],
        roles: vec![ADMINISTRATOR.to_owned()],
        expire_time: None,
        limits: Some(pb::Limits { requests: 1, ..Default::default() }),
        disabled: true,
        ..after.clone()
    };
    let fields =
        ["description", "contact_email", "scopes", "roles", "expire_time", "limits", "disabled"];
    for field in fields {
        let status = against_policy(ann.edit(other.clone(), &[field]).await, "fixed_fields");
        assert!(status.message().contains(field), "{}", status.message());
    }
    let disabled = pb::Credential { disabled: true, ..made };
    against_policy(ann.edit_credential(disabled, &["disabled"]).await, "fixed_fields");
    assert_eq!(ann.see(KEY).await.unwrap(), after);
    sip.exchange(&token, &[]).await.unwrap();
}

async fn deleting_a_key_revokes_the_access(backend: Backend) {
    let (mut sip, mut ann, _, token) = with_a_key(backend).await;
    let other = sip.application("other");
    let (_, kept) = save(&mut ann, &other, form("Other", &[READER], None)).await.unwrap();
    let access = sip.exchange(&token, &[]).await.unwrap();
    // Delete an API Key: that revokes the access of an application immediately ...
    ann.delete(KEY).await.unwrap();
    no_client(sip.exchange(&token, &[]).await);
    assert!(!sip.admin.is_active(&token.secret).await);
    assert!(!sip.admin.is_active(&access.text).await);
    assert_eq!(ann.list(TENANT, Ownership::Unspecified).await.unwrap(), ["other"]);
    // ... and of no other.
    assert!(sip.admin.is_active(&kept.secret).await);
}
