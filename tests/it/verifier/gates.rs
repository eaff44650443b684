//! The interceptor on a tonic server and the layer on an axum server.

use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use keyward::proto::access::key_service_client::KeyServiceClient;
use keyward::proto::access::key_service_server::{KeyService, KeyServiceServer};
use keyward::proto::access::{
    GetJwksRequest, GetJwksResponse, WatchJwksRequest, WatchJwksResponse,
};
use keyward::verifier::{Settings, Verified, Verifier};
use tokio::net::TcpListener;
use tokio_stream::Empty;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

use super::{ACME, gateway, is_lost, refused, revoke, settings};
use crate::harness::{Backend, Credential, Keyward, Proxy, bearer, connect, reason, until};

/// A service that returns the token's application.
struct EchoService;

#[tonic::async_trait]
impl KeyService for EchoService {
    async fn get_jwks(
        &self,
        request: Request<GetJwksRequest>,
    ) -> Result<Response<GetJwksResponse>, Status> {
        let token = request.extensions().get::<Verified>().expect("admitted requests have one");
        Ok(Response::new(GetJwksResponse {
            jwks: token.tenant().to_owned(),
            ..GetJwksResponse::default()
        }))
    }

    type WatchJwksStream = Empty<Result<WatchJwksResponse, Status>>;

    async fn watch_jwks(
        &self,
        _request: Request<WatchJwksRequest>,
    ) -> Result<Response<Self::WatchJwksStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}

async fn whose(Extension(token): Extension<Verified>) -> String {
    token.tenant().to_owned()
}

/// Serves behind a verifier: gRPC and HTTP, both requiring `a`, and HTTP `/b`, which also requires
/// `b`.
async fn serve(verifier: &Verifier) -> String {
    let grpc = KeyServiceServer::with_interceptor(EchoService, verifier.interceptor(&["a"]));
    let router = Router::new()
        .route("/any", get(whose).layer(verifier.layer(&[])))
        .route("/a", get(whose).layer(verifier.layer(&["a"])))
        .route("/b", get(whose).layer(verifier.layer(&["a", "b"])))
        .merge(Routes::new(grpc).into_axum_router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let executor = hyper_util::rt::TokioExecutor::new();
                let stream = hyper_util::rt::TokioIo::new(stream);
                hyper_util::server::conn::auto::Builder::new(executor)
                    .serve_connection(stream, service)
                    .await
                    .ok();
            });
        }
    });
    format!("http://{address}")
}

/// A server, a proxy to it, and services behind a verifier.
struct Guarded {
    kw: Keyward,
    crm: Credential,
    proxy: Proxy,
    verifier: Verifier,
    url: String,
}

async fn guarded() -> Guarded {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let gateway = gateway(&mut admin).await;
    let proxy = Proxy::to(kw.server().grpc).await;
    let server = format!("http://{}", proxy.address);
    let max_lag = Duration::from_secs(2);
    let settings = Settings { max_lag, ..settings(&kw, &server, &gateway) };
    let verifier = Verifier::connect(settings).await.unwrap();
    let url = serve(&verifier).await;
    Guarded { kw, crm, proxy, verifier, url }
}

impl Guarded {
    async fn token(&self, scopes: &[&str]) -> String {
        self.crm.exchange(&self.kw.grpc(), scopes, &[]).await.unwrap().access_token
    }

    async fn call(&self, token: &str) -> Result<String, Status> {
        let mut client = KeyServiceClient::new(bearer(&self.url, token).await);
        client.get_jwks(GetJwksRequest {}).await.map(|answer| answer.into_inner().jwks)
    }

    async fn get(&self, path: &str, token: Option<&str>) -> crate::harness::Answer {
        let mut request = reqwest::Client::new().get(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.kw.send(request).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interceptor_requires_a_valid_token_with_scopes() {
    let mut guarded = guarded().await;
    let good = guarded.token(&["a"]).await;
    assert_eq!(guarded.call(&good).await.unwrap(), "acme");

    let mut anonymous = KeyServiceClient::new(connect(&guarded.url).await);
    let without = anonymous.get_jwks(GetJwksRequest {}).await.unwrap_err();
    let key = format!("kwk_{}", "0".repeat(40));
    for status in [
        without,
        guarded.call("nonsense").await.unwrap_err(),
        guarded.call(&good[..good.len() - 9]).await.unwrap_err(),
        guarded.call(&key).await.unwrap_err(),
    ] {
        let reported = (status.code(), reason(&status));
        assert_eq!(reported, (Code::Unauthenticated, "UNAUTHENTICATED".to_owned()), "{status}");
    }
    let status = guarded.call(&guarded.token(&["b"]).await).await.unwrap_err();
    let reported = (status.code(), reason(&status));
    assert_eq!(reported, (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
    assert_eq!(status.get_details_error_info().unwrap().metadata["scope"], "a");

    guarded.proxy.cut().await;
    until("it is lost", async || is_lost(&guarded.verifier, &good)).await;
    let status = guarded.call(&good).await.unwrap_err();
    let reported = (status.code(), reason(&status));
    assert_eq!(reported, (Code::Unavailable, "UNAVAILABLE".to_owned()));
    let wait = status.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(wait, Some(Duration::from_secs(1)));
    assert_eq!(guarded.call("nonsense").await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn layer_requires_a_valid_token_with_scopes() {
    let mut guarded = guarded().await;
    let (a, both) = (guarded.token(&["a"]).await, guarded.token(&[]).await);
    for (path, token, allowed) in [
        ("/any", &a, true),
        ("/a", &a, true),
        ("/b", &a, false),
        ("/a", &both, true),
        ("/b", &both, true),
    ] {
        let answer = guarded.get(path, Some(token)).await;
        assert_eq!(answer.status, if allowed { 200 } else { 403 }, "{path} {answer:?}");
        if allowed {
            assert_eq!(answer.body, "acme");
            continue;
        }
        assert_eq!(answer.error(), "insufficient_scope");
        assert_eq!(
            answer.header("www-authenticate"),
            "Bearer realm=\"tenants/acme\", error=\"insufficient_scope\", scope=\"a b\""
        );
        assert_eq!(answer.json()["error_description"], "the token lacks the scope b");
    }

    let without = guarded.get("/any", None).await;
    assert_eq!((without.status.as_u16(), without.error().as_str()), (401, "invalid_token"));
    assert_eq!(without.header("www-authenticate"), "Bearer realm=\"tenants/acme\"");
    revoke(&mut guarded.kw.admin().await, ACME, "").await;
    refused(&guarded.verifier, &a, &keyward::verifier::Refusal::Revoked).await;
    for (token, why) in [(a.as_str(), "revoked"), ("nonsense", "malformed"), ("kwk_x", "API key")] {
        let answer = guarded.get("/any", Some(token)).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (401, "invalid_token"));
        assert_eq!(
            answer.header("www-authenticate"),
            "Bearer realm=\"tenants/acme\", error=\"invalid_token\""
        );
        assert!(answer.body.contains(why), "{answer:?}");
    }

    let good = guarded.token(&[]).await;
    guarded.proxy.cut().await;
    until("it is lost", async || is_lost(&guarded.verifier, &good)).await;
    let answer = guarded.get("/any", Some(&good)).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.error(), "temporarily_unavailable");
    assert_eq!((answer.header("retry-after"), answer.header("www-authenticate")), ("1", ""));
    guarded.proxy.mend().await;
    until("it is found again", async || guarded.verifier.verify(&good).is_ok()).await;
    assert_eq!(guarded.get("/any", Some(&good)).await.status, 200);
}
