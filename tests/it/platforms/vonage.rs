//! Page 001, Vonage Contact Center: "Configuring API credentials".
//!
//! "API credentials" are an application with its client id and secret: user-level ones belong to a
//! user, account-level ones to the account.
//!
//! Not covered, because it belongs to the user interface: logging in and finding the area, one or
//! two tabs, the Success message, icons and dialogs. Not covered, because it belongs to others: the
//! legacy APIs and their account key, customer support, documentation feedback.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::admin::delete_user_response::Outcome;
use keyward::proto::admin::list_applications_request::Ownership;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    Platform, against_policy, beyond, called, faulty, ids, lacks, masked, no_client, refused,
};
use crate::harness::{Admin, Backend, Credential, on_both_databases, secret_free};

on_both_databases!(
    account_that_is_not_enabled_has_no_credentials,
    user_creates_own_credentials_and_sees_the_secret_once,
    the_license_decides_which_scopes_are_available,
    supervisor_sees_and_changes_only_their_own,
    admin_sees_and_deletes_all_credentials,
    credentials_of_other_users_cannot_be_changed,
    name_and_scopes_can_be_edited_later,
    account_level_credentials_work_but_cannot_be_created,
    an_admin_without_account_level_credentials_sees_all_of_the_users,
    a_user_with_credentials_cannot_be_deleted,
    admin_who_becomes_supervisor_narrows_their_credentials,
);

const READ_CONTENT: &str = "interaction-content:read";
const READ_USERS: &str = "users:read";
const STATISTICS: &str = "statistics:read";
const TENANT: &str = "tenants/vonage";
/// Created before account-level credentials were deprecated.
const OLD: &str = "tenants/vonage/applications/old";
const ANNS: &str = "tenants/vonage/applications/anns";
const SUES: &str = "tenants/vonage/applications/sues";
const SAMS: &str = "tenants/vonage/applications/sams";

/// An account with an admin and two supervisors, each with their own credentials.
struct Account {
    vonage: Platform,
    ann: Admin,
    sue: Admin,
    sam: Admin,
}

impl Account {
    async fn start(backend: Backend) -> Self {
        Self::staffed(Platform::start(backend, "vonage").await).await
    }

    /// An account with account-level credentials from before the deprecation.
    async fn with_old_credentials(backend: Backend) -> (Self, pb::Credential, Credential) {
        let mut vonage = Platform::before(backend, "vonage").await;
        vonage.admin.tenant("vonage", &[READ_CONTENT, READ_USERS]).await;
        let old = vonage.admin.make(OLD, called("Nightly export", &[READ_CONTENT])).await.unwrap();
        assert_eq!(old.owner, TENANT);
        let (made, credential) =
            vonage.admin.add_credential(OLD, Kind::ClientSecret).await.unwrap();
        vonage.apply().await;
        (Box::pin(Self::staffed(vonage)).await, made, credential)
    }

    async fn staffed(mut vonage: Platform) -> Self {
        let mut ann = vonage.user("ann", &["admin"]).await;
        let mut sue = vonage.user("sue", &["supervisor"]).await;
        let mut sam = vonage.user("sam", &["supervisor"]).await;
        ann.make(ANNS, called("Ann's wallboard", &[STATISTICS, READ_USERS])).await.unwrap();
        sue.make(SUES, called("Sue's reviews", &[READ_CONTENT])).await.unwrap();
        sam.make(SAMS, called("Sam's reviews", &[READ_CONTENT])).await.unwrap();
        Self { vonage, ann, sue, sam }
    }
}

async fn account_that_is_not_enabled_has_no_credentials(backend: Backend) {
    let mut account = Account::start(backend).await;
    let (made, sues) = account.sue.add_credential(SUES, Kind::ClientSecret).await.unwrap();
    let token = account.vonage.exchange(&sues, &[]).await.unwrap();
    // Introduction: users can use the area "if enabled for an account".
    account.vonage.change_policy(|policy| policy.api_credentials_disabled = true).await;
    let new = "tenants/vonage/applications/new";
    for who in [&mut account.ann, &mut account.sue] {
        against_policy(who.make(new, called("New", &[READ_USERS])).await, DISABLED);
    }
    against_policy(account.sue.rename(SUES, "Renamed").await, DISABLED);
    against_policy(account.sue.add_credential(SUES, Kind::ClientSecret).await, DISABLED);
    // Existing credentials do not work, but can be deleted.
    no_client(account.vonage.exchange(&sues, &[]).await);
    assert!(!account.vonage.admin.is_active(&token.text).await);
    account.sue.see(SUES).await.unwrap();
    account.sue.delete_credential(&made.name).await.unwrap();
    account.vonage.change_policy(|policy| policy.api_credentials_disabled = false).await;
    account.sue.make(new, called("New", &[READ_USERS])).await.unwrap();
}

const DISABLED: &str = "api_credentials_disabled";

async fn user_creates_own_credentials_and_sees_the_secret_once(backend: Backend) {
    let mut vonage = Platform::start(backend, "vonage").await;
    // Introduction: users with an admin or a supervisor license can use it; others cannot.
    let mut agent = vonage.user("agent", &[]).await;
    lacks(agent.make(SAMS, called("Mine", &[])).await, "applications.create.own");
    for license in ["admin", "supervisor"] {
        let mut user = vonage.user(license, &[license]).await;
        let application = vonage.application(license);
        // Name: "a name to identify the credentials later".
        faulty(user.make(&application, called("", &[])).await, "application.display_name");
        // Scopes: as many as you like, of those available.
        let made = called("Reviews", &[READ_USERS, READ_CONTENT]);
        let made = user.make(&application, made).await.unwrap();
        assert_eq!(made.scopes, [READ_CONTENT, READ_USERS]);
        // They are user-level: they belong to the user by default.
        assert_eq!(made.owner, format!("{TENANT}/users/{license}"));
        // "Click Create": the client id and secret appear.
        let (credential, pair) =
            user.add_credential(&application, Kind::ClientSecret).await.unwrap();
        assert_eq!(credential.client_id, pair.client_id);
        // "You will need" them to authenticate, and get what was selected.
        let token = vonage.exchange(&pair, &[]).await.unwrap();
        assert_eq!(token.scopes, [READ_CONTENT, READ_USERS]);
        // "You cannot retrieve them later": they appear without the secret.
        let listed = user.credentials_of(&application).await.unwrap();
        secret_free(&format!("{listed:?} {:?}", user.see(&application).await.unwrap()));
        assert_eq!(listed, [user.see_credential(&credential.name).await.unwrap()]);
        assert_eq!(user.see(&application).await.unwrap().masked_secrets, [masked(&pair)]);
        lacks(user.reveal(&credential.name).await, "applications.reveal.own");
        let again = vonage.admin.reveal(&credential.name).await;
        refused(again, Code::FailedPrecondition, "NOT_VIEWABLE");
    }
}

async fn the_license_decides_which_scopes_are_available(backend: Backend) {
    let mut vonage = Platform::start(backend, "vonage").await;
    let mut ann = vonage.user("ann", &["admin"]).await;
    let mut sam = vonage.user("sam", &["supervisor"]).await;
    // Available scopes: admin users have all of them.
    let catalogue = sam.catalogue(TENANT).await;
    let all: Vec<_> = catalogue.iter().map(|s| s.name.rsplit('/').next().unwrap()).collect();
    let anns = ann.make(ANNS, called("Everything", &all)).await.unwrap();
    assert_eq!(anns.effective_scopes, all);
    assert!(all.len() > 2);
    // Supervisors have only two, with the names on the page.
    let role = pb::GetRoleRequest { name: "tenants/vonage/roles/supervisor".to_owned() };
    let role = sam.roles.get_role(role).await.unwrap().into_inner().role.unwrap();
    let display_name = |id: &String| {
        let found = catalogue.iter().find(|scope| scope.name.rsplit('/').next() == Some(id));
        found.unwrap().display_name.clone()
    };
    let names: Vec<_> = role.scopes.iter().map(display_name).collect();
    let expected =
        ["Read or download interaction content", "Read VCC user details, settings, and presences"];
    assert_eq!(names, expected);
    sam.make(SAMS, called("Reviews", &[READ_CONTENT, READ_USERS])).await.unwrap();
    // Any other is refused by name, when credentials are created, when they are edited ...
    let other = "tenants/vonage/applications/other";
    for scope in all.into_iter().filter(|scope| ![READ_CONTENT, READ_USERS].contains(scope)) {
        beyond(sam.make(other, called("Other", &[READ_USERS, scope])).await, scope);
        beyond(sam.set_scopes(SAMS, &[READ_CONTENT, READ_USERS, scope]).await, scope);
    }
    // ... and in token requests.
    let (_, sams) = sam.add_credential(SAMS, Kind::ClientSecret).await.unwrap();
    beyond(vonage.exchange(&sams, &[READ_USERS, STATISTICS]).await, STATISTICS);
    let token = vonage.exchange(&sams, &[READ_USERS]).await.unwrap();
    assert_eq!(token.scopes, [READ_USERS]);
}

async fn supervisor_sees_and_changes_only_their_own(backend: Backend) {
    let (mut account, old, _) = Account::with_old_credentials(backend).await;
    let (of_sam, _) = account.sam.add_credential(SAMS, Kind::ClientSecret).await.unwrap();
    account.sue.add_credential(SUES, Kind::ClientSecret).await.unwrap();
    let sue = &mut account.sue;
    // Viewing, as a supervisor: only your own appear, no one else's, with every filter.
    assert_eq!(sue.list(TENANT, Ownership::Unspecified).await.unwrap(), ["sues"]);
    assert_eq!(sue.list(TENANT, Ownership::Mine).await.unwrap(), ["sues"]);
    lacks(sue.list(TENANT, Ownership::Users).await, "applications.view.users");
    lacks(sue.list(TENANT, Ownership::Account).await, "applications.view.account");
    assert_eq!(sue.search(TENANT, "reviews").await.unwrap(), ["sues"]);
    let all = sue.credentials_of("tenants/vonage/applications/-").await.unwrap();
    assert!(all.iter().all(|credential| credential.name.starts_with(SUES)), "{all:?}");
    assert_eq!(all.len(), 1);
    // "Click to open": only their own.
    assert_eq!(sue.see(SUES).await.unwrap().display_name, "Sue's reviews");
    for (name, credential, whose) in [(SAMS, &of_sam.name, "users"), (OLD, &old.name, "account")] {
        lacks(sue.see(name).await, &format!("applications.view.{whose}"));
        lacks(sue.credentials_of(name).await, &format!("applications.view.{whose}"));
        lacks(sue.see_credential(credential).await, &format!("applications.view.{whose}"));
        // Editing, as a supervisor: only your own user-level credentials.
        let edit = format!("applications.edit.{whose}");
        lacks(sue.rename(name, "Sue's now").await, &edit);
        lacks(sue.set_scopes(name, &[]).await, &edit);
        lacks(sue.rotate(credential).await, &edit);
        // Deleting, as a supervisor: only your own user-level credentials.
        let delete = format!("applications.delete.{whose}");
        lacks(sue.delete(name).await, &delete);
        lacks(sue.delete_credential(credential).await, &delete);
    }
    lacks(sue.see(ANNS).await, "applications.view.users");
    // A supervisor can edit and delete their own.
    sue.rename(SUES, "Reviews").await.unwrap();
    sue.set_scopes(SUES, &[READ_CONTENT, READ_USERS]).await.unwrap();
    sue.delete(SUES).await.unwrap();
    assert_eq!(sue.list(TENANT, Ownership::Mine).await.unwrap(), [""; 0]);
    // Creating: "your own" credentials, and not those of others or the account.
    let for_sam = pb::Application {
        owner: "tenants/vonage/users/sam".to_owned(),
        ..called("For Sam", &[READ_USERS])
    };
    lacks(sue.make(SUES, for_sam).await, "applications.create.users");
}

async fn admin_sees_and_deletes_all_credentials(backend: Backend) {
    let (mut account, _, _) = Account::with_old_credentials(backend).await;
    let (_, sams) = account.sam.add_credential(SAMS, Kind::ClientSecret).await.unwrap();
    let token = account.vonage.exchange(&sams, &[]).await.unwrap();
    let ann = &mut account.ann;
    // Viewing, as an admin of an account with account-level credentials: the Users tab has
    // the user-level ones, all of them or your own by the Filter list ...
    let users = ["anns", "sams", "sues"];
    assert_eq!(ann.list(TENANT, Ownership::Users).await.unwrap(), users);
    assert_eq!(ann.list(TENANT, Ownership::Mine).await.unwrap(), ["anns"]);
    // ... and the Accounts tab the account-level ones.
    assert_eq!(ann.list(TENANT, Ownership::Account).await.unwrap(), ["old"]);
    // "Click to open and view": each of them, with its owner.
    let opened = ann.see(SAMS).await.unwrap();
    assert_eq!(opened.owner, "tenants/vonage/users/sam");
    assert_eq!(opened.masked_secrets, [masked(&sams)]);
    assert_eq!(ann.credentials_of(SAMS).await.unwrap().len(), 1);
    let of_sam = pb::ListApplicationsRequest {
        parent: TENANT.to_owned(),
        owner: "tenants/vonage/users/sam".to_owned(),
        ..Default::default()
    };
    assert_eq!(ids(&ann.list_by(of_sam).await.unwrap()), ["sams"]);
    // Deleting, as an admin: any API credentials.
    for name in [SAMS, SUES, OLD, ANNS] {
        ann.delete(name).await.unwrap();
    }
    assert_eq!(ann.list(TENANT, Ownership::Unspecified).await.unwrap(), [""; 0]);
    no_client(account.vonage.exchange(&sams, &[]).await);
    assert!(!account.vonage.admin.is_active(&token.text).await);
}

async fn an_admin_without_account_level_credentials_sees_all_of_the_users(backend: Backend) {
    let mut account = Account::start(backend).await;
    // Viewing, as an admin of an account without account-level credentials: all user-level
    // ones appear, and the Accounts tab would be empty.
    let all = account.ann.list(TENANT, Ownership::Unspecified).await.unwrap();
    assert_eq!(all, ["anns", "sams", "sues"]);
    assert_eq!(account.ann.list(TENANT, Ownership::Account).await.unwrap(), [""; 0]);
    // The Filter list: All Credentials, My Credentials.
    assert_eq!(account.ann.list(TENANT, Ownership::Users).await.unwrap(), all);
    assert_eq!(account.ann.list(TENANT, Ownership::Mine).await.unwrap(), ["anns"]);
}

/// Every way to change credentials of another user is refused.
async fn cannot_modify(who: &mut Admin, application: &str, credential: &pb::Credential) {
    const EDIT: &str = "applications.edit.users";
    lacks(who.rename(application, "Mine now").await, EDIT);
    lacks(who.set_scopes(application, &[READ_USERS]).await, EDIT);
    let renamed = pb::Credential { display_name: "Mine".to_owned(), ..credential.clone() };
    lacks(who.edit_credential(renamed, &["display_name"]).await, EDIT);
    lacks(who.rotate(&credential.name).await, EDIT);
    let added = who.add_credential(application, Kind::ClientSecret).await;
    lacks(added, "applications.create.users");
}

async fn credentials_of_other_users_cannot_be_changed(backend: Backend) {
    let mut account = Account::start(backend).await;
    let (anns, _) = account.ann.add_credential(ANNS, Kind::ClientSecret).await.unwrap();
    let (sues, pair) = account.sue.add_credential(SUES, Kind::ClientSecret).await.unwrap();
    let before = account.sue.see(SUES).await.unwrap();
    // Editing: "no one can modify someone else's"; this applies to admins, too.
    cannot_modify(&mut account.ann, SUES, &sues).await;
    cannot_modify(&mut account.sam, SUES, &sues).await;
    cannot_modify(&mut account.sam, ANNS, &anns).await;
    assert_eq!(account.sue.see(SUES).await.unwrap(), before, "nothing was changed");
    account.vonage.exchange(&pair, &[]).await.unwrap();
}

async fn name_and_scopes_can_be_edited_later(backend: Backend) {
    let mut account = Account::start(backend).await;
    let (_, anns) = account.ann.add_credential(ANNS, Kind::ClientSecret).await.unwrap();
    let token = account.vonage.exchange(&anns, &[]).await.unwrap();
    // Editing: a scope can be added, which gives access to more ...
    let wider = [STATISTICS, READ_CONTENT, READ_USERS];
    account.ann.set_scopes(ANNS, &wider).await.unwrap();
    account.vonage.exchange(&anns, &[READ_CONTENT]).await.unwrap();
    assert!(account.vonage.admin.is_active(&token.text).await, "nothing was taken away");
    // ... and removed, which takes effect immediately.
    account.ann.set_scopes(ANNS, &[READ_USERS]).await.unwrap();
    assert!(!account.vonage.admin.is_active(&token.text).await);
    assert_eq!(account.vonage.exchange(&anns, &[]).await.unwrap().scopes, [READ_USERS]);
    // "You can also change the name", and nothing but the name changes.
    let before = account.ann.see(ANNS).await.unwrap();
    let after = account.ann.rename(ANNS, "Presence board").await.unwrap();
    let expected = pb::Application {
        display_name: "Presence board".to_owned(),
        etag: after.etag.clone(),
        update_time: after.update_time,
        ..before
    };
    assert_eq!(after, expected);
    // "Save": all users see the change.
    assert_eq!(account.ann.see(ANNS).await.unwrap().display_name, "Presence board");
}

async fn account_level_credentials_work_but_cannot_be_created(backend: Backend) {
    let (mut account, made, old) = Account::with_old_credentials(backend).await;
    let vonage = &mut account.vonage;
    // Account-level API credentials: those created before "will continue to work".
    let token = vonage.exchange(&old, &[]).await.unwrap();
    assert_eq!(token.scopes, [READ_CONTENT]);
    assert!(vonage.admin.is_active(&token.text).await);
    // Admin users can view them ...
    let seen = account.ann.see(OLD).await.unwrap();
    assert_eq!((seen.owner.as_str(), &seen.masked_secrets[..]), (TENANT, &[masked(&old)][..]));
    assert_eq!(account.ann.see_credential(&made.name).await.unwrap().client_id, made.client_id);
    // ... and edit them ...
    account.ann.rename(OLD, "Export").await.unwrap();
    account.ann.set_scopes(OLD, &[READ_CONTENT, STATISTICS]).await.unwrap();
    vonage.exchange(&old, &[STATISTICS]).await.unwrap();
    // ... "but cannot create new" ones: neither under a new name nor beside the old.
    let new = "tenants/vonage/applications/new";
    let of_account = pb::Application { owner: TENANT.to_owned(), ..called("New", &[READ_USERS]) };
    let create = "applications.create.account";
    lacks(account.ann.make(new, of_account.clone()).await, create);
    lacks(account.ann.add_credential(OLD, Kind::ClientSecret).await, create);
    lacks(account.sue.make(new, of_account.clone()).await, create);
    // They are deprecated for everyone: neither a user with the permission nor the platform can
    // create them.
    vonage.admin.role("vonage", "founder", &[create], &["*"]).await;
    let mut founder = vonage.user("founder", &["founder"]).await;
    against_policy(founder.make(new, of_account.clone()).await, "allowed_owners");
    against_policy(vonage.admin.make(new, of_account).await, "allowed_owners");
    // Without an owner in the request, the credentials belong to the user.
    account.ann.make(new, called("New", &[READ_USERS])).await.unwrap();
    assert_eq!(account.ann.see(new).await.unwrap().owner, "tenants/vonage/users/ann");
    // Admin users can delete them.
    account.ann.delete(OLD).await.unwrap();
    no_client(vonage.exchange(&old, &[]).await);
}

async fn delete_user(
    who: &mut Admin,
    user: &str,
    validate_only: bool,
) -> Result<pb::DeleteUserResponse, Status> {
    let request = pb::DeleteUserRequest {
        name: format!("{TENANT}/users/{user}"),
        validate_only,
        ..Default::default()
    };
    Ok(who.users.delete_user(request).await?.into_inner())
}

async fn a_user_with_credentials_cannot_be_deleted(backend: Backend) {
    let mut account = Account::start(backend).await;
    let (first, pair) = account.sam.add_credential(SAMS, Kind::ClientSecret).await.unwrap();
    let (second, _) = account.sam.add_credential(SAMS, Kind::ClientSecret).await.unwrap();
    let mut both = [first.name, second.name];
    both.sort();
    // Deleting users: with user-level API credentials "you cannot", and the answer names them.
    let preview = delete_user(&mut account.ann, "sam", true).await.unwrap();
    assert_eq!(preview.outcome(), Outcome::Refused);
    assert_eq!(
        (&preview.applications[..], &preview.credentials[..]),
        (&[SAMS.to_owned()][..], &both[..])
    );
    let status = delete_user(&mut account.ann, "sam", false).await;
    let status = refused(status, Code::FailedPrecondition, "IN_USE");
    let violations = status.get_details_precondition_failure().unwrap().violations;
    let named: Vec<_> = violations.into_iter().map(|violation| violation.subject).collect();
    assert_eq!(named, both);
    // The platform, which synchronises the users, gets the same answer.
    let status = delete_user(&mut account.vonage.admin, "sam", false).await;
    refused(status, Code::FailedPrecondition, "IN_USE");
    account.vonage.exchange(&pair, &[]).await.unwrap();
    // Supervisors do not have User Admin.
    lacks(delete_user(&mut account.sue, "sam", false).await, "users.edit");
    // "You must delete their API credentials first", and then it works.
    account.ann.delete(SAMS).await.unwrap();
    let done = delete_user(&mut account.ann, "sam", false).await.unwrap();
    assert_eq!(done.application_count, 0);
    let gone = account.sam.list(TENANT, Ownership::Mine).await;
    refused(gone, Code::PermissionDenied, "PERMISSION_DENIED");
}

async fn admin_who_becomes_supervisor_narrows_their_credentials(backend: Backend) {
    let mut account = Account::start(backend).await;
    let (_, both) = account.ann.add_credential(ANNS, Kind::ClientSecret).await.unwrap();
    let only = "tenants/vonage/applications/only-statistics";
    account.ann.make(only, called("Statistics", &[STATISTICS])).await.unwrap();
    let (_, none) = account.ann.add_credential(only, Kind::ClientSecret).await.unwrap();
    let vonage = &mut account.vonage;
    let tokens = [
        vonage.exchange(&both, &[]).await.unwrap(),
        vonage.exchange(&both, &[READ_USERS]).await.unwrap(),
        vonage.exchange(&none, &[]).await.unwrap(),
    ];
    // "Available scopes depend on your user license", and licenses change.
    let mut ann = vonage.user("ann", &["supervisor"]).await;
    for token in &tokens {
        assert!(!vonage.admin.is_active(&token.text).await, "{:?}", token.scopes);
    }
    // The scopes that a supervisor may have still work; others are refused by name.
    assert_eq!(vonage.exchange(&both, &[]).await.unwrap().scopes, [READ_USERS]);
    beyond(vonage.exchange(&both, &[STATISTICS]).await, STATISTICS);
    refused(vonage.exchange(&none, &[]).await, Code::InvalidArgument, "SCOPE_NOT_ALLOWED");
    let answer = vonage.kw.token_for(&both, &[("scope", STATISTICS)]).await;
    assert_eq!(answer.error(), "invalid_scope");
    assert_eq!(ann.see(ANNS).await.unwrap().effective_scopes, [READ_USERS]);
    // They can view, edit and delete like a supervisor.
    assert_eq!(
        ann.list(TENANT, Ownership::Unspecified).await.unwrap(),
        ["anns", "only-statistics"]
    );
    lacks(ann.see(SAMS).await, "applications.view.users");
    lacks(ann.delete(SAMS).await, "applications.delete.users");
}
