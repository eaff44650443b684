//! `keyward exchange`.

use std::fs::write;
use std::process::Command;

use tempfile::TempDir;

use super::commands::Desk;

#[test]
fn token_and_key_of_another_application_are_exchanged() {
    let desk = Desk::new(&[]);
    desk.run("tenant create acme").worked();
    desk.run("scope create acme/a").worked();
    desk.run("application create acme/crm --display-name CRM --scope a").worked();
    let gateway = "application create acme/gateway --display-name Gateway";
    let made = desk.run(&format!("{gateway} --exchange-audience tenants/acme -o json")).json();
    assert_eq!(made["exchange_audiences"], serde_json::json!(["tenants/acme"]));
    let key = desk.run("credential create acme/crm --kind api-key -o json").json();
    let client = desk.run("credential create acme/gateway -o json").json();
    let (id, secret) = (client["client_id"].as_str().unwrap(), client["secret"].as_str().unwrap());
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key_file = file("key", key["secret"].as_str().unwrap());
    let from_key = desk.run_as(id, secret, &format!("exchange --subject-token {key_file}"));
    let token_file = file("token", &from_key.worked());
    let exchange = format!("exchange --subject-token {token_file} --actor-token {key_file}");
    let again = format!("{exchange} --audience tenants/acme --scope a -o json");
    let answer = desk.run_as(id, secret, &again).json();
    assert_eq!(answer["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!(answer["scope"], "a");
    let token = answer["access_token"].as_str().unwrap();
    let claims = desk.run(&format!("verify {token}")).json();
    assert_eq!(claims["act"]["client_id"], key["client_id"]);
    assert_eq!(claims["parents"].as_array().unwrap().len(), 4);
    let wider = desk.run_as(id, secret, &format!("{exchange} --scope b"));
    assert!(wider.stderr.contains("scope not allowed: b"), "{wider:?}");
    let dpop_key = folder.path().join("dpop.pem");
    let algorithm = ["genpkey", "-algorithm", "ED25519", "-out"];
    let made = Command::new("openssl").args(algorithm).arg(&dpop_key).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let dpop_key = dpop_key.display();
    let with_proof = format!("exchange --subject-token {token_file} --dpop-key {dpop_key} -o json");
    let bound = desk.run_as(id, secret, &with_proof).json();
    assert_eq!(bound["token_type"], "DPoP");
    let bound_file = file("bound", bound["access_token"].as_str().unwrap());
    let from_bound = format!("exchange --subject-token {bound_file}");
    let refused = desk.run_as(id, secret, &from_bound);
    assert!(refused.stderr.contains("no DPoP proof came with it"), "{refused:?}");
    let again = desk.run_as(id, secret, &format!("{from_bound} --dpop-key {dpop_key} -o json"));
    assert_eq!(again.json()["token_type"], "DPoP");
    let wrong = desk.run_as(id, secret, &format!("{from_bound} --dpop-key {token_file}"));
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("--dpop-key"), "{wrong:?}");
    let (crm, secret) = (key["client_id"].as_str().unwrap(), key["secret"].as_str().unwrap());
    let refused = desk.run_as(crm, secret, &exchange);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("exchange_audiences"), "{refused:?}");
}
