//! A real Envoy with the file in `deploy/envoy/`.

use envoy_types::ext_authz::v3::pb::{CheckRequest, HttpResponse};
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckResponse};
use keyward::proto::admin::credential::Kind;
use tonic::Status;

use super::{AMBIGUOUS, Scene, refused};
use crate::dpop::Prover;
use crate::harness::gateway::{EchoService, EnvoyRun, Gateway};
use crate::harness::{Authorized, Backend, Proxy, bearer, on_both_databases, reason};

on_both_databases!(envoy_allows_limits_and_refuses_by_the_credential);

struct Behind {
    scene: Scene,
    envoy: Gateway,
    _service: EchoService,
}

/// An API key of a gateway.
async fn gateway_key(scene: &mut Scene) -> String {
    scene.admin.application("system", "envoy", &["keyward.verify"]).await;
    let (_, key) = scene.admin.credential("tenants/system/applications/envoy", Kind::ApiKey).await;
    key.secret
}

impl Behind {
    async fn start(
        backend: Backend,
        settings: &[(&'static str, &str)],
        change: impl Fn(String) -> String,
    ) -> Self {
        let mut scene = Scene::start(backend, settings).await;
        let key = gateway_key(&mut scene).await;
        let service = EchoService::start().await;
        let keyward = scene.kw.server().grpc.port();
        let envoy = Gateway::envoy(asking(keyward, &service, &key), change);
        Self { scene, envoy, _service: service }
    }
}

/// An Envoy that asks about each request with this key.
fn asking<'a>(keyward: u16, service: &EchoService, key: &'a str) -> EnvoyRun<'a> {
    let environment = ("KEYWARD_API_KEY", key);
    EnvoyRun { file: "envoy.yaml", keyward, service: service.port, environment }
}

fn unchanged(config: String) -> String {
    config
}

async fn envoy_allows_limits_and_refuses_by_the_credential(backend: Backend) {
    let Behind { mut scene, envoy, _service } = Behind::start(backend, &[], unchanged).await;
    let bearer = scene.bearer();
    let token = [("Authorization", bearer.as_str())];
    let key = scene.key.clone();
    let key = [("X-Api-Key", key.as_str())];

    let allowed = envoy.send("GET /v1/calls?x=%0A", &token).await;
    assert_eq!(allowed.received("x-keyward-application"), ["tenants/acme/applications/crm"]);
    assert_eq!(allowed.received("x-keyward-scopes"), ["a b"]);
    assert_eq!(allowed.received("authorization"), [""; 0], "the credential ends at the gateway");
    assert_eq!(allowed.received_path(), "/v1/calls?x=%0A");
    let by_key = envoy.send("GET /v1/calls/7", &key).await;
    assert_eq!(by_key.received("x-api-key"), [""; 0], "{by_key:?}");
    let line = envoy.access_line("/v1/calls/7").await;
    assert!(line.contains("\"outcome\":\"allowed\""), "{line}");
    assert!(line.contains("tenants/acme/applications/crm"), "{line}");

    let none = envoy.send("GET /v1/calls", &[]).await;
    refused(&none, 401);
    assert_eq!(none.header("www-authenticate"), "Bearer realm=\"keyward\"");
    let lacking = envoy.send("GET /admin", &token).await;
    refused(&lacking, 403);
    assert!(lacking.header("www-authenticate").contains("scope=\"c\""), "{lacking:?}");

    for left in ["r=1", "r=0"] {
        let answer = envoy.send("GET /limited", &token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.header("ratelimit").contains(left), "{answer:?}");
    }
    let limited = envoy.send("GET /limited", &token).await;
    refused(&limited, 429);
    assert_eq!(limited.header("retry-after"), "61");
    let line = envoy.access_line("rate_limited").await;
    assert!(line.contains("429"), "{line}");

    scene.revoke().await;
    refused(&envoy.send("GET /v1/calls", &token).await, 401);
    assert_eq!(envoy.send("GET /v1/calls", &key).await.status, 200, "a key is no token");
}

/// Envoy joins repeated headers with commas, unless `encode_raw_headers` is set.
#[tokio::test(flavor = "multi_thread")]
async fn two_credentials_are_refused_however_envoy_writes_headers() {
    let joined =
        |config: String| config.replace("encode_raw_headers: true", "encode_raw_headers: false");
    for change in [unchanged as fn(String) -> String, joined as fn(String) -> String] {
        let Behind { mut scene, envoy, _service } =
            Behind::start(Backend::Sqlite, &[], change).await;
        let bearer = scene.bearer();
        let token = ("Authorization", bearer.as_str());
        let key = ("X-Api-Key", scene.key.as_str());
        let both = format!("{bearer},Bearer evil");
        for headers in [
            &[token, token][..],
            &[token, ("Authorization", "Bearer evil")],
            &[("Authorization", "Bearer evil"), token],
            &[("Authorization", both.as_str())],
            &[key, key],
            &[key, ("X-Api-Key", "evil")],
            &[token, key],
        ] {
            refused(&envoy.send("GET /limited", headers).await, 400);
        }
        assert_eq!(scene.counted().await, 0, "nothing was charged");
        assert_eq!(envoy.send("GET /limited", &[token]).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn path_reaches_the_service_as_it_was_checked_or_not_at_all() {
    let Behind { scene, envoy, _service } = Behind::start(Backend::Sqlite, &[], unchanged).await;
    let bearer = scene.bearer();
    let token = [("Authorization", bearer.as_str())];
    for path in AMBIGUOUS {
        let answer = envoy.send(&format!("GET {path}"), &token).await;
        // Or the answer for the path that Envoy makes of it, for Keyward and the service alike.
        refused(&answer, if answer.status == 403 { 403 } else { 400 });
    }
    // Envoy itself resolves these, before it asks.
    for path in ["/public/../admin", "/public/%2e%2e/admin", "/./admin"] {
        refused(&envoy.send(&format!("GET {path}"), &token).await, 403);
    }
    let answer = envoy.send("GET /admin/../public", &token).await;
    assert_eq!((answer.status, answer.received_path()), (200, "/public"));
    let whole = envoy.send("OPTIONS *", &token).await;
    assert!(matches!(whole.status, 400 | 404), "{whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_never_reach_the_service_behind_envoy() {
    let Behind { scene, envoy, _service } = Behind::start(Backend::Sqlite, &[], unchanged).await;
    let forged = [
        ("X-Keyward-Tenant", "tenants/evil"),
        ("X-Keyward-Token-Id", "evil"),
        ("X-Keyward-Roles", "evil"),
        ("X-Keyward-Roles", "evil"),
        ("x-keyward-exchanged-by", "evil"),
        ("X-Keyward-User", "evil"),
        ("X_Keyward_Tenant", "evil"),
        ("DPoP", "evil"),
    ];
    let key = ("X-Api-Key", scene.key.as_str());
    let answer = envoy.send("GET /v1/calls", &[&forged[..], &[key]].concat()).await;
    assert_eq!(answer.received("x-keyward-tenant"), ["tenants/acme"]);
    assert!(!answer.body.contains("evil"), "{answer:?}");
    assert!(!answer.body.contains(&scene.key), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_behind_envoy_gets_one_signed_token() {
    let settings =
        [("gateway.upstream_credential", "token"), ("gateway.upstream_audience", "inside")];
    let Behind { mut scene, envoy, _service } =
        Behind::start(Backend::Sqlite, &settings, unchanged).await;
    let bearer = scene.bearer();
    for credential in [("X-Api-Key", scene.key.as_str()), ("Authorization", bearer.as_str())] {
        let answer = envoy.send("GET /v1/calls", &[credential]).await;
        let inner = answer.received("authorization");
        let [inner] = inner[..] else { panic!("{answer:?}") };
        let info = scene.admin.introspect(inner.strip_prefix("Bearer ").unwrap()).await;
        assert_eq!((info.active, info.audiences), (true, vec!["inside".to_owned()]));
        assert!(!answer.body.contains(credential.1), "the credential ends there: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_is_for_the_url_of_the_outside_and_counts_once() {
    let settings = [("gateway.public_url", "https://api.example")];
    let Behind { scene, envoy, _service } =
        Behind::start(Backend::Sqlite, &settings, unchanged).await;
    let prover = Prover::new();
    let bound = prover.token(&scene.kw, &scene.crm, "").await;
    let authorization = format!("DPoP {bound}");
    let send = async |line: &str, proof: &str| {
        let headers = [
            ("Authorization", authorization.as_str()),
            ("DPoP", proof),
            ("X-Forwarded-Proto", "gopher"),
            ("X-Forwarded-Host", "evil"),
        ];
        envoy.send(line, &headers).await
    };
    let url = "https://api.example/v1/calls";
    let proof = prover.with_token(&scene.kw, ("GET", url), &bound);
    refused(&send("GET /v1/calls/", &proof).await, 401);
    refused(&send("GET /v1/calls/7", &proof).await, 401);
    refused(&send("POST /v1/calls", &proof).await, 401);
    assert_eq!(send("GET /v1/calls?x=1", &proof).await.status, 200);
    for again in ["GET /v1/calls?x=1", "GET /v1/calls", "GET /v1/c%61lls"] {
        let answer = send(again, &proof).await;
        refused(&answer, 401);
        assert!(answer.header("www-authenticate").starts_with("DPoP "), "{answer:?}");
    }
    let inner = prover.with_token(&scene.kw, ("GET", "http://api.example.com/v1/calls"), &bound);
    refused(&send("GET /v1/calls", &inner).await, 401);
    let as_bearer = format!("Bearer {bound}");
    refused(&envoy.send("GET /v1/calls", &[("Authorization", &as_bearer)]).await, 401);
}

/// The table of deploy/README.md: Keyward stopped, or one that does not answer, and a gateway whose
/// key is not accepted.
#[tokio::test(flavor = "multi_thread")]
async fn request_waits_or_passes_by_configuration_while_keyward_cannot_know() {
    type Change = fn(String) -> String;
    let open =
        |config: String| config.replace("failure_mode_allow: false", "failure_mode_allow: true");
    for (change, status) in [(unchanged as Change, 503), (open as Change, 200)] {
        let Behind { scene, envoy, _service } = Behind::start(Backend::Sqlite, &[], change).await;
        let bearer = scene.bearer();
        let token = [("Authorization", bearer.as_str())];
        refused(&envoy.send("GET /admin", &token).await, 403);
        scene.kw.stop().await;
        let headers = [token[0], ("X-Keyward-Tenant", "tenants/forged")];
        let away = envoy.send("GET /admin", &headers).await;
        assert_eq!(away.status, status, "{away:?}");
        assert!(!away.body.contains("forged"), "{away:?}");
        let retry = if status == 503 { "1" } else { "" };
        assert_eq!(away.header("retry-after"), retry, "{away:?}");
    }
    let scene = Scene::start(Backend::Sqlite, &[]).await;
    let service = EchoService::start().await;
    // The key of an application of a tenant, which may not verify.
    let keyward = scene.kw.server().grpc.port();
    let envoy = Gateway::envoy(asking(keyward, &service, &scene.key), unchanged);
    let bearer = scene.bearer();
    let answer = envoy.send("GET /v1/calls", &[("Authorization", &bearer)]).await;
    refused(&answer, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_is_answered_while_keyward_hangs() {
    let mut scene = Scene::start(Backend::Sqlite, &[]).await;
    let key = gateway_key(&mut scene).await;
    let service = EchoService::start().await;
    let proxy = Proxy::to(scene.kw.server().grpc).await;
    let envoy = Gateway::envoy(asking(proxy.address.port(), &service, &key), unchanged);
    let bearer = scene.bearer();
    let token = [("Authorization", bearer.as_str())];
    assert_eq!(envoy.send("GET /limited", &token).await.status, 200);
    proxy.hold();
    let hanging = envoy.send("GET /limited", &token).await;
    refused(&hanging, 503);
    assert_eq!(hanging.header("retry-after"), "1");
    assert_eq!(scene.counted().await, 1);
}

/// What Envoy sends, without Envoy.
async fn ask(
    client: &mut AuthorizationClient<Authorized>,
    http: Option<HttpRequest>,
) -> Result<CheckResponse, Status> {
    let request = http.map(|http| Request { http: Some(http), ..Default::default() });
    let attributes = Some(AttributeContext { request, ..Default::default() });
    client.check(CheckRequest { attributes }).await.map(tonic::Response::into_inner)
}

fn get(path: &str, headers: &[(&str, &[u8])]) -> HttpRequest {
    let headers = headers.iter().map(|(name, value)| HeaderValue {
        key: (*name).to_owned(),
        value: String::new(),
        raw_value: value.to_vec(),
    });
    HttpRequest {
        method: "GET".to_owned(),
        path: path.to_owned(),
        header_map: Some(HeaderMap { headers: headers.collect() }),
        ..Default::default()
    }
}

fn denied(answer: CheckResponse) -> i32 {
    match answer.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied.status.unwrap().code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_description_is_a_decision_and_no_error() {
    let mut scene = Scene::start(Backend::Sqlite, &[]).await;
    let key = gateway_key(&mut scene).await;
    let mut client = AuthorizationClient::new(bearer(&scene.kw.grpc(), &key).await);
    assert_eq!(denied(client.check(CheckRequest::default()).await.unwrap().into_inner()), 400);
    assert_eq!(denied(ask(&mut client, None).await.unwrap()), 400);
    let authorization = scene.bearer();
    let token = ("authorization", authorization.as_bytes());
    for byte in 0..=u8::MAX {
        let path = [b"/a".as_slice(), &[byte], b"b"].concat();
        let shown = String::from_utf8_lossy(&path).into_owned();
        let answer = ask(&mut client, Some(get(&shown, &[token, (":path", path.as_slice())])))
            .await
            .unwrap();
        assert!(matches!(denied(answer), 400 | 403), "{byte}");
    }
    for (path, headers) in [
        ("", &[token][..]),
        ("/v1/calls", &[token, (":path", b"/v1/other".as_slice())]),
        ("/v1/calls", &[("authorization", b"Bearer \xff".as_slice())]),
        ("/v1/calls", &[token, token]),
    ] {
        let answer = ask(&mut client, Some(get(path, headers))).await.unwrap();
        assert_eq!(denied(answer), 400, "{path} {headers:?}");
    }
    let large = vec![b'a'; 100_000];
    let answer =
        ask(&mut client, Some(get("/v1/calls", &[token, ("x-large", large.as_slice())]))).await;
    let Some(HttpResponse::OkResponse(ok)) = answer.unwrap().http_response else { panic!() };
    let set: Vec<_> = ok.headers.iter().map(|it| &it.header.as_ref().unwrap().key).collect();
    assert!(set.iter().all(|name| !ok.headers_to_remove.contains(name)), "{ok:?}");

    for (caller, expected) in
        [(scene.token.clone(), "UNAUTHENTICATED"), (scene.key.clone(), "PERMISSION_DENIED")]
    {
        let mut client = AuthorizationClient::new(bearer(&scene.kw.grpc(), &caller).await);
        let status = ask(&mut client, Some(get("/public", &[token]))).await.unwrap_err();
        assert_eq!(reason(&status), expected);
    }
}
