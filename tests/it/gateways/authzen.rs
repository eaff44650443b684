//! The Authorization API 1.0 of OpenID AuthZEN.

use keyward::proto::admin::credential::Kind;
use reqwest::Method;
use serde_json::{Value, json};

use super::Scene;
use crate::harness::{Answer, Backend, on_both_databases};

on_both_databases!(evaluation_answers_the_question_of_check_access);

/// A scene, and the key of a caller that may verify.
async fn scene(backend: Backend) -> (Scene, String) {
    let mut scene = Scene::start(backend, &[]).await;
    scene.admin.application("system", "pep", &["keyward.verify"]).await;
    let (_, key) = scene.admin.credential("tenants/system/applications/pep", Kind::ApiKey).await;
    (scene, key.secret)
}

async fn post(scene: &Scene, caller: &str, path: &str, body: &Value) -> Answer {
    let request = scene.kw.request(Method::POST, path).bearer_auth(caller);
    let request = request.header("content-type", "application/json").header("x-request-id", "r1");
    scene.kw.send(request.body(body.to_string())).await
}

fn subject(token: &str) -> Value {
    json!({ "type": "token", "id": "any", "properties": { "token": token } })
}

fn route(path: &str) -> Value {
    json!({ "type": "route", "id": path })
}

async fn evaluation_answers_the_question_of_check_access(backend: Backend) {
    let (scene, caller) = scene(backend).await;
    let ask = async |token: &str, action: &str, resource: Value| {
        let body = json!({
            "subject": subject(token), "action": { "name": action }, "resource": resource,
        });
        let answer = post(&scene, &caller, "/access/v1/evaluation", &body).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-request-id")), (200, "r1"));
        assert_eq!(answer.header("cache-control"), "no-store");
        answer.json()
    };
    for token in [&scene.token, &scene.key] {
        let answer = ask(token, "GET", route("/v1/calls/7?x=%0A")).await;
        assert_eq!(answer["decision"], true, "{answer}");
        let principal = &answer["context"]["principal"];
        assert_eq!(principal["application"], "tenants/acme/applications/crm");
        assert_eq!(principal["scopes"], json!(["a", "b"]));
    }
    for (token, action, resource, outcome) in [
        (scene.token.as_str(), "GET", route("/admin"), "insufficient_scope"),
        (&scene.token, "POST", route("/v1/calls"), "unknown_endpoint"),
        (&scene.token, "GET", route("/public/..;/admin"), "malformed_path"),
        ("x", "GET", route("/v1/calls"), "invalid_token"),
        (&scene.token, "use", json!({ "type": "scope", "id": "a c" }), "insufficient_scope"),
    ] {
        let answer = ask(token, action, resource).await;
        assert_eq!(answer["decision"], false, "{answer}");
        assert_eq!(answer["context"]["outcome"], outcome, "{answer}");
    }
    let scopes = ask(&scene.token, "use", json!({ "type": "scope", "id": "a b" })).await;
    assert_eq!(scopes["decision"], true, "{scopes}");
    for decision in [true, true, false] {
        let answer = ask(&scene.token, "GET", route("/limited")).await;
        assert_eq!(answer["decision"], decision, "{answer}");
        let wait = if decision { Value::Null } else { json!(61) };
        assert_eq!(answer["context"]["retry_after"], wait, "{answer}");
    }
}

fn decisions(answer: &Answer) -> Vec<bool> {
    let body = answer.json();
    assert!(body.get("decision").is_none(), "{body}");
    let each = body["evaluations"].as_array().unwrap();
    each.iter().map(|one| one["decision"].as_bool().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluations_have_the_shape_of_one_or_of_several() {
    let (scene, caller) = scene(Backend::Sqlite).await;
    let ask = async |evaluations: Option<Value>, semantic: &str| {
        let mut body = json!({
            "subject": subject(&scene.token),
            "action": { "name": "GET" },
            "resource": route("/v1/calls"),
            "options": { "evaluations_semantic": semantic },
        });
        if let Some(evaluations) = evaluations {
            body["evaluations"] = evaluations;
        }
        post(&scene, &caller, "/access/v1/evaluations", &body).await
    };
    let (good, bad) = (json!({}), json!({ "resource": route("/admin") }));
    for semantic in ["execute_all", "deny_on_first_deny", "permit_on_first_permit"] {
        for evaluations in [None, Some(json!([]))] {
            let answer = ask(evaluations, semantic).await;
            assert_eq!(answer.json()["decision"], true, "{answer:?}");
            assert!(answer.json().get("evaluations").is_none(), "{answer:?}");
        }
        let one = ask(Some(json!([bad])), semantic).await;
        assert_eq!(decisions(&one), [false], "{semantic}");
        let mixed = ask(Some(json!([good, bad, good])), semantic).await;
        let expected: &[_] = match semantic {
            "execute_all" => &[true, false, true],
            "deny_on_first_deny" => &[true, false],
            _ => &[true],
        };
        assert_eq!(decisions(&mixed), expected, "{semantic}");
    }
    let malformed =
        ask(Some(json!([good, { "subject": { "type": "user", "id": "x" } }])), "execute_all").await;
    assert_eq!(decisions(&malformed), [true, false]);
    assert_eq!(malformed.json()["evaluations"][1]["context"]["error"]["status"], 400);
    assert_eq!(ask(Some(json!(vec![json!({}); 101])), "execute_all").await.status, 400);
    assert_eq!(ask(None, "maybe").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_evaluation_names_its_member_and_unknown_callers_ask_nothing() {
    let (scene, caller) = scene(Backend::Sqlite).await;
    let good = json!({
        "subject": subject(&scene.token),
        "action": { "name": "GET" },
        "resource": route("/limited"),
        "context": { "items": 1 },
    });
    for (pointer, value, named) in [
        ("/subject", json!(null), "subject"),
        ("/subject/type", json!("user"), "subject.type"),
        ("/subject/id", json!(7), "subject.id"),
        ("/subject/properties", json!([]), "subject.properties"),
        ("/subject/properties/token", json!(""), "subject.properties.token"),
        ("/action", json!("GET"), "action"),
        ("/action/name", json!(""), "action.name"),
        ("/resource/type", json!("todo"), "resource.type"),
        ("/resource/id", json!(null), "resource.id"),
        ("/context", json!(1), "context"),
        ("/context/items", json!(-1), "context.items"),
        ("/context/items", json!(1.5), "context.items"),
    ] {
        let mut body = good.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        let answer = post(&scene, &caller, "/access/v1/evaluation", &body).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "invalid_request"));
        let text = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(text.starts_with(&format!("{named} ")), "{pointer}: {text}");
    }
    for path in ["/access/v1/evaluation", "/access/v1/evaluations"] {
        let stranger = post(&scene, "x", path, &good).await;
        assert_eq!(stranger.status, 401, "{stranger:?}");
        let tenant = post(&scene, &scene.key, path, &good).await;
        assert_eq!((tenant.status.as_u16(), tenant.error().as_str()), (403, "access_denied"));
        let text = scene.kw.request(Method::POST, path).bearer_auth(&caller).body("{");
        assert_eq!(scene.kw.send(text).await.status, 415);
        let secret = format!("{{\"subject\": {}x", scene.token);
        let broken = scene.kw.request(Method::POST, path).bearer_auth(&caller);
        let broken = broken.header("content-type", "application/json").body(secret);
        let answer = scene.kw.send(broken).await;
        assert_eq!(answer.error(), "invalid_request");
        assert!(!answer.body.contains(&scene.token[..20]), "{answer:?}");
    }
    let mut scene = scene;
    assert_eq!(scene.counted().await, 0, "nothing was counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_names_the_endpoints_by_the_issuer() {
    let (scene, _) = scene(Backend::Sqlite).await;
    let request = scene.kw.request(Method::GET, "/.well-known/authzen-configuration");
    let answer = scene.kw.send(request).await;
    assert_eq!(
        answer.json(),
        json!({
            "policy_decision_point": "https://keyward.test",
            "access_evaluation_endpoint": "https://keyward.test/access/v1/evaluation",
            "access_evaluations_endpoint": "https://keyward.test/access/v1/evaluations",
        })
    );
}
