//! What a verifier is told: whom it follows, as whom, and what tokens must say.

use std::time::Duration;

use tonic::transport::{ClientTlsConfig, Endpoint};

use crate::clock::Clock;
use crate::domain::{Audience, Fault};
use crate::secrets::{Prefixes, Secret};
use crate::transport::innermost;

/// The server's staleness is up to two seconds where replicas ask their database each second,
/// and a message comes each second: a bound below that would refuse good tokens.
const LEAST_LAG: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a verifier is told. Begin with [`Settings::new`]; the fields that it leaves as they are
/// by default can be changed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keyward's gRPC address.
    pub server: Server,
    /// What the verifier calls Keyward as: an application of the tenant `system` with the
    /// scope `keyward.verify`.
    pub access: Access,
    /// The issuer that tokens must be from, the server's setting `issuer`, to the letter.
    pub issuer: String,
    /// The audience that tokens must be for: one of theirs must be this one, to the letter.
    pub audience: String,
    /// How old the knowledge of what was revoked may be; 5 s by default, at least 2 s. A
    /// revocation that the server has acknowledged is applied within that time, or tokens are
    /// refused.
    pub max_lag: Duration,
    /// What happens when it is older.
    pub when_lost: WhenLost,
    /// How long [`connect`](super::Verifier::connect) waits for the keys and the list; 30 s by
    /// default.
    pub ready_within: Duration,
    /// What API keys begin with, the server's setting `secrets.api_key_prefix`.
    pub api_key_prefix: String,
    /// By which clock tokens expire: the machine's by default.
    pub clock: Clock,
}

/// Where Keyward is.
#[derive(Clone, Debug)]
pub enum Server {
    /// A URL: `https://keyward.example:50051`, with the machine's trusted certificates, or
    /// `http://…` without TLS.
    Url(String),
    /// An endpoint with settings of its own, for instance certificates that the machine does not
    /// trust.
    Endpoint(Box<Endpoint>),
}

/// What a verifier proves itself with. Neither is shown in `Debug`.
#[derive(Clone, Debug)]
pub enum Access {
    /// An API key.
    ApiKey(Secret),
    /// A client id and secret, which are exchanged for short-lived tokens.
    ClientSecret {
        /// The client id.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
}

/// What happens to tokens that would be good, when it is not known any more within
/// [`Settings::max_lag`] what was revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenLost {
    /// They are refused, until it is known again.
    #[default]
    Refuse,
    /// They are taken for so long beyond `max_lag`, and refused then. Meanwhile what was
    /// revoked before is refused, and what is revoked now is not: nobody knows of it.
    RefuseAfter(Duration),
}

/// Why there is no verifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is of no use.
    #[error("{setting} {fault}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What is wrong, as words that follow its name.
        fault: String,
    },
    /// It was not called from within a Tokio runtime.
    #[error("a verifier needs a Tokio runtime to run in")]
    NoRuntime,
    /// Keyward does not let it in, and will not by itself.
    #[error("keyward refuses this verifier: {0}")]
    Refused(String),
    /// The keys and the list were not to be had in time.
    #[error("the keys and the list of revocations were not to be had in {} s: {cause}", .waited.as_secs_f32())]
    NotReady {
        /// How long it waited.
        waited: Duration,
        /// What was last heard.
        cause: String,
    },
}

impl From<&str> for Server {
    fn from(url: &str) -> Self {
        Self::Url(url.to_owned())
    }
}

impl From<String> for Server {
    fn from(url: String) -> Self {
        Self::Url(url)
    }
}

impl From<Endpoint> for Server {
    fn from(endpoint: Endpoint) -> Self {
        Self::Endpoint(Box::new(endpoint))
    }
}

impl Access {
    /// An API key.
    pub fn api_key(key: impl Into<String>) -> Self {
        Self::ApiKey(Secret::new(key))
    }

    /// A client id and secret.
    pub fn client_secret(client_id: impl Into<String>, client_secret: impl Into<String>) -> Self {
        Self::ClientSecret {
            client_id: client_id.into(),
            client_secret: Secret::new(client_secret),
        }
    }
}

impl Settings {
    /// A verifier of the tokens that `issuer` makes for `audience`.
    pub fn new(
        server: impl Into<Server>,
        access: Access,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> Self {
        Self {
            server: server.into(),
            access,
            issuer: issuer.into(),
            audience: audience.into(),
            max_lag: Duration::from_secs(5),
            when_lost: WhenLost::default(),
            ready_within: Duration::from_secs(30),
            api_key_prefix: Prefixes::default().api_key,
            clock: Clock::system(),
        }
    }

    /// The oldest knowledge that tokens are taken on.
    pub(super) fn oldest(&self) -> Duration {
        match self.when_lost {
            WhenLost::Refuse => self.max_lag,
            WhenLost::RefuseAfter(more) => self.max_lag.saturating_add(more),
        }
    }

    /// Refuses what is of no use, and tells where to connect.
    pub(super) fn check(&self) -> Result<Endpoint, StartError> {
        let wrong = |setting, fault: &str| StartError::Setting { setting, fault: fault.to_owned() };
        if self.issuer.is_empty() {
            return Err(wrong("issuer", "must not be empty"));
        }
        Audience::parse(&self.audience).map_err(|Fault(fault)| wrong("audience", &fault))?;
        if self.max_lag < LEAST_LAG {
            return Err(wrong("max_lag", "must be 2 s or more"));
        }
        if self.api_key_prefix.is_empty() {
            return Err(wrong("api_key_prefix", "must not be empty"));
        }
        self.endpoint().map_err(|error| StartError::Setting {
            setting: "server",
            fault: format!("cannot be used: {}", innermost(&error)),
        })
    }

    fn endpoint(&self) -> Result<Endpoint, tonic::transport::Error> {
        match &self.server {
            Server::Endpoint(endpoint) => Ok(endpoint.as_ref().clone()),
            Server::Url(url) => {
                let endpoint = Endpoint::from_shared(url.clone())?.connect_timeout(CONNECT_TIMEOUT);
                if url.starts_with("https:") {
                    return endpoint.tls_config(ClientTlsConfig::new().with_native_roots());
                }
                Ok(endpoint)
            }
        }
    }
}
