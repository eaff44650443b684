//! Discovery (RFC 8414) and the key set (RFC 7517).

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, Keyward};

async fn get(kw: &Keyward, path: &str) -> Answer {
    kw.send(kw.request(Method::GET, path)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_is_the_configured_issuers_whatever_host_is_asked() {
    let kw = Backend::Sqlite.start().await;
    let path = "/.well-known/oauth-authorization-server";
    let request = kw.request(Method::GET, path).header("host", "evil.example");
    let answer = kw.send(request).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["issuer"], "https://keyward.test");
    assert_eq!(body["token_endpoint"], "https://keyward.test/oauth2/token");
    assert_eq!(body["jwks_uri"], "https://keyward.test/oauth2/jwks");
    assert_eq!(body["introspection_endpoint"], "https://keyward.test/oauth2/introspect");
    assert_eq!(body["revocation_endpoint"], "https://keyward.test/oauth2/revoke");
    assert_eq!(body["response_types_supported"], json!([]));
    assert_eq!(body["grant_types_supported"], json!(["client_credentials"]));
    let methods = json!(["client_secret_basic", "client_secret_post"]);
    assert_eq!(body["token_endpoint_auth_methods_supported"], methods);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_with_a_path_is_served_at_both_its_addresses() {
    let kw = Backend::Sqlite.start_with(&[("issuer", "https://id.test/keyward")]).await;
    for path in [
        "/.well-known/oauth-authorization-server/keyward",
        "/keyward/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server",
    ] {
        let body = get(&kw, path).await.json();
        assert_eq!(body["issuer"], "https://id.test/keyward", "{path}");
        assert_eq!(body["token_endpoint"], "https://id.test/keyward/oauth2/token");
    }
    let credential = kw.admin_credential();
    let form = [("grant_type", "client_credentials")];
    assert_eq!(kw.post_as(credential, "/keyward/oauth2/token", &form).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_openid_configuration() {
    let kw = Backend::Sqlite.start().await;
    let answer = get(&kw, "/.well-known/openid-configuration").await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (404, "not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_set_has_public_members_only() {
    for (algorithm, members) in [
        ("ES256", "alg crv kid kty use x y"),
        ("EdDSA", "alg crv kid kty use x"),
        ("PS256", "alg e kid kty n use"),
        ("RS256", "alg e kid kty n use"),
    ] {
        let kw = Backend::Sqlite.start_with(&[("tokens.signing_algorithm", algorithm)]).await;
        let answer = get(&kw, "/oauth2/jwks").await;
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "public, max-age=300");
        let keys = answer.json()["keys"].as_array().unwrap().clone();
        let Value::Object(key) = &keys[0] else { panic!("{keys:?}") };
        let mut names: Vec<_> = key.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!((keys.len(), names.join(" ").as_str()), (1, members));
        assert_eq!((key["alg"].as_str(), key["use"].as_str()), (Some(algorithm), Some("sig")));
    }
}
