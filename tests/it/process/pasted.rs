//! Pasted tokens and secrets with whitespace around them, and commands that report only what
//! happened.

use std::io::pipe;

use serde_json::Value;

use super::binary::{Finished, keyward};
use super::commands::Desk;

fn run(desk: &Desk, command: &str, token: &str) -> Finished {
    Finished::of(desk.command(command).arg(token))
}

fn token(desk: &Desk) -> String {
    desk.run("token").worked().trim().to_owned()
}

fn is_active(desk: &Desk, token: &str) -> bool {
    desk.run(&format!("introspect {token} -o json")).json()["active"].as_bool().unwrap()
}

#[test]
fn pasted_token_is_revoked() {
    let desk = Desk::new(&[]);
    for (before, behind) in
        [("", " "), (" ", ""), ("", "\n"), ("", "\r\n"), ("Bearer ", ""), ("\u{feff}", "\u{200b}")]
    {
        let token = token(&desk);
        let pasted = format!("{before}{token}{behind}");
        assert_eq!(run(&desk, "introspect -o json", &pasted).json()["active"], true, "{pasted:?}");
        assert_eq!(run(&desk, "verify", &pasted).json()["tenant"], "system", "{pasted:?}");
        let said = run(&desk, "revoke", &pasted).worked();
        assert_eq!(said, "the token is refused from now on\n");
        assert!(!is_active(&desk, &token), "{pasted:?}");
    }
}

#[test]
fn revoke_of_inactive_token_reports_no_success() {
    let desk = Desk::new(&[]);
    let live = token(&desk);
    let gone = token(&desk);
    run(&desk, "revoke", &gone).worked();
    for wrong in [&live[1..], &live[..live.len() - 1], "garbage", "Bearer", &gone] {
        let finished = run(&desk, "revoke", wrong);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(3), ""), "{wrong}");
        assert!(finished.stderr.contains("no token was revoked"), "{finished:?}");
    }
    assert_eq!(run(&desk, "revoke", " ").code, Some(2), "there is none");
    assert!(is_active(&desk, &live));
    let (id, _) = desk.admin();
    let one = format!("revoke-tokens system/admin/{id} --token-id 0123456789abcdef");
    assert!(desk.run(&one).worked().contains("if there is one"));
    desk.run("tenant create acme").worked();
    desk.run("user create acme/sam").worked();
    desk.fails("revoke-tokens --user acme/sam --yes", 3, "owns no application");
}

#[tokio::test(flavor = "multi_thread")]
async fn pasted_secret_is_accepted_by_every_interface() {
    let desk = Desk::new(&[]);
    let (id, secret) = desk.admin();
    for (id, secret) in [
        (id.to_owned(), format!("{secret}\n")),
        (format!("{id}\n"), secret.to_owned()),
        (format!(" {id}"), format!(" {secret}\r\n")),
    ] {
        desk.run_as(&id, &secret, "tenant list").worked();
        let http = format!("{}/oauth2", desk.serving().http);
        let form = [("client_id", id.as_str()), ("client_secret", secret.as_str())];
        let ask = |path: &str, more: [(&'static str, String); 1]| {
            let form: Vec<_> =
                form.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            let request = reqwest::Client::new().post(format!("{http}/{path}"));
            request.form(&[form, more.to_vec()].concat()).send()
        };
        let answer = ask("token", [("grant_type", "client_credentials".to_owned())]).await.unwrap();
        assert_eq!(answer.status(), 200, "{id:?} {secret:?}");
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let token = format!("Bearer {}\n", answer["access_token"].as_str().unwrap());
        let info = ask("introspect", [("token", token.clone())]).await.unwrap();
        assert!(info.text().await.unwrap().contains("\"active\":true"));
        assert_eq!(ask("revoke", [("token", token.clone())]).await.unwrap().status(), 200);
        let info = ask("introspect", [("token", token)]).await.unwrap();
        assert_eq!(info.text().await.unwrap(), "{\"active\":false}");
    }
    let server = format!("{}\n", desk.serving().grpc);
    Finished::of(desk.command("tenant list").env("KEYWARD_SERVER", server)).worked();
}

#[test]
fn setting_with_trailing_newline_works() {
    let shown = Finished::of(
        keyward(["config", "-o", "json"])
            .env("KEYWARD_ISSUER", "https://id.example.com\n")
            .env("KEYWARD_LIMITS_REQUEST_TIMEOUT", " 10s\r\n")
            .env("KEYWARD_LIMITS_MAX_CONNECTIONS", "100\n"),
    )
    .json();
    let shown = shown.to_string();
    for value in ["\"https://id.example.com\"", "\"10s\"", "\"100\""] {
        assert!(shown.contains(value), "{value} is not in {shown}");
    }
}

#[test]
fn verify_lists_unchecked_claims() {
    let desk = Desk::new(&[]);
    let token = token(&desk);
    let issuer = &desk.serving().http;
    let none = run(&desk, "verify", &token);
    let said = none.stderr.clone();
    none.worked();
    for part in ["not checked", "--issuer", issuer, "--audience", "keyward", "revoked"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let both = run(&desk, &format!("verify --issuer {issuer} --audience keyward"), &token);
    assert!(!both.stderr.contains("--issuer") && !both.stderr.contains("--audience"), "{both:?}");
    both.worked();
    let other = run(&desk, "verify --audience elsewhere", &token);
    assert_eq!((other.code, other.stdout.as_str()), (Some(1), ""), "{other:?}");
    assert!(other.stderr.contains("not for elsewhere"), "{other:?}");
}

#[test]
fn address_with_port_or_zone_is_accepted() {
    let desk = Desk::new(&[]);
    let token = token(&desk);
    for address in ["203.0.113.9:1234", "[2001:db8::1]:443", "[2001:db8::1]", "fe80::1%eth0"] {
        let check = format!("check --audience keyward --source-address {address} -o json");
        assert_eq!(run(&desk, &check, &token).json()["outcome"], "allowed", "{address}");
    }
    let check = "check --audience keyward --source-address 203.0.113.9:99999";
    assert_eq!(run(&desk, check, &token).code, Some(2));
}

#[test]
fn closed_output_pipe_ends_command_quietly() {
    let desk = Desk::new(&[]);
    let shells = ["bash", "zsh", "fish", "elvish", "powershell"];
    let scripts = shells.iter().map(|shell| format!("completions {shell}"));
    let others =
        ["--help", "config", "config -o json", "jwks", "tenant list", "token", "audit list system"];
    for line in scripts.chain(others.map(str::to_owned)) {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let child = desk.command(&line).stdout(writer).stderr(std::process::Stdio::piped()).spawn();
        let finished = Finished::from(child.unwrap().wait_with_output().unwrap());
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{line}");
    }
}

#[test]
fn dry_run_fails_like_the_real_run() {
    let desk = Desk::new(&[]);
    desk.run("apply deploy/profiles/voiso.toml --tenant acme").worked();
    for n in 0..12 {
        let create = format!("application create acme/app-{n} --display-name A --scope users.read");
        desk.run(&create).worked();
    }
    let apply = "apply deploy/profiles/vcc.toml --tenant acme";
    let run = desk.run(apply);
    let dry = desk.run(&format!("{apply} --dry-run"));
    assert_eq!((dry.code, &dry.stderr), (run.code, &run.stderr));
    assert_eq!(dry.code, Some(1), "{dry:?}");
    for part in ["IN_USE", "and 2 more", "--force"] {
        assert!(dry.stderr.contains(part), "{part}: {}", dry.stderr);
    }
    let forced = desk.run(&format!("{apply} --dry-run --force -o json")).json();
    assert!(forced.as_array().unwrap().iter().any(|change| change["affected_applications"] == 12));
    desk.run(&format!("{apply} --force")).worked();
}
