//! Page 000, VCC: "Rest API Consumer Key and Secret Key".
//!
//! An "API access" entry is an application; its consumer key and secret key are a credential's
//! client id and client secret.
//!
//! Not covered, because it belongs to the user interface: the admin console and the portal, panels
//! and tabs, the copy and close buttons. Not covered, because it belongs to the dialer and the REST
//! API: the option `RestAPIEnabled`, guard times in contacts, and counting the requests.

use keyward::proto::admin as pb;
use keyward::proto::admin::application::State;
use keyward::proto::admin::credential::Kind;
use tonic::Code;

use super::{Platform, beyond, called, faulty, lacks, masked, no_client, owned, refused};
use crate::harness::{Admin, Backend, Credential, mask, on_both_databases, secret_free};

on_both_databases!(
    rest_api_limits_apply_to_the_tenant,
    administrator_enables_the_two_permissions,
    create_application_allows_creating_and_not_editing,
    edit_application_allows_editing_and_not_creating,
    an_entry_has_a_name_a_contact_and_the_scopes_of_the_page,
    entry_expires_after_its_duration,
    entry_has_many_pairs_and_shows_each_secret_once,
    dialer_authenticates_with_the_pair,
);

const CREATE: &str = "create-application";
const EDIT: &str = "edit-application";
const FAMILY: &str = "All APIs Access";

/// "Under Scopes", verbatim and in the order of the page.
const SCOPES: [&str; 25] = [
    "acl:read",
    "acl:write",
    "agentgrp:read",
    "agentgrp:write",
    "campaigns:read",
    "campaigns:write",
    "ext-routing:write",
    "lists:read",
    "lists:write",
    "ngchat:write",
    "numbers:read",
    "recordings:read",
    "routing-config:read",
    "routing-config:write",
    "skills:read",
    "statistics:read",
    "tasks:read",
    "tasks:write",
    "usermgmt:agent",
    "usermgmt:passwd",
    "userprof:read",
    "userprof:write",
    "users:delete",
    "users:read",
    "users:write",
];

const ENTRY: &str = "tenants/vcc/applications/dialer";

/// The panel "Create API Access Control", filled in as the page says.
fn entry() -> pb::Application {
    pb::Application {
        contact_email: "dialer@example.com".to_owned(),
        ..called("Outbound dialer", &SCOPES)
    }
}

async fn rest_api_limits_apply_to_the_tenant(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut ann = vcc.user("ann", &[CREATE]).await;
    // Note: 40 requests a minute, 1,000 contacts in a request.
    let tenant = ann.read_tenant("tenants/vcc").await.unwrap();
    let limits = pb::Limits {
        requests: 40,
        request_window: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        items_per_request: 1000,
        ..Default::default()
    };
    let policy = tenant.policy.unwrap();
    assert_eq!((policy.tenant_limits, policy.default_limits), (Some(limits), Some(limits)));
    // The page describes the API, not an entry: all entries share the limits, and no entry can have
    // more, whatever its user sets.
    assert_eq!(ann.make(ENTRY, entry()).await.unwrap().limits, None);
    let second = "tenants/vcc/applications/second";
    for unlimited in [pb::Limits::default(), pb::Limits { requests: 41, ..limits }] {
        let wanted = pb::Application { limits: Some(unlimited), ..entry() };
        lacks(ann.make(second, wanted).await, "limits.edit");
    }
    ann.make(second, entry()).await.unwrap();
    let mut tokens = Vec::new();
    for name in [ENTRY, second] {
        let (_, pair) = ann.add_credential(name, Kind::ClientSecret).await.unwrap();
        tokens.push(vcc.exchange(&pair, &[]).await.unwrap().text);
    }
    let mut allowed = 0;
    for n in 0..60 {
        let answer = vcc.admin.check(&tokens[n % 2], &["lists:write"]).await;
        assert_eq!(answer.max_items, 1000);
        allowed += usize::from(answer.allowed);
    }
    assert_eq!(allowed, 40);
}

/// Gives a user roles, as someone who edits their permissions.
async fn give(who: &mut Admin, user: &str, roles: &[&str]) -> Result<pb::User, tonic::Status> {
    let request = pb::UpdateUserRequest {
        user: Some(pb::User {
            name: format!("tenants/vcc/users/{user}"),
            roles: owned(roles),
            ..Default::default()
        }),
        update_mask: mask(&["roles"]),
        allow_missing: false,
    };
    Ok(who.users.update_user(request).await?.into_inner().user.unwrap())
}

async fn administrator_enables_the_two_permissions(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut root = vcc.user("root", &["administrator"]).await;
    let mut ann = vcc.user("ann", &[]).await;
    lacks(ann.make(ENTRY, entry()).await, "applications.create.account");
    // Steps "Select a user and click Edit" and "activate the following permissions".
    let changed = give(&mut root, "ann", &[CREATE, EDIT]).await.unwrap();
    assert_eq!(changed.roles.len(), 2);
    ann.make(ENTRY, entry()).await.unwrap();
    ann.rename(ENTRY, "Predictive dialer").await.unwrap();
    // That requires the admin console; the two permissions do not include it.
    lacks(give(&mut ann, "ann", &["administrator"]).await, "users.edit");
    // What was activated can be removed again.
    give(&mut root, "ann", &[]).await.unwrap();
    lacks(ann.rename(ENTRY, "Mine").await, "applications.edit.account");
}

async fn create_application_allows_creating_and_not_editing(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut ann = vcc.user("ann", &[CREATE]).await;
    // "Create Application": the panel can be submitted, and credentials can be added to the entry.
    ann.make(ENTRY, entry()).await.unwrap();
    ann.add_credential(ENTRY, Kind::ClientSecret).await.unwrap();
    // It opens API Access Control, so the entries can be viewed.
    assert_eq!(ann.see(ENTRY).await.unwrap().display_name, "Outbound dialer");
    // "Edit Application" is a separate permission.
    lacks(ann.rename(ENTRY, "Mine").await, "applications.edit.account");
    lacks(ann.set_scopes(ENTRY, &["acl:read"]).await, "applications.edit.account");
    lacks(ann.delete(ENTRY).await, "applications.delete.account");
}

async fn edit_application_allows_editing_and_not_creating(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut ann = vcc.user("ann", &[CREATE]).await;
    ann.make(ENTRY, entry()).await.unwrap();
    let mut ben = vcc.user("ben", &[EDIT]).await;
    // "Edit Application": every field of the panel can be changed.
    let changed = pb::Application {
        name: ENTRY.to_owned(),
        contact_email: "night@example.com".to_owned(),
        expire_time: Some(vcc.after(86_400)),
        ..called("Night dialer", &["lists:read", "lists:write"])
    };
    let fields = ["display_name", "contact_email", "expire_time", "scopes"];
    let entry_now = ben.edit(changed.clone(), &fields).await.unwrap();
    assert_eq!(entry_now.display_name, changed.display_name);
    assert_eq!(entry_now.contact_email, changed.contact_email);
    assert_eq!(entry_now.expire_time, changed.expire_time);
    assert_eq!(entry_now.scopes, changed.scopes);
    // "Create Application" is a separate permission.
    let other = "tenants/vcc/applications/other";
    lacks(ben.make(other, entry()).await, "applications.create.account");
    lacks(ben.add_credential(ENTRY, Kind::ClientSecret).await, "applications.create.account");
    ben.delete(ENTRY).await.unwrap();
}

async fn an_entry_has_a_name_a_contact_and_the_scopes_of_the_page(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut ann = vcc.user("ann", &[CREATE]).await;
    // Name: it must be entered.
    faulty(ann.make(ENTRY, called("", &[])).await, "application.display_name");
    // Contact Email: it must be a valid one.
    for wrong in ["dialer", "dialer@", "a b@example.com"] {
        let wrong = pb::Application { contact_email: wrong.to_owned(), ..entry() };
        faulty(ann.make(ENTRY, wrong).await, "application.contact_email");
    }
    // Family: All APIs Access can be selected, and has exactly the scopes of the page.
    let catalogue = ann.catalogue("tenants/vcc").await;
    let family: Vec<_> = catalogue
        .iter()
        .filter(|scope| scope.family == FAMILY)
        .map(|scope| scope.name.trim_start_matches("tenants/vcc/scopes/"))
        .collect();
    assert_eq!(family, SCOPES);
    assert_eq!(catalogue.len(), 25);
    // Scopes: all of them can be selected for one entry.
    let made = ann.make(ENTRY, entry()).await.unwrap();
    assert_eq!(made.display_name, "Outbound dialer");
    assert_eq!(made.contact_email, "dialer@example.com");
    assert_eq!(
        (&made.scopes[..], &made.effective_scopes[..]),
        (&owned(&SCOPES)[..], &owned(&SCOPES)[..])
    );
    // No other scopes.
    let beside = "tenants/vcc/applications/beside";
    beyond(ann.make(beside, called("Beside", &["acl:read", "acl:admin"])).await, "acl:admin");
}

async fn entry_expires_after_its_duration(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut ann = vcc.user("ann", &[CREATE]).await;
    // Duration "Never Expires".
    ann.make(ENTRY, entry()).await.unwrap();
    let (_, forever) = ann.add_credential(ENTRY, Kind::ClientSecret).await.unwrap();
    // Duration "Custom".
    let week = "tenants/vcc/applications/week";
    let expire_time = Some(vcc.after(7 * 86_400));
    let made = ann.make(week, pb::Application { expire_time, ..entry() }).await.unwrap();
    assert_eq!((made.state(), made.expire_time), (State::Active, expire_time));
    let (_, custom) = ann.add_credential(week, Kind::ClientSecret).await.unwrap();
    // A duration that is over already is refused.
    let over = pb::Application { expire_time: Some(vcc.after(-1)), ..entry() };
    faulty(ann.make("tenants/vcc/applications/over", over).await, "application.expire_time");

    // "Grants access for a specified duration": up to its last minute ...
    vcc.advance(7 * 86_400 - 60).await;
    let last = vcc.exchange(&custom, &[]).await.unwrap();
    assert!(vcc.admin.is_active(&last.text).await);
    // ... and not longer, whatever was issued before.
    vcc.advance(60).await;
    no_client(vcc.exchange(&custom, &[]).await);
    assert!(!vcc.admin.is_active(&last.text).await);
    let mut ann = vcc.user("ann", &[CREATE]).await;
    assert_eq!(ann.see(week).await.unwrap().state(), State::Expired);
    // "Grants continuous access without expiration": ten years later too.
    vcc.advance(10 * 366 * 86_400).await;
    vcc.exchange(&forever, &[]).await.unwrap();
}

async fn entry_has_many_pairs_and_shows_each_secret_once(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut ann = vcc.user("ann", &[CREATE, EDIT]).await;
    ann.make(ENTRY, entry()).await.unwrap();
    // "To Generate Consumer Key and Secret": select the created or an existing entry, go to its
    // credentials, add one. Any number of times.
    let mut pairs = Vec::new();
    for _ in 0..3 {
        pairs.push(ann.add_credential(ENTRY, Kind::ClientSecret).await.unwrap());
    }
    for (credential, pair) in &pairs {
        // "The system displays the generated Consumer Key and Secret Key."
        assert_eq!(credential.client_id, pair.client_id);
        assert!(pair.secret.starts_with("kws_"));
        let token = vcc.exchange(pair, &[]).await.unwrap();
        assert_eq!(token.scopes, SCOPES, "each with exactly the scopes of the entry");
        assert_eq!(vcc.admin.introspect(&token.text).await.scopes, SCOPES);
    }
    // Note: the Secret Key is shown only once ...
    let listed = ann.credentials_of(ENTRY).await.unwrap();
    assert_eq!(listed.len(), 3);
    let seen = ann.see_credential(&pairs[0].0.name).await.unwrap();
    let of_entry = ann.see(ENTRY).await.unwrap();
    secret_free(&format!("{listed:?} {seen:?} {of_entry:?}"));
    assert_eq!(format!("…{}", seen.secrets[0].last_four), masked(&pairs[0].1));
    assert!(of_entry.masked_secrets.contains(&masked(&pairs[0].1)));
    // ... and cannot be retrieved later: the users have no permission, and the platform has no
    // copy.
    lacks(ann.reveal(&seen.name).await, "applications.reveal.account");
    assert!(!seen.viewable);
    let why = "NOT_VIEWABLE";
    refused(vcc.admin.reveal(&seen.name).await, Code::FailedPrecondition, why);
    let bytes = vcc.kw.stored_bytes().await;
    let secret = pairs[0].1.secret.as_bytes();
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    // A pair that is not needed any more can be deleted, and the others stay.
    ann.delete_credential(&pairs[0].0.name).await.unwrap();
    no_client(vcc.exchange(&pairs[0].1, &[]).await);
    vcc.exchange(&pairs[1].1, &[]).await.unwrap();
}

async fn dialer_authenticates_with_the_pair(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut ann = vcc.user("ann", &[CREATE]).await;
    ann.make(ENTRY, entry()).await.unwrap();
    let (_, pair) = ann.add_credential(ENTRY, Kind::ClientSecret).await.unwrap();
    // Introduction: the REST API Username is the consumer key, the REST API Password the secret
    // key; here in HTTP Basic, as a dialer would send them.
    let answer = vcc.kw.token_for(&pair, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let token = answer.json();
    assert_eq!(token["scope"].as_str().unwrap(), SCOPES.join(" "));
    // It can request fewer scopes.
    let fewer = vcc.kw.token_for(&pair, &[("scope", "lists:write")]).await;
    assert_eq!(fewer.json()["scope"].as_str(), Some("lists:write"));
    // "Valid" ones: the password of another pair does not work with this user name.
    let (_, other) = ann.add_credential(ENTRY, Kind::ClientSecret).await.unwrap();
    let crossed = Credential { secret: other.secret, ..pair };
    assert_eq!(vcc.kw.token_for(&crossed, &[]).await.error(), "invalid_client");
}
