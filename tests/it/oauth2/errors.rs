//! Errors: OAuth's JSON for every status, and no side effects.

use reqwest::Method;
use tonic::Code;

use crate::harness::{Answer, Backend, Credential, Keyward};

async fn start() -> (Keyward, Credential) {
    let kw = Backend::Sqlite.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    (kw, crm)
}

fn assert_error(answer: &Answer, status: u16, error: &str, says: &str) {
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (status, error), "{answer:?}");
    let description = answer.json()["error_description"].as_str().unwrap().to_owned();
    assert!(description.contains(says), "{description:?} does not say {says:?}");
}

/// A form, with the expected status, code and words.
type Case = (&'static [(&'static str, &'static str)], u16, &'static str, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn invalid_token_request_is_explained() {
    let (kw, crm) = start().await;
    let cases: [Case; 10] = [
        (&[], 400, "invalid_request", "grant_type is missing"),
        (&[("grant_type", "")], 400, "invalid_request", "grant_type is missing"),
        (&[("grant_type", "password")], 400, "unsupported_grant_type", "client_credentials"),
        (&[("grant_type", "implicit")], 400, "unsupported_grant_type", "client_credentials"),
        (&[("scope", "a c")], 400, "invalid_scope", "scope not allowed: c"),
        (&[("scope", " ")], 400, "invalid_scope", "at least one scope"),
        (&[("scope", "   ")], 400, "invalid_scope", "at least one scope"),
        (&[("scope", "a\"b")], 400, "invalid_scope", "printable ASCII"),
        (&[("audience", "a b")], 400, "invalid_target", "without spaces"),
        (&[("scope", "a"), ("scope", "b")], 400, "invalid_request", "scope is repeated"),
    ];
    for (form, status, error, says) in cases {
        let grant = form.iter().any(|(name, _)| *name == "grant_type") || form.is_empty();
        let answer = if grant {
            kw.post_as(&crm, "/oauth2/token", form).await
        } else {
            kw.token_for(&crm, form).await
        };
        assert_error(&answer, status, error, says);
        assert_eq!(answer.header("www-authenticate"), "", "no challenge but on a 401");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_request_is_refused_before_authentication_over_both_wires() {
    let (kw, crm) = start().await;
    let wrong = Credential { secret: "wrong".to_owned(), ..crm };
    let http = kw.token_for(&wrong, &[("scope", "a\"b")]).await;
    assert_error(&http, 400, "invalid_scope", "printable ASCII");
    let grpc = wrong.exchange(&kw.grpc(), &["a\"b"], &[]).await.unwrap_err();
    assert_eq!(grpc.code(), Code::InvalidArgument);

    let http = kw.token_for(&wrong, &[("scope", "not given")]).await;
    assert_error(&http, 401, "invalid_client", "");
    let grpc = wrong.exchange(&kw.grpc(), &["not", "given"], &[]).await.unwrap_err();
    assert_eq!(grpc.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_authentication_must_be_single_and_well_formed() {
    let (kw, crm) = start().await;
    let secret = ("client_secret", crm.secret.as_str());
    let id = ("client_id", crm.client_id.as_str());
    let same = kw.token_for(&crm, &[id]).await;
    assert_eq!(same.status, 200, "its own client_id beside Basic is no second way");
    let twice = kw.token_for(&crm, &[id, secret]).await;
    assert_error(&twice, 400, "invalid_request", "twice");
    let other = kw.token_for(&crm, &[("client_id", "another")]).await;
    assert_error(&other, 400, "invalid_request", "client_id");
    let assertion = ("client_assertion", "x.y.z");
    let untyped = kw.token_for(&crm, &[assertion]).await;
    assert_error(&untyped, 400, "invalid_request", "client_assertion_type is missing");
    let other_type = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
    let of_saml = kw.token_for(&crm, &[assertion, ("client_assertion_type", other_type)]).await;
    assert_error(&of_saml, 400, "invalid_request", "jwt-bearer");
    let jwt = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let beside_basic = kw.token_for(&crm, &[assertion, ("client_assertion_type", jwt)]).await;
    assert_error(&beside_basic, 400, "invalid_request", "twice");

    let grant = ("grant_type", "client_credentials");
    for form in [&[grant][..], &[grant, id], &[grant, secret]] {
        let answer = kw.post("/oauth2/token", form).await;
        assert_error(&answer, 401, "invalid_client", "no client authentication");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Basic realm="), "RFC 9110 wants one: {challenge:?}");
    }
    for header in ["Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Basic /w==", "Digest x", "x"] {
        let request = kw
            .request(Method::POST, "/oauth2/token")
            .header("authorization", header)
            .form(&[grant]);
        let answer = kw.send(request).await;
        assert_error(&answer, 400, "invalid_request", "Authorization");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_401_has_a_challenge() {
    let (kw, crm) = start().await;
    let wrong = Credential { secret: format!("{}0", crm.secret), ..crm.clone() };
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let form = [("grant_type", "client_credentials"), ("token", "x")];
        let basic = kw.post_as(&wrong, path, &form).await;
        let id = [("client_id", wrong.client_id.as_str()), ("client_secret", &wrong.secret)];
        let body = kw.post(path, &[&form[..], &id].concat()).await;
        let nothing = kw.post(path, &form).await;
        for answer in [basic, body, nothing] {
            assert_error(&answer, 401, "invalid_client", "");
            assert!(answer.header("www-authenticate").starts_with("Basic realm="), "{path}");
        }
    }
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let request = kw.request(Method::POST, path).bearer_auth("kwk_no").form(&[("token", "x")]);
        let answer = kw.send(request).await;
        assert_error(&answer, 401, "invalid_token", "");
        assert!(answer.header("www-authenticate").starts_with("Bearer realm="), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_answers_an_empty_json_object() {
    let (kw, crm) = start().await;
    let token = kw.token_for(&crm, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    for token in [token.as_str(), token.as_str(), "garbage"] {
        let answer = kw.post_as(&crm, "/oauth2/revoke", &[("token", token)]).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "{}"));
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_form_is_refused_with_accept_encoding() {
    let (kw, crm) = start().await;
    let send = async |coding: &str| {
        let request = kw.request(Method::POST, "/oauth2/token").header("content-encoding", coding);
        let request = request.basic_auth(&crm.client_id, Some(&crm.secret));
        kw.send(request.form(&[("grant_type", "client_credentials")])).await
    };
    for coding in ["gzip", "identity, br", "x"] {
        let answer = send(coding).await;
        assert_error(&answer, 415, "invalid_request", "Content-Encoding");
        assert_eq!(answer.header("accept-encoding"), "identity");
    }
    assert_eq!(send("identity").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_oauths_json() {
    let (kw, crm) = start().await;
    let send = async |method: Method, path: &str| kw.send(kw.request(method, path)).await;
    assert_error(&send(Method::GET, "/nothing").await, 404, "not_found", "endpoint");
    assert_error(&send(Method::GET, "/oauth2").await, 404, "not_found", "endpoint");
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let answer = send(Method::GET, path).await;
        assert_error(&answer, 405, "invalid_request", "method");
        assert_eq!(answer.header("allow"), "POST");
    }
    let json = kw
        .request(Method::POST, "/oauth2/token")
        .basic_auth(&crm.client_id, Some(&crm.secret))
        .header("content-type", "application/json")
        .body("{\"grant_type\":\"client_credentials\"}");
    assert_error(&kw.send(json).await, 415, "invalid_request", "Content-Type");
    let large = [("grant_type", "client_credentials"), ("x", &"x".repeat(70_000))];
    let answer = kw.post_as(&crm, "/oauth2/token", &large).await;
    assert_error(&answer, 413, "invalid_request", "65536");
    let path = format!("/oauth2/token?client_id={}&client_secret={}", crm.client_id, crm.secret);
    let answer = kw.post(&path, &[("grant_type", "client_credentials")]).await;
    assert_error(&answer, 400, "invalid_request", "URI");
}
