//! The gRPC face: thin adapters. A call is authenticated and authorised, its request
//! becomes domain values, one method of the service answers, and the answer becomes a
//! message again. No rule of the business is here.

mod access;
mod applications;
mod audit;
mod auth;
mod convert;
mod credentials;
mod deadline;
mod endpoints;
mod keys;
mod revocations;
mod roles;
mod scopes;
mod status;
mod streams;
mod tenants;
mod tokens;
mod users;

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::{BoxError, Router};
use prost::Message;
use prost_types::FileDescriptorSet;
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

pub use streams::Streaming;

/// The largest request that is decoded.
const MAX_REQUEST: usize = 64 * 1024;

/// The same of `TenantService`, to which whole profiles go.
const MAX_PROFILE: usize = 1024 * 1024;

/// All gRPC services over one service.
#[derive(Clone, Debug)]
struct Face {
    service: Arc<Service>,
    streaming: Streaming,
}

/// Everything that is served over gRPC. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Grpc {
    /// What is called all the time is found without a search.
    tokens: TokenServiceServer<Face>,
    access: AccessServiceServer<Face>,
    others: Router,
    timeout: Duration,
}

impl Grpc {
    /// All services over one. A call without a deadline, or with a longer one, is answered
    /// within `timeout`.
    pub fn new<H: Health>(
        service: &Arc<Service>,
        health: HealthServer<H>,
        timeout: Duration,
        streaming: &Streaming,
    ) -> Result<Self, tonic_reflection::server::Error> {
        macro_rules! limited {
            ($server:ident) => {
                limited!($server, MAX_REQUEST)
            };
            ($server:ident, $most:ident) => {
                $server::new(Face { service: Arc::clone(service), streaming: streaming.clone() })
                    .max_decoding_message_size($most)
            };
        }
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?
            .max_decoding_message_size(MAX_REQUEST);
        let others = Routes::new(health.max_decoding_message_size(MAX_REQUEST))
            .add_service(reflection)
            .add_service(limited!(TenantServiceServer, MAX_PROFILE))
            .add_service(limited!(ScopeServiceServer))
            .add_service(limited!(ApplicationServiceServer))
            .add_service(limited!(CredentialServiceServer))
            .add_service(limited!(UserServiceServer))
            .add_service(limited!(RoleServiceServer))
            .add_service(limited!(EndpointServiceServer))
            .add_service(limited!(AuditServiceServer))
            .add_service(limited!(KeyServiceServer))
            .add_service(limited!(RevocationServiceServer))
            .into_axum_router()
            .fallback(unknown);
        let (tokens, access) = (limited!(TokenServiceServer), limited!(AccessServiceServer));
        Ok(Self { tokens, access, others, timeout })
    }

    /// Answers a request.
    pub fn answer<B>(&self, request: Request<B>) -> impl Future<Output = Response<Body>> + use<B>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + Send + 'static,
    {
        let (limit, answer) = match deadline::limit(request.headers(), self.timeout) {
            Ok(limit) => (limit, self.call(request)),
            Err(status) => (self.timeout, Box::pin(ready(Ok(status.into_http()))) as Answer),
        };
        deadline::enforce(limit, infallible(answer))
    }

    fn call<B>(&self, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + Send + 'static,
    {
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

/// An answer on its way, small enough to be handed from one to the next with every request.
type Answer = BoxFuture<Response<Body>, Infallible>;

async fn infallible<T>(answer: impl Future<Output = Result<T, Infallible>>) -> T {
    let Ok(answer) = answer.await;
    answer
}

/// The paths of all methods that [`Grpc`] serves.
pub fn methods() -> Result<HashSet<String>, prost::DecodeError> {
    let mut paths = HashSet::new();
    for descriptors in [
        proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ] {
        for file in FileDescriptorSet::decode(descriptors)?.file {
            for service in &file.service {
                let service_name = format!("/{}.{}", file.package(), service.name());
                let names = service.method.iter().map(prost_types::MethodDescriptorProto::name);
                paths.extend(names.map(|name| format!("{service_name}/{name}")));
            }
        }
    }
    Ok(paths)
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
