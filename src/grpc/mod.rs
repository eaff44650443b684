//! The gRPC face: thin adapters. A call is authenticated and authorised, its request
//! becomes domain values, one method of the service answers, and the answer becomes a
//! message again. No rule of the business is here.

mod access;
mod applications;
mod audit;
mod auth;
mod body;
mod convert;
mod credentials;
mod deadline;
mod endpoints;
mod keys;
mod methods;
mod revocations;
mod roles;
mod scopes;
mod shapes;
mod status;
mod streams;
mod tenants;
mod tokens;
mod users;

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::{BoxError, Router};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::{Service as _, ServiceExt};

use crate::proto;
use crate::proto::access::access_service_server::AccessServiceServer;
use crate::proto::access::key_service_server::KeyServiceServer;
use crate::proto::access::revocation_service_server::RevocationServiceServer;
use crate::proto::admin::application_service_server::ApplicationServiceServer;
use crate::proto::admin::audit_service_server::AuditServiceServer;
use crate::proto::admin::credential_service_server::CredentialServiceServer;
use crate::proto::admin::endpoint_service_server::EndpointServiceServer;
use crate::proto::admin::role_service_server::RoleServiceServer;
use crate::proto::admin::scope_service_server::ScopeServiceServer;
use crate::proto::admin::tenant_service_server::TenantServiceServer;
use crate::proto::admin::user_service_server::UserServiceServer;
use crate::proto::token::token_service_server::TokenServiceServer;
use crate::service::Service;

pub use methods::methods;
pub use streams::Streaming;

use body::Screened;
use methods::{Access, Method, Methods};

/// All gRPC services over one service.
#[derive(Clone, Debug)]
struct Face {
    service: Arc<Service>,
    streaming: Streaming,
}

/// Everything that is served over gRPC. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Grpc {
    face: Face,
    methods: Methods,
    /// What is called all the time is found without a search.
    tokens: TokenServiceServer<Face>,
    access: AccessServiceServer<Face>,
    others: Router,
    timeout: Duration,
}

/// Why [`Grpc`] cannot be built: the descriptors are broken.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// They cannot be decoded.
    #[error("the descriptors cannot be decoded: {0}")]
    Descriptors(#[from] prost::DecodeError),
    /// They cannot be served.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl Grpc {
    /// All services over one. A call without a deadline, or with a longer one, is answered
    /// within `timeout`.
    pub fn new<H: Health>(
        service: &Arc<Service>,
        health: HealthServer<H>,
        timeout: Duration,
        streaming: &Streaming,
    ) -> Result<Self, BuildError> {
        let face = Face { service: Arc::clone(service), streaming: streaming.clone() };
        // How large a message may be, `Screened` says for each method.
        macro_rules! server {
            ($server:ident) => {
                $server::new(face.clone()).max_decoding_message_size(usize::MAX)
            };
        }
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?
            .max_decoding_message_size(usize::MAX);
        let others = Routes::new(health.max_decoding_message_size(usize::MAX))
            .add_service(reflection)
            .add_service(server!(TenantServiceServer))
            .add_service(server!(ScopeServiceServer))
            .add_service(server!(ApplicationServiceServer))
            .add_service(server!(CredentialServiceServer))
            .add_service(server!(UserServiceServer))
            .add_service(server!(RoleServiceServer))
            .add_service(server!(EndpointServiceServer))
            .add_service(server!(AuditServiceServer))
            .add_service(server!(KeyServiceServer))
            .add_service(server!(RevocationServiceServer))
            .into_axum_router()
            .fallback(unknown);
        let (tokens, access) = (server!(TokenServiceServer), server!(AccessServiceServer));
        Ok(Self { methods: Methods::new()?, face, tokens, access, others, timeout })
    }

    /// Answers a request.
    pub fn answer<B>(&self, request: Request<B>) -> impl Future<Output = Response<Body>> + use<B>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send + 'static,
    {
        let (limit, answer) = match self.begin(&request) {
            Ok((limit, method)) => (limit, self.call(method, request)),
            Err(status) => (self.timeout, refused(status)),
        };
        deadline::enforce(limit, infallible(answer))
    }

    /// What can be refused at once; how long the answer may take, and the method.
    fn begin<B>(&self, request: &Request<B>) -> Result<(Duration, Method), Status> {
        if let Some(permit) = auth::permit(request.extensions()) {
            permit.require()?;
        }
        let limit = deadline::limit(request.headers(), self.timeout)?;
        let names_user = auth::refuse_repeated(request.headers())?;
        let method = self.methods.of(request.uri().path());
        if names_user && method.refuses_user {
            return Err(auth::refuse_user().into());
        }
        Ok((limit, method))
    }

    /// Finds out who calls, where that must be known, and passes the request on.
    fn call<B>(&self, method: Method, mut request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send + 'static,
    {
        if method.access == Access::Anyone {
            return self.pass_on(method, request);
        }
        let this = self.clone();
        Box::pin(async move {
            let permit = auth::permit(request.extensions()).cloned();
            let admitted =
                this.face.admit(method.access, request.headers(), permit.as_deref()).await;
            match admitted {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    this.pass_on(method, request).await
                }
                Err(error) => {
                    body::discard(request.into_body()).await;
                    Ok(Status::from(error).into_http())
                }
            }
        })
    }

    fn pass_on<B>(&self, method: Method, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send + 'static,
    {
        let permit = auth::permit(request.extensions()).cloned();
        let request = request.map(|body| Screened::new(body, method, &self.methods.shapes, permit));
        match request.uri().path().split('/').nth(1) {
            Some(TokenServiceServer::<Face>::NAME) => self.tokens.clone().call(request),
            Some(AccessServiceServer::<Face>::NAME) => self.access.clone().call(request),
            _ => {
                let answer = self.others.clone().oneshot(request);
                Box::pin(async { answer.await.map(|response| response.map(Body::new)) })
            }
        }
    }
}

fn refused(status: Status) -> Answer {
    Box::pin(ready(Ok(status.into_http())))
}

/// An answer on its way, small enough to be handed from one to the next with every request.
type Answer = BoxFuture<Response<Body>, Infallible>;

async fn infallible<T>(answer: impl Future<Output = Result<T, Infallible>>) -> T {
    let Ok(answer) = answer.await;
    answer
}

/// A path that is no RPC: gRPC callers hear UNIMPLEMENTED, others a plain 404.
async fn unknown(headers: HeaderMap) -> axum::response::Response {
    let grpc = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        Status::unimplemented("no such method").into_http()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}
