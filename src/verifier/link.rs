//! A connection to Keyward, and what the verifier proves itself with on it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;
use tonic::{Request, Status, Streaming};

use super::Access;
use super::trouble::Trouble;
use crate::clock::Stopwatch;
use crate::domain::{Audience, ScopeName};
use crate::proto::access::key_service_client::KeyServiceClient;
use crate::proto::access::revocation_service_client::RevocationServiceClient;
use crate::proto::access::{
    GetJwksRequest, GetJwksResponse, WatchJwksRequest, WatchJwksResponse, WatchRevocationsRequest,
    WatchRevocationsResponse,
};
use crate::proto::token::issue_token_request::Credential;
use crate::proto::token::token_service_client::TokenServiceClient;
use crate::proto::token::{ClientSecret, IssueTokenRequest};
use crate::secrets::Secret;
use crate::transport::{GrpcChannel, Probe};

/// How long the server may take to answer a call, or to begin a stream.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for another token where there is none, or one without a life.
const NO_TOKEN_PAUSE: Duration = Duration::from_secs(1);

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Link(GrpcChannel);

/// What the verifier proves itself with: an API key, or tokens that are exchanged for a secret
/// when there is need for another one.
#[derive(Debug)]
pub(super) struct Authorization {
    access: Access,
    token: Mutex<Option<Token>>,
    /// Held while a token is asked for: both streams need one at the same time.
    exchange: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Token {
    secret: Secret,
    asked: Stopwatch,
    lifetime: Duration,
}

impl Link {
    /// A connection of its own, so that each attempt may find another server behind a name.
    pub(super) async fn open(endpoint: &Endpoint, probe: &Probe) -> Result<Self, Trouble> {
        match timeout(2 * CALL_TIMEOUT, GrpcChannel::connect(endpoint, probe)).await {
            Ok(channel) => channel.map(Self).map_err(Trouble::Away),
            Err(_) => Err(Trouble::away("it does not accept a connection in time")),
        }
    }

    /// Begins to watch the key set. The server keeps places for callers that it knows.
    pub(super) async fn watch_keys(
        &self,
        bearer: &Secret,
    ) -> Result<Streaming<WatchJwksResponse>, Status> {
        let mut request = Request::new(WatchJwksRequest {});
        request.metadata_mut().insert("authorization", header(bearer)?);
        in_time(KeyServiceClient::new(self.0.clone()).watch_jwks(request)).await
    }

    /// The key set as it is now.
    pub(super) async fn keys(&self, bearer: Option<Secret>) -> Result<GetJwksResponse, Status> {
        let mut request = Request::new(GetJwksRequest {});
        if let Some(bearer) = &bearer {
            request.metadata_mut().insert("authorization", header(bearer)?);
        }
        in_time(KeyServiceClient::new(self.0.clone()).get_jwks(request)).await
    }

    /// Begins to be told what is revoked.
    pub(super) async fn watch_revocations(
        &self,
        cursor: String,
        bearer: &Secret,
    ) -> Result<Streaming<WatchRevocationsResponse>, Status> {
        let mut request = Request::new(WatchRevocationsRequest { cursor });
        request.metadata_mut().insert("authorization", header(bearer)?);
        in_time(RevocationServiceClient::new(self.0.clone()).watch_revocations(request)).await
    }
}

fn header(bearer: &Secret) -> Result<MetadataValue<Ascii>, Status> {
    let header = format!("Bearer {}", bearer.expose()).parse();
    let mut header: MetadataValue<Ascii> =
        header.map_err(|_| Status::unauthenticated("the key has characters that no key has"))?;
    // So that it is not shown in Debug, nor kept in tables of compressed headers.
    header.set_sensitive(true);
    Ok(header)
}

/// The answer to a call, if it comes in time.
async fn in_time<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("it does not answer in time")),
    }
}

impl Authorization {
    pub(super) fn new(access: Access) -> Self {
        Self { access, token: Mutex::default(), exchange: tokio::sync::Mutex::default() }
    }

    /// What to prove oneself with now; it is exchanged if need be.
    pub(super) async fn bearer(&self, link: &Link) -> Result<Secret, Trouble> {
        let (client_id, client_secret) = match &self.access {
            Access::ApiKey(key) => return Ok(key.clone()),
            Access::ClientSecret { client_id, client_secret } => (client_id, client_secret),
        };
        let _turn = self.exchange.lock().await;
        if let Some(token) = self.token().filter(|token| !token.left().is_zero()) {
            return Ok(token.secret);
        }
        let asked = Stopwatch::start();
        let request = IssueTokenRequest {
            credential: Some(Credential::ClientSecret(ClientSecret {
                client_id: client_id.clone(),
                client_secret: client_secret.expose().to_owned(),
            })),
            // No more than is needed, so that a token that leaks is worth little.
            scopes: vec![ScopeName::VERIFY.to_owned()],
            audiences: vec![Audience::KEYWARD.to_owned()],
        };
        let issued = in_time(TokenServiceClient::new(link.0.clone()).issue_token(request)).await?;
        let lifetime = issued.expires_in.and_then(|span| Duration::try_from(span).ok());
        let token = Token {
            secret: Secret::new(issued.access_token),
            asked,
            lifetime: lifetime.unwrap_or_default(),
        };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token.secret)
    }

    /// What there is to prove oneself with, without asking for another.
    pub(super) fn held(&self) -> Option<Secret> {
        match &self.access {
            Access::ApiKey(key) => Some(key.clone()),
            Access::ClientSecret { .. } => self.token().map(|token| token.secret),
        }
    }

    /// Waits until another token should be had: for ever with an API key.
    pub(super) async fn nears_its_end(&self) {
        match &self.access {
            Access::ApiKey(_) => std::future::pending().await,
            Access::ClientSecret { .. } => {
                let left = self.token().map_or(Duration::ZERO, |token| token.left());
                sleep(if left.is_zero() { NO_TOKEN_PAUSE } else { left }).await;
            }
        }
    }

    /// This token is of no use. Another that there may be by now is.
    pub(super) fn forget(&self, bearer: &Secret) {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.take_if(|token| token.secret.expose() == bearer.expose());
    }

    fn token(&self) -> Option<Token> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Token {
    /// How long until it should be renewed: well before it ends.
    fn left(&self) -> Duration {
        (self.lifetime * 4 / 5).saturating_sub(self.asked.elapsed())
    }
}
