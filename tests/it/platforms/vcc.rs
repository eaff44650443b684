//! Page 000, VCC: "Rest API Consumer Key and Secret Key".
//!
//! An "API access" entry is an application here, its consumer key and secret key are a
//! credential's client id and client secret.
//!
//! Left to the user interface: going to the admin console and the portal, the panels and tabs,
//! the copy and close buttons. Left to the dialer and the REST API themselves: the option
//! `RestAPIEnabled`, guard times in contacts, and counting the requests.

use keyward::proto::admin as pb;
use keyward::proto::admin::application::State;
use keyward::proto::admin::credential::Kind;
use tonic::Code;

use super::{Platform, beyond, called, faulty, lacks, masked, no_client, owned, refused};
use crate::harness::{Admin, Backend, Credential, mask, on_both_databases, secret_free};

on_both_databases!(
    the_limits_of_the_rest_api_are_the_tenants,
    an_administrator_switches_the_two_permissions_on,
    create_application_alone_makes_entries_and_cannot_change_them,
    edit_application_alone_changes_entries_and_cannot_make_them,
    an_entry_has_a_name_a_contact_and_the_scopes_of_the_page,
    an_entry_lives_as_long_as_its_duration_says,
    an_entry_takes_many_pairs_and_each_secret_is_shown_once,
    the_pair_is_what_the_dialer_logs_in_with,
);

const CREATE: &str = "create-application";
const EDIT: &str = "edit-application";
const FAMILY: &str = "All APIs Access";

/// "Under Scopes", verbatim and in the page's order.
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

async fn the_limits_of_the_rest_api_are_the_tenants(backend: Backend) {
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
    // The page says it of the API, not of an entry: all entries share them, and none has more,
    // whatever its user gives it.
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

/// Gives a user roles, as somebody who edits his permissions.
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

async fn an_administrator_switches_the_two_permissions_on(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut root = vcc.user("root", &["administrator"]).await;
    let mut ann = vcc.user("ann", &[]).await;
    lacks(ann.make(ENTRY, entry()).await, "applications.create.account");
    // Steps "Select a user and click Edit" and "activate the following permissions".
    let changed = give(&mut root, "ann", &[CREATE, EDIT]).await.unwrap();
    assert_eq!(changed.roles.len(), 2);
    ann.make(ENTRY, entry()).await.unwrap();
    ann.rename(ENTRY, "Predictive dialer").await.unwrap();
    // That is the admin console's: the two permissions do not reach it.
    lacks(give(&mut ann, "ann", &["administrator"]).await, "users.edit");
    // And what was activated can be taken back.
    give(&mut root, "ann", &[]).await.unwrap();
    lacks(ann.rename(ENTRY, "Mine").await, "applications.edit.account");
}

async fn create_application_alone_makes_entries_and_cannot_change_them(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut ann = vcc.user("ann", &[CREATE]).await;
    // "Create Application": the panel can be sent, and credentials be added to the entry.
    ann.make(ENTRY, entry()).await.unwrap();
    ann.add_credential(ENTRY, Kind::ClientSecret).await.unwrap();
    // It opens API Access Control, so the entries can be seen.
    assert_eq!(ann.see(ENTRY).await.unwrap().display_name, "Outbound dialer");
    // "Edit Application" is another one.
    lacks(ann.rename(ENTRY, "Mine").await, "applications.edit.account");
    lacks(ann.set_scopes(ENTRY, &["acl:read"]).await, "applications.edit.account");
    lacks(ann.delete(ENTRY).await, "applications.delete.account");
}

async fn edit_application_alone_changes_entries_and_cannot_make_them(backend: Backend) {
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
    // "Create Application" is another one.
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
    // Family: All APIs Access can be chosen, and has the scopes of the page, no more and no
    // fewer.
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
    // And nothing beside them.
    let beside = "tenants/vcc/applications/beside";
    beyond(ann.make(beside, called("Beside", &["acl:read", "acl:admin"])).await, "acl:admin");
}

async fn an_entry_lives_as_long_as_its_duration_says(backend: Backend) {
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
    // A duration that is over already is none.
    let over = pb::Application { expire_time: Some(vcc.after(-1)), ..entry() };
    faulty(ann.make("tenants/vcc/applications/over", over).await, "application.expire_time");

    // "Grants access for a specified duration": up to its last minute ...
    vcc.advance(7 * 86_400 - 60).await;
    let last = vcc.exchange(&custom, &[]).await.unwrap();
    assert!(vcc.admin.is_active(&last.text).await);
    // ... and not beyond, whatever was issued before.
    vcc.advance(60).await;
    no_client(vcc.exchange(&custom, &[]).await);
    assert!(!vcc.admin.is_active(&last.text).await);
    let mut ann = vcc.user("ann", &[CREATE]).await;
    assert_eq!(ann.see(week).await.unwrap().state(), State::Expired);
    // "Grants continuous access without expiration": ten years later too.
    vcc.advance(10 * 366 * 86_400).await;
    vcc.exchange(&forever, &[]).await.unwrap();
}

async fn an_entry_takes_many_pairs_and_each_secret_is_shown_once(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut ann = vcc.user("ann", &[CREATE, EDIT]).await;
    ann.make(ENTRY, entry()).await.unwrap();
    // "To Generate Consumer Key and Secret": select the created or an existing entry, go to
    // its credentials, add one. Any number of times.
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
    // ... and cannot be retrieved later: the users have no permission to, the platform no
    // copy.
    lacks(ann.reveal(&seen.name).await, "applications.reveal.account");
    assert!(!seen.viewable);
    let why = "NOT_VIEWABLE";
    refused(vcc.admin.reveal(&seen.name).await, Code::FailedPrecondition, why);
    let bytes = vcc.kw.stored_bytes().await;
    let secret = pairs[0].1.secret.as_bytes();
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    // A pair that is not wanted any more goes, and the others stay.
    ann.delete_credential(&pairs[0].0.name).await.unwrap();
    no_client(vcc.exchange(&pairs[0].1, &[]).await);
    vcc.exchange(&pairs[1].1, &[]).await.unwrap();
}

async fn the_pair_is_what_the_dialer_logs_in_with(backend: Backend) {
    let mut vcc = Platform::start(backend, "vcc").await;
    let mut ann = vcc.user("ann", &[CREATE]).await;
    ann.make(ENTRY, entry()).await.unwrap();
    let (_, pair) = ann.add_credential(ENTRY, Kind::ClientSecret).await.unwrap();
    // Introduction: the REST API Username is the consumer key, the REST API Password the
    // secret key; here in HTTP Basic, as a dialer would send them.
    let answer = vcc.kw.token_for(&pair, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let token = answer.json();
    assert_eq!(token["scope"].as_str().unwrap(), SCOPES.join(" "));
    // It may ask for no more than it needs.
    let fewer = vcc.kw.token_for(&pair, &[("scope", "lists:write")]).await;
    assert_eq!(fewer.json()["scope"].as_str(), Some("lists:write"));
    // "Valid" ones: the password of another pair is none for this user name.
    let (_, other) = ann.add_credential(ENTRY, Kind::ClientSecret).await.unwrap();
    let crossed = Credential { secret: other.secret, ..pair };
    assert_eq!(vcc.kw.token_for(&crossed, &[]).await.error(), "invalid_client");
}
