//! `keyward keys`

use serde_json::Value;

use super::binary::Finished;
use super::commands::Desk;

/// What a command that must have failed wrote on standard error.
fn refused(finished: Finished, code: i32) -> String {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    finished.stderr
}

#[test]
fn master_keys_are_shown_and_values_rewrapped_on_the_command_line() {
    let desk = Desk::new(&[]);
    let keys: Value = desk.run("keys status -o json").json();
    let [key] = keys.as_array().unwrap().as_slice() else { panic!("{keys}") };
    assert_eq!(key["role"], "primary");
    assert_eq!(key["removable"], false);
    assert_eq!(key["secret_hashes"], 1, "{key}");
    let server = key["written_by"][0].as_str().unwrap();
    let address = desk.serving().grpc.trim_start_matches("http://");
    assert!(server.ends_with(&format!("({address})")), "{server}");
    let report: Value = desk.run("keys rewrap -o json").json();
    let nothing = serde_json::json!({
        "rewrapped": 0, "skipped": 0, "remaining_values": 0, "remaining_hashes": 0
    });
    assert_eq!(report, nothing);
    let shown = desk.run("keys status").worked();
    assert!(shown.contains("primary"), "{shown}");
}

#[test]
fn keys_are_listed_rotated_and_revoked_on_the_command_line() {
    let desk = Desk::new(&[]);
    let keys = |line: &str| -> Value { desk.run(line).json() };
    let listed = keys("keys list -o json");
    let [next, first] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!((&next["state"], &first["state"]), (&"next".into(), &"active".into()));
    assert_eq!(next["activate_time"], Value::Null, "no time is set");
    let kid = first["key"].as_str().unwrap();
    let names = desk.run("signing-key list -o name").worked();
    assert!(names.ends_with(&format!("\nsigningKeys/{kid}\n")), "{names}");

    let rotated = keys("keys rotate -o json");
    assert_eq!((&rotated["state"], &rotated["name"]), (&"next".into(), &next["name"]));
    let error = refused(desk.run("keys rotate"), 1);
    assert!(error.contains("waits already"), "{error}");
    let error = refused(desk.run(&format!("keys retire {kid}")), 1);
    assert!(error.contains("no next key is ready"), "{error}");

    let asked = refused(desk.run(&format!("keys revoke {kid}")), 2);
    assert!(asked.contains("--yes"), "{asked}");
    let said = desk.run(&format!("keys revoke {kid} --yes --reason stolen")).worked();
    assert!(said.contains("all others do within 5 s"), "{said}");
    let listed = keys("keys list -o json --columns state,name");
    let states: Vec<_> = listed.as_array().unwrap().iter().map(|key| &key["state"]).collect();
    assert_eq!(states, ["next", "active", "revoked"]);
    assert_eq!(listed[1]["name"], rotated["name"], "the next key took over");
    refused(desk.run("keys revoke unknown --yes"), 3);
}
