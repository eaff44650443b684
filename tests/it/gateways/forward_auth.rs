//! `/gateway/check`, asked as Traefik and Caddy do.

use reqwest::Method;

use super::{AMBIGUOUS, Scene};
use crate::harness::{Answer, Backend, on_both_databases};

on_both_databases!(request_is_allowed_limited_or_refused_by_its_credential);

const FORWARDED: [(&str, &str); 2] =
    [("gateway.callers", "127.0.0.0/8"), ("gateway.headers", "x-forwarded")];
const IDENTITY: [&str; 8] = [
    "x-keyward-tenant",
    "x-keyward-application",
    "x-keyward-credential",
    "x-keyward-roles",
    "x-keyward-scopes",
    "x-keyward-token-id",
    "x-keyward-expires",
    "x-keyward-exchanged-by",
];

async fn ask(scene: &Scene, headers: &[(&str, &str)]) -> Answer {
    let mut request = scene.kw.request(Method::GET, "/gateway/check");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = scene.kw.send(request).await;
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    answer
}

async fn check(scene: &Scene, path: &str, headers: &[(&str, &str)]) -> Answer {
    let described = [("x-forwarded-method", "GET"), ("x-forwarded-uri", path)];
    ask(scene, &[&described[..], headers].concat()).await
}

async fn request_is_allowed_limited_or_refused_by_its_credential(backend: Backend) {
    let mut scene = Scene::start(backend, &FORWARDED).await;
    let bearer = scene.bearer();
    let token = [("authorization", bearer.as_str())];
    let key = scene.key.clone();
    let key = [("x-api-key", key.as_str())];

    let allowed = check(&scene, "/v1/calls?page=%0A", &token).await;
    assert_eq!(allowed.status, 200, "{allowed:?}");
    assert_eq!(allowed.header("x-keyward-application"), "tenants/acme/applications/crm");
    assert_eq!(allowed.header("x-keyward-scopes"), "a b");
    assert!(!allowed.header("x-keyward-token-id").is_empty());
    let by_key = check(&scene, "/v1/calls/7", &key).await;
    assert_eq!(by_key.status, 200, "{by_key:?}");
    for answer in [&allowed, &by_key] {
        for name in IDENTITY.iter().chain(&["authorization", "x-api-key", "dpop"]) {
            assert!(answer.headers.contains_key(*name), "{name} is in every answer: {answer:?}");
        }
        assert_eq!(answer.header("authorization"), "", "the credential ends at the gateway");
    }
    assert_eq!(by_key.header("x-keyward-token-id"), "", "a key has none");

    let none = check(&scene, "/v1/calls", &[]).await;
    assert_eq!(
        (none.status.as_u16(), none.header("www-authenticate")),
        (401, "Bearer realm=\"keyward\"")
    );
    let wrong = check(&scene, "/v1/calls", &[("authorization", "Bearer x")]).await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("www-authenticate").contains("error=\"invalid_token\""), "{wrong:?}");
    assert_eq!(wrong.error(), "invalid_token");
    let lacking = check(&scene, "/admin", &token).await;
    assert_eq!(lacking.status, 403);
    assert!(lacking.header("www-authenticate").contains("scope=\"c\""), "{lacking:?}");
    assert_eq!(check(&scene, "/unknown", &token).await.status, 403);

    for left in ["1", "0"] {
        let answer = check(&scene, "/limited", &token).await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("ratelimit").contains(&format!("r={left}")), "{answer:?}");
    }
    let limited = check(&scene, "/limited", &token).await;
    assert_eq!((limited.status.as_u16(), limited.header("retry-after")), (429, "61"));
    assert_eq!(scene.counted().await, 2);
    scene.kw.advance(61);
    assert_eq!(check(&scene, "/limited", &token).await.status, 200);

    scene.revoke().await;
    assert_eq!(check(&scene, "/v1/calls", &token).await.status, 401, "revoked");
    assert_eq!(check(&scene, "/v1/calls", &key).await.status, 200, "a key is no token");
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_request_is_refused_and_charged_to_no_credential() {
    let settings = [&FORWARDED[..], &[("gateway.items_header", "X-Items")]].concat();
    let mut scene = Scene::start(Backend::Sqlite, &settings).await;
    let bearer = scene.bearer();
    let token = ("authorization", bearer.as_str());
    for path in AMBIGUOUS {
        let answer = check(&scene, path, &[token]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (400, "invalid_request"),
            "{path}"
        );
    }
    for path in ["", "*", "v1/calls", "http://evil/v1/calls"] {
        assert_eq!(check(&scene, path, &[token]).await.status, 400, "{path}");
    }
    let joined = format!("{bearer},{bearer}");
    let uri = ("x-forwarded-uri", "/limited");
    let method = ("x-forwarded-method", "GET");
    for headers in [
        &[uri, method, token, token][..],
        &[uri, method, ("authorization", &joined)],
        &[uri, method, token, ("x-api-key", scene.key.as_str())],
        &[uri, method, ("x-api-key", scene.key.as_str()), ("x-api-key", "x")],
        &[uri, method, ("authorization", "Basic eDp5"), ("x-api-key", scene.key.as_str())],
        &[uri, uri, method, token],
        &[uri, method, method, token],
        &[uri, ("x-forwarded-uri", "/public"), method, token],
        &[uri, method, token, ("x-original-uri", "/public")],
        &[uri, method, token, ("x-original-method", "POST")],
        &[uri, method, token, ("x-original-uri", "/limited"), ("x-original-uri", "/limited")],
        &[uri, method, token, ("x-items", "5,6")],
        &[uri, method, token, ("x-items", "-1")],
        &[uri, token],
        &[method, token],
        &[token],
    ] {
        let answer = ask(&scene, headers).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (400, "invalid_request"),
            "{headers:?}"
        );
    }
    assert_eq!(scene.counted().await, 0, "nothing was charged");

    // What says nothing about the request changes nothing.
    let more = [
        uri,
        method,
        token,
        ("x-original-uri", "/limited"),
        ("forwarded", "for=192.0.2.1;host=evil;proto=gopher"),
        ("x-forwarded-prefix", "/public"),
        ("x-forwarded-host", "evil"),
        ("keyward-user", "tenants/acme/users/sam"),
        ("x-items", "5"),
    ];
    let answer = ask(&scene, &more).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(scene.counted().await, 1);
    let items = |number: &'static str| [("x-items", number), token];
    assert_eq!(check(&scene, "/batch", &items("10")).await.status, 200);
    assert_eq!(check(&scene, "/batch", &items("11")).await.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_gateway_is_refused_whatever_it_says() {
    let off = Scene::start(Backend::Sqlite, &[]).await;
    let headers = [
        ("x-forwarded-for", "192.0.2.10"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-uri", "/public"),
    ];
    let request = headers
        .iter()
        .fold(off.kw.request(Method::GET, "/gateway/check"), |request, (name, value)| {
            request.header(*name, *value)
        });
    assert_eq!(off.kw.send(request).await.status, 404, "nothing is answered by default");

    let settings = [
        ("gateway.callers", "192.0.2.0/24"),
        ("gateway.headers", "x-forwarded"),
        // A proxy that is trusted is no gateway, and cannot name one.
        ("trusted_proxies", "127.0.0.1"),
    ];
    let scene = Scene::start(Backend::Sqlite, &settings).await;
    let bearer = scene.bearer();
    for headers in [&headers[..1], &[("authorization", bearer.as_str())], &[]] {
        let answer = check(&scene, "/public", headers).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (403, "access_denied"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_for_nginx_are_two_with_the_real_one_in_a_header() {
    let settings = [&FORWARDED[..], &[("gateway.statuses", "nginx")]].concat();
    let scene = Scene::start(Backend::Sqlite, &settings).await;
    let bearer = scene.bearer();
    let token = [("authorization", bearer.as_str())];
    for (path, headers, status, real) in [
        ("/v1/calls", &token[..], 200, ""),
        ("/v1/calls", &[], 401, "401"),
        ("/admin", &token, 403, "403"),
        ("//admin", &token, 403, "400"),
        ("/limited", &token, 200, ""),
        ("/limited", &token, 200, ""),
        ("/limited", &token, 403, "429"),
    ] {
        let answer = check(&scene, path, headers).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("keyward-status")),
            (status, real),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn service_gets_a_token_of_a_minute_in_place_of_the_key() {
    let settings = [
        &FORWARDED[..],
        &[("gateway.upstream_credential", "token"), ("gateway.upstream_audience", "inside")],
    ]
    .concat();
    let mut scene = Scene::start(Backend::Sqlite, &settings).await;
    let key = [("x-api-key", scene.key.as_str())];
    let answer = check(&scene, "/v1/calls", &key).await;
    let inner = answer.header("authorization").strip_prefix("Bearer ").unwrap().to_owned();
    assert_eq!(answer.header("x-api-key"), "", "the key ends at the gateway");
    let info = scene.admin.introspect(&inner).await;
    assert!(info.active, "{info:?}");
    assert_eq!(info.audiences, ["inside"]);
    assert_eq!(info.scopes, ["a", "b"]);
    let issued = info.issue_time.unwrap().seconds;
    assert_eq!(info.expire_time.unwrap().seconds - issued, 60);
    let outside = [("authorization", answer.header("authorization"))];
    assert_eq!(
        check(&scene, "/v1/calls", &outside).await.status,
        401,
        "it is for another audience"
    );
    scene.kw.advance(60);
    assert!(!scene.admin.is_active(&inner).await);
}
