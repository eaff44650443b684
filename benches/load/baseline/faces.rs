//! Baselines over gRPC: tonic's server with Keyward's service definitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, ParsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::internals::keys::Claims;
use keyward::proto::access::access_service_server::{AccessService, AccessServiceServer};
use keyward::proto::access::{
    BatchCheckAccessRequest, BatchCheckAccessResponse, CheckAccessRequest, CheckAccessResponse,
};
use keyward::proto::token::issue_token_request::Credential as Proof;
use keyward::proto::token::token_service_server::{TokenService, TokenServiceServer};
use keyward::proto::token::{
    ExchangeTokenRequest, ExchangeTokenResponse, IntrospectTokenRequest, IntrospectTokenResponse,
    IssueTokenRequest, IssueTokenResponse, RevokeTokenRequest, RevokeTokenResponse,
    RevokeTokensRequest, RevokeTokensResponse,
};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::counter::Counter;
use super::{Kind, Templates};

/// Serves both services.
pub(super) async fn serve(
    kind: Kind,
    listener: TcpListener,
    templates: Templates,
    redis: Option<&str>,
) {
    let counter = match redis {
        Some(url) => Some(Counter::connect(url).await),
        None => None,
    };
    let face = Face {
        templates: Arc::new(templates.clone()),
        counter,
        signer: matches!(kind, Kind::Sign | Kind::VerifySign)
            .then(|| Arc::new(Signer::new(&templates))),
        verifier: (kind == Kind::Verify).then(|| Arc::new(Verifier::new(&templates.public_key))),
        assertions: (kind == Kind::VerifySign)
            .then(|| Arc::new(Verifier::new(templates.client_key.as_ref().unwrap()))),
    };
    Server::builder()
        .add_service(TokenServiceServer::new(face.clone()))
        .add_service(AccessServiceServer::new(face))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .unwrap();
}

#[derive(Clone)]
struct Face {
    templates: Arc<Templates>,
    counter: Option<Counter>,
    signer: Option<Arc<Signer>>,
    verifier: Option<Arc<Verifier>>,
    assertions: Option<Arc<Verifier>>,
}

#[tonic::async_trait]
impl TokenService for Face {
    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        if let Some(verifier) = &self.assertions {
            let verified = match &request.get_ref().credential {
                Some(Proof::ClientAssertion(message)) => verifier.verifies(&message.assertion),
                _ => None,
            };
            verified.ok_or_else(|| Status::unauthenticated("the signature is wrong"))?;
        }
        if let Some(counter) = &self.counter {
            counter.count().await;
        }
        let mut answer = self.templates.issued.clone();
        if let Some(signer) = &self.signer {
            answer.access_token = signer.token();
        }
        Ok(Response::new(answer))
    }

    async fn exchange_token(
        &self,
        _: Request<ExchangeTokenRequest>,
    ) -> Result<Response<ExchangeTokenResponse>, Status> {
        Err(Status::unimplemented("a baseline"))
    }

    async fn introspect_token(
        &self,
        _: Request<IntrospectTokenRequest>,
    ) -> Result<Response<IntrospectTokenResponse>, Status> {
        Err(Status::unimplemented("a baseline"))
    }

    async fn revoke_token(
        &self,
        _: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        Err(Status::unimplemented("a baseline"))
    }

    async fn revoke_tokens(
        &self,
        _: Request<RevokeTokensRequest>,
    ) -> Result<Response<RevokeTokensResponse>, Status> {
        Err(Status::unimplemented("a baseline"))
    }
}

#[tonic::async_trait]
impl AccessService for Face {
    async fn check_access(
        &self,
        request: Request<CheckAccessRequest>,
    ) -> Result<Response<CheckAccessResponse>, Status> {
        if let Some(verifier) = &self.verifier {
            let verified = verifier.verifies(&request.get_ref().token);
            verified.ok_or_else(|| Status::invalid_argument("the signature is wrong"))?;
        }
        Ok(Response::new(self.templates.checked.clone()))
    }

    async fn batch_check_access(
        &self,
        _: Request<BatchCheckAccessRequest>,
    ) -> Result<Response<BatchCheckAccessResponse>, Status> {
        Err(Status::unimplemented("a baseline"))
    }
}

/// Signs tokens with realistic claims, each with its own id.
pub(super) struct Signer {
    header: String,
    claims: Claims,
    next: AtomicU64,
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    pub(super) fn new(templates: &Templates) -> Self {
        let mut parts = templates.issued.access_token.split('.');
        let header = parts.next().unwrap().to_owned();
        let claims = URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "signatures draw their own randomness")]
        let random = SystemRandom::new();
        Self {
            header,
            claims: serde_json::from_slice(&claims).unwrap(),
            next: AtomicU64::new(0),
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            random,
        }
    }

    pub(super) fn token(&self) -> String {
        let mut claims = self.claims.clone();
        claims.jti = format!("{:032x}", self.next.fetch_add(1, Ordering::Relaxed));
        let claims = serde_json::to_vec(&claims).unwrap();
        let mut token = String::with_capacity(self.header.len() + claims.len() * 2 + 128);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let signature = self.pair.sign(&self.random, token.as_bytes()).unwrap();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

/// Verifies signatures of one key.
struct Verifier(ParsedPublicKey);

impl Verifier {
    fn new(public_key: &[u8]) -> Self {
        Self(ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public_key).unwrap())
    }

    fn verifies(&self, token: &str) -> Option<()> {
        let (message, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.0.verify_sig(message.as_bytes(), &signature).ok()
    }
}
