//! Page 002, Voiso: "API keys".
//!
//! An API key is an application with one credential of the kind "API key", owned by the contact
//! centre.
//!
//! Not covered, because it belongs to the user interface: the Administration menu, the page and its
//! panels, icons, copying. Not covered, because it belongs to the reader: choosing few scopes
//! ("Scope selection tips"), storing a key securely, confirming that an integration works. Not
//! covered, because it belongs to the v4 API: which of its endpoints needs which scope.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::admin::list_applications_request::Ownership;
use reqwest::Method;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    Platform, against_policy, beyond, called, ids, lacks, masked, no_client, owned, refused,
};
use crate::harness::{Admin, Backend, Credential, on_both_databases, secret_free};

on_both_databases!(
    contact_centre_has_at_most_fifty_keys,
    a_key_acts_for_the_entire_contact_centre,
    the_table_shows_name_description_masked_key_and_times,
    the_search_field_finds_a_key,
    the_scopes_have_the_names_and_domains_of_the_page,
    bearer_key_is_active_with_its_scopes,
    an_endpoint_outside_the_keys_scopes_is_refused,
    a_contact_centre_without_the_feature_has_no_keys,
    each_permission_allows_one_thing,
    an_admin_has_all_of_the_permissions,
    permitted_user_can_see_the_key_again,
    last_use_and_audit_history_are_seen_with_view,
    a_key_can_be_renamed_and_its_scopes_edited,
    a_key_is_rotated_by_two_that_coexist,
    deleting_a_key_revokes_it_immediately,
);

const TENANT: &str = "tenants/voiso";
const KEY: &str = "tenants/voiso/applications/reports";
const VIEW: &str = "view-api-keys";
const CREATE: &str = "create-api-keys";
const EDIT: &str = "edit-api-keys";
const DELETE: &str = "delete-api-keys";
const ACCESS: &str = "access-api-keys";

/// "Scope definitions": domain and scope, verbatim and in the order of the page.
const SCOPES: [(&str, &str); 21] = [
    ("Voice", "voice.call.manage"),
    ("Campaigns", "campaigns.read"),
    ("Campaigns", "campaigns.manage"),
    ("Reporting", "reporting.cdrs.read"),
    ("Messaging", "messaging.sms.send"),
    ("Messaging", "messaging.conversations.read"),
    ("Messaging", "messaging.conversations.manage"),
    ("Messaging", "messaging.channels.read"),
    ("Messaging", "messaging.canned_messages.read"),
    ("Messaging", "messaging.whatsapp_templates.read"),
    ("Users", "users.read"),
    ("Users", "users.teams.read"),
    ("Tasks", "tasks.scheduled_callbacks.read"),
    ("Tasks", "tasks.scheduled_callbacks.manage"),
    ("Tasks", "tasks.webhooks.read"),
    ("Tasks", "tasks.webhooks.manage"),
    ("Numbers", "numbers.read"),
    ("Routing", "routing.queues.read"),
    ("Routing", "routing.skills.read"),
    ("Contact Center", "contact_center.wrapup_codes.read"),
    ("Billing", "billing.balance.read"),
];

/// "Add key" and "Generate key": a key with a name and scopes.
async fn generate(
    who: &mut Admin,
    name: &str,
    scopes: &[&str],
) -> Result<(pb::Credential, Credential), Status> {
    let id = name.rsplit('/').next().unwrap();
    who.make(name, called(id, scopes)).await?;
    who.add_credential(name, Kind::ApiKey).await
}

/// A contact centre with an Admin and one key for reading campaigns.
async fn with_a_key(backend: Backend) -> (Platform, Admin, pb::Credential, Credential) {
    let mut voiso = Platform::start(backend, "voiso").await;
    let mut ann = voiso.user("ann", &["admin"]).await;
    let (made, key) = generate(&mut ann, KEY, &["campaigns.read"]).await.unwrap();
    (voiso, ann, made, key)
}

async fn contact_centre_has_at_most_fifty_keys(backend: Backend) {
    let mut voiso = Platform::start(backend, "voiso").await;
    let mut ann = voiso.user("ann", &["admin"]).await;
    // Introduction: up to 50 keys for each contact centre.
    let mut first = None;
    for n in 1..=48 {
        let name = voiso.application(&format!("key-{n}"));
        let (made, _) = generate(&mut ann, &name, &["users.read"]).await.unwrap();
        first.get_or_insert(made);
    }
    // Concurrent requests cannot create more keys than there is room for.
    let late = voiso.application("late");
    ann.make(&late, called("Late", &["users.read"])).await.unwrap();
    let asked: Vec<_> = (0..5)
        .map(|_| {
            let mut credentials = ann.credentials.clone();
            let request = pb::CreateCredentialRequest {
                parent: late.clone(),
                credential: Some(pb::Credential { kind: Kind::ApiKey.into(), ..<_>::default() }),
                request_id: String::new(),
            };
            tokio::spawn(async move { credentials.create_credential(request).await.map(drop) })
        })
        .collect();
    let mut made = 0;
    for answer in asked {
        match answer.await.unwrap() {
            Ok(()) => made += 1,
            full => is_full(full),
        }
    }
    assert_eq!(made, 2);
    // The 51st is refused for every caller.
    is_full(ann.add_credential(&late, Kind::ApiKey).await.map(drop));
    is_full(voiso.admin.add_credential(&late, Kind::ApiKey).await.map(drop));
    let all = ann.credentials_of("tenants/voiso/applications/-").await.unwrap();
    assert_eq!(all.len(), 50);
    // A deleted key makes room for another.
    ann.delete_credential(&first.unwrap().name).await.unwrap();
    ann.add_credential(&late, Kind::ApiKey).await.unwrap();
}

/// The call was refused because the contact centre has fifty keys.
#[track_caller]
fn is_full(answer: Result<(), Status>) {
    let status = refused(answer, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let violations = status.get_details_quota_failure().unwrap().violations;
    assert_eq!(violations[0].subject, "credentials");
    assert!(violations[0].description.contains("50"), "{violations:?}");
}

async fn a_key_acts_for_the_entire_contact_centre(backend: Backend) {
    let (mut voiso, mut ann, _, key) = with_a_key(backend).await;
    // Introduction: each key acts as an application for the entire contact centre, and does not
    // belong to a person ...
    assert_eq!(ann.see(KEY).await.unwrap().owner, TENANT);
    let mine = pb::Application { owner: format!("{TENANT}/users/ann"), ..called("Mine", &[]) };
    lacks(
        ann.make("tenants/voiso/applications/mine", mine.clone()).await,
        "applications.create.own",
    );
    let status = voiso.admin.make("tenants/voiso/applications/mine", mine).await;
    against_policy(status, "allowed_owners");
    // ... so it stays when its creator is deleted.
    let request =
        pb::DeleteUserRequest { name: format!("{TENANT}/users/ann"), ..Default::default() };
    voiso.admin.users.delete_user(request).await.unwrap();
    assert!(voiso.admin.is_active(&key.secret).await);
    // It is static: it has no expiry.
    voiso.advance(5 * 366 * 86_400).await;
    let info = voiso.admin.introspect(&key.secret).await;
    assert_eq!((info.active, info.expire_time), (true, None));
    // It belongs to this contact centre only.
    assert_eq!((info.tenant.as_str(), info.subject.as_str()), ("voiso", KEY));
}

async fn the_table_shows_name_description_masked_key_and_times(backend: Backend) {
    let mut voiso = Platform::start(backend, "voiso").await;
    let mut ann = voiso.user("ann", &["admin"]).await;
    let created = voiso.after(0);
    let described = pb::Application {
        description: "Fills the data warehouse every night".to_owned(),
        ..called("Data warehouse", &["reporting.cdrs.read"])
    };
    ann.make(KEY, described.clone()).await.unwrap();
    let (_, key) = ann.add_credential(KEY, Kind::ApiKey).await.unwrap();
    voiso.kw.advance(60);
    ann.rename(KEY, "Warehouse").await.unwrap();
    // "The page includes a table": a row for users who may view it.
    let mut vic = voiso.user("vic", &[VIEW]).await;
    let request = pb::ListApplicationsRequest { parent: TENANT.to_owned(), ..Default::default() };
    let rows = vic.list_by(request).await.unwrap();
    let row = &rows[0];
    // Name, Description.
    assert_eq!(
        (row.display_name.as_str(), &row.description),
        ("Warehouse", &described.description)
    );
    // Key: masked, with only the last 4 characters.
    assert_eq!(row.masked_secrets, [masked(&key)]);
    secret_free(&format!("{rows:?}"));
    // Created on, Updated on.
    assert_eq!((row.create_time, row.update_time), (Some(created), Some(voiso.after(0))));
    // "Selecting the key name in the table" opens the key, with its scopes.
    assert_eq!(vic.see(&row.name).await.unwrap().scopes, ["reporting.cdrs.read"]);
}

async fn the_search_field_finds_a_key(backend: Backend) {
    let mut voiso = Platform::start(backend, "voiso").await;
    let mut ann = voiso.user("ann", &["admin"]).await;
    for (id, name) in [("a", "CRM sync"), ("b", "Data warehouse"), ("c", "Old CRM (100%)")] {
        ann.make(&voiso.application(id), called(name, &[])).await.unwrap();
    }
    // "Find an existing key using the Search field", by any part of its name.
    for (text, found) in [
        ("Data warehouse", &["b"][..]),
        ("crm", &["a", "c"]),
        ("100%", &["c"]),
        ("%", &["c"]),
        ("nothing", &[]),
    ] {
        assert_eq!(ann.search(TENANT, text).await.unwrap(), found, "{text}");
    }
}

async fn the_scopes_have_the_names_and_domains_of_the_page(backend: Backend) {
    let mut voiso = Platform::start(backend, "voiso").await;
    let mut ann = voiso.user("ann", &["admin"]).await;
    // Scope definitions: 21 rows with domain, scope and definition.
    let catalogue = ann.catalogue(TENANT).await;
    assert!(catalogue.iter().all(|scope| !scope.description.is_empty()));
    let mut reported: Vec<_> = catalogue
        .iter()
        .map(|scope| (scope.domain.as_str(), scope.name.rsplit('/').next().unwrap()))
        .collect();
    let mut expected = SCOPES;
    reported.sort_unstable();
    expected.sort_unstable();
    assert_eq!(reported, expected);
    // "Select one or more scopes": each can be selected, and all together.
    let all = SCOPES.map(|(_, scope)| scope);
    let (_, key) = generate(&mut ann, KEY, &all).await.unwrap();
    assert_eq!(voiso.exchange(&key, &[]).await.unwrap().scopes.len(), 21);
}

/// The API of the contact centre: it receives the header of each request, and asks whose it is.
async fn api_of(voiso: &mut Platform) -> Admin {
    let application = voiso.admin.application("system", "api", &["keyward.verify"]).await;
    let (_, credential) = voiso.admin.credential(&application.name, Kind::ClientSecret).await;
    Admin::new(voiso.kw.grpc(), &credential).await
}

async fn bearer_key_is_active_with_its_scopes(backend: Backend) {
    let (mut voiso, mut ann, made, key) = with_a_key(backend).await;
    // How authentication works: the key is the bearer token in the header. The backend that
    // receives it gets its owner and scopes.
    let mut api = api_of(&mut voiso).await;
    let info = api.introspect(&key.secret).await;
    assert!(info.active);
    assert_eq!(info.scopes, ["campaigns.read"]);
    assert_eq!((info.subject.as_str(), info.client_id.as_str()), (KEY, made.client_id.as_str()));
    // Sent to Keyward itself, the header also authenticates the integration.
    let request = voiso.kw.request(Method::POST, "/oauth2/introspect").bearer_auth(&key.secret);
    let answer = voiso.kw.send(request.form(&[("token", &key.secret)])).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["scope"].as_str(), Some("campaigns.read"));
    // An altered key is not active, however small the change.
    let mut cut = key.secret.clone();
    cut.pop();
    assert!(!api.is_active(&cut).await);
    let (_, other) = ann.add_credential(KEY, Kind::ApiKey).await.unwrap();
    ann.delete(KEY).await.unwrap();
    assert!(!api.is_active(&other.secret).await);
}

async fn an_endpoint_outside_the_keys_scopes_is_refused(backend: Backend) {
    let (mut voiso, _, _, key) = with_a_key(backend).await;
    let mut api = api_of(&mut voiso).await;
    // How authentication works: the backend checks whether the key's scopes cover the endpoint. For
    // reading campaigns, they do ...
    let info = api.introspect(&key.secret).await;
    assert!(info.scopes.contains(&"campaigns.read".to_owned()));
    assert_eq!(voiso.exchange(&key, &["campaigns.read"]).await.unwrap().scopes, ["campaigns.read"]);
    // ... and "if the scope does not allow that operation, the request is rejected": a read
    // scope does not cover managing, nor another domain.
    for (_, scope) in SCOPES.into_iter().filter(|(_, scope)| *scope != "campaigns.read") {
        assert!(!info.scopes.contains(&scope.to_owned()), "{scope}");
    }
    for outside in ["campaigns.manage", "billing.balance.read", "campaigns"] {
        beyond(voiso.exchange(&key, &[outside]).await, outside);
        beyond(voiso.exchange(&key, &["campaigns.read", outside]).await, outside);
    }
}

async fn a_contact_centre_without_the_feature_has_no_keys(backend: Backend) {
    let (mut voiso, mut ann, made, key) = with_a_key(backend).await;
    let token = voiso.exchange(&key, &[]).await.unwrap();
    // Permissions required: all of this applies "if the API Keys feature is enabled".
    voiso.change_policy(|policy| policy.api_credentials_disabled = true).await;
    let off = "api_credentials_disabled";
    let new = "tenants/voiso/applications/new";
    against_policy(generate(&mut ann, new, &[]).await.map(drop), off);
    against_policy(ann.add_credential(KEY, Kind::ApiKey).await.map(drop), off);
    against_policy(ann.rename(KEY, "Renamed").await, off);
    against_policy(ann.rotate(&made.name).await, off);
    against_policy(ann.reveal(&made.name).await, off);
    assert!(!voiso.admin.is_active(&key.secret).await);
    assert!(!voiso.admin.is_active(&token.text).await);
    no_client(voiso.exchange(&key, &[]).await);
    // The key works again with the feature, its old tokens do not.
    voiso.change_policy(|policy| policy.api_credentials_disabled = false).await;
    assert!(voiso.admin.is_active(&key.secret).await);
    assert!(!voiso.admin.is_active(&token.text).await);
}

/// "The following permissions may be granted to roles", and what each allows.
const GRANTS: [(&str, &[&str]); 5] = [
    (VIEW, &["applications.view.account", "audit.view"]),
    (CREATE, &["applications.create.account"]),
    (EDIT, &["applications.edit.account"]),
    (DELETE, &["applications.delete.account"]),
    (ACCESS, &["applications.reveal.account"]),
];

async fn each_permission_allows_one_thing(backend: Backend) {
    let (mut voiso, _, made, _) = with_a_key(backend).await;
    // Permissions required: users without permissions can do nothing.
    let mut bob = voiso.user("bob", &[]).await;
    lacks(bob.list(TENANT, Ownership::Account).await, "applications.view.account");
    for (role, allowed) in GRANTS {
        let mut user = voiso.user(&format!("with-{role}"), &[role]).await;
        let [new, old] = ["new", "old"].map(|id| voiso.application(&format!("{id}-{role}")));
        voiso.admin.make(&old, called("To go", &[])).await.unwrap();
        let [view, history, create, edit, delete, reveal] = [
            "applications.view.account",
            "audit.view",
            "applications.create.account",
            "applications.edit.account",
            "applications.delete.account",
            "applications.reveal.account",
        ];
        let answers = [
            // View API keys: the list, and the details of a key.
            (view, user.list(TENANT, Ownership::Account).await.map(drop)),
            (view, user.see(KEY).await.map(drop)),
            (view, user.see_credential(&made.name).await.map(drop)),
            (history, user.history(KEY).await.map(drop)),
            // Create API keys: with the selected scopes.
            (create, user.make(&new, called("New", &["users.read"])).await.map(drop)),
            (create, user.add_credential(KEY, Kind::ApiKey).await.map(drop)),
            // Edit API keys: their names and scopes.
            (edit, user.rename(KEY, role).await.map(drop)),
            (edit, user.set_scopes(KEY, &["campaigns.read", "users.read"]).await.map(drop)),
            (edit, user.set_scopes(KEY, &["campaigns.read"]).await.map(drop)),
            // Delete API keys.
            (delete, user.delete(&old).await),
            // Create an API key, step 6: seeing the key later requires another permission.
            (reveal, user.reveal(&made.name).await.map(drop)),
        ];
        for (permission, answer) in answers {
            if allowed.contains(&permission) {
                answer.unwrap();
            } else {
                lacks(answer, permission);
            }
        }
    }
    // Permissions add up.
    let mut both = voiso.user("both", &[VIEW, CREATE]).await;
    generate(&mut both, &voiso.application("both"), &["users.read"]).await.unwrap();
    assert_eq!(both.search(TENANT, "both").await.unwrap(), ["both"]);
}

async fn an_admin_has_all_of_the_permissions(backend: Backend) {
    // Without Security Access Groups, users with the Admin role have all of them.
    let (_voiso, mut ann, made, key) = with_a_key(backend).await;
    assert_eq!(ann.list(TENANT, Ownership::Unspecified).await.unwrap(), ["reports"]);
    ann.history(KEY).await.unwrap();
    ann.rename(KEY, "Reports").await.unwrap();
    assert_eq!(ann.reveal(&made.name).await.unwrap(), key.secret);
    ann.delete(KEY).await.unwrap();
}

async fn permitted_user_can_see_the_key_again(backend: Backend) {
    let mut voiso = Platform::start(backend, "voiso").await;
    let mut cat = voiso.user("cat", &[CREATE]).await;
    // Create an API key: name, scopes, "Generate key", and the key is displayed.
    let (made, key) = generate(&mut cat, KEY, &["users.read"]).await.unwrap();
    assert!(key.secret.starts_with("kwk_"));
    assert!(made.viewable);
    // "You may access this key at any time", with the correct permissions ...
    let mut kim = voiso.user("kim", &[VIEW, ACCESS]).await;
    voiso.kw.advance(600);
    assert_eq!(kim.reveal(&made.name).await.unwrap(), key.secret);
    // ... and not without: neither viewers nor the creator of the key.
    let mut vic = voiso.user("vic", &[VIEW, EDIT, DELETE]).await;
    for user in [&mut vic, &mut cat] {
        lacks(user.reveal(&made.name).await, "applications.reveal.account");
    }
    secret_free(&format!("{:?}", vic.see_credential(&made.name).await.unwrap()));
    // Each access is recorded.
    let last = vic.history(&made.name).await.unwrap();
    let kims = ("RevealCredential".to_owned(), "tenants/voiso/users/kim".to_owned());
    assert!(last.contains(&kims), "{last:?}");
    // The stored key is encrypted.
    let bytes = voiso.kw.stored_bytes().await;
    let found = bytes.windows(key.secret.len()).any(|window| window == key.secret.as_bytes());
    assert!(!found);
}

async fn last_use_and_audit_history_are_seen_with_view(backend: Backend) {
    let (mut voiso, mut ann, made, key) = with_a_key(backend).await;
    let mut vic = voiso.user("vic", &[VIEW]).await;
    // View API keys: the list and the details, with assigned scopes ...
    let unused = vic.see(KEY).await.unwrap();
    assert_eq!((&unused.scopes[..], unused.last_use_time), (&owned(&["campaigns.read"])[..], None));
    // ... last used ...
    voiso.kw.advance(60);
    voiso.exchange(&key, &[]).await.unwrap();
    voiso.kw.server().service.usage.write().await.unwrap();
    let used = vic.see(KEY).await.unwrap();
    assert_eq!(used.last_use_time, Some(voiso.after(0)));
    assert_eq!(used.last_use_address, "127.0.0.1");
    assert_eq!(used.update_time, unused.update_time, "using a key does not update it");
    let credential = vic.see_credential(&made.name).await.unwrap();
    assert_eq!(credential.last_use_time, used.last_use_time);
    // ... and audit history: who did what, in order, and what was refused.
    ann.set_scopes(KEY, &["campaigns.read", "users.read"]).await.unwrap();
    lacks(vic.rename(KEY, "Mine").await, "applications.edit.account");
    ann.delete_credential(&made.name).await.unwrap();
    let by = |action: &str, user: &str| (action.to_owned(), format!("{TENANT}/users/{user}"));
    let expected = [
        by("CreateApplication", "ann"),
        by("CreateCredential", "ann"),
        by("UpdateApplication", "ann"),
        by("UpdateApplication", "vic"),
        by("DeleteCredential", "ann"),
    ];
    let mut history = vic.history(KEY).await.unwrap();
    // Events of the key's parents are included: how the contact centre was set up.
    history.retain(|(_, user)| !user.is_empty());
    assert_eq!(history, expected);
}

async fn a_key_can_be_renamed_and_its_scopes_edited(backend: Backend) {
    let (mut voiso, _, _, key) = with_a_key(backend).await;
    let token = voiso.exchange(&key, &[]).await.unwrap();
    // Edit scopes or rename a key: users with Edit API keys update the name or scopes, and save.
    let mut eve = voiso.user("eve", &[VIEW, EDIT]).await;
    assert_eq!(eve.rename(KEY, "Campaign reports").await.unwrap().display_name, "Campaign reports");
    assert_eq!(eve.see(KEY).await.unwrap().display_name, "Campaign reports");
    assert!(voiso.admin.is_active(&token.text).await, "a name changes nothing else");
    // The key itself stays the same, and has the new scopes from then on.
    eve.set_scopes(KEY, &["campaigns.manage"]).await.unwrap();
    assert_eq!(voiso.admin.introspect(&key.secret).await.scopes, ["campaigns.manage"]);
    assert!(!voiso.admin.is_active(&token.text).await, "a token with a scope that was taken");
    beyond(voiso.exchange(&key, &["campaigns.read"]).await, "campaigns.read");
    // Only existing scopes.
    beyond(eve.set_scopes(KEY, &["campaigns.delete"]).await, "campaigns.delete");
}

async fn a_key_is_rotated_by_two_that_coexist(backend: Backend) {
    let (mut voiso, mut ann, _, old) = with_a_key(backend).await;
    // Rotate an API key. 1: create a new one with the same scopes; both exist.
    let second = "tenants/voiso/applications/reports-2";
    let (_, new) = generate(&mut ann, second, &["campaigns.read"]).await.unwrap();
    let rows = pb::ListApplicationsRequest { parent: TENANT.to_owned(), ..Default::default() };
    assert_eq!(ids(&ann.list_by(rows).await.unwrap()), ["reports", "reports-2"]);
    // 2: the integration changes to the new one at any time.
    for key in [&old, &new, &old] {
        assert_eq!(voiso.admin.introspect(&key.secret).await.scopes, ["campaigns.read"]);
    }
    // 3: the last use of both keys shows that it works.
    voiso.kw.advance(60);
    voiso.exchange(&new, &[]).await.unwrap();
    voiso.kw.server().service.usage.write().await.unwrap();
    let used = |application: pb::Application| application.last_use_time.map(|time| time.seconds);
    assert!(used(ann.see(KEY).await.unwrap()) < used(ann.see(second).await.unwrap()));
    // 4: delete the old key. The new one keeps working.
    ann.delete(KEY).await.unwrap();
    assert!(!voiso.admin.is_active(&old.secret).await);
    assert!(voiso.admin.is_active(&new.secret).await);
}

async fn deleting_a_key_revokes_it_immediately(backend: Backend) {
    let (mut voiso, mut ann, _, key) = with_a_key(backend).await;
    let (other, second) = ann.add_credential(KEY, Kind::ApiKey).await.unwrap();
    let token = voiso.exchange(&key, &[]).await.unwrap();
    // Revoke an API key: delete it, and any request that uses it fails afterwards.
    let mut del = voiso.user("del", &[DELETE]).await;
    del.delete_credential(&other.name).await.unwrap();
    assert!(!voiso.admin.is_active(&second.secret).await);
    assert!(voiso.admin.is_active(&key.secret).await, "only the one that was deleted");
    del.delete(KEY).await.unwrap();
    assert!(!voiso.admin.is_active(&key.secret).await);
    assert!(!voiso.admin.is_active(&token.text).await);
    no_client(voiso.exchange(&key, &[]).await);
    let request = voiso.kw.request(Method::POST, "/oauth2/introspect").bearer_auth(&key.secret);
    let answer = voiso.kw.send(request.form(&[("token", &key.secret)])).await;
    assert_eq!(answer.status, 401);
    // It is not in the table any more.
    assert_eq!(ann.list(TENANT, Ownership::Unspecified).await.unwrap(), [""; 0]);
}
