//! The commands for people, policies, the audit log and use, against a real server.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::binary::Finished;
use super::commands::Desk;
use crate::harness::{fresh_database, until_blocking};

#[test]
fn tenant_administration_works_on_sqlite() {
    administer(&Desk::new(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_administration_works_on_postgresql() {
    let url = fresh_database().await;
    tokio::task::spawn_blocking(move || administer(&Desk::new(&["--database-url", &url])))
        .await
        .unwrap();
}

/// All scenarios on one server, each with its own tenant.
fn administer(desk: &Desk) {
    users_act_within_their_roles(desk);
    deleted_users_hand_over_applications(desk);
    audit_log_shows_history_of_credential(desk);
    policy_is_set_field_by_field(desk);
    partial_limits_keep_other_limits(desk);
    profile_sets_endpoint_rules(desk);
    several_applications_are_deleted_together(desk);
    usage_is_counted(desk);
}

/// A tenant with two scopes, a role for members and one for auditors, and its users.
fn tenant_with(desk: &Desk, tenant: &str, users: &[(&str, &str)]) {
    desk.run(&format!("tenant create {tenant}")).worked();
    desk.run(&format!("scope create {tenant}/users.read --display-name Users")).worked();
    desk.run(&format!("scope create {tenant}/campaigns.read")).worked();
    let member = format!(
        "role create {tenant}/member --display-name Member --scope users.read \
         --permission applications.view.own --permission applications.create.own \
         --permission applications.edit.own --permission applications.delete.own"
    );
    desk.run(&member).worked();
    let auditor = format!("role create {tenant}/auditor --permission audit.view");
    desk.run(&auditor).worked();
    for (user, role) in users {
        desk.run(&format!("user create {tenant}/{user} --role {role}")).worked();
    }
}

fn column(values: &Value, member: &str) -> Vec<String> {
    let each = values.as_array().unwrap().iter();
    each.map(|value| value[member].as_str().unwrap().to_owned()).collect()
}

/// A new credential's id and secret.
fn credential(desk: &Desk, of: &str) -> (String, String) {
    let made = desk.run(&format!("credential create {of} -o json")).json();
    let text = |member: &str| made[member].as_str().unwrap().to_owned();
    (text("client_id"), text("secret"))
}

fn users_act_within_their_roles(desk: &Desk) {
    tenant_with(desk, "acme", &[("sam", "member"), ("eve@acme.example", "acme/auditor")]);
    let sam = |line: &str| desk.run(&format!("{line} --as-user acme/sam"));
    let shown = desk.run("user show acme/sam -o json").json();
    assert_eq!(shown["roles"], json!(["tenants/acme/roles/member"]));
    let both = "user update acme/sam --role member --role acme/auditor --display-name Sam -o json";
    let roles = desk.run(both).json()["roles"].clone();
    assert_eq!(roles, json!(["tenants/acme/roles/auditor", "tenants/acme/roles/member"]));
    desk.run("user update acme/sam --role member").worked();
    let kim = desk.run("user update acme/kim --allow-missing --disabled true -o json").json();
    assert_eq!((&kim["disabled"], &kim["roles"]), (&true.into(), &json!([])));
    desk.fails("user update acme/lee --disabled true", 3, "acme/users/lee does not exist");
    let listed = desk.run("user list acme").worked();
    assert!(listed.contains("acme/sam") && listed.contains("Sam"), "{listed}");
    assert!(!listed.contains("tenants/"), "names are short in a table: {listed}");

    let mine = sam("application create acme/mine --display-name Mine --scope users.read \
                    --role member --limit-requests 40 -o json")
    .json();
    assert_eq!(mine["owner"], "tenants/acme/users/sam");
    assert_eq!(mine["roles"], json!(["tenants/acme/roles/member"]));
    assert_eq!(mine["effective_scopes"], json!(["users.read"]));
    desk.run("application create acme/all --display-name All --owner account").worked();
    let seen = sam("application list acme -o json").json();
    assert_eq!(column(&seen, "name"), ["tenants/acme/applications/mine"]);
    let lists = [
        ("--account", vec!["tenants/acme"]),
        ("--owner account", vec!["tenants/acme"]),
        ("--users", vec!["tenants/acme/users/sam"]),
        ("--owner acme/sam --state active --search MIN", vec!["tenants/acme/users/sam"]),
        ("--expiring 30d", vec![]),
        ("--state disabled", vec![]),
        ("--order-by name", vec!["tenants/acme", "tenants/acme/users/sam"]),
    ];
    for (conditions, owners) in lists {
        let listed = desk.run(&format!("application list acme {conditions} -o json")).json();
        assert_eq!(column(&listed, "owner"), owners, "{conditions}");
    }
    desk.fails("application list acme --mine --users", 2, "cannot be used with");

    let refused = sam("application delete acme/all --yes");
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("applications.delete.account"), "{refused:?}");
    let refused = sam("application update acme/mine --scope campaigns.read");
    assert!(refused.stderr.contains("campaigns.read"), "{refused:?}");
    assert_eq!(sam("tenant show other").code, Some(3), "other tenants are hidden from users");
    let kim = desk.run("tenant show acme --as-user acme/kim");
    assert_eq!(kim.code, Some(4), "{kim:?}");
    let environment =
        |user: &str| Finished::of(desk.command("user list acme").env("KEYWARD_AS_USER", user)).code;
    assert_eq!((environment("acme/sam"), environment("")), (Some(4), Some(0)));

    let log = desk.run("audit list acme --actor acme/sam -o json").json();
    let what: Vec<_> = column(&log, "action").into_iter().zip(column(&log, "outcome")).collect();
    let what: Vec<_> = what.iter().map(|(what, how)| (what.as_str(), how.as_str())).collect();
    let newest_first = [
        ("UpdateApplication", "refused"),
        ("DeleteApplication", "refused"),
        ("CreateApplication", "done"),
    ];
    assert_eq!(what, newest_first);
    let eve = desk.run("audit list acme --as-user acme/eve@acme.example --action CreateTenant");
    let events = eve.worked();
    assert!(events.contains("system/admin") && events.contains("127.0.0.1"), "{events}");
    assert_eq!(sam("audit list acme").code, Some(4));

    desk.fails("role delete acme/member --yes", 1, "IN_USE");
    let changed = desk.run("role update acme/member --scope  --all-scopes true -o json").json();
    assert_eq!((&changed["scopes"], &changed["all_scopes"]), (&json!([]), &true.into()));
    desk.run("role delete acme/member --force --yes").worked();
    assert_eq!(desk.run("role show acme/member").code, Some(3));
    desk.fails("role create acme", 2, "acme/ID");
}

fn deleted_users_hand_over_applications(desk: &Desk) {
    tenant_with(desk, "leave", &[("sam", "member"), ("eve", "member")]);
    desk.run("application create leave/a --display-name A --owner leave/sam").worked();
    let (id, _) = credential(desk, "leave/a");
    desk.fails("user delete leave/sam --yes", 1, &id);
    let preview = desk.run("user delete leave/sam --preview").worked();
    for part in ["1 application with 1 credential", "leave/a\n", &id, "nothing was changed"] {
        assert!(preview.contains(part), "{part}: {preview}");
    }
    let preview = desk.run("user delete leave/sam --preview -o json").json();
    assert_eq!((&preview["outcome"], &preview["preview"]), (&"refused".into(), &true.into()));

    desk.run("tenant update leave --user-deletion hand_over").worked();
    desk.fails("user delete leave/sam --yes", 2, "hand_over_to");
    let printed = desk.run("user delete leave/sam --hand-over-to leave/eve --yes").worked();
    assert!(printed.contains("handed over to leave/eve"), "{printed}");
    assert!(printed.contains("is deleted"), "{printed}");
    let owner = desk.run("application show leave/a -o json").json()["owner"].clone();
    assert_eq!(owner, "tenants/leave/users/eve");
    desk.run("tenant update leave --user-deletion delete").worked();
    let gone = desk.run("user delete leave/eve --yes -o json").json();
    assert_eq!((&gone["outcome"], &gone["application_count"]), (&"deleted".into(), &1.into()));
    assert_eq!(desk.run("application show leave/a").code, Some(3));
}

fn audit_log_shows_history_of_credential(desk: &Desk) {
    tenant_with(desk, "life", &[("sam", "member")]);
    desk.run("tenant update life --secrets-viewable true").worked();
    desk.run("application create life/crm --display-name CRM --owner life/sam").worked();
    let made = desk.run("credential create life/crm -o json");
    assert!(!made.stderr.contains("once"), "the secret is viewable: {made:?}");
    let made = made.json();
    let (id, secret) = (made["client_id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let name = format!("life/crm/{id}");
    let revealed = desk.run(&format!("credential reveal {name}")).worked();
    assert_eq!(revealed, format!("{secret}\n"));
    let rotated = desk.run(&format!("credential rotate {name} --overlap 1h -o json")).json();
    let revealed = desk.run(&format!("credential reveal {name} -o json")).json();
    assert_eq!(revealed, json!({ "secret": rotated["secret"] }));
    let refused = desk.run(&format!("credential reveal {name} --as-user life/sam"));
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("applications.reveal.own"), "{refused:?}");
    desk.run(&format!("credential delete {name} --as-user life/sam --yes")).worked();

    let list = format!("audit list life --resource {name} --oldest-first");
    let story = desk.run(&list).worked();
    let of_it: Vec<_> = story.lines().filter(|line| line.contains(&name)).collect();
    let last_four = |secret: &str| secret[secret.len() - 4..].to_owned();
    let (old, new) = (last_four(secret), last_four(rotated["secret"].as_str().unwrap()));
    let expected = [
        ("system/admin", "CreateCredential", "done", "kind: client_secret".to_owned()),
        ("system/admin", "RevealCredential", "done", format!("the secret …{old} was shown")),
        ("system/admin", "RotateCredential", "done", format!("secrets: …{old} -> …{new}; older")),
        ("system/admin", "RevealCredential", "done", format!("the secret …{new} was shown")),
        ("life/sam", "RevealCredential", "refused", "applications.reveal.own".to_owned()),
        ("life/sam", "DeleteCredential", "done", String::new()),
    ];
    assert_eq!(of_it.len(), expected.len(), "{story}");
    for (line, (who, action, outcome, what)) in of_it.iter().zip(&expected) {
        for part in [who, action, outcome, what.as_str()] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains(secret), "{line}");
    }
    assert!(story.contains("owner: user sam"), "{story}");
    assert!(story.contains("CreateApplication"), "events of the parents are included: {story}");
    let fields = desk.run(&format!("{list} --action RotateCredential -o json")).json();
    assert_eq!(fields[0]["changes"][0]["field"], "secrets");
    assert_eq!(fields[0]["service"], "tenants/system/applications/admin");
    assert_eq!(fields.as_array().unwrap().len(), 1);
    let none = desk.run("audit list life --until 1h -o json").json();
    assert_eq!(none, json!([]), "no event is that old");
    let one = desk.run("audit list life --since 1h --limit 1");
    assert!(one.stderr.contains("there are more"), "{one:?}");
}

fn policy_is_set_field_by_field(desk: &Desk) {
    tenant_with(desk, "rules", &[]);
    desk.run("application create rules/a --display-name A").worked();
    credential(desk, "rules/a");
    credential(desk, "rules/a");
    let update = "tenant update rules --max-credentials 1 --fixed-field scopes --fixed-field roles \
                  --allowed-owner user --max-credential-lifetime 90d --default-limit-requests 40 \
                  --default-limit-window 1m --tenant-limit-tokens 100 \
                  --tenant-limit-token-window 1h --tenant-limit-observe-only true \
                  --max-limit-requests 400 -o json";
    let updated = desk.run(update);
    let violated = ["max_credentials (1)", "allowed_owners (1)", "max_credential_lifetime (2)"];
    for rule in violated {
        assert!(updated.stderr.contains(&format!("policy.{rule}: ")), "{rule}: {updated:?}");
    }
    assert!(updated.stderr.contains("tenants/rules/applications/a"), "{updated:?}");
    let mut policy = json!({
        "api_credentials_disabled": false,
        "api_credentials_disabled_by_platform": false,
        "max_credentials": 1,
        "allowed_owners": ["user"],
        "secrets_viewable": false,
        "fixed_fields": ["scopes", "roles"],
        "max_credential_lifetime": "7776000s",
        "default_limits": limits_shown(&[("requests", 40.into())]),
        "tenant_limits": limits_shown(&[
            ("tokens", 100.into()), ("token_window", "3600s".into()), ("observe_only", true.into()),
        ]),
        "max_limits": limits_shown(&[("requests", 400.into())]),
        "user_deletion": "refuse",
        "allowed_credential_kinds": [],
        "require_bound_tokens": false,
        "token_claims": {},
    });
    assert_eq!(updated.json()["policy"], policy);
    desk.fails("credential create rules/a", 1, "allowed_owners");
    desk.fails("application update rules/a --scope users.read", 1, "fixed_fields");

    let update = "tenant update rules --max-credentials 0 --default-limit-items 9 -o json";
    policy["max_credentials"] = Value::Null;
    policy["default_limits"]["items_per_request"] = 9.into();
    assert_eq!(desk.run(update).json()["policy"], policy, "the rest stays");
    let clear = "tenant update rules --fixed-field  --allowed-owner  --no-default-limits \
                 --no-tenant-limits --no-max-limits --max-credential-lifetime never -o json";
    for (field, value) in [
        ("fixed_fields", json!([])),
        ("allowed_owners", json!([])),
        ("max_credential_lifetime", Value::Null),
        ("default_limits", Value::Null),
        ("tenant_limits", Value::Null),
        ("max_limits", Value::Null),
    ] {
        policy[field] = value;
    }
    assert_eq!(desk.run(clear).json()["policy"], policy);
    desk.fails("tenant update rules --max-credentials 5 --etag r9", 1, "ETAG_MISMATCH");
    desk.fails("tenant update rules --user-deletion perhaps", 2, "hand_over");
    desk.fails("tenant update rules --allowed-owner god", 2, "user, account");
    assert!(desk.run("tenant show rules").worked().contains("policy.user_deletion"));
}

/// Limits as the command prints them. An unset window is a minute.
fn limits_shown(limits: &[(&str, Value)]) -> Value {
    let mut shown = json!({
        "requests": null, "request_window": null, "items_per_request": null,
        "tokens": null, "token_window": null, "observe_only": false,
    });
    for (name, value) in limits {
        shown[name] = value.clone();
    }
    for (number, window) in [("requests", "request_window"), ("tokens", "token_window")] {
        if shown[number].is_i64() && shown[window].is_null() {
            shown[window] = "60s".into();
        }
    }
    shown
}

fn partial_limits_keep_other_limits(desk: &Desk) {
    desk.run("tenant create limits").worked();
    desk.run("application create limits/a --display-name A").worked();
    let (id, _) = credential(desk, "limits/a");
    let credential = format!("limits/a/{id}");
    for (kind, name) in [("application", "limits/a"), ("credential", &credential)] {
        let update = format!("{kind} update {name}");
        let limits = |flags: &str| desk.run(&format!("{update} {flags} -o json")).json();
        let limits = |flags: &str| limits(flags)["limits"].clone();
        let first = limits_shown(&[("requests", 40.into())]);
        assert_eq!(limits("--limit-requests 40"), first);
        let mut all = limits_shown(&[
            ("requests", 40.into()),
            ("items_per_request", 9.into()),
            ("tokens", 5.into()),
            ("token_window", "1s".into()),
            ("observe_only", true.into()),
        ]);
        let rest = "--limit-items 9 --limit-tokens 5 --limit-token-window 1s \
                    --limit-observe-only true";
        assert_eq!(limits(rest), all);
        all["request_window"] = "120s".into();
        assert_eq!(limits("--limit-window 2m"), all);
        assert_eq!(limits("--display-name B"), all);
        let shown = desk.run(&format!("{kind} show {name}")).worked();
        for (member, value) in
            [("requests", "40"), ("token_window", "1s"), ("observe_only", "true")]
        {
            let row = shown.lines().find(|line| line.contains(&format!("limits.{member} ")));
            assert!(row.is_some_and(|row| row.trim().ends_with(value)), "{member}: {shown}");
        }
        assert_eq!(limits("--no-limits --limit-items 1"), {
            limits_shown(&[("items_per_request", 1.into())])
        });
        assert_eq!(limits("--limit-items 0"), limits_shown(&[]), "without any limit");
        assert_eq!(limits("--no-limits"), Value::Null, "without any of its own");
        desk.fails(&format!("{update} --limit-window 2d"), 2, "limits.request_window must be");
        desk.fails(&format!("{update} --limit-tokens 1000000000001"), 2, "limits.tokens must be");
    }
    let log = desk.run(&format!("audit list limits --resource {credential}")).worked();
    assert!(log.contains("40 requests in 120 s, 5 tokens in 1 s, 9 items in a request"), "{log}");
}

fn profile_sets_endpoint_rules(desk: &Desk) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("profile.toml");
    let apply = format!("apply {}", file.display());
    let profile = |rest: &str| {
        let head =
            "tenant = \"ends\"\nscopes = [{ name = \"calls.read\" }, { name = \"calls\" }]\n";
        fs::write(&file, format!("{head}{rest}")).unwrap();
    };
    let rules = r#"
        [policy.tenant_limits]
        tokens = 100
        token_window = "1h"

        [policy.max_limits]
        items_per_request = 7

        [[endpoints]]
        method = "GET"
        path = "/v1/calls/{id}"
        any_of = ["calls.read", "calls"]
        description = "Looks at a call"

        [endpoints.limits]
        requests = 10
        request_window = "1m"
        items_per_request = 5
        observe_only = true

        [[endpoints]]
        method = "*"
        path = "/v1/calls/**"
        all_of = ["calls"]
    "#;
    profile(rules);
    let dry = desk.run(&format!("{apply} --dry-run")).worked();
    for part in ["ends/endpoints/GET /v1/calls/{id}", "10 requests in 60 s", "nothing was changed"]
    {
        assert!(dry.contains(part), "{part}: {dry}");
    }
    assert_eq!(desk.run("endpoint list ends").code, Some(3));
    desk.run(&apply).worked();
    assert!(desk.run(&apply).worked().contains("nothing to change"));
    let limits = limits_shown(&[
        ("requests", 10.into()),
        ("items_per_request", 5.into()),
        ("observe_only", true.into()),
    ]);
    let listed = json!([
        {
            "method": "*", "path": "/v1/calls/**", "all_of": ["calls"], "any_of": [],
            "limits": null, "description": "",
        },
        {
            "method": "GET", "path": "/v1/calls/{id}", "all_of": [],
            "any_of": ["calls", "calls.read"], "limits": limits, "description": "Looks at a call",
        },
    ]);
    assert_eq!(desk.run("endpoint list ends --output json").json(), listed);
    let table = desk.run("endpoint list tenants/ends").worked();
    for part in
        ["ANY_OF", "/v1/calls/{id}", "calls calls.read", "requests 10", "request_window 60s"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    let one = desk.run("endpoint list ends --limit 1");
    assert!(one.stderr.contains("there are more"), "{one:?}");
    let tenant = desk.run("tenant show ends -o json").json();
    let limits = limits_shown(&[("tokens", 100.into()), ("token_window", "3600s".into())]);
    assert_eq!(tenant["policy"]["tenant_limits"], limits);
    let limits = limits_shown(&[("items_per_request", 7.into())]);
    assert_eq!(tenant["policy"]["max_limits"], limits);
    let log = desk.run("audit list ends --action CreateEndpoint").worked();
    assert!(
        log.contains("GET /v1/calls/{id}") && log.contains("any_of: calls calls.read"),
        "{log}"
    );
    desk.fails(
        "scope delete ends/calls.read --yes",
        1,
        "tenants/ends/endpoints/GET /v1/calls/{id}",
    );

    let rule = "[[endpoints]]\nmethod = \"GET\"\npath = \"/x\"\n";
    for (rest, says) in [
        ("all_of = [\"nothing\"]", "profile.endpoint_set.endpoints[0].all_of[0] must be one of"),
        ("limits = { tokens = 1 }", "profile.endpoint_set.endpoints[0].limits.tokens must be 0"),
        ("limits = { request_window = \"soon\" }", "endpoints[0].limits.request_window must be"),
        ("scopes = []", "unknown field `scopes`"),
    ] {
        profile(&format!("{rule}{rest}"));
        desk.fails(&apply, 2, says);
    }
    profile("[[endpoints]]\nmethod = \"GET\"");
    desk.fails(&apply, 2, "missing field `path`");
    assert_eq!(desk.run("endpoint list ends --output json").json(), listed, "nothing was changed");
}

fn several_applications_are_deleted_together(desk: &Desk) {
    desk.run("tenant create many").worked();
    for id in ["a", "b", "c", "kept"] {
        desk.run(&format!("application create many/{id} --display-name {id}")).worked();
    }
    desk.run("application update many/kept --protected true").worked();
    desk.fails("application delete many/a other/b --yes", 2, "one tenant");
    desk.fails("application delete many/a many/b --etag r1", 2, "etag");
    let mixed = desk.run("application delete many/a many/kept many/nothing --yes -o json");
    assert_eq!(mixed.code, Some(1), "{mixed:?}");
    assert!(mixed.stderr.contains("2 of 3"), "{mixed:?}");
    let results: Value = serde_json::from_str(&mixed.stdout).unwrap();
    let reasons: Vec<_> = results.as_array().unwrap().iter().map(|one| &one["reason"]).collect();
    assert_eq!(reasons, [&Value::Null, &"PROTECTED".into(), &"NOT_FOUND".into()]);
    desk.run("application delete many/b many/c --yes").worked();
    let left = desk.run("application list many -o json").json();
    assert_eq!(column(&left, "name"), ["tenants/many/applications/kept"]);
    desk.fails("application delete many/kept --yes", 1, "PROTECTED");
    desk.run("application update many/kept --protected false").worked();
    desk.run("application delete many/kept --yes").worked();
}

fn usage_is_counted(desk: &Desk) {
    tenant_with(desk, "used", &[]);
    for id in ["a", "b"] {
        let create = format!("application create used/{id} --display-name {id}");
        desk.run(&format!("{create} --scope users.read")).worked();
    }
    let ((used, secret), (idle, _)) = (credential(desk, "used/a"), credential(desk, "used/b"));
    let ids = |line: &str| column(&desk.run(&format!("{line} -o json")).json(), "client_id");
    assert_eq!(ids("credential list used"), [used.as_str(), &idle]);
    assert_eq!(ids("credential list used/b"), [idle.as_str()]);
    let table = desk.run("credential list tenants/used").worked();
    assert!(table.contains(&format!("used/a/{used}")), "{table}");
    desk.run(&format!("credential update used/b/{idle} --expire-time 10d")).worked();
    assert_eq!(ids("credential list used --expiring 30d"), [idle.as_str()]);
    assert_eq!(ids("credential list used --unused 90d"), [""; 0]);

    let token = desk.run_as(&used, &secret, "token").worked();
    desk.run(&format!("introspect {}", token.trim())).worked();
    // The server writes counts every few seconds, and may write these two separately.
    let sum = |days: &Value, of: &str| {
        let each = days.as_array().unwrap().iter().map(|day| day[of].as_i64().unwrap());
        each.sum::<i64>()
    };
    let mut days = Value::Null;
    until_blocking("usage is written", || {
        days = desk.run("usage used/a --since 30d -o json").json();
        sum(&days, "exchanges") + sum(&days, "checks") == 2
    });
    assert_eq!((sum(&days, "exchanges"), sum(&days, "checks")), (1, 1));
    let name = format!("tenants/used/applications/a/credentials/{used}");
    assert_eq!(days[0]["credential"], name);
    let shown = desk.run("application show used/a -o json").json();
    assert!(shown["last_use_time"].is_string() && shown["last_use_address"] == "127.0.0.1");
    assert_eq!(shown["masked_secrets"][0], format!("…{}", &secret[secret.len() - 4..]));
    let shown = desk.run(&format!("credential show used/a/{used} -o json")).json();
    assert_eq!(
        (&shown["last_use_address"], &shown["viewable"]),
        (&"127.0.0.1".into(), &false.into())
    );
    assert!(desk.run("usage used/a --until 2d").worked().lines().count() == 1, "only a header");
    desk.fails("usage used/a --since soon", 2, "a span like 90d");
}
