//! Discovery (RFC 8414) and the key set (RFC 7517).

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, Keyward};

async fn get(kw: &Keyward, path: &str) -> Answer {
    kw.send(kw.request(Method::GET, path)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_uses_the_configured_issuer() {
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
    // RFC 8414 requires the member, and an empty list would be an empty claim.
    assert_eq!(body["response_types_supported"], json!(["none"]));
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    assert_eq!(body["grant_types_supported"], json!(["client_credentials", exchange]));
    let methods = json!(["client_secret_basic", "client_secret_post", "private_key_jwt"]);
    let algorithms = json!(["ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256"]);
    for endpoint in ["token", "introspection", "revocation"] {
        assert_eq!(body[format!("{endpoint}_endpoint_auth_methods_supported")], methods);
        // RFC 8414 requires it with `private_key_jwt`.
        let member = format!("{endpoint}_endpoint_auth_signing_alg_values_supported");
        assert_eq!(body[member], algorithms);
    }
    assert_eq!(body["introspection_signing_alg_values_supported"], json!(["ES256"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_with_a_path_has_two_metadata_addresses() {
    let kw = Backend::Sqlite.start_with(&[("issuer", "https://id.test/keyward")]).await;
    for path in [
        "/.well-known/oauth-authorization-server/keyward",
        "/keyward/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration/keyward",
        "/keyward/.well-known/openid-configuration",
        "/.well-known/openid-configuration",
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
async fn keyward_describes_itself_as_a_protected_resource() {
    let kw = Backend::Sqlite.start_with(&[("issuer", "https://id.test/keyward")]).await;
    for path in [
        "/.well-known/oauth-protected-resource/keyward",
        "/.well-known/oauth-protected-resource",
        "/keyward/.well-known/oauth-protected-resource",
    ] {
        let body = get(&kw, path).await.json();
        assert_eq!(body["resource"], "https://id.test/keyward", "{path}");
        assert_eq!(body["authorization_servers"], json!(["https://id.test/keyward"]));
        assert_eq!(body["bearer_methods_supported"], json!(["header"]));
    }
    let server = get(&kw, "/.well-known/oauth-authorization-server").await.json();
    assert_eq!(server["protected_resources"], json!(["https://id.test/keyward"]));
    let metadata =
        "resource_metadata=\"https://id.test/.well-known/oauth-protected-resource/keyward\"";
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let request = kw.request(Method::POST, path).header("authorization", "Bearer x");
        let answer = kw.send(request.form(&[("token", "y")])).await;
        assert_eq!(answer.status, 401);
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer ") && challenge.contains(metadata), "{challenge}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_configuration_equals_the_metadata() {
    for algorithm in ["ES256", "EdDSA"] {
        let kw = Backend::Sqlite.start_with(&[("tokens.signing_algorithm", algorithm)]).await;
        let oauth = get(&kw, "/.well-known/oauth-authorization-server").await.json();
        let mut openid = get(&kw, "/.well-known/openid-configuration").await.json();
        let members = openid.as_object_mut().unwrap();
        assert_eq!(members.remove("subject_types_supported").unwrap(), json!(["public"]));
        let algorithms = members.remove("id_token_signing_alg_values_supported").unwrap();
        assert_eq!(algorithms, json!([algorithm]));
        assert_eq!(openid, oauth);
        for absent in ["authorization_endpoint", "userinfo_endpoint", "scopes_supported"] {
            assert_eq!(openid[absent], Value::Null, "{absent}");
        }
        let empty = |(_, claim): (&String, &Value)| claim.as_array().is_some_and(Vec::is_empty);
        assert!(!openid.as_object().unwrap().iter().any(empty), "{openid}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cors_allows_public_documents_only() {
    let kw = Backend::Sqlite.start_with(&[("issuer", "https://id.test/kw")]).await;
    let send = async |method: Method, path: &str| {
        let request = kw.request(method, path).header("origin", "https://page.test");
        kw.send(request.header("access-control-request-method", "GET")).await
    };
    for path in [
        "/oauth2/jwks",
        "/kw/oauth2/jwks",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/kw",
        "/kw/.well-known/openid-configuration",
    ] {
        let read = send(Method::GET, path).await;
        assert_eq!(read.status, 200, "{path}");
        assert_eq!(read.header("access-control-allow-origin"), "*", "{path}");
        let preflight = send(Method::OPTIONS, path).await;
        assert_eq!((preflight.status.as_u16(), preflight.body.as_str()), (204, ""), "{path}");
        assert_eq!(preflight.header("access-control-allow-origin"), "*");
        assert_eq!(preflight.header("access-control-allow-methods"), "GET, HEAD, OPTIONS");
        assert_eq!(send(Method::POST, path).await.error(), "invalid_request", "{path}");
    }
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke", "/nothing"] {
        for method in [Method::OPTIONS, Method::POST] {
            let answer = send(method, path).await;
            assert!(answer.status.is_client_error(), "{path}");
            assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_set_has_only_public_members() {
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
        assert_eq!((keys.len(), names.join(" ").as_str()), (2, members));
        assert_eq!((key["alg"].as_str(), key["use"].as_str()), (Some(algorithm), Some("sig")));
    }
}
