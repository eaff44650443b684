//! The gRPC interface: thin adapters without business rules. A call is authenticated before its
//! body is read. An adapter converts the request to domain values, calls one method of the service,
//! and converts the result to a message.

mod access;
mod applications;
mod audit;
mod auth;
mod body;
mod convert;
mod credentials;
mod deadline;
mod endpoints;
mod envoy;
mod gzip;
mod health;
mod keys;
mod master_keys;
mod methods;
mod protocol;
mod revocations;
mod roles;
mod scopes;
mod shapes;
mod signing_keys;
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
use axum::http::{Request, Response};
use axum::{BoxError, Router};
use envoy_types::ext_authz::v3::pb::AuthorizationServer;
use futures_util::FutureExt;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::pb as reflection_pb;
use tower::{Service as _, ServiceExt};

use crate::gateway::GatewayOptions;
use crate::proto;
use crate::proto::access::access_service_server::AccessServiceServer;
use crate::proto::access::key_service_server::KeyServiceServer;
use crate::proto::access::revocation_service_server::RevocationServiceServer;
use crate::proto::admin::application_service_server::ApplicationServiceServer;
use crate::proto::admin::audit_service_server::AuditServiceServer;
use crate::proto::admin::credential_service_server::CredentialServiceServer;
use crate::proto::admin::endpoint_service_server::EndpointServiceServer;
use crate::proto::admin::master_key_service_server::MasterKeyServiceServer;
use crate::proto::admin::role_service_server::RoleServiceServer;
use crate::proto::admin::scope_service_server::ScopeServiceServer;
use crate::proto::admin::signing_key_service_server::SigningKeyServiceServer;
use crate::proto::admin::tenant_service_server::TenantServiceServer;
use crate::proto::admin::user_service_server::UserServiceServer;
use crate::proto::token::token_service_server::TokenServiceServer;
use crate::service::Service;

pub use methods::methods;
pub use streams::Streaming;

use body::BoundedBody;
use health::HealthOfServices;
use methods::{Callers, Methods, RpcMethod};

/// Implements the generated traits of all gRPC services.
#[derive(Clone, Debug)]
struct Adapter {
    service: Arc<Service>,
    streaming: Streaming,
    /// How Envoy is answered.
    gateways: Arc<GatewayOptions>,
}

/// All gRPC services. Clones are cheap and share one state.
#[derive(Clone, Debug)]
pub struct Grpc(Arc<GrpcInner>);

#[derive(Debug)]
struct GrpcInner {
    adapter: Adapter,
    methods: &'static Methods,
    /// The services of the hot paths, called directly and not through the router.
    tokens: TokenServiceServer<Adapter>,
    access: AccessServiceServer<Adapter>,
    envoy: AuthorizationServer<Adapter>,
    others: Router,
    timeout: Duration,
}

/// An error in the embedded descriptors.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The descriptors cannot be decoded.
    #[error("the descriptors cannot be decoded: {0}")]
    Descriptors(#[from] prost::DecodeError),
    /// The reflection service does not accept the descriptors.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl Grpc {
    /// Builds all gRPC services. `timeout` is the maximum deadline of a call, and the default for
    /// calls without one. `is_ready` is the status that the health service reports.
    pub fn new(
        service: &Arc<Service>,
        is_ready: watch::Receiver<bool>,
        timeout: Duration,
        streaming: &Streaming,
        gateways: &Arc<GatewayOptions>,
    ) -> Result<Self, BuildError> {
        let adapter = Adapter {
            service: Arc::clone(service),
            streaming: streaming.clone(),
            gateways: Arc::clone(gateways),
        };
        // `BoundedBody` limits the size of messages for each method.
        macro_rules! server {
            ($server:ident) => {
                $server::new(adapter.clone()).max_decoding_message_size(usize::MAX)
            };
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(reflection_pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(reflection_pb::v1alpha::FILE_DESCRIPTOR_SET)
                // With these types, tools can show the details of errors.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                .include_reflection_service(false)
        };
        let methods = Methods::get()?;
        let health = HealthOfServices::new(methods.services(), is_ready, streaming.stop.clone());
        let health = HealthServer::new(health).max_decoding_message_size(usize::MAX);
        let others = Routes::new(health)
            .add_service(reflection().build_v1()?.max_decoding_message_size(usize::MAX))
            // Older clients support only this version.
            .add_service(reflection().build_v1alpha()?.max_decoding_message_size(usize::MAX))
            .add_service(server!(TenantServiceServer))
            .add_service(server!(ScopeServiceServer))
            .add_service(server!(ApplicationServiceServer))
            .add_service(server!(CredentialServiceServer))
            .add_service(server!(UserServiceServer))
            .add_service(server!(RoleServiceServer))
            .add_service(server!(EndpointServiceServer))
            .add_service(server!(AuditServiceServer))
            .add_service(server!(SigningKeyServiceServer))
            .add_service(server!(MasterKeyServiceServer))
            .add_service(server!(KeyServiceServer))
            .add_service(server!(RevocationServiceServer))
            .into_axum_router()
            .fallback(unknown);
        let (tokens, access) = (server!(TokenServiceServer), server!(AccessServiceServer));
        let envoy = server!(AuthorizationServer);
        let inner = GrpcInner { adapter, methods, tokens, access, envoy, others, timeout };
        Ok(Self(Arc::new(inner)))
    }

    /// Answers a request.
    pub fn answer<B>(&self, request: Request<B>) -> impl Future<Output = Response<Body>> + use<B>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send + 'static,
    {
        let (limit, answer) = match self.0.begin(&request) {
            Ok((method, limit)) => (limit, self.0.call(method, request)),
            Err(refusal) => (self.0.timeout, refused(*refusal)),
        };
        deadline::enforce(limit, infallible(answer)).map(status::with_reason)
    }
}

impl GrpcInner {
    /// Runs the checks that need only the headers. Returns the method and the time limit.
    fn begin<B>(
        &self,
        request: &Request<B>,
    ) -> Result<(&'static RpcMethod, Duration), Box<Response<Body>>> {
        let (method, is_known) = self.methods.of(request.uri().path());
        if let Some(refusal) = protocol::refusal(request, is_known) {
            return Err(Box::new(refusal));
        }
        let limit = self.begin_call(method, request);
        let limit = limit.map_err(|status| Box::new(status.into_http()))?;
        Ok((method, limit))
    }

    fn begin_call<B>(&self, method: &RpcMethod, request: &Request<B>) -> Result<Duration, Status> {
        if let Some(permit) = auth::permit(request.extensions()) {
            permit.require()?;
        }
        let limit = deadline::limit(request.headers(), self.timeout)?;
        let names_user = auth::refuse_repeated(request.headers())?;
        if names_user && method.refuses_user {
            return Err(auth::refuse_user().into());
        }
        Ok(limit)
    }

    /// Authenticates the caller if the method requires one, and passes the request on.
    fn call<B>(
        self: &Arc<Self>,
        method: &'static RpcMethod,
        mut request: Request<B>,
    ) -> PendingResponse
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send + 'static,
    {
        if let Some(proof) = self.adapter.proof(request.headers(), request.uri().path()) {
            request.extensions_mut().insert(proof);
        }
        if method.callers == Callers::Anyone {
            return self.pass_on(method, request);
        }
        let this = Arc::clone(self);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let admitted =
                this.adapter.admit(method.callers, &head.headers, &head.extensions).await;
            let mut request = Request::from_parts(head, body);
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

    fn pass_on<B>(&self, method: &'static RpcMethod, mut request: Request<B>) -> PendingResponse
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send + 'static,
    {
        let permit = auth::permit(request.extensions()).cloned();
        let is_gzip = match protocol::take_gzip(request.headers_mut()) {
            Ok(is_gzip) => is_gzip,
            Err(status) => return refused(status.into_http()),
        };
        let shapes = &self.methods.shapes;
        let request =
            request.map(|body| BoundedBody::new(body, method, shapes, permit).gzip(is_gzip));
        match request.uri().path().split('/').nth(1) {
            Some(TokenServiceServer::<Adapter>::NAME) => self.tokens.clone().call(request),
            Some(AccessServiceServer::<Adapter>::NAME) => self.access.clone().call(request),
            Some(AuthorizationServer::<Adapter>::NAME) => self.envoy.clone().call(request),
            _ => {
                let answer = self.others.clone().oneshot(request);
                Box::pin(async { answer.await.map(|response| response.map(Body::new)) })
            }
        }
    }
}

fn refused(refusal: Response<Body>) -> PendingResponse {
    Box::pin(ready(Ok(refusal)))
}

/// A pending answer. It is boxed so that moving it is cheap.
type PendingResponse = BoxFuture<Response<Body>, Infallible>;

async fn infallible<T>(answer: impl Future<Output = Result<T, Infallible>>) -> T {
    let Ok(answer) = answer.await;
    answer
}

/// The answer to a call of an unknown method. [`protocol::refusal`] answers other requests.
async fn unknown() -> Response<axum::body::Body> {
    Status::unimplemented("no such method").into_http()
}
