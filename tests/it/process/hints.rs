//! Errors: hints with similar names, and JSON objects for scripts.

use serde_json::{Value, json};

use super::binary::{Finished, keyward};
use super::commands::Desk;

fn desk() -> Desk {
    let desk = Desk::new(&[]);
    desk.run("tenant create acme").worked();
    desk.run("scope create acme/campaigns.read").worked();
    desk.run("role create acme/editor --permission users.view").worked();
    desk.run("user create acme/sam --role editor").worked();
    desk.run("application create acme/crm --display-name CRM").worked();
    desk
}

#[test]
fn unknown_name_gets_hint_with_similar_name() {
    let desk = desk();
    for (line, similar) in [
        ("tenant show acmee", "acme"),
        ("role show acme/edtor", "acme/editor"),
        ("user update acme/sem --display-name X", "acme/sam"),
        ("application delete acme/crn --yes", "acme/crm"),
        ("credential list acme/crn", "acme/crm"),
        ("scope show acme/campaings.read", "acme/campaigns.read"),
        ("application create acme/x --display-name X --role editro", "acme/editor"),
        ("role list acmee", "acme"),
        ("audit list acmee", "acme"),
        ("usage acme/crn", "acme/crm"),
        ("revoke-tokens acme/crn --yes", "acme/crm"),
    ] {
        desk.fails(line, 3, &format!("; did you mean {similar}?"));
    }
    let scope = "application update acme/crm --scope campaings.read";
    desk.fails(scope, 2, "; did you mean campaigns.read?");
    let far = desk.run("role show acme/something");
    assert!(!far.stderr.contains("did you mean"), "{far:?}");
}

#[test]
fn hint_has_only_names_visible_to_caller() {
    let desk = desk();
    let show = "application show acme/crn";
    desk.fails(show, 3, "did you mean acme/crm?");
    let seen = desk.run(&format!("{show} --as-user acme/sam"));
    assert!(!seen.stderr.contains("acme/crm"), "{seen:?}");
}

fn error(finished: &Finished) -> Value {
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    serde_json::from_str(&finished.stderr).unwrap()
}

#[test]
fn json_output_prints_error_as_object() {
    let desk = desk();
    let missing = desk.run("role show acme/edtor -o json");
    let wanted = json!({
        "reason": "NOT_FOUND",
        "message": "tenants/acme/roles/edtor does not exist; did you mean acme/editor?",
        "violations": [],
        "metadata": {},
        "exit_code": 3,
    });
    assert_eq!((error(&missing), missing.code), (wanted, Some(3)));
    let wrong = desk.run("tenant create Acme! --output json");
    let wrong = error(&wrong);
    assert_eq!((&wrong["reason"], &wrong["exit_code"]), (&"INVALID_FIELD".into(), &2.into()));
    assert_eq!(wrong["violations"][0]["field"], "tenant_id");
    let refused =
        error(&desk.run("role delete acme/editor --as-user acme/sam --yes --output=json"));
    assert_eq!(refused["reason"], "PERMISSION_DENIED");
    assert_eq!(refused["metadata"]["permission"], "roles.edit");
    for line in ["role shwo acme/x -o json", "role create acme -ojson"] {
        let usage = desk.run(line);
        assert_eq!((usage.code, &error(&usage)["reason"]), (Some(2), &"USAGE".into()), "{line}");
    }
    let away = "tenant list -o json --server http://127.0.0.1:1 --api-key k".split(' ');
    let away = Finished::of(&mut keyward(away));
    assert_eq!((error(&away)["reason"].as_str(), away.code), (Some("UNREACHABLE"), Some(5)));
}
