//! Commands of all resources have the same form, and secrets can be passed off the command line.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::binary::{Finished, keyward};
use super::commands::Desk;

/// Runs a command with this text on its standard input.
pub(super) fn with_input(mut command: Command, input: &str) -> Finished {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn every_resource_command_takes_a_path() {
    let desk = Desk::new(&[]);
    for (kind, path, flags) in [
        ("tenant", "acme", ""),
        ("scope", "acme/campaigns.read", ""),
        ("role", "acme/ed", " --scope campaigns.read"),
        ("user", "acme/sam", " --role ed"),
        ("application", "acme/crm", " --display-name CRM"),
    ] {
        let made = desk.run(&format!("{kind} create {path}{flags} -o name")).worked();
        assert_eq!(desk.run(&format!("{kind} show {path} -o name")).worked(), made);
        assert_eq!(desk.run(&format!("{kind} show {} -o name", made.trim())).worked(), made);
        let place = path.rsplit_once('/').map_or("", |(tenant, _)| tenant);
        let listed = desk.run(format!("{kind} list {place} -o name").replace("  ", " ").as_str());
        assert!(listed.worked().contains(&made), "{kind}");
        let named = desk.run(&format!("{kind} update {path} --display-name X -o json")).json();
        assert_eq!(named["display_name"], "X");
    }
    let made = desk.run("application create acme --display-name Y -o name").worked();
    assert!(made.starts_with("tenants/acme/applications/"), "the server makes an id: {made}");
    desk.fails("credential create acme/crm -o name", 2, "prints no secret");
    let credential = desk.run("credential create acme/crm -o json").json();
    let name = credential["name"].as_str().unwrap();
    desk.run(&format!("credential update {name} --display-name Z")).worked();
    for (kind, path) in
        [("application", "acme/crm"), ("user", "acme/sam"), ("role", "acme/ed"), ("tenant", "acme")]
    {
        let force = if kind == "tenant" { " --force" } else { "" };
        desk.run(&format!("{kind} delete {path} --yes{force}")).worked();
        assert_eq!(desk.run(&format!("{kind} show {path}")).code, Some(3), "{kind}");
    }
    for (line, says) in [
        ("role create acme", "write acme/ID"),
        ("credential show acme", "write acme/APPLICATION/ID"),
        ("credential create acme", "write acme/ID"),
        ("user show tenants/acme/roles/ed", "is not the name of a user"),
        ("user create acme --id sam", "unexpected argument"),
    ] {
        desk.fails(line, 2, says);
    }
}

#[test]
fn several_resources_are_deleted_in_one_command() {
    let desk = Desk::new(&[]);
    desk.run("tenant create acme").worked();
    desk.run("role create acme/a").worked();
    desk.run("role create acme/b").worked();
    let mixed = desk.run("role delete acme/a acme/nothing acme/b --yes -o json");
    assert_eq!(mixed.code, Some(1), "{mixed:?}");
    let rows: serde_json::Value = serde_json::from_str(&mixed.stdout).unwrap();
    let rows: Vec<_> = rows.as_array().unwrap().iter().map(|row| &row["reason"]).collect();
    assert_eq!(rows, [&serde_json::Value::Null, &"NOT_FOUND".into(), &serde_json::Value::Null]);
    assert_eq!(desk.run("role list acme -o name").worked(), "");
}

#[test]
fn secrets_are_read_from_files_and_stdin() {
    let desk = Desk::new(&[]);
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (id, secret) = desk.admin();
    let secret_file = file("secret", secret);
    let anonymous = |line: &str| {
        let mut command = keyward(line.split(' '));
        command.env("KEYWARD_SERVER", &desk.serving().grpc);
        command
    };
    let of_file = format!("tenant list --client-id {id} --client-secret-file {secret_file}");
    Finished::of(&mut anonymous(&of_file)).worked();
    let of_stdin = format!("tenant list --client-id {id} --client-secret-file -");
    with_input(anonymous(&of_stdin), &format!("{secret}\n")).worked();
    assert_eq!(with_input(anonymous(&of_stdin), "wrong").code, Some(4));
    let empty = with_input(anonymous(&of_stdin), "\n");
    assert_eq!(empty.code, Some(2), "{empty:?}");

    let key = desk.run("credential create system/admin --kind api-key --columns name -o json");
    let key_file = file("key", key.json()["secret"].as_str().unwrap());
    Finished::of(&mut anonymous(&format!("tenant list --api-key-file {key_file}"))).worked();

    let token = desk.run("token").worked();
    let token_file = file("token", &token);
    for command in ["introspect", "verify", "check --audience keyward"] {
        desk.run(&format!("{command} --token-file {token_file}")).worked();
    }
    let answer = with_input(desk.command("revoke --token-file -"), &token);
    assert_eq!(answer.worked(), "the token is refused from now on\n");
    desk.fails(&format!("introspect --token-file {token_file}x"), 2, "No such file");
    desk.fails(&format!("introspect --token-file {token_file} TOKEN"), 2, "cannot be used with");
    desk.fails("introspect", 2, "<TOKEN");
}

#[test]
fn profile_is_read_from_stdin() {
    let desk = Desk::new(&[]);
    let profile = "tenant = \"acme\"\nscopes = [{ name = \"calls.read\" }]\n";
    with_input(desk.command("apply -"), profile).worked();
    assert_eq!(desk.run("scope list acme -o name").worked(), "tenants/acme/scopes/calls.read\n");
}
