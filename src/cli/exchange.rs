//! `keyward exchange`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tonic::Request;

use super::proof_key::ProofKey;
use super::{Failure, ServerConnection, secret};
use crate::domain::TokenType;
use crate::proto::token::ExchangeTokenRequest;
use crate::proto::token::exchange_token_request::Credential as ExchangeCredential;
use crate::proto::token::issue_token_request::Credential;
use crate::proto::token::token_service_client::TokenServiceClient;

/// Exchange a token or API key of another application for a narrower token, and print it (RFC 8693)
///
/// The new token has the scopes of the presented one or fewer, and ends with it at the latest. The
/// caller's application must be allowed to exchange tokens for the audience: see
/// `keyward application update --exchange-audience`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward exchange --subject-token caller.txt --audience https://billing.example \\
    --scope invoices.read
  keyward exchange --subject-token caller.txt --dpop-key key.pem      bound to the key")]
pub(super) struct Exchange {
    /// A file with the token or API key to exchange, or with the token that the platform of its
    /// application issued, or - for standard input
    #[arg(long, value_name = "FILE")]
    subject_token: PathBuf,
    /// A file with a token or API key of the application that acts for its subject
    #[arg(long, value_name = "FILE")]
    actor_token: Option<PathBuf>,
    /// A scope to request; repeat it for more [default: all scopes of the presented token]
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// An audience to request; repeat it for more [default: the only one of the application]
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// A file with a private key, in PKCS #8 (PEM): EC on P-256, Ed25519 or RSA. The new token is
    /// bound to it (DPoP, RFC 9449). A token that is bound to a key is exchanged only with that key
    #[arg(long, value_name = "FILE")]
    dpop_key: Option<PathBuf>,
    #[command(flatten)]
    connection: ServerConnection,
}

impl Exchange {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let (subject_token, subject_token_type) = presented(&self.subject_token)?;
        let actor = self.actor_token.as_deref().map(presented).transpose()?;
        let (actor_token, actor_token_type) = actor.unwrap_or_default();
        let proof_key = self.dpop_key.as_deref().map(ProofKey::read).transpose()?;
        let channel = self.connection.channel().await?;
        let request = ExchangeTokenRequest {
            credential: Some(exchanging(self.connection.credential()?)),
            scopes: self.scope,
            audiences: self.audience,
            subject_token,
            subject_token_type,
            actor_token,
            actor_token_type,
            requested_token_type: String::new(),
        };
        let client = TokenServiceClient::new(channel);
        let send = async |request: Request<ExchangeTokenRequest>| {
            client.clone().exchange_token(request).await
        };
        let token = match proof_key {
            Some(key) => self.connection.with_proof(&key, "ExchangeToken", &request, send).await?,
            None => send(Request::new(request)).await?.into_inner(),
        };
        self.connection.output.word(&token.access_token, || {
            json!({
                "access_token": token.access_token,
                "issued_token_type": token.issued_token_type,
                "token_type": token.token_type,
                "expires_in": token.expires_in.map_or(0, |span| span.seconds),
                "scope": token.scopes.join(" "),
            })
        })
    }
}

/// The token in a file, and its type: an access token and the token of a workload are JWTs, and an API
/// key has no dots.
fn presented(file: &Path) -> Result<(String, String), Failure> {
    let token = secret::read(file)?;
    let is_jwt = token.split('.').count() == 3;
    let declared = if is_jwt { TokenType::Jwt } else { TokenType::ApiKey };
    Ok((token, declared.uri().to_owned()))
}

fn exchanging(credential: Credential) -> ExchangeCredential {
    match credential {
        Credential::ClientSecret(pair) => ExchangeCredential::ClientSecret(pair),
        Credential::ApiKey(key) => ExchangeCredential::ApiKey(key),
        Credential::ClientAssertion(message) => ExchangeCredential::ClientAssertion(message),
        Credential::ClientCertificate(message) => ExchangeCredential::ClientCertificate(message),
    }
}
