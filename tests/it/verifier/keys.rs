//! The verifier when keys cannot be streamed.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use keyward::proto::access::key_service_client::KeyServiceClient;
use keyward::proto::access::key_service_server::{KeyService, KeyServiceServer};
use keyward::proto::access::{
    GetJwksRequest, GetJwksResponse, WatchJwksRequest, WatchJwksResponse,
};
use keyward::proto::admin::credential::Kind;
use keyward::verifier::{Settings, StartError, Verifier};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::{gateway, settings, verifier_credential};
use crate::harness::{Backend, Credential, Keyward, connect, until};

/// A proxy in front of the real server that answers key requests itself.
#[derive(Clone)]
struct Front {
    real: Channel,
    answers: Arc<Answers>,
}

#[derive(Default)]
struct Answers {
    /// The error of `WatchJwks`.
    watch: Mutex<Option<Status>>,
    /// The error of `GetJwks`.
    get: Mutex<Option<Status>>,
    watched: AtomicUsize,
    asked: AtomicUsize,
    /// Whether a stream was requested without `authorization`.
    anonymous: AtomicBool,
}

fn refuse(status: &Mutex<Option<Status>>) -> Result<(), Status> {
    status.lock().unwrap().clone().map_or(Ok(()), Err)
}

#[tonic::async_trait]
impl KeyService for Front {
    async fn get_jwks(
        &self,
        _request: Request<GetJwksRequest>,
    ) -> Result<tonic::Response<GetJwksResponse>, Status> {
        self.answers.asked.fetch_add(1, Ordering::Relaxed);
        refuse(&self.answers.get)?;
        let answer = KeyServiceClient::new(self.real.clone()).get_jwks(GetJwksRequest {}).await?;
        let max_age = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        Ok(answer.map(|jwks| GetJwksResponse { max_age, ..jwks }))
    }

    type WatchJwksStream = Streaming<WatchJwksResponse>;

    async fn watch_jwks(
        &self,
        request: Request<WatchJwksRequest>,
    ) -> Result<tonic::Response<Self::WatchJwksStream>, Status> {
        self.answers.watched.fetch_add(1, Ordering::Relaxed);
        if !request.metadata().contains_key("authorization") {
            self.answers.anonymous.store(true, Ordering::Relaxed);
        }
        refuse(&self.answers.watch)?;
        KeyServiceClient::new(self.real.clone()).watch_jwks(WatchJwksRequest {}).await
    }
}

/// Forwards other requests.
async fn pass_on(real: Channel, request: axum::extract::Request) -> Result<Response, Infallible> {
    let (Parts { method, uri, headers, .. }, body) = request.into_parts();
    let mut request = axum::http::Request::new(tonic::body::Body::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let answer = tower::ServiceExt::oneshot(real, request).await;
    Ok(match answer {
        Ok(answer) => answer.map(axum::body::Body::new),
        Err(error) => {
            Status::from_error(error.into()).into_http::<axum::body::Body>().into_response()
        }
    })
}

impl Front {
    /// Its address, and its configurable answers.
    async fn of(kw: &Keyward) -> (String, Arc<Answers>) {
        let front = Self { real: connect(&kw.grpc()).await, answers: Arc::default() };
        let (real, answers) = (front.real.clone(), Arc::clone(&front.answers));
        let others = tower::service_fn(move |request| pass_on(real.clone(), request));
        let router: Router = Routes::new(KeyServiceServer::new(front))
            .into_axum_router()
            .reset_fallback()
            .fallback_service(others);
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
        (format!("http://{address}"), answers)
    }
}

struct Scene {
    kw: Keyward,
    crm: Credential,
    gateways: [Credential; 2],
    server: String,
    answers: Arc<Answers>,
}

impl Scene {
    async fn begin() -> Self {
        let kw = Backend::Sqlite.start().await;
        let mut admin = kw.admin().await;
        let (_, crm) = admin.acme().await;
        let secret = gateway(&mut admin).await;
        let (_, key) = admin.credential("tenants/system/applications/gateway", Kind::ApiKey).await;
        let (server, answers) = Front::of(&kw).await;
        Self { kw, crm, gateways: [secret, key], server, answers }
    }

    fn settings(&self, gateway: &Credential) -> Settings {
        Settings {
            credential: verifier_credential(gateway),
            ..settings(&self.kw, &self.server, gateway)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_polls_keys_if_the_stream_is_refused() {
    let scene = Scene::begin().await;
    for status in [
        Status::resource_exhausted("too many streams"),
        Status::unimplemented("no such method"),
        Status::permission_denied("not for you"),
    ] {
        for gateway in &scene.gateways {
            *scene.answers.watch.lock().unwrap() = Some(status.clone());
            let verifier = Verifier::connect(scene.settings(gateway)).await.unwrap();
            assert!(verifier.verify(&scene.crm.token(&scene.kw.grpc()).await).is_ok());
            // It keeps requesting keys, because they expire after a second, and keeps trying to
            // stream them.
            let before = scene.answers.asked.load(Ordering::Relaxed);
            until("it asks again", async || {
                scene.answers.asked.load(Ordering::Relaxed) >= before + 2
            })
            .await;
            *scene.answers.watch.lock().unwrap() = None;
            let before = scene.answers.watched.load(Ordering::Relaxed);
            until("it watches", async || scene.answers.watched.load(Ordering::Relaxed) > before)
                .await;
            assert!(verifier.verify(&scene.crm.token(&scene.kw.grpc()).await).is_ok());
        }
    }
    assert!(!scene.answers.anonymous.load(Ordering::Relaxed), "it proves itself for the keys too");
}

#[tokio::test(flavor = "multi_thread")]
async fn verifier_without_keys_reports_the_server_error() {
    let scene = Scene::begin().await;
    *scene.answers.watch.lock().unwrap() = Some(Status::resource_exhausted("no room for a stream"));
    *scene.answers.get.lock().unwrap() = Some(Status::unavailable("no keys today"));
    let within = Duration::from_secs(2);
    let settings = Settings { ready_within: within, ..scene.settings(&scene.gateways[1]) };
    let error = Verifier::connect(settings).await.unwrap_err();
    let StartError::NotReady { cause, .. } = &error else { panic!("{error}") };
    for said in ["streamed", "no room for a stream", "no keys today"] {
        assert!(cause.contains(said), "{said}: {cause}");
    }
}
