//! The section "Rights" of `proto/README.md` matches the code.

use std::fmt::Write;
use std::path::Path;

use keyward::internals::domain::Call;
use keyward::internals::domain::rights::{Needs, Secrets};
use strum::VariantArray;

const BEGIN: &str = "<!-- rights: begin; a test compares this table with the code -->\n";
const END: &str = "<!-- rights: end -->";

fn needs(needs: Needs) -> String {
    match needs {
        Needs::Membership => "to be a user of the tenant".to_owned(),
        Needs::Permission(permission) => format!("`{permission}`"),
        Needs::PermissionOrSelf(permission) => format!("`{permission}`; none for oneself"),
        Needs::Applications(verb) => format!("`applications.{verb}`"),
        Needs::Platform => "the platform only".to_owned(),
    }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "" }
}

/// The table in its documented form.
fn table() -> String {
    let mut table = String::from(
        "| call | a user needs | grants limited to the user's own | user must hold everything the application has \
         | limits beyond the policy's | refused by the policy | refused if protected | refused if the platform disabled it |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for call in Call::VARIANTS {
        let rule = call.rule();
        let policy: Vec<_> = rule.policy.iter().map(|field| format!("`{field}`")).collect();
        let secrets = match rule.secrets {
            Secrets::Untouched => "",
            Secrets::HandedOut => "always",
            Secrets::Revived => "to enable, or to end later",
        };
        writeln!(
            table,
            "| {call} | {} | {} | {secrets} | {} | {} | {} | {} |",
            needs(rule.needs),
            yes(rule.gives),
            rule.lifts_limits.map(|permission| format!("`{permission}`")).unwrap_or_default(),
            policy.join(", "),
            yes(rule.stopped_by_protection),
            yes(rule.stopped_by_platform),
        )
        .unwrap();
    }
    table
}

#[test]
fn rights_table_in_the_docs_matches_the_code() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/README.md");
    let text = std::fs::read_to_string(page).unwrap();
    let shown = text.split(BEGIN).nth(1).and_then(|rest| rest.split(END).next()).unwrap();
    let table = table();
    assert!(shown.trim() == table.trim(), "proto/README.md should show:\n{table}");
}
