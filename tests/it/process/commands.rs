//! The commands that talk to a server: output for scripts, useful exit codes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::binary::{Finished, Serving, exported, keyward};
use crate::harness::fresh_database;

/// A server and an administrator at the command line.
pub(super) struct Desk {
    serving: Serving,
    folder: TempDir,
    id: String,
    secret: String,
}

impl Desk {
    pub(super) fn new(arguments: &[&str]) -> Self {
        Self::with(arguments, &[])
    }

    /// The same, with more environment variables for the server.
    pub(super) fn with(database: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let arguments: Vec<_> =
            ["--data-dir", &path].into_iter().chain(database.iter().copied()).collect();
        // Uses a second admin credential: the first can only be read after the server stops.
        let bootstrap = ["bootstrap"].iter().chain(&arguments).copied();
        let printed = Finished::of(&mut keyward(bootstrap)).worked();
        Self {
            id: exported(&printed, "KEYWARD_CLIENT_ID").to_owned(),
            secret: exported(&printed, "KEYWARD_CLIENT_SECRET").to_owned(),
            serving: Serving::start_with(&arguments, variables),
            folder,
        }
    }

    pub(super) fn run(&self, line: &str) -> Finished {
        self.run_as(&self.id, &self.secret, line)
    }

    pub(super) fn run_as(&self, id: &str, secret: &str, line: &str) -> Finished {
        let mut command = self.command(line);
        command.env("KEYWARD_CLIENT_ID", id).env("KEYWARD_CLIENT_SECRET", secret);
        Finished::of(&mut command)
    }

    pub(super) fn serving(&self) -> &Serving {
        &self.serving
    }

    /// The administrator's client id and secret.
    pub(super) fn admin(&self) -> (&str, &str) {
        (&self.id, &self.secret)
    }

    /// Stops the server gracefully. Returns what it logged after its start.
    pub(super) fn stop_with_log(self) -> String {
        self.serving.stop_with_log("-TERM")
    }

    /// A command with the administrator's credential, not started yet.
    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = keyward(line.split(' '));
        command
            .env("KEYWARD_SERVER", &self.serving.grpc)
            .env("KEYWARD_CLIENT_ID", &self.id)
            .env("KEYWARD_CLIENT_SECRET", &self.secret)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        command
    }

    pub(super) fn fails(&self, line: &str, code: i32, says: &str) {
        let finished = self.run(line);
        assert_eq!(finished.code, Some(code), "{line}: {finished:?}");
        assert!(finished.stderr.contains(says), "{line}: {finished:?}");
    }
}

#[test]
fn administrator_tour_works_on_sqlite() {
    tour(&Desk::new(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn administrator_tour_works_on_postgresql() {
    let url = fresh_database().await;
    tokio::task::spawn_blocking(move || tour(&Desk::new(&["--database-url", &url]))).await.unwrap();
}

/// Every step from a profile to a deleted credential, with the command line only.
fn tour(desk: &Desk) {
    let dry = desk.run("apply deploy/profiles/vcc.toml --dry-run -o json").json();
    assert_eq!(dry.as_array().unwrap().len(), 69, "a tenant, 40 rules, 25 scopes and 3 roles");
    assert_eq!(desk.run("tenant show vcc").code, Some(3), "a dry run changes nothing");
    desk.run("apply deploy/profiles/vcc.toml").worked();
    assert_eq!(desk.run("apply deploy/profiles/vcc.toml -o json").json(), serde_json::json!([]));
    assert!(desk.run("apply deploy/profiles/vcc.toml").worked().contains("nothing to change"));
    desk.run("apply deploy/profiles/voiso.toml --tenant acme").worked();
    let scopes = desk.run("scope list acme -o json").json();
    assert_eq!(scopes.as_array().unwrap().len(), 21);
    assert_eq!(scopes[0]["scope"], "billing.balance.read");

    let create = "application create acme/crm --display-name CRM --contact-email a@b.example \
                  --scope users.read --scope campaigns.read --expire-time 90d -o json";
    let made = desk.run(create).json();
    assert_eq!(made["name"], "tenants/acme/applications/crm");
    assert!(made["expire_time"].is_string());
    let update = "application update acme/crm --description sync --expire-time never -o json";
    let changed = desk.run(update).json();
    assert_eq!((&changed["description"], &changed["expire_time"]), (&"sync".into(), &().into()));
    assert!(desk.run("application list acme").worked().contains("users.read"));

    let made = desk.run("credential create acme/crm -o json").json();
    let text = |member: &str| made[member].as_str().unwrap().to_owned();
    let (id, secret) = (text("client_id"), text("secret"));
    let token = desk.run_as(&id, &secret, "token --scope users.read").worked();
    let token = token.trim();
    let claims = desk.run(&format!("verify {token}")).json();
    assert_eq!(claims["scope"], "users.read");
    assert_eq!(claims["iss"], desk.serving.http);
    let wrong = desk.run(&format!("verify {token} --issuer https://elsewhere.example"));
    assert_eq!(wrong.code, Some(1));
    let info = desk.run(&format!("introspect {token} -o json")).json();
    assert_eq!((&info["active"], &info["tenant"]), (&true.into(), &"acme".into()));
    assert!(desk.run("jwks").json()["keys"][0]["kid"].is_string());

    access(desk, token, &id);
    let token = &desk.run_as(&id, &secret, "token --scope users.read").worked();
    let token = token.trim();

    let rotate = format!("credential rotate acme/crm/{id} --overlap 1h -o json");
    let rotated = desk.run(&rotate).json();
    assert_eq!(rotated["secrets"].as_array().unwrap().len(), 2);
    desk.fails(&rotate, 1, "ROTATION_IN_PROGRESS");
    assert_eq!(desk.run_as(&id, &secret, "token").code, Some(0));

    let other = desk.run_as(&id, &secret, "token").worked();
    desk.run(&format!("revoke {}", other.trim())).worked();
    assert_eq!(desk.run(&format!("introspect {} -o json", other.trim())).json()["active"], false);
    desk.run(&format!("credential delete acme/crm/{id} --yes")).worked();
    let gone = desk.run(&format!("introspect {token} -o json")).json();
    assert_eq!(gone, serde_json::json!({ "active": false }));

    let key = desk.run("credential create acme/crm --kind api-key -o json").json();
    let key = key["secret"].as_str().unwrap().to_owned();
    assert_eq!(desk.run(&format!("introspect {key} -o json")).json()["active"], true);
    desk.fails("tenant delete acme --yes", 1, "tenants/acme/applications/crm");
    desk.run("tenant delete acme --force --yes").worked();
    assert_eq!(desk.run(&format!("introspect {key} -o json")).json()["active"], false);
}

/// Checks what a token allows, then revokes all tokens of its application.
fn access(desk: &Desk, token: &str, id: &str) {
    let allowed = desk.run(&format!("check {token} --scope users.read -o json")).json();
    assert_eq!((&allowed["allowed"], &allowed["outcome"]), (&true.into(), &"allowed".into()));
    assert_eq!(allowed["credential"], format!("tenants/acme/applications/crm/credentials/{id}"));
    let any = format!("check {token} --any-scope users.read --any-scope numbers.read");
    desk.run(&any).worked();
    desk.fails(&format!("check {token} --scope campaigns.read"), 1, "the token lacks scopes");
    let endpoint = |request: &str| {
        Finished::of(desk.command(&format!("check {token} -o json --endpoint")).arg(request))
    };
    assert_eq!(endpoint("GET /v4/users/17?x=1").json()["allowed"], true);
    let refused = endpoint("GET /v4/balance");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stdout.contains("billing.balance.read"), "{refused:?}");
    assert_eq!(endpoint("/v4/balance").code, Some(2));

    desk.run("application update acme/crm --limit-requests 100 --limit-tokens 7").worked();
    let peek = format!("check {token} --scope users.read --peek");
    let peeked = desk.run(&format!("{peek} -o json")).json();
    let left = |n: usize| {
        (peeked["limits"][n]["counted"].clone(), peeked["limits"][n]["remaining"].clone())
    };
    assert_eq!(left(0), ("requests".into(), 100.into()));
    assert_eq!(left(1), ("tokens".into(), 7.into()));
    assert!(desk.run(&peek).worked().contains("remaining 100"));
    desk.run("application update acme/crm --no-limits").worked();

    desk.run("revoke-tokens acme/crm --reason lost --yes").worked();
    desk.fails(&format!("check {token} --scope users.read"), 1, "the token was revoked");
    let listed = desk.run("revocations -o json").json();
    let last = listed.as_array().unwrap().last().unwrap();
    assert_eq!(last["kind"], "application");
    assert_eq!(last["revoked"], "tenants/acme/applications/crm");
    assert!(desk.run("revocations").worked().contains("tenants/acme/applications/crm"));
    let story = desk.run("audit list acme --action RevokeTokens").worked();
    assert!(story.contains("all tokens were revoked: lost"), "{story}");
    desk.fails("revoke-tokens --user acme/missing --yes", 3, "tenants/acme/users/missing");
    desk.fails("revoke-tokens", 2, "<NAME>");
}

#[test]
fn failed_command_prints_reason_and_sets_exit_code() {
    let desk = Desk::new(&[]);
    desk.run("tenant create acme").worked();
    desk.fails("tenant show missing", 3, "tenants/missing does not exist (NOT_FOUND)");
    desk.fails("tenant create acme", 1, "tenants/acme already exists (ALREADY_EXISTS)");
    desk.fails("tenant create Acme!", 2, "tenant_id must be 1 to 63 of");
    desk.fails("application create acme --display-name x --expire-time yesterday", 2, "never");
    desk.fails("application create acme --display-name x --scope nope", 2, "SCOPE_NOT_ALLOWED");
    desk.fails("tenant update acme --display-name x --etag r9", 1, "ETAG_MISMATCH");
    desk.fails("tenant frobnicate", 2, "unrecognized subcommand");

    let unauthenticated = desk.run_as(&desk.id, "kws_wrong", "tenant list");
    assert_eq!(unauthenticated.code, Some(4), "{unauthenticated:?}");
    let unreachable =
        Finished::of(&mut keyward(["tenant", "list", "--server", "http://127.0.0.1:1"]));
    assert_eq!(unreachable.code, Some(5), "{unreachable:?}");
    assert!(unreachable.stderr.contains("keyward serve"), "the error has a hint: {unreachable:?}");
    let unset = Finished::of(&mut keyward(["tenant", "list", "--server", &desk.serving.grpc]));
    assert_eq!(unset.code, Some(2));
    assert!(unset.stderr.contains("KEYWARD_CLIENT_ID"), "{unset:?}");
}

#[test]
fn invalid_profile_is_refused_with_file_and_line() {
    let desk = Desk::new(&[]);
    let file = desk.folder.path().join("profile.toml");
    let apply = format!("apply {}", file.display());
    fs::write(&file, "tenant = \"acme\"\n[[scopes]]\nname = \"a\"\ndescripton = \"x\"\n").unwrap();
    desk.fails(&apply, 2, "descripton");
    desk.fails(&apply, 2, "line 4");
    fs::write(&file, "tenant = \"acme\"\n[[scopes]]\nname = \"a b\"\n").unwrap();
    desk.fails(&apply, 2, "profile.scopes[0].name must be");
    fs::write(&file, "tenant = \"acme\"\n").unwrap();
    desk.fails(&apply, 2, "missing field `scopes`");
    fs::write(&file, "tenant = \"acme\"\n[[scopes]]\nname = \"tenants/x/scopes/a\"\n").unwrap();
    desk.fails(&apply, 2, "another tenant");
    fs::write(&file, "[[scopes]]\nname = \"a\"\n").unwrap();
    desk.fails(&apply, 2, "--tenant");
    desk.fails("apply nowhere.toml", 2, "nowhere.toml");
    assert_eq!(desk.run("tenant show acme").code, Some(3), "nothing was created");
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Finished::of(&mut keyward(["completions", shell])).worked();
        assert!(script.contains("introspect"), "{shell}");
    }
}

#[test]
fn every_shipped_profile_applies() {
    let desk = Desk::new(&[]);
    let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/profiles");
    let mut applied = 0;
    for entry in fs::read_dir(profiles).unwrap() {
        let apply = format!("apply {}", entry.unwrap().path().display());
        assert_ne!(desk.run(&format!("{apply} -o json")).json(), serde_json::json!([]));
        assert_eq!(desk.run(&format!("{apply} -o json")).json(), serde_json::json!([]), "{apply}");
        applied += 1;
    }
    assert_eq!(applied, 5);
}

#[test]
fn shipped_profile_rules_use_every_scope() {
    let names = |list: Option<&toml::Value>| -> BTreeSet<String> {
        let each = list.and_then(toml::Value::as_array).into_iter().flatten();
        each.map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    for profile in ["vcc", "voiso"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = path.join(format!("deploy/profiles/{profile}.toml"));
        let table: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
        let scopes = table["scopes"].as_array().unwrap().iter();
        let all: BTreeSet<_> =
            scopes.map(|scope| scope["name"].as_str().unwrap().to_owned()).collect();
        let mut needed = BTreeSet::new();
        for rule in table["endpoints"].as_array().unwrap() {
            let mut scopes = names(rule.get("all_of"));
            scopes.extend(names(rule.get("any_of")));
            assert!(!scopes.is_empty(), "a rule without scopes allows everyone: {rule}");
            needed.extend(scopes);
        }
        assert_eq!(needed, all, "{profile}");
    }
}

#[test]
fn shipped_profiles_list_scopes_of_their_platforms() {
    for (profile, scopes) in [("vcc", 25), ("voiso", 21)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = path.join(format!("deploy/profiles/{profile}.toml"));
        let table: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
        let scopes_listed = table["scopes"].as_array().unwrap();
        assert_eq!(scopes_listed.len(), scopes);
        for scope in scopes_listed {
            assert!(scope["description"].as_str().is_some_and(|text| !text.is_empty()));
        }
    }
}
