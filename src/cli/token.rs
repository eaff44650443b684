//! `keyward token`, `verify`, `introspect`, `revoke` and `jwks`

use std::io::Read;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::output::{View, note, print_json, say};
use super::{Connection, Failure, Format, names};
use crate::clock::Clock;
use crate::domain::pasted;
use crate::keys::{Claims, Jwks as KeySet, VerifyingKey, jwt};
use crate::proto::access::GetJwksRequest;
use crate::proto::access::key_service_client::KeyServiceClient;
use crate::proto::token::token_service_client::TokenServiceClient;
use crate::proto::token::{IntrospectTokenRequest, IntrospectTokenResponse, RevokeTokenRequest};

/// Exchange a credential for an access token, and print it.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  KEYWARD_CLIENT_ID=… KEYWARD_CLIENT_SECRET=… keyward token --scope campaigns.read")]
pub(super) struct Token {
    /// A scope to ask for, again for more [default: all that the application has]
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// An audience to ask for, again for more [default: the tenant's]
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Check an access token against the server's published keys, and print its claims
///
/// As a service would that never asks the server: the signature and the expiry, and with
/// --issuer and --audience who made it and whom it is for. What was not checked is said on
/// standard error. Whether it was revoked only `introspect` can tell.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  keyward verify \"$(keyward token)\" --issuer https://id.example.com --audience acme")]
pub(super) struct Verify {
    /// The token, or - to read it from standard input
    token: String,
    /// The issuer it must be from [default: not checked]
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The audience it must be for [default: not checked]
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Ask the server whether a token or API key is good, and whose it is (RFC 7662).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyward introspect \"$(keyward token)\"")]
pub(super) struct Introspect {
    /// The token, or - to read it from standard input
    token: String,
    #[command(flatten)]
    connection: Connection,
}

/// Revoke an access token (RFC 7009)
///
/// Exits with 3 if no token was revoked: it is malformed, unknown to the server, expired, or was
/// revoked before. An API key is revoked by deleting its credential.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyward revoke - < token.txt")]
pub(super) struct Revoke {
    /// The token, or - to read it from standard input
    token: String,
    #[command(flatten)]
    connection: Connection,
}

/// Print the keys that verify the server's tokens, as a JWK set.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyward jwks > jwks.json")]
pub(super) struct Jwks {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct TokenView {
    access_token: String,
    token_type: String,
    expires_in: i64,
    scope: String,
}

#[derive(Serialize)]
struct InfoView {
    active: bool,
    #[serde(flatten)]
    info: Option<Info>,
}

#[derive(Serialize)]
struct Info {
    tenant: String,
    subject: String,
    client_id: String,
    scopes: Vec<String>,
    roles: Vec<String>,
    audiences: Vec<String>,
    issuer: String,
    issue_time: Option<String>,
    expire_time: Option<String>,
    token_id: String,
}

impl View for InfoView {
    const COLUMNS: &'static [&'static str] = &["active", "tenant", "subject", "expire_time"];
    const MEMBERS: &'static [&'static str] = &[
        "active",
        "tenant",
        "subject",
        "client_id",
        "scopes",
        "roles",
        "audiences",
        "issuer",
        "issue_time",
        "expire_time",
        "token_id",
    ];
}

impl From<IntrospectTokenResponse> for InfoView {
    fn from(response: IntrospectTokenResponse) -> Self {
        Self {
            active: response.active,
            info: response.active.then(|| Info {
                issue_time: names::moment(response.issue_time.as_ref()),
                expire_time: names::moment(response.expire_time.as_ref()),
                tenant: response.tenant,
                subject: response.subject,
                client_id: response.client_id,
                scopes: response.scopes,
                roles: response.roles,
                audiences: response.audiences,
                issuer: response.issuer,
                token_id: response.token_id,
            }),
        }
    }
}

impl Token {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let channel = self.connection.channel().await?;
        let token = self.connection.exchange(&channel, self.scope, self.audience).await?;
        if self.connection.output == Format::Table {
            say!("{}", token.access_token);
            return Ok(());
        }
        print_json(&TokenView {
            access_token: token.access_token,
            token_type: token.token_type,
            expires_in: token.expires_in.map_or(0, |span| span.seconds),
            scope: token.scopes.join(" "),
        })
    }
}

impl Verify {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let token = presented(&self.token)?;
        let claims = verify(&self.connection, &token, self.issuer.as_deref()).await?;
        let audiences = claims.aud.as_slice();
        match &self.audience {
            Some(audience) if !audiences.contains(audience) => {
                return Err(Failure::new(format!(
                    "the token is for {}, and not for {audience}",
                    audiences.join(", ")
                )));
            }
            _ => {}
        }
        let mut unchecked = Vec::new();
        if self.issuer.is_none() {
            unchecked.push(format!("the issuer (--issuer), which it says is {}", claims.iss));
        }
        if self.audience.is_none() {
            let audiences = audiences.join(", ");
            unchecked.push(format!("the audience (--audience), which it says is {audiences}"));
        }
        unchecked.push("whether it was revoked (keyward introspect)".to_owned());
        note(&format!("not checked: {}", unchecked.join("; ")));
        print_json(&claims)
    }
}

/// The claims of a token, checked against the server's published keys.
pub(super) async fn verify(
    connection: &Connection,
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

/// The issuer that a token names, unchecked.
fn named_issuer(token: &str) -> Option<String> {
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(token).ok()?.claims;
    Some(claims.get("iss")?.as_str()?.to_owned())
}

impl Introspect {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let token = presented(&self.token)?;
        let mut client = TokenServiceClient::new(self.connection.authorized().await?);
        let response = client.introspect_token(IntrospectTokenRequest { token }).await?;
        self.connection.output.one(&InfoView::from(response.into_inner()))
    }
}

impl Revoke {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let token = presented(&self.token)?;
        let mut client = TokenServiceClient::new(self.connection.authorized().await?);
        let answer = client.revoke_token(RevokeTokenRequest { token }).await?.into_inner();
        if !answer.revoked {
            return Err(Failure::not_found(
                "no token was revoked: the server knows no live token like this one; it may be \
                 incomplete, expired, or revoked before",
            ));
        }
        self.connection.output.done("the token is refused from now on");
        Ok(())
    }
}

impl Jwks {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let keys: Value =
            serde_json::from_str(&jwks(&self.connection).await?).map_err(Failure::new)?;
        print_json(&keys)
    }
}

async fn jwks(connection: &Connection) -> Result<String, Failure> {
    let mut client = KeyServiceClient::new(connection.channel().await?);
    Ok(client.get_jwks(GetJwksRequest {}).await?.into_inner().jwks)
}

/// The token, or what standard input has, without what came along when it was pasted.
pub(super) fn presented(token: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let token = match pasted(token) {
        "-" => {
            std::io::stdin().read_to_string(&mut text).map_err(Failure::new)?;
            pasted(&text)
        }
        token => token,
    };
    if token.is_empty() { Err(Failure::usage("the token is empty")) } else { Ok(token.to_owned()) }
}
