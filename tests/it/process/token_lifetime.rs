//! `keyward application --token-lifetime`.

use serde_json::{Value, json};

use super::commands::Desk;

#[test]
fn lifetime_of_an_applications_tokens_is_set_and_given_back_to_the_tenant() {
    let desk = Desk::new(&[]);
    desk.run("tenant create acme").worked();
    desk.run("scope create acme/a").worked();
    let create = "application create acme/crm --display-name CRM --scope a --token-lifetime 5m";
    let made = desk.run(&format!("{create} -o json")).json();
    assert_eq!(made["access_token_lifetime"], "300s");
    let client = desk.run("credential create acme/crm -o json").json();
    let (id, secret) = (client["client_id"].as_str().unwrap(), client["secret"].as_str().unwrap());
    let seconds = || desk.run_as(id, secret, "token -o json").json()["expires_in"].clone();
    assert_eq!(seconds(), json!(300));
    let update = |lifetime: &str| {
        desk.run(&format!("application update acme/crm --token-lifetime {lifetime} -o json"))
    };
    assert_eq!(update("60s").json()["access_token_lifetime"], "60s");
    assert_eq!(seconds(), json!(60));
    assert_eq!(update("tenant").json()["access_token_lifetime"], Value::Null);
    assert_eq!(seconds(), json!(900));
    let refused = update("59s");
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("application.access_token_lifetime"), "{refused:?}");
    let wrong = update("soon");
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("or tenant"), "{wrong:?}");
    assert_eq!(seconds(), json!(900));
}
