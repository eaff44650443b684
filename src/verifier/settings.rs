//! The settings of a verifier.

use std::path::PathBuf;
use std::time::Duration;

use tonic::transport::Endpoint;

use super::connector::ServerConnector;
use crate::clock::Clock;
use crate::domain::{Audience, Fault};
use crate::secrets::{Prefixes, Secret};
use crate::transport::{CertificateFiles, ClientTls, exposes_secrets, innermost};

/// Replicas without Redis poll their database each second, so the server's staleness is up to two
/// seconds including the interval of messages. A lower bound would refuse valid tokens.
const MIN_LAG: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings of a verifier. Create them with [`Settings::new`], and change public fields if the
/// defaults do not fit.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keyward's gRPC address.
    pub server: ServerAddress,
    /// A file with the authorities (PEM) of the server's certificate. Default: those that this
    /// machine trusts. Read for each connection, like [`Self::client_certificate`].
    pub ca: Option<PathBuf>,
    /// The verifier's certificate, for servers that require one.
    pub client_certificate: Option<CertificateFiles>,
    /// Permits an `http://` address of another machine. The credential and the list of revocations
    /// are then sent without encryption, so the network itself must be protected. Default: false.
    pub allow_plaintext: bool,
    /// The verifier's credential. Its application must be in the tenant `system` and have the scope
    /// `keyward.verify`.
    pub credential: VerifierCredential,
    /// The required issuer: exactly the server's setting `issuer`.
    pub issuer: String,
    /// The required audience: exactly one of the token's audiences.
    pub audience: String,
    /// The maximum age of the revocation data. Default: 5 s; minimum: 2 s. A revocation that
    /// Keyward has acknowledged takes effect within this time, or tokens are refused.
    pub max_lag: Duration,
    /// What happens when the data is older.
    pub when_lost: WhenLost,
    /// How long [`connect`](super::Verifier::connect) waits until the verifier is ready. Default:
    /// 30 s.
    pub ready_within: Duration,
    /// The prefix of API keys: the server's setting `secrets.api_key_prefix`.
    pub api_key_prefix: String,
    /// The clock for the expiry of tokens. Default: the system's clock.
    pub clock: Clock,
}

/// Keyward's gRPC address.
#[derive(Clone, Debug)]
pub enum ServerAddress {
    /// A URL: `https://keyward.example:50051` with the system's trusted certificates, or `http://…`
    /// without TLS.
    Url(String),
    /// An endpoint with other settings, such as custom root certificates.
    Endpoint(Box<Endpoint>),
}

/// The credential that a verifier authenticates with at Keyward. `Debug` does not print secrets.
#[derive(Clone, Debug)]
pub enum VerifierCredential {
    /// An API key, which is sent with every call.
    ApiKey(Secret),
    /// A client id and secret, which are exchanged for short-lived tokens.
    ClientSecret {
        /// The id of the credential.
        client_id: String,
        /// The secret, `kws_…`.
        client_secret: Secret,
    },
}

/// What happens to valid tokens when the revocation data is older than [`Settings::max_lag`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenLost {
    /// They are refused until the data is up to date again.
    #[default]
    Refuse,
    /// They are accepted for this time beyond `max_lag`, and then refused. Meanwhile, known
    /// revocations stay in force and new ones are missed.
    RefuseAfter(Duration),
}

/// Why the verifier did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is invalid.
    #[error("{setting} {fault}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// The error, as a predicate.
        fault: String,
    },
    /// There is no Tokio runtime.
    #[error("the verifier must be started within a Tokio runtime")]
    NoRuntime,
    /// Keyward refuses the credential. Retrying does not help.
    #[error("keyward refuses the verifier's credential: {0}")]
    Refused(String),
    /// Keys and revocations could not be read in time.
    #[error("the verifier was not ready within {} s: {cause}", .waited.as_secs_f32())]
    NotReady {
        /// How long `connect` waited.
        waited: Duration,
        /// The last error.
        cause: String,
    },
}

impl From<&str> for ServerAddress {
    fn from(url: &str) -> Self {
        Self::Url(url.to_owned())
    }
}

impl From<String> for ServerAddress {
    fn from(url: String) -> Self {
        Self::Url(url)
    }
}

impl From<Endpoint> for ServerAddress {
    fn from(endpoint: Endpoint) -> Self {
        Self::Endpoint(Box::new(endpoint))
    }
}

impl VerifierCredential {
    /// An API key, which is sent with every call.
    pub fn api_key(key: impl Into<String>) -> Self {
        Self::ApiKey(Secret::new(key))
    }

    /// A client id with its secret, which is exchanged for access tokens.
    pub fn client_secret(client_id: impl Into<String>, client_secret: impl Into<String>) -> Self {
        Self::ClientSecret {
            client_id: client_id.into(),
            client_secret: Secret::new(client_secret),
        }
    }
}

impl Settings {
    /// Settings for tokens of `issuer` with the audience `audience`.
    pub fn new(
        server: impl Into<ServerAddress>,
        credential: VerifierCredential,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> Self {
        Self {
            server: server.into(),
            ca: None,
            client_certificate: None,
            allow_plaintext: false,
            credential,
            issuer: issuer.into(),
            audience: audience.into(),
            max_lag: Duration::from_secs(5),
            when_lost: WhenLost::default(),
            ready_within: Duration::from_secs(30),
            api_key_prefix: Prefixes::default().api_key,
            clock: Clock::system(),
        }
    }

    /// The maximum age of the data, including [`WhenLost::RefuseAfter`].
    pub(super) fn oldest(&self) -> Duration {
        match self.when_lost {
            WhenLost::Refuse => self.max_lag,
            WhenLost::RefuseAfter(more) => self.max_lag.saturating_add(more),
        }
    }

    /// Validates the settings, and returns how to connect.
    pub(super) fn check(&self) -> Result<ServerConnector, StartError> {
        let wrong = |setting, fault: &str| StartError::Setting { setting, fault: fault.to_owned() };
        if self.issuer.is_empty() {
            return Err(wrong("issuer", "must not be empty"));
        }
        Audience::parse(&self.audience).map_err(|Fault(fault)| wrong("audience", &fault))?;
        if self.max_lag < MIN_LAG {
            return Err(wrong("max_lag", "must be at least 2 s"));
        }
        if self.api_key_prefix.is_empty() {
            return Err(wrong("api_key_prefix", "must not be empty"));
        }
        let connector = self.connector()?;
        if exposes_secrets(connector.endpoint.uri()) && !self.allow_plaintext {
            return Err(wrong(
                "server",
                "does not use TLS, so others on the network could read the credential: use \
                 https://, or set allow_plaintext if the network itself is protected",
            ));
        }
        // Bad files are an error now, and not at the first connection.
        connector.endpoint().map_err(|fault| wrong("server", &format!("has no TLS: {fault}")))?;
        Ok(connector)
    }

    fn connector(&self) -> Result<ServerConnector, StartError> {
        let wrong = |setting, fault: String| StartError::Setting { setting, fault };
        let identity = self.client_certificate.clone();
        match &self.server {
            ServerAddress::Endpoint(_) if self.ca.is_some() || identity.is_some() => {
                let setting = if self.ca.is_some() { "ca" } else { "client_certificate" };
                let fault = "cannot be combined with an endpoint, which has its own TLS: use a URL";
                Err(wrong(setting, fault.to_owned()))
            }
            ServerAddress::Endpoint(endpoint) => {
                Ok(ServerConnector { endpoint: endpoint.as_ref().clone(), tls: None })
            }
            ServerAddress::Url(url) => {
                let endpoint = Endpoint::from_shared(url.clone()).map_err(|error| {
                    wrong("server", format!("is invalid: {}", innermost(&error)))
                })?;
                Ok(ServerConnector {
                    endpoint: endpoint.connect_timeout(CONNECT_TIMEOUT),
                    tls: Some(ClientTls { ca: self.ca.clone(), identity }),
                })
            }
        }
    }
}
