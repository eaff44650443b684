//! Talking to a server, as any client does: a credential is exchanged for a token, and
//! the token goes with every call.

use std::convert::Infallible;
use std::time::Duration;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::{Failure, Format, names};
use crate::domain::{self, Audience};
use crate::proto::admin::application_service_client::ApplicationServiceClient;
use crate::proto::admin::audit_service_client::AuditServiceClient;
use crate::proto::admin::credential_service_client::CredentialServiceClient;
use crate::proto::admin::endpoint_service_client::EndpointServiceClient;
use crate::proto::admin::role_service_client::RoleServiceClient;
use crate::proto::admin::scope_service_client::ScopeServiceClient;
use crate::proto::admin::tenant_service_client::TenantServiceClient;
use crate::proto::admin::user_service_client::UserServiceClient;
use crate::proto::token::issue_token_request::Credential;
use crate::proto::token::token_service_client::TokenServiceClient;
use crate::proto::token::{ClientSecret, IssueTokenRequest, IssueTokenResponse};
use crate::transport::{GrpcChannel, Probe};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Which server, as whom, and how to print what it says.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Client")]
pub(super) struct Connection {
    /// The server's gRPC address
    #[arg(
        global = true,
        long,
        value_name = "URL",
        env = "KEYWARD_SERVER",
        default_value = "http://127.0.0.1:50051",
        value_parser = pasted
    )]
    pub(super) server: String,
    /// The client id to call as
    #[arg(
        global = true,
        long,
        value_name = "ID",
        env = "KEYWARD_CLIENT_ID",
        value_parser = pasted
    )]
    pub(super) client_id: Option<String>,
    /// Its secret; better in the environment than here, where others see it
    #[arg(
        global = true,
        long,
        value_name = "SECRET",
        env = "KEYWARD_CLIENT_SECRET",
        hide_env_values = true,
        value_parser = pasted
    )]
    pub(super) client_secret: Option<String>,
    /// An API key to call as, in place of a client id and secret
    #[arg(
        global = true,
        long,
        value_name = "KEY",
        env = "KEYWARD_API_KEY",
        hide_env_values = true,
        value_parser = pasted
    )]
    pub(super) api_key: Option<String>,
    /// The user to act for, acme/sam: the user's roles decide what may be done
    #[arg(
        global = true,
        long,
        value_name = "NAME",
        env = "KEYWARD_AS_USER",
        value_parser = pasted
    )]
    pub(super) as_user: Option<String>,
    /// How to print the result
    #[arg(global = true, long, short, value_enum, default_value_t)]
    pub(super) output: Format,
}

/// A channel whose calls carry the caller's token.
pub(super) type Authorized = InterceptedService<GrpcChannel, Bearer>;

/// Puts the token into every call, and the user to act for and the caller's trace if there
/// are any.
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

impl Connection {
    /// A channel without a caller.
    pub(super) async fn channel(&self) -> Result<GrpcChannel, Failure> {
        let mut endpoint = Endpoint::from_shared(self.server.clone())
            .map_err(|error| Failure::usage(format!("--server {}: {error}", self.server)))?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT);
        if self.server.starts_with("https:") {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).map_err(Failure::new)?;
        }
        GrpcChannel::connect(&endpoint, &Probe::default()).await.map_err(|cause| {
            let server = &self.server;
            Failure::unreachable(format!(
                "{server} cannot be used: {cause}; start a server with `keyward serve`, or set \
                 --server"
            ))
        })
    }

    /// A channel with the caller's token.
    pub(super) async fn authorized(&self) -> Result<Authorized, Failure> {
        let channel = self.channel().await?;
        let bearer = if let Some(key) = &self.api_key {
            key.clone()
        } else {
            let audiences = vec![Audience::KEYWARD.to_owned()];
            let token = self.exchange(&channel, Vec::new(), audiences).await?;
            token.access_token
        };
        let authorization = format!("Bearer {bearer}")
            .parse()
            .map_err(|_| Failure::usage("the API key has characters that no API key has"))?;
        // The environment carries the trace of the script that calls (OpenTelemetry).
        let traceparent = std::env::var("TRACEPARENT").ok().and_then(|text| text.parse().ok());
        let user = self.acting_user()?;
        Ok(InterceptedService::new(channel, Bearer { authorization, user, traceparent }))
    }

    /// The user to act for; in the environment an empty one is none.
    fn acting_user(&self) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let name = self.as_user.as_deref().filter(|name| !name.is_empty());
        let user = name.map(|name| names::user(name).parse()).transpose();
        user.map_err(|_| Failure::usage("--as-user has characters that no user's name has"))
    }

    /// Exchanges the credential for an access token.
    pub(super) async fn exchange(
        &self,
        channel: &GrpcChannel,
        scopes: Vec<String>,
        audiences: Vec<String>,
    ) -> Result<IssueTokenResponse, Failure> {
        let credential = Some(self.credential()?);
        let request = IssueTokenRequest { credential, scopes, audiences };
        let response = TokenServiceClient::new(channel.clone()).issue_token(request).await?;
        Ok(response.into_inner())
    }

    pub(super) async fn tenants(&self) -> Result<TenantServiceClient<Authorized>, Failure> {
        Ok(TenantServiceClient::new(self.authorized().await?))
    }

    pub(super) async fn scopes(&self) -> Result<ScopeServiceClient<Authorized>, Failure> {
        Ok(ScopeServiceClient::new(self.authorized().await?))
    }

    pub(super) async fn applications(
        &self,
    ) -> Result<ApplicationServiceClient<Authorized>, Failure> {
        Ok(ApplicationServiceClient::new(self.authorized().await?))
    }

    pub(super) async fn credentials(&self) -> Result<CredentialServiceClient<Authorized>, Failure> {
        Ok(CredentialServiceClient::new(self.authorized().await?))
    }

    pub(super) async fn users(&self) -> Result<UserServiceClient<Authorized>, Failure> {
        Ok(UserServiceClient::new(self.authorized().await?))
    }

    pub(super) async fn roles(&self) -> Result<RoleServiceClient<Authorized>, Failure> {
        Ok(RoleServiceClient::new(self.authorized().await?))
    }

    pub(super) async fn endpoints(&self) -> Result<EndpointServiceClient<Authorized>, Failure> {
        Ok(EndpointServiceClient::new(self.authorized().await?))
    }

    pub(super) async fn audit(&self) -> Result<AuditServiceClient<Authorized>, Failure> {
        Ok(AuditServiceClient::new(self.authorized().await?))
    }

    fn credential(&self) -> Result<Credential, Failure> {
        match (&self.client_id, &self.client_secret, &self.api_key) {
            (_, _, Some(key)) => Ok(Credential::ApiKey(key.clone())),
            (Some(id), Some(secret), None) => Ok(Credential::ClientSecret(ClientSecret {
                client_id: id.clone(),
                client_secret: secret.clone(),
            })),
            _ => Err(Failure::usage(
                "set KEYWARD_CLIENT_ID and KEYWARD_CLIENT_SECRET (or KEYWARD_API_KEY); the first \
                 `keyward serve` shows the first admin credential, or puts it into the file \
                 admin.env of its data directory; `keyward bootstrap` makes another",
            )),
        }
    }
}

/// How much of a list is asked for at once, at most: a page of the largest items is a message
/// that a client takes.
const MOST_AT_ONCE: u16 = 200;

/// Reads a list to its end, or to `limit` items: calls `page` with the size of each page, no
/// larger than is still wanted, and its token.
pub(super) async fn all_pages<T, F>(
    limit: usize,
    mut page: impl FnMut(i32, String) -> F,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<(Vec<T>, String), Status>>,
{
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let wanted = u16::try_from(limit - all.len()).unwrap_or(MOST_AT_ONCE);
        let (items, next) = page(wanted.clamp(1, MOST_AT_ONCE).into(), token).await?;
        all.extend(items);
        if all.len() > limit || (all.len() == limit && !next.is_empty()) {
            all.truncate(limit);
            super::output::note(&format!("there are more; --limit {limit} cut the list"));
            return Ok(all);
        }
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

/// What was pasted into an argument, or stands in a variable with a newline behind it.
#[expect(clippy::unnecessary_wraps, reason = "clap's parsers can fail")]
pub(super) fn pasted(text: &str) -> Result<String, Infallible> {
    Ok(domain::pasted(text).to_owned())
}
