//! The description of the interface: what it says is what servers answer.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use reqwest::Method;
use serde_json::Value;

use crate::architecture::rust_files;
use crate::harness::{Backend, Keyward};

const PATH: &str = "/oauth2/openapi.json";

async fn description(kw: &Keyward, path: &str) -> Value {
    kw.send(kw.request(Method::GET, path)).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn description_names_the_configured_issuer() {
    let kw = Backend::Sqlite.start_with(&[("issuer", "https://id.test/kw")]).await;
    for path in [PATH, "/kw/oauth2/openapi.json"] {
        let request = kw.request(Method::GET, path).header("host", "evil.example");
        let answer = kw.send(request).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "public, max-age=300");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let servers = answer.json()["servers"].as_array().unwrap().clone();
        assert_eq!(servers.len(), 1);
        assert_eq!(servers[0]["url"], "https://id.test/kw");
        assert!(!answer.body.contains("evil.example"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_take_the_documented_methods_alone() {
    let kw = Backend::Sqlite.start().await;
    let description = description(&kw, PATH).await;
    for (path, item) in description["paths"].as_object().unwrap() {
        let documented: BTreeSet<_> =
            item.as_object().unwrap().keys().map(String::as_str).collect();
        for name in ["get", "head", "options", "post", "put", "patch", "delete", "trace"] {
            let method = Method::from_bytes(name.to_uppercase().as_bytes()).unwrap();
            let answer = kw.send(kw.request(method, path)).await;
            let is_taken = answer.status != 405;
            assert_eq!(is_taken, documented.contains(name), "{name} {path}: {answer:?}");
            if !is_taken {
                let allowed = answer.header("allow").to_lowercase();
                let allowed: BTreeSet<_> = allowed.split(',').map(str::trim).collect();
                assert_eq!(allowed, documented, "{name} {path}");
            }
        }
    }
}

/// The properties of a schema, with those of the schemas that it includes.
fn properties(description: &Value, schema: &Value) -> BTreeSet<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/components/schemas/").unwrap();
        return properties(description, &description["components"]["schemas"][name]);
    }
    let own = schema["properties"].as_object().into_iter().flat_map(|members| members.keys());
    let included = ["allOf", "oneOf"].iter().filter_map(|word| schema[word].as_array()).flatten();
    own.cloned().chain(included.flat_map(|schema| properties(description, schema))).collect()
}

fn members(answer: &Value) -> BTreeSet<String> {
    answer.as_object().unwrap().keys().cloned().collect()
}

fn schema_of_answer<'a>(description: &'a Value, method: &str, path: &str) -> &'a Value {
    let answer = &description["paths"][path][method]["responses"]["200"];
    &answer["content"]["application/json"]["schema"]
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_answers_are_documented() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, gateway) = admin.exchanger("acme", "gateway", &["tenants/acme"]).await;
    let description = description(&kw, PATH).await;
    let documented = |method, path| {
        let found = properties(&description, schema_of_answer(&description, method, path));
        assert!(!found.is_empty(), "{method} {path}");
        found
    };
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-protected-resource",
        "/oauth2/jwks",
    ] {
        let answer = kw.send(kw.request(Method::GET, path)).await.json();
        let missing: Vec<_> =
            members(&answer).difference(&documented("get", path)).cloned().collect();
        assert!(missing.is_empty(), "{path}: {missing:?}");
    }
    let token = kw.token_for(&crm, &[]).await.json();
    let text = token["access_token"].as_str().unwrap();
    let access_token = "urn:ietf:params:oauth:token-type:access_token";
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", text),
        ("subject_token_type", access_token),
        ("actor_token", text),
        ("actor_token_type", access_token),
    ];
    let exchanged = kw.post_as(&gateway, "/oauth2/token", &form).await.json();
    let members_of_tokens = documented("post", "/oauth2/token");
    assert!(members(&token).is_subset(&members_of_tokens), "{token}");
    assert_eq!(members(&exchanged), members_of_tokens, "an exchange answers all of them");
    let form = [("token", exchanged["access_token"].as_str().unwrap())];
    let info = kw.post_as(&gateway, "/oauth2/introspect", &form).await.json();
    assert_eq!(info["active"], true);
    let all = documented("post", "/oauth2/introspect");
    assert!(members(&info).is_subset(&all), "{info}");
    // The application has no roles, and the token is bound to nothing.
    let absent: Vec<_> = all.difference(&members(&info)).cloned().collect();
    assert_eq!(absent, ["cnf", "roles"]);
}

/// The code of the interface, without comments and tests.
fn source() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let texts = rust_files(&folder).into_iter().map(|path| fs::read_to_string(path).unwrap());
    let code = texts.map(|text| text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned());
    code.collect::<Vec<_>>().join("\n")
}

/// The word between quotes at the beginning of a piece of code.
fn quoted(code: &str) -> Option<&str> {
    let word = code.trim_start().strip_prefix('"')?.split('"').next()?;
    word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some(word)
}

/// The values that the schemas of the responses allow for the member `error`.
fn error_codes<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            let codes = members.get("error").and_then(|error| error["enum"].as_array());
            found.extend(codes.into_iter().flatten().map(|code| code.as_str().unwrap()));
            members.values().for_each(|member| error_codes(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| error_codes(item, found)),
        _ => {}
    }
}

/// `not_found` is the code of paths that do not exist. The description has no operation for them.
/// `access_denied` is for creating resources and for acting users, which this interface has not.
const CODES_OF_NO_OPERATION: [&str; 2] = ["access_denied", "not_found"];

#[tokio::test(flavor = "multi_thread")]
async fn documented_error_codes_are_those_of_the_code() {
    let kw = Backend::Sqlite.start().await;
    let description = description(&kw, PATH).await;
    let mut documented = BTreeSet::new();
    error_codes(&description["components"]["responses"], &mut documented);
    assert!(documented.len() > 10, "{documented:?}");
    let source = source();
    for code in &documented {
        assert!(source.contains(&format!("\"{code}\"")), "no endpoint answers {code}");
    }
    let after_status = source.split("StatusCode::").skip(1).filter_map(|rest| {
        let (status, after) = rest.split_once(',')?;
        status.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_').then_some(after)
    });
    let answered: BTreeSet<_> = after_status.filter_map(quoted).collect();
    assert!(answered.len() > 10, "{answered:?}");
    let missing: Vec<_> =
        answered.difference(&documented).filter(|c| !CODES_OF_NO_OPERATION.contains(c)).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_parameters_are_those_of_the_code() {
    let kw = Backend::Sqlite.start().await;
    let description = description(&kw, PATH).await;
    let mut documented = BTreeSet::new();
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let body = &description["paths"][path]["post"]["requestBody"]["content"];
        let schema = &body["application/x-www-form-urlencoded"]["schema"];
        documented.extend(properties(&description, schema));
    }
    let source = source();
    let calls = ["form.get(", "form.required(", ".all(", "presented(form,"];
    let read: BTreeSet<_> = calls
        .iter()
        .flat_map(|call| source.split(call).skip(1))
        .filter_map(quoted)
        .map(ToOwned::to_owned)
        .collect();
    // This one is refused.
    let missing: Vec<_> =
        read.difference(&documented).filter(|name| *name != "authorization_details").collect();
    assert!(read.len() > 10 && missing.is_empty(), "not documented: {missing:?}");
    // The hint has no effect, so that no code reads it.
    for name in documented.iter().filter(|name| *name != "token_type_hint") {
        assert!(source.contains(&format!("\"{name}\"")), "no endpoint takes {name}");
    }
}
