//! The connection to a server. Like any client, it exchanges a credential for a token, and sends
//! the token with every call.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

use super::output::Output;
use super::proof_key::ProofKey;
use super::servers::{self, SavedServer};
use super::tls::{ConnectionSecurity, TlsFlags};
use super::{Failure, names, secret, suggest};
use crate::domain::{self, Audience};
use crate::proto::token::issue_token_request::Credential;
use crate::proto::token::token_service_client::TokenServiceClient;
use crate::proto::token::{ClientCertificate, ClientSecret, IssueTokenRequest, IssueTokenResponse};
use crate::transport::{GrpcChannel, ProtocolProbe, exposes_secrets};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";

/// The server, the caller, and how to print the result.
///
/// Flags override environment variables, and both override the values that `keyward login` saved.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Client")]
pub(super) struct ServerConnection {
    /// The server's gRPC address, or the name of one that `keyward login` saved [default: the
    /// default of `keyward servers`, else 127.0.0.1:50051]
    #[arg(
        global = true,
        long,
        value_name = "URL|NAME",
        env = "KEYWARD_SERVER",
        value_parser = pasted
    )]
    pub(super) server: Option<String>,
    /// The client id of the caller
    #[arg(
        global = true,
        long,
        value_name = "ID",
        env = "KEYWARD_CLIENT_ID",
        value_parser = pasted
    )]
    pub(super) client_id: Option<String>,
    /// Its secret. Others on this machine can see a command line: prefer --client-secret-file, the
    /// environment, or `keyward login`
    #[arg(
        global = true,
        long,
        value_name = "SECRET",
        env = "KEYWARD_CLIENT_SECRET",
        hide_env_values = true,
        value_parser = pasted
    )]
    pub(super) client_secret: Option<String>,
    /// A file with the secret, or - for standard input
    #[arg(global = true, long, value_name = "FILE")]
    pub(super) client_secret_file: Option<PathBuf>,
    /// An API key of the caller, in place of a client id and secret
    #[arg(
        global = true,
        long,
        value_name = "KEY",
        env = "KEYWARD_API_KEY",
        hide_env_values = true,
        value_parser = pasted
    )]
    pub(super) api_key: Option<String>,
    /// A file with the API key, or - for standard input
    #[arg(global = true, long, value_name = "FILE")]
    pub(super) api_key_file: Option<PathBuf>,
    /// The user to act for, acme/sam: the user's roles decide what is allowed
    #[arg(
        global = true,
        long,
        value_name = "NAME",
        env = "KEYWARD_AS_USER",
        value_parser = pasted
    )]
    pub(super) as_user: Option<String>,
    #[command(flatten)]
    pub(super) tls: TlsFlags,
    #[command(flatten)]
    pub(super) output: Output,
}

/// A channel whose calls carry the caller's token.
pub(super) type Authorized = InterceptedService<GrpcChannel, Bearer>;

/// Adds the token to every call, and, if set, the user to act for and the caller's trace.
#[derive(Clone)]
pub(super) struct Bearer {
    authorization: MetadataValue<Ascii>,
    user: Option<MetadataValue<Ascii>>,
    traceparent: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.authorization.clone());
        if let Some(user) = &self.user {
            metadata.insert("keyward-user", user.clone());
        }
        if let Some(traceparent) = &self.traceparent {
            metadata.insert("traceparent", traceparent.clone());
        }
        Ok(request)
    }
}

impl ServerConnection {
    /// A channel without authentication.
    pub(super) async fn channel(&self) -> Result<GrpcChannel, Failure> {
        let saved = self.saved()?.map(|saved| saved.tls).unwrap_or_default();
        connect(&self.url()?, &self.tls.with_saved(saved)?).await
    }

    /// Runs calls as the caller. If a resource or scope does not exist, the failure suggests a
    /// similar name. `about` is the resource that the calls are about.
    pub(super) async fn call<T>(
        &self,
        about: Option<&str>,
        work: impl AsyncFnOnce(Authorized) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let channel = self.authorized().await?;
        match work(channel.clone()).await {
            Ok(result) => Ok(result),
            Err(failure) => Err(suggest::with_hint(failure, &channel, about).await),
        }
    }

    /// A channel with the caller's token.
    pub(super) async fn authorized(&self) -> Result<Authorized, Failure> {
        let channel = self.channel().await?;
        let bearer = match self.credential()? {
            Credential::ApiKey(key) => key,
            credential => {
                let audiences = vec![Audience::KEYWARD.to_owned()];
                exchange(&channel, credential, Vec::new(), audiences).await?.access_token
            }
        };
        let authorization = format!("Bearer {bearer}")
            .parse()
            .map_err(|_| Failure::usage("the API key has invalid characters"))?;
        // A script passes on its trace in this variable (OpenTelemetry).
        let traceparent = std::env::var("TRACEPARENT").ok().and_then(|text| text.parse().ok());
        let user = self.acting_user()?;
        Ok(InterceptedService::new(channel, Bearer { authorization, user, traceparent }))
    }

    /// The user to act for. An empty value means none.
    fn acting_user(&self) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let name = self.as_user.as_deref().filter(|name| !name.is_empty());
        let user = name.map(|name| names::user(name).parse()).transpose();
        user.map_err(|_| Failure::usage("--as-user has invalid characters"))
    }

    /// Exchanges a credential for an access token.
    pub(super) async fn exchange_for(
        &self,
        credential: Credential,
        scopes: Vec<String>,
        audiences: Vec<String>,
    ) -> Result<IssueTokenResponse, Failure> {
        exchange(&self.channel().await?, credential, scopes, audiences).await
    }

    /// Exchanges a credential for a token that is bound to this key.
    pub(super) async fn exchange_with_proof(
        &self,
        key: &ProofKey,
        credential: Credential,
        scopes: Vec<String>,
        audiences: Vec<String>,
    ) -> Result<IssueTokenResponse, Failure> {
        let message = IssueTokenRequest { credential: Some(credential), scopes, audiences };
        let client = TokenServiceClient::new(self.channel().await?);
        let send =
            async |request: Request<IssueTokenRequest>| client.clone().issue_token(request).await;
        self.with_proof(key, "IssueToken", &message, send).await
    }

    /// Sends a request to this method of `TokenService`, with a proof of the key. Repeats it if the
    /// server asks for a nonce.
    pub(super) async fn with_proof<M: Clone, R>(
        &self,
        key: &ProofKey,
        method: &str,
        message: &M,
        send: impl AsyncFn(Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        let server = self.url()?;
        let server = server.trim_end_matches('/');
        let url = format!("{server}/keyward.token.v1.TokenService/{method}");
        let mut nonce: Option<String> = None;
        loop {
            let mut request = Request::new(message.clone());
            let proof = key.proof(&url, nonce.as_deref())?;
            let proof = proof.parse().map_err(|_| Failure::usage("the proof is not ASCII"))?;
            request.metadata_mut().insert("dpop", proof);
            match send(request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => {
                    let asked = status.metadata().get("dpop-nonce");
                    let asked = asked.and_then(|value| value.to_str().ok()).map(str::to_owned);
                    if asked.is_none() || nonce.is_some() {
                        return Err(status.into());
                    }
                    nonce = asked;
                }
            }
        }
    }

    /// The address of the server.
    pub(super) fn url(&self) -> Result<String, Failure> {
        match &self.server {
            Some(url) if url.contains("://") => Ok(url.clone()),
            Some(name) => Ok(servers::find(name)?.url),
            None => Ok(self.saved()?.map_or_else(|| DEFAULT_SERVER.to_owned(), |saved| saved.url)),
        }
    }

    /// The saved server that is in use: the one that is named, or else the default one. A caller
    /// whose credential is given otherwise never uses a default that was saved: the credential
    /// could go to another server than before.
    fn saved(&self) -> Result<Option<SavedServer>, Failure> {
        match &self.server {
            Some(url) if url.contains("://") => Ok(None),
            Some(name) => servers::find(name).map(Some),
            None if self.has_credential() => Ok(None),
            None => servers::default(),
        }
    }

    fn has_credential(&self) -> bool {
        self.client_id.is_some()
            || self.client_secret.is_some()
            || self.client_secret_file.is_some()
            || self.api_key.is_some()
            || self.api_key_file.is_some()
    }

    /// The caller's credential: from flags and the environment, or else the saved one.
    pub(super) fn credential(&self) -> Result<Credential, Failure> {
        if self.has_credential() {
            return self.given_credential()?.ok_or_else(no_credential);
        }
        self.saved()?.and_then(SavedServer::into_credential).ok_or_else(no_credential)
    }

    /// The credential from flags and the environment, if it is complete.
    fn given_credential(&self) -> Result<Option<Credential>, Failure> {
        if let Some(key) = self.given_key()? {
            return Ok(Some(Credential::ApiKey(key)));
        }
        let Some(client_id) = self.client_id.clone() else { return Ok(None) };
        Ok(match self.given_secret()? {
            Some(client_secret) => {
                Some(Credential::ClientSecret(ClientSecret { client_id, client_secret }))
            }
            // The certificate of the connection proves it.
            None if self.tls.has_certificate() => {
                Some(Credential::ClientCertificate(ClientCertificate { client_id }))
            }
            None => None,
        })
    }

    /// The API key from flags and the environment.
    pub(super) fn given_key(&self) -> Result<Option<String>, Failure> {
        let file = self.api_key_file.as_deref().map(secret::read).transpose()?;
        Ok(file.or_else(|| self.api_key.clone()))
    }

    /// The client secret from flags and the environment.
    pub(super) fn given_secret(&self) -> Result<Option<String>, Failure> {
        let file = self.client_secret_file.as_deref().map(secret::read).transpose()?;
        Ok(file.or_else(|| self.client_secret.clone()))
    }
}

fn no_credential() -> Failure {
    Failure::usage(
        "there is no credential: use `keyward login`, or set KEYWARD_CLIENT_ID and \
         KEYWARD_CLIENT_SECRET (or KEYWARD_API_KEY). The first `keyward serve` shows the first \
         admin credential, or writes it to the file admin.env in its data directory; \
         `keyward bootstrap` creates another",
    )
}

/// Connects to a server. Refuses to send secrets to another machine without TLS, unless that is
/// permitted.
pub(super) async fn connect(
    url: &str,
    security: &ConnectionSecurity,
) -> Result<GrpcChannel, Failure> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| Failure::usage(format!("--server {url}: {error}")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT);
    if exposes_secrets(endpoint.uri()) && !security.plaintext {
        return Err(Failure::usage(format!(
            "{url} does not use TLS, so others on the network could read the secrets: use \
             https://, or --plaintext (KEYWARD_PLAINTEXT=true) if the network itself is protected"
        )));
    }
    let endpoint = security.tls.apply(endpoint).map_err(Failure::usage)?;
    GrpcChannel::connect(&endpoint, &ProtocolProbe::default()).await.map_err(|cause| {
        Failure::unreachable(format!(
            "{url} cannot be used: {cause}; start a server with `keyward serve`, or set --server"
        ))
    })
}

/// Exchanges a credential for an access token.
pub(super) async fn exchange(
    channel: &GrpcChannel,
    credential: Credential,
    scopes: Vec<String>,
    audiences: Vec<String>,
) -> Result<IssueTokenResponse, Failure> {
    let request = IssueTokenRequest { credential: Some(credential), scopes, audiences };
    let response = TokenServiceClient::new(channel.clone()).issue_token(request).await?;
    Ok(response.into_inner())
}

/// The limit of a list.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Limit {
    /// How many to list at most; 0 lists all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

impl Limit {
    pub(super) const NONE: Self = Self { limit: 0 };
}

/// The size of a page. Even with the largest items, a page is within the message size that gRPC
/// clients accept.
const MAX_PAGE: u16 = 200;

/// The items of a list.
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    /// The limit, if there are more items.
    pub(super) truncated_at: Option<usize>,
}

/// Reads a list up to its end or the limit. Calls `page` with the size and the token of each page.
pub(super) async fn all_pages<T, F>(
    limit: Limit,
    mut page: impl FnMut(i32, String) -> F,
) -> Result<Listed<T>, Failure>
where
    F: Future<Output = Result<(Vec<T>, String), Status>>,
{
    let limit = Some(limit.limit).filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let wanted = u16::try_from(limit - all.len()).unwrap_or(MAX_PAGE);
        let (items, next) = page(wanted.clamp(1, MAX_PAGE).into(), token).await?;
        all.extend(items);
        if all.len() > limit || (all.len() == limit && !next.is_empty()) {
            all.truncate(limit);
            return Ok(Listed { items: all, truncated_at: Some(limit) });
        }
        if next.is_empty() {
            return Ok(Listed { items: all, truncated_at: None });
        }
        token = next;
    }
}

/// Trims whitespace that was pasted with a value.
#[expect(clippy::unnecessary_wraps, reason = "clap's parsers can fail")]
pub(super) fn pasted(text: &str) -> Result<String, Infallible> {
    Ok(domain::pasted(text).to_owned())
}
