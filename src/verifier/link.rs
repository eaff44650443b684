//! A connection to Keyward, and the verifier's authentication on it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status, Streaming};

use super::VerifierCredential;
use super::connector::ServerConnector;
use super::trouble::FollowError;
use crate::clock::{Clock, Uptime};
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
use crate::transport::{GrpcChannel, ProtocolProbe};

/// The time limit for an answer, or for the start of a stream.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before another token request, if there is no token or it has no lifetime.
const NO_TOKEN_PAUSE: Duration = Duration::from_secs(1);

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct ServerLink(GrpcChannel);

/// The verifier's authentication: an API key, or access tokens that are requested with a client
/// secret when needed.
#[derive(Debug)]
pub(super) struct BearerSource {
    credential: VerifierCredential,
    clock: Clock,
    uptime: Uptime,
    token: Mutex<Option<HeldToken>>,
    /// Held during a token request, because both streams need a token at the same time.
    exchange: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct HeldToken {
    secret: Secret,
    /// The uptime at which it should be renewed, well before it expires.
    renew_at: Duration,
}

impl ServerLink {
    /// Opens a new connection, so that each attempt may reach another server behind the name.
    pub(super) async fn open(
        connector: &ServerConnector,
        probe: &ProtocolProbe,
    ) -> Result<Self, FollowError> {
        let endpoint = connector.endpoint().map_err(FollowError::Away)?;
        match timeout(2 * CALL_TIMEOUT, GrpcChannel::connect(&endpoint, probe)).await {
            Ok(channel) => channel.map(Self).map_err(FollowError::Away),
            Err(_) => Err(FollowError::away("the server does not accept a connection in time")),
        }
    }

    /// Starts a key stream. The server reserves places for authenticated callers.
    pub(super) async fn watch_keys(
        &self,
        bearer: &Secret,
    ) -> Result<Streaming<WatchJwksResponse>, Status> {
        let mut request = Request::new(WatchJwksRequest {});
        request.metadata_mut().insert("authorization", header(bearer)?);
        with_timeout(KeyServiceClient::new(self.0.clone()).watch_jwks(request)).await
    }

    /// The current key set.
    pub(super) async fn keys(&self, bearer: Option<Secret>) -> Result<GetJwksResponse, Status> {
        let mut request = Request::new(GetJwksRequest {});
        if let Some(bearer) = &bearer {
            request.metadata_mut().insert("authorization", header(bearer)?);
        }
        with_timeout(KeyServiceClient::new(self.0.clone()).get_jwks(request)).await
    }

    /// Starts a stream of revocations.
    pub(super) async fn watch_revocations(
        &self,
        cursor: String,
        bearer: &Secret,
    ) -> Result<Streaming<WatchRevocationsResponse>, Status> {
        let mut request = Request::new(WatchRevocationsRequest { cursor });
        request.metadata_mut().insert("authorization", header(bearer)?);
        with_timeout(RevocationServiceClient::new(self.0.clone()).watch_revocations(request)).await
    }
}

fn header(bearer: &Secret) -> Result<MetadataValue<Ascii>, Status> {
    let header = format!("Bearer {}", bearer.expose()).parse();
    let mut header: MetadataValue<Ascii> =
        header.map_err(|_| Status::unauthenticated("the API key contains invalid characters"))?;
    // Sensitive headers are hidden in `Debug`, and HPACK does not index them.
    header.set_sensitive(true);
    Ok(header)
}

/// The answer to a call, or an error after [`CALL_TIMEOUT`].
async fn with_timeout<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the server does not answer in time")),
    }
}

impl BearerSource {
    pub(super) fn new(credential: VerifierCredential, clock: Clock) -> Self {
        let uptime = clock.uptime();
        let (token, exchange) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { credential, clock, uptime, token, exchange }
    }

    /// The current bearer token. Requests a new one if necessary.
    pub(super) async fn bearer(&self, link: &ServerLink) -> Result<Secret, FollowError> {
        let (client_id, client_secret) = match &self.credential {
            VerifierCredential::ApiKey(key) => return Ok(key.clone()),
            VerifierCredential::ClientSecret { client_id, client_secret } => {
                (client_id, client_secret)
            }
        };
        let _turn = self.exchange.lock().await;
        if let Some(token) = self.token().filter(|token| !self.left(token).is_zero()) {
            return Ok(token.secret);
        }
        let asked = self.uptime.elapsed();
        let request = IssueTokenRequest {
            credential: Some(Credential::ClientSecret(ClientSecret {
                client_id: client_id.clone(),
                client_secret: client_secret.expose().to_owned(),
            })),
            // Only the scope that is needed, so that a leaked token is of little use.
            scopes: vec![ScopeName::VERIFY.to_owned()],
            audiences: vec![Audience::KEYWARD.to_owned()],
        };
        let issued =
            with_timeout(TokenServiceClient::new(link.0.clone()).issue_token(request)).await?;
        let lifetime = issued.expires_in.and_then(|span| Duration::try_from(span).ok());
        let token = HeldToken {
            secret: Secret::new(issued.access_token),
            renew_at: asked + lifetime.unwrap_or_default() * 4 / 5,
        };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token.secret)
    }

    /// The current bearer token, if there is one.
    pub(super) fn held(&self) -> Option<Secret> {
        match &self.credential {
            VerifierCredential::ApiKey(key) => Some(key.clone()),
            VerifierCredential::ClientSecret { .. } => self.token().map(|token| token.secret),
        }
    }

    /// Waits until the token should be renewed. With an API key, it never returns.
    pub(super) async fn wait_for_renewal(&self) {
        match &self.credential {
            VerifierCredential::ApiKey(_) => std::future::pending().await,
            VerifierCredential::ClientSecret { .. } => {
                let left = self.token().map_or(Duration::ZERO, |token| self.left(&token));
                self.clock.sleep(if left.is_zero() { NO_TOKEN_PAUSE } else { left }).await;
            }
        }
    }

    /// Discards a refused token, unless it was already replaced.
    pub(super) fn forget(&self, bearer: &Secret) {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.take_if(|token| token.secret.expose() == bearer.expose());
    }

    fn token(&self) -> Option<HeldToken> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The time until the token should be renewed.
    fn left(&self, token: &HeldToken) -> Duration {
        token.renew_at.saturating_sub(self.uptime.elapsed())
    }
}
