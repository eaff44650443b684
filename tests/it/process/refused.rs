//! The log of refused requests: few lines, each with the client and the source.

use keyward::internals::domain::{CredentialId, SecretKind};
use keyward::internals::secrets::{Prefixes, random};
use serde_json::Value;

use super::commands::Desk;
use crate::harness::until_some;

/// The lines of a module, as their fields.
fn lines(log: &str, target: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["target"] == target).map(|mut line| line["fields"].take()).collect()
}

/// A well-formed secret that is wrong.
fn wrong_secret(id: &str) -> String {
    let id = CredentialId::parse(id).unwrap();
    let secret = Prefixes::default().generate(SecretKind::ClientSecret, &id).unwrap();
    secret.expose().to_owned()
}

async fn ask(desk: &Desk, id: &str, secret: &str) -> u16 {
    let request = reqwest::Client::new()
        .post(format!("{}/oauth2/token?x=1", desk.serving().http))
        .basic_auth(id, Some(secret))
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("x-request-id", "r-17")
        .form(&[("grant_type", "client_credentials")]);
    request.send().await.unwrap().status().as_u16()
}

/// The number of individual lines of a kind, and the sum of its count lines.
fn counts_of(lines: &[Value], kind: &str, client: &str) -> (usize, u64) {
    let of_it = lines.iter().filter(|line| line["kind"] == kind && line["client"] == client);
    let (first, counts): (Vec<_>, Vec<_>) = of_it.partition(|line| line["more"].is_null());
    for line in &first {
        assert_eq!(line["source"], "127.0.0.1", "{line}");
    }
    (first.len(), counts.iter().map(|line| line["more"].as_u64().unwrap()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_secrets_and_lockouts_are_logged_once_and_counted() {
    let desk = Desk::new(&[]);
    desk.run("tenant create acme").worked();
    desk.run("application create acme/crm --display-name CRM").worked();
    let made = desk.run("credential create acme/crm -o json").json();
    let id = made["client_id"].as_str().unwrap();
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(ask(&desk, id, &wrong_secret(id)).await);
    }
    assert_eq!(answers[..20], [401; 20]);
    assert_eq!(answers[20..], [429; 10]);
    let unknown = random::id(jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(ask(&desk, &unknown, &wrong_secret(&unknown)).await, 401);
    assert_eq!(ask(&desk, &unknown, "not a secret").await, 401);

    let log = desk.stop_with_log();
    let lines = lines(&log, "keyward::refused");
    assert_eq!(counts_of(&lines, "wrong_secret", id), (1, 19), "{lines:?}");
    assert_eq!(counts_of(&lines, "locked_out", id), (1, 9), "{lines:?}");
    assert_eq!(counts_of(&lines, "wrong_secret", &unknown), (1, 1), "{lines:?}");
    crate::harness::secret_free(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_client_ids_from_one_source_write_few_lines() {
    const MANY: u64 = 300;
    let desk = Desk::new(&[]);
    for _ in 0..MANY {
        let id = random::id(jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(ask(&desk, &id, "kws_short").await, 401);
    }
    let lines = lines(&desk.stop_with_log(), "keyward::refused");
    let firsts = lines.iter().filter(|line| line["more"].is_null()).count() as u64;
    let more: u64 = lines.iter().filter_map(|line| line["more"].as_u64()).sum();
    assert!(firsts <= 17, "{firsts} lines");
    assert_eq!(firsts + more, MANY, "nothing is lost: {lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn permission_token_and_limit_refusals_are_logged() {
    let desk = Desk::new(&[]);
    let create = "application create system/checker --display-name C --scope keyward.verify \
                  --limit-tokens 2 --limit-window 24h";
    desk.run(create).worked();
    let made = desk.run("credential create system/checker -o json").json();
    let text = |member: &str| made[member].as_str().unwrap().to_owned();
    let (id, secret) = (text("client_id"), text("secret"));
    for (n, code) in [4, 4, 1, 1].into_iter().enumerate() {
        // The first two tokens may not list tenants. The token limit refuses further exchanges.
        assert_eq!(desk.run_as(&id, &secret, "tenant list").code, Some(code), "{n}");
    }
    for _ in 0..3 {
        let mut command = desk.command("tenant list");
        command.env_remove("KEYWARD_CLIENT_ID").env("KEYWARD_API_KEY", "garbage");
        assert_eq!(command.output().unwrap().status.code(), Some(4));
    }
    let lines = lines(&desk.stop_with_log(), "keyward::refused");
    assert_eq!(counts_of(&lines, "permission_denied", &id), (1, 1), "{lines:?}");
    assert_eq!(counts_of(&lines, "invalid_token", "unknown"), (1, 2), "{lines:?}");
    let limit = lines.iter().find(|line| line["kind"] == "limit_reached").unwrap();
    assert_eq!(limit["client"], "tenants/system/applications/checker", "{limit}");
    let denied = lines.iter().find(|line| line["kind"] == "permission_denied").unwrap();
    assert_eq!(denied["detail"], "/keyward.admin.v1.TenantService/ListTenants");
}

#[tokio::test(flavor = "multi_thread")]
async fn lockout_is_recorded_in_tenant_audit_log() {
    let desk = Desk::with(&[], &[("KEYWARD_SECRETS_WRONG_SECRETS", "2")]);
    desk.run("tenant create acme").worked();
    desk.run("application create acme/crm --display-name CRM").worked();
    let made = desk.run("credential create acme/crm -o json").json();
    let id = made["client_id"].as_str().unwrap();
    for _ in 0..5 {
        ask(&desk, id, &wrong_secret(id)).await;
    }
    let list = "audit list acme --action LockOut -o json";
    let events = until_some("a background task writes the event", async || {
        Some(desk.run(list).json()).filter(|events| *events != serde_json::json!([]))
    })
    .await;
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    let event = &events[0];
    assert_eq!(event["resource"], format!("tenants/acme/applications/crm/credentials/{id}"));
    assert_eq!((&event["outcome"], &event["service"]), (&"refused".into(), &"keyward".into()));
    let detail = event["detail"].as_str().unwrap();
    assert!(detail.contains("2 wrong secrets of this client within 60 s"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn enabled_access_log_has_a_line_per_request() {
    for (wanted, count) in [("false", 0), ("true", 3)] {
        let variables = [("KEYWARD_TELEMETRY_ACCESS_LOG", wanted)];
        let desk = Desk::with(&[], &variables);
        let (id, secret) = desk.admin();
        let id = id.to_owned();
        assert_eq!(ask(&desk, &id, secret).await, 200);
        // One request for the token, one for the list.
        desk.run("tenant list").worked();
        let log = desk.stop_with_log();
        crate::harness::secret_free(&log);
        let lines = lines(&log, "keyward::access");
        assert_eq!(lines.len(), count, "{lines:?}");
        let Some(line) = lines.first() else { continue };
        let fields = [
            ("face", "http"),
            ("method", "/oauth2/token"),
            ("status", "200"),
            ("tenant", "system"),
            ("client_id", &id),
            ("source", "127.0.0.1"),
            ("request_id", "r-17"),
        ];
        for (field, value) in fields {
            assert_eq!(line[field], value, "{line}");
        }
        assert!(line["ms"].as_f64().unwrap() > 0.0, "{line}");
        assert_eq!(lines[2]["method"], "/keyward.admin.v1.TenantService/ListTenants");
        assert_eq!((&lines[2]["status"], &lines[2]["client_id"]), (&"0".into(), &id.into()));
    }
}
