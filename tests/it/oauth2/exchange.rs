//! Token exchange at the token endpoint (RFC 8693).

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    ACCESS_TOKEN, API_KEY, Admin, Answer, Backend, Credential, JWT, Keyward, on_both_databases,
};
use keyward::proto::admin::credential::Kind;

on_both_databases!(
    exchange_answers_as_rfc_8693_says,
    exchange_can_be_a_json_object,
    errors_have_the_codes_of_the_rfc,
    api_key_is_the_user_name_of_basic,
);

const GRANT: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
const CRM: &str = "tenants/acme/applications/crm";

type Form<'a> = &'a [(&'a str, &'a str)];

/// Acme, its gateway that exchanges tokens for acme's own audience, and a token of `crm`.
async fn scene(backend: Backend) -> (Keyward, Admin, Credential, String) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, gateway) = admin.exchanger("acme", "gateway", &["tenants/acme"]).await;
    let token = crm.token(&kw.grpc()).await;
    (kw, admin, gateway, token)
}

async fn exchange(kw: &Keyward, by: &Credential, form: &[(&str, &str)]) -> Answer {
    let form = [&[GRANT], form].concat();
    kw.post_as(by, "/oauth2/token", &form).await
}

async fn exchange_answers_as_rfc_8693_says(backend: Backend) {
    let (kw, mut admin, gateway, token) = scene(backend).await;
    let subject = [("subject_token", token.as_str()), ("subject_token_type", ACCESS_TOKEN)];
    for (more, issued_type) in [
        (&[][..], ACCESS_TOKEN),
        (&[("requested_token_type", ACCESS_TOKEN), ("scope", "a b")], ACCESS_TOKEN),
        (&[("requested_token_type", JWT), ("resource", "tenants/acme")], JWT),
        (&[("audience", "tenants/acme"), ("resource", "tenants/acme")], ACCESS_TOKEN),
    ] {
        let answer = exchange(&kw, &gateway, &[&subject, more].concat()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control"), "no-store");
        let mut body = answer.json();
        let child = body["access_token"].take();
        assert!(admin.is_active(child.as_str().unwrap()).await);
        let expected = json!({
            "access_token": null,
            "issued_token_type": issued_type,
            "token_type": "Bearer",
            "expires_in": 900,
            "scope": "a b",
        });
        assert_eq!(body, expected);
    }
    // The actor is in the answer of introspection, as in the token.
    let actor = [("actor_token", token.as_str()), ("actor_token_type", JWT)];
    let answer = exchange(&kw, &gateway, &[subject, actor].concat()).await.json();
    let form = [("token", answer["access_token"].as_str().unwrap())];
    let info = kw.post_as(&gateway, "/oauth2/introspect", &form).await.json();
    assert_eq!((&info["sub"], &info["client_id"]), (&json!(CRM), &json!(gateway.client_id)));
    assert_eq!(info["act"]["sub"], CRM);
    // Tokens of one grant are counted apart from those of the other.
    let metrics = reqwest::get(format!("http://{}/metrics", kw.server().ops)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let counted = r#"keyward_tokens_issued_total{grant="token_exchange"} 5"#;
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
}

/// The STS client of grpc-go sends JSON, which RFC 8693 does not have.
async fn exchange_can_be_a_json_object(backend: Backend) {
    let (kw, _, gateway, token) = scene(backend).await;
    let send = async |body: Value| {
        let request = kw.request(Method::POST, "/oauth2/token").body(body.to_string());
        let request = request.header("content-type", "application/json");
        kw.send(request.basic_auth(&gateway.client_id, Some(&gateway.secret))).await
    };
    let mut body = json!({
        "grant_type": GRANT.1,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
        "audience": "tenants/acme",
        "scope": "a",
    });
    let answer = send(body.clone()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["scope"], "a");
    body["scope"] = json!(["a"]);
    let refused = send(body).await;
    assert_eq!((refused.status.as_u16(), refused.error().as_str()), (400, "invalid_request"));
    let other = send(json!({ "grant_type": "client_credentials" })).await;
    assert_eq!((other.status.as_u16(), other.error().as_str()), (415, "invalid_request"));
}

async fn errors_have_the_codes_of_the_rfc(backend: Backend) {
    let (kw, mut admin, gateway, token) = scene(backend).await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    let crm = admin.credential(CRM, Kind::ClientSecret).await.1;
    let subject = ("subject_token", token.as_str());
    let typed = ("subject_token_type", ACCESS_TOKEN);
    let id_token = "urn:ietf:params:oauth:token-type:id_token";
    let cases: [(Form<'_>, &str, &str); 14] = [
        (&[typed], "invalid_request", "subject_token"),
        (&[subject], "invalid_request", "subject_token_type"),
        (&[subject, ("subject_token_type", id_token)], "invalid_request", "subject_token_type"),
        (&[subject, ("subject_token_type", API_KEY)], "invalid_request", "subject_token_type"),
        (&[("subject_token", &key.secret), typed], "invalid_request", "subject_token_type"),
        (&[("subject_token", "x.y.z"), typed], "invalid_request", "subject_token"),
        (&[subject, typed, ("actor_token", &token)], "invalid_request", "actor_token_type"),
        (&[subject, typed, ("actor_token_type", JWT)], "invalid_request", "actor_token"),
        (&[subject, typed, subject], "invalid_request", "subject_token"),
        (
            &[subject, typed, ("requested_token_type", id_token)],
            "invalid_request",
            "requested_token_type",
        ),
        (&[subject, typed, ("scope", "a c")], "invalid_scope", "c"),
        (&[subject, typed, ("scope", " ")], "invalid_scope", "scope"),
        (&[subject, typed, ("audience", "https://other.example")], "invalid_target", "other"),
        (&[subject, typed, ("resource", "keyward")], "invalid_target", "keyward"),
    ];
    for (form, code, names) in cases {
        let answer = exchange(&kw, &gateway, form).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, code), "{form:?}");
        let description = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(description.contains(names), "{description}");
        assert!(!description.contains(&token) && !description.contains(&key.secret));
    }
    let answer = exchange(&kw, &crm, &[subject, typed]).await;
    assert_eq!((answer.status.as_u16(), &*answer.error()), (400, "unauthorized_client"));
    let wrong = Credential { secret: crm.secret, ..gateway.clone() };
    let answer = exchange(&kw, &wrong, &[subject, typed]).await;
    assert_eq!((answer.status.as_u16(), &*answer.error()), (401, "invalid_client"));
    for parameter in ["subject_token", "actor_token"] {
        let path = format!("/oauth2/token?{parameter}={token}");
        let answer = kw.post_as(&gateway, &path, &[GRANT, subject, typed]).await;
        assert_eq!((answer.status.as_u16(), &*answer.error()), (400, "invalid_request"));
    }
}

/// `curl -u KEY:`, as with Stripe. The password is empty; a client id with the key as its password
/// works as well.
async fn api_key_is_the_user_name_of_basic(backend: Backend) {
    let (kw, mut admin, gateway, token) = scene(backend).await;
    let (credential, key) = admin.credential(CRM, Kind::ApiKey).await;
    let ask = async |user: &str, password: Option<&str>, path: &str, form: &[(&str, &str)]| {
        let request = kw.request(Method::POST, path).basic_auth(user, password);
        kw.send(request.form(form)).await
    };
    let grant = [("grant_type", "client_credentials")];
    let of_token = [("token", token.as_str())];
    let endpoints: [(&str, &[(&str, &str)]); 3] = [
        ("/oauth2/token", &grant),
        ("/oauth2/introspect", &of_token),
        ("/oauth2/revoke", &of_token),
    ];
    for (path, form) in endpoints {
        for (user, password) in
            [(key.secret.as_str(), ""), (credential.client_id.as_str(), key.secret.as_str())]
        {
            let answer = ask(user, Some(password), path, form).await;
            assert_eq!(answer.status, 200, "{path} {answer:?}");
        }
        assert_eq!(ask(&key.secret, None, path, form).await.status, 200);
        let short = &key.secret[..key.secret.len() - 1];
        let client_id = credential.client_id.as_str();
        for (user, password) in [
            (short, ""),
            ("kwk_", ""),
            ("", ""),
            (client_id, ""),
            (gateway.secret.as_str(), ""),
            ("", key.secret.as_str()),
            ("api", &key.secret),
            (&key.secret, "x"),
            (&key.secret, &key.secret),
        ] {
            let answer = ask(user, Some(password), path, form).await;
            let error = (answer.status.as_u16(), answer.error());
            assert_eq!(error, (401, "invalid_client".to_owned()), "{path} {user}:{password}");
        }
        let also: Vec<_> = form.iter().copied().chain([("client_id", client_id)]).collect();
        let answer = ask(&key.secret, None, path, &also).await;
        assert_eq!(answer.error(), "invalid_request", "two names of the client");
    }
    let answer = ask(&key.secret, None, "/oauth2/introspect", &[("token", &key.secret)]).await;
    let info: Value = answer.json();
    assert_eq!((&info["active"], &info["client_id"]), (&json!(true), &json!(credential.client_id)));
}
