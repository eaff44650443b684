//! How gateways are answered. Everything that trusts a gateway is off by default.

use crate::domain::{Audience, Fault, Networks};

/// The settings of all gateways.
#[derive(Clone, Debug, Default)]
pub struct GatewayOptions {
    /// What gateways ask over HTTP. `None`: nothing is answered.
    pub forward_auth: Option<ForwardAuth>,
    /// Scheme and authority at which clients reach the gateway, for the `htu` of `DPoP` proofs.
    /// `None`: tokens that are bound to a key are refused.
    pub public_url: Option<String>,
    /// The header for API keys, in lower case.
    pub key_header: Option<String>,
    /// The header with the number of items of a request, in lower case.
    pub items_header: Option<String>,
    pub upstream: UpstreamCredential,
}

/// The gateways that ask over HTTP, and how.
#[derive(Clone, Debug)]
pub struct ForwardAuth {
    /// Where they connect from.
    pub callers: Networks,
    pub family: HeaderFamily,
    /// Whether each refusal has the status 401 or 403, and the real one is in a header: nginx makes
    /// 500 of any other.
    pub nginx_statuses: bool,
    /// The header with the client's certificate, in lower case.
    pub certificate_header: Option<String>,
}

/// The headers that describe the request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFamily {
    /// `X-Original-Method` and `X-Original-URI`, as people configure nginx.
    Original,
    /// `X-Forwarded-Method` and `X-Forwarded-Uri`, as Traefik and Caddy send them.
    Forwarded,
}

/// What a service behind the gateway gets in place of the client's credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpstreamCredential {
    /// Nothing.
    #[default]
    Nothing,
    /// The client's own credential.
    Same,
    /// A signed token of a minute for this audience.
    Token(Audience),
}

impl HeaderFamily {
    pub fn parse(value: &str) -> Result<Self, Fault> {
        match value {
            "x-original" => Ok(Self::Original),
            "x-forwarded" => Ok(Self::Forwarded),
            _ => Err(Fault::new("must be x-original or x-forwarded")),
        }
    }

    /// The headers with the method and the URI.
    pub fn names(self) -> [&'static str; 2] {
        match self {
            Self::Original => ["x-original-method", "x-original-uri"],
            Self::Forwarded => ["x-forwarded-method", "x-forwarded-uri"],
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Original => Self::Forwarded,
            Self::Forwarded => Self::Original,
        }
    }
}

impl GatewayOptions {
    /// The audience of tokens for services, if they get one.
    pub fn upstream_audience(&self) -> Option<&Audience> {
        match &self.upstream {
            UpstreamCredential::Token(audience) => Some(audience),
            UpstreamCredential::Nothing | UpstreamCredential::Same => None,
        }
    }

    /// The headers of a request in which a credential or its proof can be.
    pub fn credential_headers(&self) -> impl Iterator<Item = &str> {
        ["authorization", "dpop"].into_iter().chain(self.key_header.as_deref())
    }
}
