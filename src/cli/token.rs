//! `keyward token`, `verify`, `introspect`, `revoke` and `jwks`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::assertion::{AssertionClaims, AssertionKey};
use super::output::{Column, Tabular, listed, member};
use super::print::{note, print_json};
use super::proof_key::ProofKey;
use super::secret::Presented;
use super::{Failure, ServerConnection, names, secret};
use crate::clock::Clock;
use crate::keys::{Claims, Jwks as KeySet, VerifyingKey, jwt};
use crate::proto::access::GetJwksRequest;
use crate::proto::access::key_service_client::KeyServiceClient;
use crate::proto::token::issue_token_request::Credential;
use crate::proto::token::token_service_client::TokenServiceClient;
use crate::proto::token::{
    ClientAssertion, Confirmation, IntrospectTokenRequest, IntrospectTokenResponse,
    RevokeTokenRequest,
};

/// Exchange a credential for an access token, and print it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  KEYWARD_CLIENT_ID=… KEYWARD_CLIENT_SECRET=… keyward token --scope campaigns.read
  keyward token --dpop-key key.pem      bound to the key
  keyward token --client-id ID --client-certificate app.crt --client-key app.key
  keyward token --client-id ID --private-key crm.key.pem
  keyward token --client-id ID --federated /var/run/secrets/tokens/keyward
  keyward token --client-id ID --private-key crm.key.pem --key-id 2026 \\
    --issuer https://id.example.com")]
pub(super) struct Token {
    /// A scope to request; repeat it for more [default: all scopes of the application]
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// An audience to request; repeat it for more [default: the tenant's]
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// A file with a private key, in PKCS #8 (PEM): EC on P-256, Ed25519 or RSA. The token is bound to
    /// it, and is accepted only with DPoP proofs of this key (RFC 9449)
    #[arg(long, value_name = "FILE")]
    dpop_key: Option<PathBuf>,
    /// The private key of a credential of the kind public-key, to sign with in place of a secret: a
    /// file in PEM (PKCS #8), or - for standard input. RSA keys sign PS256
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// The token that the platform gives to this workload, for a credential of the kind federated: a
    /// file, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "private_key")]
    federated: Option<PathBuf>,
    /// The id of this key (kid), if the credential has it with one
    #[arg(long, value_name = "KID", requires = "private_key")]
    key_id: Option<String>,
    /// The issuer of the server, for which the signature is [default: what the server says]
    #[arg(long, value_name = "URL", requires = "private_key")]
    issuer: Option<String>,
    #[command(flatten)]
    connection: ServerConnection,
}

/// Check an access token against the server's published keys, and print its claims
///
/// Verifies the token like a service that only has the published keys: the signature and the
/// expiry, and with --issuer and --audience those too. Reports on standard error what it did not
/// check. Only `introspect` detects a revoked token.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyward verify \"$(keyward token)\" --issuer https://id.example.com --audience acme")]
pub(super) struct Verify {
    #[command(flatten)]
    token: Presented,
    /// The issuer that it must have [default: not checked]
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The audience that it must have [default: not checked]
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    #[command(flatten)]
    connection: ServerConnection,
}

/// Ask the server whether a token or API key is active, and whose it is (RFC 7662).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyward introspect \"$(keyward token)\"")]
pub(super) struct Introspect {
    #[command(flatten)]
    token: Presented,
    #[command(flatten)]
    connection: ServerConnection,
}

/// Revoke an access token (RFC 7009)
///
/// Exits with 3 if no token was revoked: it is malformed, unknown to the server, expired, or
/// revoked already. An API key is revoked by deleting its credential.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyward revoke - < token.txt")]
pub(super) struct Revoke {
    #[command(flatten)]
    token: Presented,
    #[command(flatten)]
    connection: ServerConnection,
}

/// Print the keys that verify the server's tokens, as a JWK set.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyward jwks > jwks.json")]
pub(super) struct JwksArgs {
    #[command(flatten)]
    connection: ServerConnection,
}

/// An inactive token has no other members.
struct Info(IntrospectTokenResponse);

impl Tabular for Info {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "active", |info| json!(info.0.active)),
        listed(2, "tenant", |info| json!(info.0.tenant)),
        listed(3, "subject", |info| json!(info.0.subject)),
        member("client_id", |info| json!(info.0.client_id)),
        member("scopes", |info| json!(info.0.scopes)),
        member("roles", |info| json!(info.0.roles)),
        member("audiences", |info| json!(info.0.audiences)),
        member("issuer", |info| json!(info.0.issuer)),
        member("issue_time", |info| json!(names::moment(info.0.issue_time.as_ref()))),
        listed(4, "expire_time", |info| json!(names::moment(info.0.expire_time.as_ref()))),
        member("token_id", |info| json!(info.0.token_id)),
        member("confirmation", |info| confirmation(info.0.confirmation.as_ref())),
    ];
}

/// What a token is bound to, with the names of its claim `cnf`.
fn confirmation(bound: Option<&Confirmation>) -> Value {
    let Some(bound) = bound else { return Value::Null };
    let all = [("jkt", &bound.jkt), ("x5t#S256", &bound.x5t_s256)];
    let set = all.into_iter().filter(|(_, thumbprint)| !thumbprint.is_empty());
    set.map(|(name, thumbprint)| (name.to_owned(), json!(thumbprint))).collect()
}

struct Inactive;

impl Tabular for Inactive {
    const COLUMNS: &'static [Column<Self>] = &[listed(1, "active", |_| json!(false))];
}

impl Token {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let connection = self.connection.clone();
        let proof_key = self.dpop_key.as_deref().map(ProofKey::read).transpose()?;
        let (scope, audience) = (self.scope.clone(), self.audience.clone());
        let credential = match (&self.private_key, &self.federated) {
            (Some(key), _) => self.signed(key).await?,
            (None, Some(file)) => self.given_by_platform(file)?,
            (None, None) => connection.credential()?,
        };
        let token = match proof_key {
            Some(key) => connection.exchange_with_proof(&key, credential, scope, audience).await?,
            None => connection.exchange_for(credential, scope, audience).await?,
        };
        connection.output.word(&token.access_token, || {
            json!({
                "access_token": token.access_token,
                "token_type": token.token_type,
                "expires_in": token.expires_in.map_or(0, |span| span.seconds),
                "scope": token.scopes.join(" "),
            })
        })
    }
}

impl Token {
    /// The client id that this flag needs.
    fn client_id(&self, flag: &str) -> Result<String, Failure> {
        let client_id = self.connection.client_id.clone().unwrap_or_default();
        if client_id.is_empty() {
            return Err(Failure::usage(format!("{flag} needs --client-id, or KEYWARD_CLIENT_ID")));
        }
        Ok(client_id)
    }

    /// The token in a file, which the platform replaces before it ends.
    fn given_by_platform(&self, file: &Path) -> Result<Credential, Failure> {
        let client_id = self.client_id("--federated")?;
        let assertion = secret::read(file)?;
        Ok(Credential::ClientAssertion(ClientAssertion { client_id, assertion }))
    }

    /// An assertion that is signed here.
    async fn signed(&self, key: &Path) -> Result<Credential, Failure> {
        let client_id = self.client_id("--private-key")?;
        let key = AssertionKey::read(key)?;
        let issuer = if let Some(issuer) = &self.issuer {
            issuer.clone()
        } else {
            let mut client = KeyServiceClient::new(self.connection.channel().await?);
            client.get_jwks(GetJwksRequest {}).await?.into_inner().issuer
        };
        if issuer.is_empty() {
            return Err(Failure::usage("the server does not say its issuer: use --issuer URL"));
        }
        let key_id = self.key_id.as_deref();
        let claims = AssertionClaims { client_id: &client_id, issuer: &issuer, key_id };
        let assertion = key.sign(&claims)?;
        Ok(Credential::ClientAssertion(ClientAssertion { client_id, assertion }))
    }
}

impl Verify {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let token = self.token.read()?;
        let claims = verify(&self.connection, &token, self.issuer.as_deref()).await?;
        let audiences = claims.aud.as_slice();
        match &self.audience {
            Some(audience) if !audiences.contains(audience) => {
                return Err(Failure::new(format!(
                    "the token is for {}, not for {audience}",
                    audiences.join(", ")
                )));
            }
            _ => {}
        }
        let mut unchecked = Vec::new();
        if self.issuer.is_none() {
            unchecked.push(format!("the issuer (--issuer), which is {} in the token", claims.iss));
        }
        if self.audience.is_none() {
            let audiences = audiences.join(", ");
            unchecked.push(format!("the audience (--audience), which is {audiences} in the token"));
        }
        if claims.cnf.is_some() {
            unchecked.push("whether its sender has what it is bound to (cnf)".to_owned());
        }
        unchecked.push("whether it was revoked (keyward introspect)".to_owned());
        note(&format!("not checked: {}", unchecked.join("; ")));
        print_json(&claims)
    }
}

/// Verifies a token with the server's published keys, and returns its claims.
pub(super) async fn verify(
    connection: &ServerConnection,
    token: &str,
    issuer: Option<&str>,
) -> Result<Claims, Failure> {
    let keys: KeySet = serde_json::from_str(&jwks(connection).await?).map_err(Failure::new)?;
    let keys: Vec<_> = keys
        .keys
        .into_iter()
        .map(VerifyingKey::from_jwk)
        .collect::<Result<_, _>>()
        .map_err(Failure::new)?;
    let named = named_issuer(token);
    let issuer = issuer.or(named.as_deref()).unwrap_or_default();
    let (claims, _) =
        jwt::verify(token, keys.iter(), issuer, Clock::system().now()).map_err(Failure::new)?;
    Ok(claims)
}

/// The issuer in a token that is not verified.
fn named_issuer(token: &str) -> Option<String> {
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(token).ok()?.claims;
    Some(claims.get("iss")?.as_str()?.to_owned())
}

impl Introspect {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let token = self.token.read()?;
        let mut client = TokenServiceClient::new(self.connection.authorized().await?);
        let response = client.introspect_token(IntrospectTokenRequest { token }).await?;
        let info = response.into_inner();
        let output = &self.connection.output;
        if info.active { output.one(&Info(info)) } else { output.one(&Inactive) }
    }
}

impl Revoke {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let token = self.token.read()?;
        let mut client = TokenServiceClient::new(self.connection.authorized().await?);
        let answer = client.revoke_token(RevokeTokenRequest { token }).await?.into_inner();
        if !answer.revoked {
            return Err(Failure::not_found(
                "no token was revoked: this is not an active token of the server; it may be \
                 incomplete, expired, or revoked already",
            ));
        }
        self.connection.output.done("the token is refused from now on");
        Ok(())
    }
}

impl JwksArgs {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let keys: Value =
            serde_json::from_str(&jwks(&self.connection).await?).map_err(Failure::new)?;
        print_json(&keys)
    }
}

async fn jwks(connection: &ServerConnection) -> Result<String, Failure> {
    let mut client = KeyServiceClient::new(connection.channel().await?);
    Ok(client.get_jwks(GetJwksRequest {}).await?.into_inner().jwks)
}
