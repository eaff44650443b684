//! Credentials with a token of a platform in place of a secret, at the command line.

use std::fs;

use keyward::internals::clock::Clock;
use serde_json::json;
use tempfile::TempDir;

use super::binary::Finished;
use super::commands::Desk;
use crate::documents::read;
use crate::harness::signer::Signer;

fn acme(desk: &Desk) {
    for line in [
        "tenant create acme",
        "scope create acme/a",
        "application create acme/crm --display-name CRM --scope a",
    ] {
        desk.run(line).worked();
    }
}

/// Runs a command without the administrator's credential.
fn run_as_client(desk: &Desk, line: &str) -> Finished {
    let mut command = desk.command(line);
    Finished::of(command.env_remove("KEYWARD_CLIENT_ID").env_remove("KEYWARD_CLIENT_SECRET"))
}

#[test]
fn file_of_the_platform_is_read_at_each_use() {
    let (desk, folder) = (Desk::new(&[]), TempDir::new().unwrap());
    acme(&desk);
    let signer = Signer::new("ES256");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let jwks = file("jwks.json", &json!({ "keys": [signer.jwk()] }).to_string());
    let trust = "--issuer https://issuer.example --subject job --audience us --audience them \
                 --claim env=prod --claim /a/b=1 --claim-prefix path=acme/";
    let create = format!("credential create acme/crm --kind federated {trust} --jwks {jwks}");
    let made =
        desk.run(&format!("{} -o json", create.split_whitespace().collect::<Vec<_>>().join(" ")));
    assert!(!made.stderr.contains("secret"), "{made:?}");
    let made = made.json();
    assert_eq!((&made["kind"], &made["secret"]), (&json!("federated"), &json!(null)));
    let expected = json!({
        "issuer": "https://issuer.example",
        "keys": { "jwks": { "keys": [signer.jwk()] } },
        "subject": "job",
        "audiences": ["us", "them"],
        "claims": [
            { "name": "env", "equals": "prod" },
            { "name": "/a/b", "equals": "1" },
            { "name": "path", "prefix": "acme/" },
        ],
    });
    assert_eq!((&made["federated"], &made["public_key"]), (&expected, &json!(null)));
    let id = made["client_id"].as_str().unwrap();

    let now = Clock::system().now().as_second();
    let token_of = |subject: &str| {
        let claims = json!({
            "iss": "https://issuer.example", "sub": subject, "aud": "us", "exp": now + 600,
            "env": "prod", "a": { "b": 1 }, "path": "acme/crm",
        });
        signer.token(&json!({}), &claims)
    };
    let path = file("token", &token_of("other"));
    let line = format!("token --client-id {id} --federated {path}");
    assert_eq!(run_as_client(&desk, &line).code, Some(4));
    file("token", &token_of("job"));
    let token = run_as_client(&desk, &line).worked();
    let shown = desk.run(&format!("introspect {} -o json", token.trim())).json();
    assert_eq!((&shown["active"], &shown["client_id"]), (&json!(true), &json!(id)));

    // Another application exchanges the same file.
    let gateway = "application create acme/gateway --display-name Gateway";
    desk.run(&format!("{gateway} --exchange-audience tenants/acme")).worked();
    let client = desk.run("credential create acme/gateway -o json").json();
    let (by, secret) = (client["client_id"].as_str().unwrap(), client["secret"].as_str().unwrap());
    let child = desk.run_as(by, secret, &format!("exchange --subject-token {path}")).worked();
    let claims = desk.run(&format!("verify {}", child.trim())).json();
    assert_eq!(claims["parents"][0]["client_id"], id);

    let nameless = run_as_client(&desk, &format!("token --federated {path}"));
    assert!(nameless.stderr.contains("--client-id"), "{nameless:?}");
    let missing = run_as_client(&desk, &format!("token --client-id {id} --federated /no/file"));
    assert_eq!(missing.code, Some(2), "{missing:?}");
    let both = format!("token --federated {path} --private-key {path}");
    desk.fails(&both, 2, "cannot be used");
}

#[test]
fn flags_of_a_trust_belong_together() {
    let desk = Desk::new(&[]);
    acme(&desk);
    let create = "credential create acme/crm --kind federated";
    let issuer = "--issuer https://issuer.example";
    for (line, says) in [
        (create.to_owned(), "federated"),
        (format!("{create} --subject job"), "--issuer"),
        (format!("{create} --claim a=b"), "--issuer"),
        (format!("{create} {issuer} --claim a"), "NAME=VALUE"),
        (format!("{create} {issuer}"), "federated.subject"),
        (format!("{create} {issuer} --subject job:*"), "prefix"),
        (format!("{create} {issuer} --claim-prefix sub=acme"), "must end with / or :"),
        (format!("credential create acme/crm {issuer} --subject job"), "does not fit"),
        (format!("{create} {issuer} --ca-file Cargo.toml --subject job"), "cannot be used"),
    ] {
        let finished = desk.run(&line);
        assert_eq!(finished.code, Some(2), "{line}: {finished:?}");
        assert!(finished.stderr.contains(says), "{line}: {finished:?}");
    }
}

/// Registering fetches nothing, so each command of the page works without its platform.
#[test]
fn commands_of_the_page_work() {
    let (desk, folder) = (Desk::new(&[]), TempDir::new().unwrap());
    acme(&desk);
    let jwks = folder.path().join("cluster.json");
    let set = json!({ "keys": [Signer::new("RS256").jwk()] });
    fs::write(&jwks, set.to_string()).unwrap();
    let page = read("proto/FEDERATION.md").replace("\\\n", " ");
    let commands = page.lines().filter(|line| line.starts_with("keyward credential create"));
    let mut count = 0;
    for command in commands {
        let words: Vec<_> = command.split_whitespace().skip(1).collect();
        let line = words.join(" ").replace("cluster.json", jwks.to_str().unwrap());
        desk.run(&line).worked();
        count += 1;
    }
    assert_eq!(count, 8);
}
