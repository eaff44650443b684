//! The JSON of every resource, and of its audit events, as scripts read it. Snapshots show whole
//! answers, so that a lost or renamed member is seen. `INSTA_UPDATE=always cargo test` updates
//! them.

use std::fmt::Write;

use serde_json::Value;
use tempfile::TempDir;

use super::commands::Desk;

/// Replaces what differs from run to run: times, etags, secrets and generated ids.
fn redacted(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let kind = match name.as_str() {
                    "etag" => "[etag]",
                    "secret" => "[secret]",
                    "request_id" | "token_id" | "jti" => "[id]",
                    "masked_secrets" | "masked" => "[masked]",
                    "kid" | "x" | "y" => "[key]",
                    time if time == "time" || time == "date" || time.ends_with("_time") => "[time]",
                    _ => "",
                };
                let value = match value {
                    Value::Null => Value::Null,
                    Value::Array(list) if list.is_empty() => Value::Array(list),
                    _ if !kind.is_empty() => kind.into(),
                    other => redacted(other),
                };
                (name, value)
            })
            .collect(),
        Value::Array(values) => values.into_iter().map(redacted).collect(),
        // The end of a secret, and until when it works.
        Value::String(text) if text.starts_with('…') => {
            let until = if text.contains("(until ") { " (until [time])" } else { "" };
            format!("…[end]{until}").into()
        }
        Value::String(text) => {
            let words = text.split(' ').map(|word| match word.parse::<jiff::Timestamp>() {
                Ok(_) => "[time]".to_owned(),
                Err(_) => without_ids(word),
            });
            words.collect::<Vec<_>>().join(" ").into()
        }
        other => other,
    }
}

/// Replaces generated ids: 32 hexadecimal digits.
fn without_ids(text: &str) -> String {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_hex) {
        kept.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c| !is_hex(c)).unwrap_or(rest.len());
        kept.push_str(if end == 32 { "[id]" } else { &rest[..end] });
        rest = &rest[end..];
    }
    kept + rest
}

/// The JSON of some commands, each after its line.
fn printed(desk: &Desk, lines: &[&str]) -> String {
    let mut all = String::new();
    for line in lines {
        let json = redacted(desk.run(&format!("{line} -o json")).json());
        let json = serde_json::to_string_pretty(&json).unwrap();
        writeln!(all, "$ keyward {}\n{json}\n", without_ids(line)).unwrap();
    }
    all
}

#[test]
fn json_of_every_resource_and_of_audit_events_matches_snapshot() {
    let desk = Desk::new(&[]);
    let made = [
        "tenant create acme --display-name Acme",
        "scope create acme/calls.read --display-name Calls --domain voice --family calls \
         --description reads",
        "role create acme/member --display-name Member --scope calls.read \
         --permission applications.view.own",
        "user create acme/sam --display-name Sam --role member",
        "application create acme/crm --display-name CRM --contact-email a@b.example \
         --scope calls.read --limit-requests 40 --owner acme/sam",
    ];
    insta::assert_snapshot!("created", printed(&desk, &made));

    let id = desk.run("credential create acme/crm -o json").json()["client_id"].clone();
    let id = id.as_str().unwrap();
    let credential = [
        format!("credential show acme/crm/{id}"),
        format!("credential update acme/crm/{id} --disabled true"),
        format!("credential rotate acme/crm/{id} --overlap 1h"),
    ];
    let mut text = printed(&desk, &["credential create acme/crm --kind api-key"]);
    text += &printed(&desk, &credential.each_ref().map(String::as_str));
    insta::assert_snapshot!("credentials", text);

    let folder = TempDir::new().unwrap();
    let profile = folder.path().join("rules.toml");
    let rules = r#"
        scopes = [{ name = "calls.read" }]
        [[endpoints]]
        method = "GET"
        path = "/v1/calls/{id}"
        all_of = ["calls.read"]
    "#;
    std::fs::write(&profile, rules).unwrap();
    let apply = format!("apply {} --tenant acme", profile.display());
    let applied = redacted(desk.run(&format!("{apply} -o json")).json());
    let applied = serde_json::to_string_pretty(&applied).unwrap();
    let listed = printed(&desk, &["endpoint list acme"]);
    insta::assert_snapshot!("endpoints", format!("$ keyward apply\n{applied}\n\n{listed}"));

    let refused = desk.run(&format!("credential rotate acme/crm/{id} --overlap 1h"));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    desk.run("application delete acme/crm --yes").worked();
    let events = printed(&desk, &["audit list acme --oldest-first"]);
    insta::assert_snapshot!("audit_events", events);
}
