//! A real nginx with the file in `deploy/nginx/`.

use super::{AMBIGUOUS, Scene, refused};
use crate::harness::Backend;
use crate::harness::gateway::{EchoService, Gateway};

const SETTINGS: [(&str, &str); 4] = [
    ("gateway.callers", "127.0.0.1"),
    ("gateway.headers", "x-original"),
    ("gateway.statuses", "nginx"),
    ("trusted_proxies", "127.0.0.1"),
];

async fn behind_nginx(
    settings: &[(&'static str, &str)],
    change: impl Fn(String) -> String,
) -> (Scene, EchoService, Gateway) {
    let scene = Scene::start(Backend::Sqlite, &[&SETTINGS[..], settings].concat()).await;
    let service = EchoService::start().await;
    let nginx = Gateway::nginx(scene.http(), service.port, change);
    (scene, service, nginx)
}

fn unchanged(config: String) -> String {
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn client_sees_each_refusal_of_keyward_with_its_headers() {
    let (scene, _service, nginx) = behind_nginx(&[], unchanged).await;
    let bearer = scene.bearer();
    let token = [("Authorization", bearer.as_str())];

    let allowed = nginx.send("GET /v1/calls?x=%0A", &token).await;
    assert_eq!(allowed.received("x-keyward-application"), ["tenants/acme/applications/crm"]);
    assert_eq!(allowed.received_path(), "/v1/calls?x=%0A");

    let none = nginx.send("GET /v1/calls", &[]).await;
    refused(&none, 401);
    assert_eq!(none.header("www-authenticate"), "Bearer realm=\"keyward\"");
    let lacking = nginx.send("GET /admin", &token).await;
    refused(&lacking, 403);
    assert!(lacking.header("www-authenticate").contains("insufficient_scope"), "{lacking:?}");
    let twice = [token[0], token[0]];
    refused(&nginx.send("GET /v1/calls", &twice).await, 400);
    let both = [token[0], ("X-Api-Key", scene.key.as_str())];
    refused(&nginx.send("GET /v1/calls", &both).await, 400);

    for left in ["r=1", "r=0"] {
        let answer = nginx.send("GET /limited", &token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.header("ratelimit").contains(left), "{answer:?}");
    }
    let limited = nginx.send("GET /limited", &token).await;
    refused(&limited, 429);
    assert_eq!(limited.header("retry-after"), "61");
    assert!(limited.header("ratelimit").contains("r=0"), "{limited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_and_the_credential_never_reach_the_service() {
    let (scene, _service, nginx) = behind_nginx(&[], unchanged).await;
    let forged = [
        ("X-Keyward-Tenant", "tenants/evil"),
        ("X-Keyward-Token-Id", "evil"),
        ("X-Keyward-Roles", "evil"),
        ("X-Keyward-Exchanged-By", "evil"),
        ("X_Keyward_Roles", "evil"),
        ("X-Original-URI", "/public"),
        ("X-Original-Method", "POST"),
        ("X-Forwarded-Uri", "/public"),
        ("Keyward-User", "tenants/acme/users/evil"),
        ("Keyward-Status", "429"),
        ("DPoP", "x"),
    ];
    for credential in [("X-Api-Key", scene.key.clone()), ("Authorization", scene.bearer())] {
        let headers = [&forged[..], &[(credential.0, credential.1.as_str())]].concat();
        let answer = nginx.send("GET /v1/calls", &headers).await;
        assert_eq!(answer.received("x-keyward-tenant"), ["tenants/acme"]);
        assert_eq!(answer.received("x-keyward-roles"), [""; 0]);
        assert_eq!(answer.received("authorization"), [""; 0]);
        assert_eq!(answer.received("dpop"), [""; 0]);
        assert_eq!(answer.received("x-keyward-exchanged-by"), [""; 0]);
        assert!(answer.received("x-keyward-token-id").iter().all(|id| *id != "evil"));
        assert!(!answer.body.to_lowercase().contains("x_keyward"), "{answer:?}");
        assert!(!answer.body.contains(&scene.key) && !answer.body.contains(&scene.token));
        refused(&nginx.send("GET /admin", &headers).await, 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn path_that_can_be_read_twice_is_refused() {
    let (scene, _service, nginx) = behind_nginx(&[], unchanged).await;
    let bearer = scene.bearer();
    let token = [("Authorization", bearer.as_str())];
    for path in AMBIGUOUS {
        refused(&nginx.send(&format!("GET {path}"), &token).await, 400);
    }
    for path in ["/public/../admin", "/public/%2e%2e/admin", "/./admin"] {
        let answer = nginx.send(&format!("GET {path}"), &token).await;
        assert!(matches!(answer.status, 400 | 403), "{path}: {answer:?}");
    }
    let answer = nginx.send("GET /public/%61", &token).await;
    assert_eq!(answer.received_path(), "/public/%61", "what was checked is what arrives");
}

/// nginx caches answers if it is configured to, and the key of the cache has no credential.
#[tokio::test(flavor = "multi_thread")]
async fn cache_before_keyward_lets_no_one_in() {
    let with_cache = |config: String| {
        let config = config.replace(
            "upstream keyward {",
            "proxy_cache_path cache keys_zone=c:1m;\nupstream keyward {",
        );
        let at = "proxy_pass http://keyward/gateway/check;";
        config.replace(at, &format!("proxy_cache c;\nproxy_cache_valid 200 401 403 10m;\n{at}"))
    };
    let (mut scene, _service, nginx) = behind_nginx(&[], with_cache).await;
    let bearer = scene.bearer();
    let token = [("Authorization", bearer.as_str())];
    assert_eq!(nginx.send("GET /v1/calls", &token).await.status, 200);
    refused(&nginx.send("GET /v1/calls", &[]).await, 401);
    assert_eq!(nginx.send("GET /v1/calls", &token).await.status, 200, "a refusal is not kept");
    scene.revoke().await;
    refused(&nginx.send("GET /v1/calls", &token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_retries_while_keyward_is_away() {
    let (scene, _service, nginx) = behind_nginx(&[], unchanged).await;
    let bearer = scene.bearer();
    let token = [("Authorization", bearer.as_str())];
    assert_eq!(nginx.send("GET /v1/calls", &token).await.status, 200);
    scene.kw.stop().await;
    let away = nginx.send("GET /v1/calls", &token).await;
    refused(&away, 503);
    assert_eq!(away.header("retry-after"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_behind_nginx_gets_a_signed_token() {
    let settings =
        [("gateway.upstream_credential", "token"), ("gateway.upstream_audience", "inside")];
    let (mut scene, _service, nginx) = behind_nginx(&settings, unchanged).await;
    let answer = nginx.send("GET /v1/calls", &[("X-Api-Key", scene.key.as_str())]).await;
    let inner = answer.received("authorization");
    let [inner] = inner[..] else { panic!("{answer:?}") };
    let info = scene.admin.introspect(inner.strip_prefix("Bearer ").unwrap()).await;
    assert_eq!((info.active, info.audiences), (true, vec!["inside".to_owned()]));
    assert!(!answer.body.contains(&scene.key), "{answer:?}");
}
