//! The whole table of rights on a real server: roles, verbs, owners, states, and each policy field.
//! `table.txt` has the expected results in readable form.

use std::collections::{BTreeMap, BTreeSet};

use keyward::internals::domain::{Call, Permission};
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token as tokens;
use strum::VariantArray;
use tonic::Status;
use tonic_types::StatusExt;

use super::{Acme, disable_application, disable_credential, disable_scope, reveal, rotate};
use crate::grpc::everyone::requests;
use crate::grpc::raw::call_for;
use crate::harness::{Admin, Backend, mask, reason};

const TABLE: &str = include_str!("table.txt");
const STATES: [&str; 7] =
    ["plain", "disabled", "platform", "protected", "beyond", "dormant", "role"];
const POLICIES: [&str; 8] =
    ["none", "api_off", "owners", "kinds", "fixed", "full", "lifetime", "once"];
const REACHES: [&str; 3] = ["own", "account", "users"];
const VERBS: [&str; 5] = ["view", "create", "edit", "delete", "reveal"];

/// A row about an application: the verb, and the columns in order.
struct Row {
    call: &'static str,
    verb: &'static str,
    cells: Vec<(&'static str, &'static str)>,
}

impl Row {
    /// The expected answer for a caller with the permission.
    fn expected(&self, state: &str, policy: &str, role: Role) -> &'static str {
        let cell = self.cells.iter().find(|(column, cell)| {
            (*column == state || *column == policy)
                && *cell != "."
                && (role != Role::Platform
                    || !["platform", "beyond", "dormant", "role"].contains(column))
        });
        match cell.map_or(".", |(_, cell)| cell) {
            "SCOPE" if role == Role::Exact => "DENIED",
            cell => cell,
        }
    }

    /// Whether the call is possible for an application in this state.
    fn is_about(&self, state: &str) -> bool {
        let is_enabled_already = self.call.ends_with("-to-enable") && state == "plain";
        let makes_new = self.cells.iter().any(|(column, cell)| *column == state && *cell == "-");
        !(is_enabled_already || makes_new)
    }
}

/// The rows about applications, and the permissions of other calls.
fn table() -> (Vec<Row>, BTreeMap<&'static str, &'static str>) {
    let (mut rows, mut others, mut columns) = (Vec::new(), BTreeMap::new(), Vec::new());
    for line in TABLE.lines() {
        let words: Vec<_> = line.split_whitespace().filter(|word| *word != "|").collect();
        match words.as_slice() {
            ["#", "call", "permission", names @ ..] => columns = names.to_vec(),
            ["#", ..] | [] => {}
            [call, permission] => {
                others.insert(*call, *permission);
            }
            [call, verb, cells @ ..] => {
                assert_eq!(cells.len(), columns.len(), "{line}");
                let cells = columns.iter().copied().zip(cells.iter().copied()).collect();
                rows.push(Row { call, verb, cells });
            }
            _ => panic!("{line}"),
        }
    }
    (rows, others)
}

/// The rights of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// No permission.
    Nothing,
    /// To view the application.
    View,
    /// Exactly what the call needs.
    Exact,
    /// What the call needs, and to view the application.
    ExactAndView,
    /// What the call needs, but for other owners.
    Others,
    /// All permissions except what the call needs.
    AllBut,
    /// All permissions except `users.edit`, with which every role can be given.
    All,
    /// The platform, without an acting user.
    Platform,
}

impl Role {
    const ALL: [Self; 8] = [
        Self::Nothing,
        Self::View,
        Self::Exact,
        Self::ExactAndView,
        Self::Others,
        Self::AllBut,
        Self::All,
        Self::Platform,
    ];

    fn permissions(self, verb: &str, reach: &str) -> Vec<String> {
        let all = || Permission::all().map(|permission| permission.to_string());
        let mine = format!("applications.{verb}.{reach}");
        // A reach of all users includes own applications.
        let reaches = |permission: &String| {
            *permission == mine
                || (reach == "own" && *permission == format!("applications.{verb}.users"))
        };
        let others = REACHES.iter().map(|other| format!("applications.{verb}.{other}"));
        match self {
            Self::Nothing | Self::Platform => Vec::new(),
            Self::View => vec![format!("applications.view.{reach}")],
            Self::Exact => vec![mine],
            Self::ExactAndView => vec![mine, format!("applications.view.{reach}")],
            Self::Others => others.filter(|other| !reaches(other)).collect(),
            Self::AllBut => all().filter(|one| !reaches(one)).collect(),
            Self::All => all().filter(|one| one != "users.edit").collect(),
        }
    }

    fn may(self, verb: &str) -> bool {
        match self {
            Self::Exact | Self::ExactAndView | Self::All | Self::Platform => true,
            Self::View => verb == "view",
            Self::Nothing | Self::Others | Self::AllBut => false,
        }
    }
}

/// An application in some state, with a credential.
#[derive(Clone)]
struct Target {
    state: &'static str,
    reach: &'static str,
    application: String,
    credential: String,
}

struct World {
    acme: Acme,
    /// A user with all permissions, who disables resources.
    keeper: Admin,
    /// The user whose rights are tested.
    walker: Admin,
    policy: &'static str,
    targets: Vec<Target>,
    count: i64,
}

impl World {
    async fn new(backend: Backend) -> Self {
        let mut acme = Acme::new(backend).await;
        let all: Vec<_> = Permission::all().map(|permission| permission.to_string()).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let keeper = acme.user("keeper", &all, &["*"]).await;
        let walker = acme.user("walker", &[], &["a"]).await;
        acme.user("eve", &[], &["*"]).await;
        acme.admin.role("acme", "claim", &[], &[]).await;
        let mut world =
            Self { acme, keeper, walker, policy: "none", targets: Vec::new(), count: 0 };
        world.set_policy("none", "own").await;
        for reach in REACHES {
            for state in STATES {
                let target = world.make(state, reach).await;
                world.targets.push(target);
            }
        }
        world
    }

    fn owner(reach: &str) -> &'static str {
        match reach {
            "own" => "tenants/acme/users/walker",
            "users" => "tenants/acme/users/eve",
            _ => "tenants/acme",
        }
    }

    fn later(&mut self) -> Option<prost_types::Timestamp> {
        self.count += 1;
        let seconds = self.acme.kw.now().as_second() + 10 * 86_400 + self.count;
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    async fn set_role(&mut self, field: &str, role: pb::Role) {
        let name = "tenants/acme/roles/walker".to_owned();
        let request = pb::UpdateRoleRequest {
            role: Some(pb::Role { name, ..role }),
            update_mask: mask(&[field]),
        };
        self.acme.admin.roles.update_role(request).await.unwrap();
    }

    async fn set_scopes(&mut self, scopes: &[&str]) {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        self.set_role("scopes", pb::Role { scopes, ..Default::default() }).await;
    }

    async fn set_policy(&mut self, policy: &'static str, reach: &str) {
        self.policy = policy;
        let other =
            if reach == "account" { pb::policy::Owner::User } else { pb::policy::Owner::Account };
        let fields = [
            "display_name",
            "description",
            "contact_email",
            "scopes",
            "roles",
            "expire_time",
            "limits",
            "disabled",
            "secrets",
        ];
        let on = |name: &str| policy == name;
        let policy = pb::Policy {
            api_credentials_disabled: on("api_off"),
            allowed_owners: if on("owners") { vec![other.into()] } else { Vec::new() },
            fixed_fields: if on("fixed") { fields.map(str::to_owned).to_vec() } else { Vec::new() },
            allowed_credential_kinds: if on("kinds") {
                vec!["client_secret".to_owned()]
            } else {
                Vec::new()
            },
            max_credentials: i64::from(on("full")),
            max_credential_lifetime: on("lifetime")
                .then_some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
            secrets_viewable: !on("once"),
            ..Default::default()
        };
        self.acme.set_policy(policy).await;
    }

    /// Creates an application in this state. The policy must allow everything.
    async fn make(&mut self, state: &'static str, reach: &'static str) -> Target {
        // Scopes beyond the owner's rights were allowed when they were given.
        self.set_scopes(&["a", "b", "c"]).await;
        let (scopes, roles) = match state {
            "beyond" => (vec!["b".to_owned()], Vec::new()),
            "dormant" => (vec!["c".to_owned()], Vec::new()),
            "role" => (Vec::new(), vec!["claim".to_owned()]),
            _ => (vec!["a".to_owned()], Vec::new()),
        };
        if state == "dormant" {
            self.acme.admin.scopes.update_scope(disable_scope("c", false)).await.unwrap();
        }
        let end = self.acme.kw.now().as_second() + 1000;
        let end = Some(prost_types::Timestamp { seconds: end, nanos: 0 });
        let request = pb::CreateApplicationRequest {
            parent: "tenants/acme".to_owned(),
            application: Some(pb::Application {
                display_name: state.to_owned(),
                owner: Self::owner(reach).to_owned(),
                scopes,
                roles,
                expire_time: end,
                ..Default::default()
            }),
            ..Default::default()
        };
        let admin = &mut self.acme.admin;
        let made = admin.applications.create_application(request).await.unwrap().into_inner();
        let application = made.application.unwrap().name;
        let request = pb::CreateCredentialRequest {
            parent: application.clone(),
            credential: Some(pb::Credential {
                kind: Kind::ApiKey.into(),
                expire_time: end,
                ..Default::default()
            }),
            ..Default::default()
        };
        let made = admin.credentials.create_credential(request).await.unwrap().into_inner();
        let credential = made.credential.unwrap().name;
        self.set_scopes(&["a"]).await;
        if state == "dormant" {
            self.keeper.scopes.update_scope(disable_scope("c", true)).await.unwrap();
        }
        let target = Target { state, reach, application, credential };
        if state != "plain" {
            self.disable(&target).await;
        }
        if state == "protected" {
            let application = pb::Application {
                name: target.application.clone(),
                protected: true,
                ..Default::default()
            };
            let request = super::change(application, &["protected"]);
            self.acme.admin.applications.update_application(request).await.unwrap();
        }
        target
    }

    /// Disables it: for the state `platform` as the platform, otherwise as a user.
    async fn disable(&mut self, target: &Target) {
        let by = if target.state == "platform" { &mut self.acme.admin } else { &mut self.keeper };
        let request = disable_application(&target.application, true);
        by.applications.update_application(request).await.unwrap();
        let request = disable_credential(&target.credential, true);
        by.credentials.update_credential(request).await.unwrap();
    }

    /// Restores the target after an allowed call.
    async fn restore(&mut self, place: usize, call: &str) {
        let target = self.targets[place].clone();
        if call.ends_with("-to-enable") {
            self.disable(&target).await;
        } else if call.contains("Delete") {
            let policy = self.policy;
            self.set_policy("none", target.reach).await;
            let request =
                pb::DeleteApplicationRequest { name: target.application, ..Default::default() };
            // Perhaps only its credential was deleted.
            self.acme.admin.applications.delete_application(request).await.ok();
            self.targets[place] = self.make(target.state, target.reach).await;
            self.set_policy(policy, target.reach).await;
        }
    }

    async fn call(&mut self, row: &Row, role: Role, target: &Target) -> Result<(), Status> {
        let later = self.later();
        let unique = format!("{}", self.count);
        let who = if role == Role::Platform { &mut self.acme.admin } else { &mut self.walker };
        let (application, credential) = (target.application.clone(), target.credential.clone());
        let owner = Self::owner(target.reach).to_owned();
        let parent = "tenants/acme".to_owned();
        let update = |changed: pb::Application, fields: &[&str]| {
            super::change(pb::Application { name: application.clone(), ..changed }, fields)
        };
        let update_credential = |changed: pb::Credential, fields: &[&str]| {
            let name = credential.clone();
            pb::UpdateCredentialRequest {
                credential: Some(pb::Credential { name, ..changed }),
                update_mask: mask(fields),
            }
        };
        let etag = String::new();
        match row.call {
            "ListApplications" => {
                let request = pb::ListApplicationsRequest { parent, owner, ..Default::default() };
                who.applications.list_applications(request).await.map(drop)
            }
            "GetApplication" => {
                let request = pb::GetApplicationRequest { name: application };
                who.applications.get_application(request).await.map(drop)
            }
            "ListApplicationUsage" => {
                let request =
                    pb::ListApplicationUsageRequest { parent: application, ..Default::default() };
                who.applications.list_application_usage(request).await.map(drop)
            }
            "GetCredential" => {
                let request = pb::GetCredentialRequest { name: credential };
                who.credentials.get_credential(request).await.map(drop)
            }
            "ListCredentials" => {
                let request =
                    pb::ListCredentialsRequest { parent: application, ..Default::default() };
                who.credentials.list_credentials(request).await.map(drop)
            }
            "CreateApplication" => {
                let application =
                    pb::Application { display_name: "new".to_owned(), owner, ..Default::default() };
                let request = pb::CreateApplicationRequest {
                    parent,
                    application: Some(application),
                    ..Default::default()
                };
                who.applications.create_application(request).await.map(drop)
            }
            "CreateCredential" => {
                let credential = pb::Credential {
                    kind: Kind::ApiKey.into(),
                    expire_time: later,
                    ..Default::default()
                };
                let request = pb::CreateCredentialRequest {
                    parent: application,
                    credential: Some(credential),
                    ..Default::default()
                };
                who.credentials.create_credential(request).await.map(drop)
            }
            "UpdateApplication" => {
                let changed = pb::Application { description: unique, ..Default::default() };
                let request = update(changed, &["description"]);
                who.applications.update_application(request).await.map(drop)
            }
            "UpdateApplication-to-enable" => {
                let request = disable_application(&application, false);
                who.applications.update_application(request).await.map(drop)
            }
            "UpdateApplication-to-end-later" => {
                let changed = pb::Application { expire_time: later, ..Default::default() };
                let request = update(changed, &["expire_time"]);
                who.applications.update_application(request).await.map(drop)
            }
            "UpdateCredential" => {
                let changed = pb::Credential { display_name: unique, ..Default::default() };
                let request = update_credential(changed, &["display_name"]);
                who.credentials.update_credential(request).await.map(drop)
            }
            "UpdateCredential-to-enable" => {
                let request = disable_credential(&credential, false);
                who.credentials.update_credential(request).await.map(drop)
            }
            "UpdateCredential-to-end-later" => {
                let changed = pb::Credential { expire_time: later, ..Default::default() };
                let request = update_credential(changed, &["expire_time"]);
                who.credentials.update_credential(request).await.map(drop)
            }
            "RotateCredential" => {
                who.credentials.rotate_credential(rotate(&credential)).await.map(drop)
            }
            "RevealCredential" => {
                who.credentials.reveal_credential(reveal(&credential)).await.map(drop)
            }
            "RevokeTokens" => {
                let request =
                    tokens::RevokeTokensRequest { name: application, ..Default::default() };
                who.tokens.revoke_tokens(request).await.map(drop)
            }
            "DeleteCredential" => {
                let request = pb::DeleteCredentialRequest { name: credential, etag };
                who.credentials.delete_credential(request).await.map(drop)
            }
            "DeleteApplication" => {
                let request = pb::DeleteApplicationRequest { name: application, etag };
                who.applications.delete_application(request).await.map(drop)
            }
            "BatchDeleteApplications" => {
                let request =
                    pb::BatchDeleteApplicationsRequest { parent, names: vec![application] };
                let answer = who.applications.batch_delete_applications(request).await?;
                let result = &answer.into_inner().results[0];
                match result.reason().as_str_name().trim_start_matches("ERROR_REASON_") {
                    "UNSPECIFIED" => Ok(()),
                    reason => Err(Status::with_error_details(
                        tonic::Code::Unknown,
                        &result.message,
                        tonic_types::ErrorDetails::with_error_info(reason, "keyward", []),
                    )),
                }
            }
            other => panic!("{other}"),
        }
    }
}

/// An answer in the words of the table.
fn in_words(answer: &Result<(), Status>) -> String {
    match answer.as_ref().map_err(reason) {
        Ok(()) => ".".to_owned(),
        Err(reason) => match reason.as_str() {
            "PERMISSION_DENIED" => "DENIED".to_owned(),
            "SCOPE_NOT_ALLOWED" => "SCOPE".to_owned(),
            "QUOTA_EXCEEDED" => "QUOTA".to_owned(),
            _ => reason,
        },
    }
}

/// Whether to test a cell: deleting is the same under every policy, and needs a new target each
/// time.
fn is_walked(row: &Row, state: &str, policy: &str, role: Role) -> bool {
    let deletes = row.call.contains("Delete");
    let by_policy = if deletes {
        role == Role::All && ["plain", "protected"].contains(&state)
    } else {
        matches!(role, Role::All | Role::Platform)
    };
    row.is_about(state) && (policy == "none" || by_policy)
}

async fn walk(backend: Backend) {
    let mut world = Box::pin(World::new(backend)).await;
    let (rows, _) = table();
    let (mut walked, mut wrong) = (0, Vec::new());
    for policy in POLICIES {
        for reach in REACHES {
            world.set_policy(policy, reach).await;
            for (verb, role) in VERBS.iter().flat_map(|verb| Role::ALL.map(|role| (*verb, role))) {
                if policy != "none" && !matches!(role, Role::All | Role::Platform) {
                    continue;
                }
                let permissions = role.permissions(verb, reach);
                world.set_role("permissions", pb::Role { permissions, ..Default::default() }).await;
                for row in rows.iter().filter(|row| row.verb == verb) {
                    for place in 0..world.targets.len() {
                        let target = world.targets[place].clone();
                        if target.reach != reach || !is_walked(row, target.state, policy, role) {
                            continue;
                        }
                        let expected = if role.may(verb) {
                            row.expected(target.state, policy, role)
                        } else {
                            "DENIED"
                        };
                        let answer = Box::pin(world.call(row, role, &target)).await;
                        let found = in_words(&answer);
                        walked += 1;
                        if found != expected {
                            let state = target.state;
                            wrong.push(format!(
                                "{} {role:?} {reach} {state} {policy}: {found} where the table \
                                 has {expected} ({answer:?})",
                                row.call
                            ));
                        }
                        if answer.is_ok() {
                            Box::pin(world.restore(place, row.call)).await;
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {walked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(walked > 4000, "{walked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_answers_every_cell_of_the_table() {
    Box::pin(walk(Backend::Sqlite)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_answers_every_other_call_of_the_table() {
    let mut acme = Acme::new(Backend::Sqlite).await;
    let (_, others) = table();
    let grpc = acme.kw.grpc();
    acme.admin.role("acme", "spare", &[], &[]).await;
    let walker = acme.admin.user("acme", "walker", &[]).await;
    let mut permissions: BTreeSet<_> =
        others.values().copied().filter(|one| !["member", "platform"].contains(one)).collect();
    permissions.insert("");
    for held in permissions {
        let id = format!("only-{}", held.replace('.', "-"));
        let list: Vec<_> = Some(held).filter(|held| !held.is_empty()).into_iter().collect();
        acme.admin.role("acme", &id, &list, &["*"]).await;
        acme.admin.user("acme", "walker", &[&id]).await;
        let authorization = format!("Bearer {}", acme.console.token);
        for (path, (bytes, _)) in requests("") {
            let call = path.rsplit('/').next().unwrap();
            let Some(needed) = others.get(call) else { continue };
            // An earlier call may have deleted it.
            acme.admin.user("acme", "spare", &[]).await;
            let answer = call_for(&grpc, &path, bytes, Some(&authorization), &walker).await;
            if *needed == "member" || *needed == held {
                // Whether the call finds what an earlier call deleted does not matter.
                let denied =
                    answer.as_ref().is_err_and(|status| reason(status) == "PERMISSION_DENIED");
                assert!(!denied, "{call} with {held}: {answer:?}");
                continue;
            }
            let status = answer.expect_err(&format!("{call} with {held:?}"));
            assert_eq!(reason(&status), "PERMISSION_DENIED", "{call} with {held:?}: {status:?}");
            if *needed != "platform" {
                let info = status.get_details_error_info().unwrap();
                assert_eq!(info.metadata["permission"], *needed, "{call} with {held:?}");
            }
        }
    }
}

#[test]
fn table_has_a_row_for_every_call() {
    let (rows, others) = table();
    let of_applications = rows.iter().map(|row| row.call.split('-').next().unwrap());
    let named: BTreeSet<_> =
        of_applications.chain(others.keys().copied()).chain(["RevokeToken"]).collect();
    let known: BTreeSet<_> = Call::VARIANTS.iter().map(Into::into).collect();
    assert_eq!(named, known);
    let served: BTreeSet<_> = crate::grpc::raw::all_methods()
        .into_iter()
        .filter(|path| path.starts_with("/keyward.admin.") || path.contains("/Revoke"))
        .map(|path| path.rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(served, known.into_iter().map(str::to_owned).collect());
}
