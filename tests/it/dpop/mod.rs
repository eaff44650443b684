//! DPoP (RFC 9449): proofs, tokens that are bound to a key, and where they are accepted.

mod assertions;
mod callers;
mod checks;
mod command_line;
mod exchange;
mod nonces;
mod offline;
mod proofs;
mod token_endpoint;

use std::cell::Cell;

use aws_lc_rs::digest::{SHA256, digest};
use keyward::proto::token as pb;
use keyward::proto::token::token_service_client::TokenServiceClient;
use reqwest::Method;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use crate::harness::signer::{Signer, base64url};
use crate::harness::{Answer, Credential, Keyward, connect};

/// The public URLs of the servers of these tests, at which nothing listens.
const TOKEN_URL: &str = "https://keyward.test/oauth2/token";
const GRPC_URL: &str = "https://grpc.keyward.test";
const PUBLIC: (&str, &str) = ("grpc.public_url", GRPC_URL);
const ISSUE: &str = "/keyward.token.v1.TokenService/IssueToken";

/// A client's key.
pub(crate) struct Prover {
    signer: Signer,
    made: Cell<u32>,
}

impl Prover {
    pub(crate) fn new() -> Self {
        Self::of("ES256")
    }

    fn of(algorithm: &'static str) -> Self {
        Self { signer: Signer::new(algorithm), made: Cell::new(0) }
    }

    fn header(&self) -> Value {
        json!({ "typ": "dpop+jwt", "jwk": self.signer.jwk() })
    }

    /// The claims of a new proof that is made now.
    fn claims(&self, kw: &Keyward, method: &str, url: &str) -> Value {
        self.claims_at(kw.now().as_second(), method, url)
    }

    fn claims_at(&self, second: i64, method: &str, url: &str) -> Value {
        self.made.set(self.made.get() + 1);
        json!({ "jti": self.made.get().to_string(), "htm": method, "htu": url, "iat": second })
    }

    fn sign(&self, claims: &Value) -> String {
        self.signer.token(&self.header(), claims)
    }

    /// A new proof for the token endpoint.
    fn for_token(&self, kw: &Keyward) -> String {
        self.sign(&self.claims(kw, "POST", TOKEN_URL))
    }

    /// A new proof for a request with this token.
    pub(crate) fn with_token(
        &self,
        kw: &Keyward,
        (method, url): (&str, &str),
        token: &str,
    ) -> String {
        let mut claims = self.claims(kw, method, url);
        claims["ath"] = hash(token).into();
        self.sign(&claims)
    }

    /// A token that is bound to the key, for this audience.
    pub(crate) async fn token(&self, kw: &Keyward, client: &Credential, audience: &str) -> String {
        let form: &[_] = if audience.is_empty() { &[] } else { &[("audience", audience)] };
        let answer = token(kw, client, &[&self.for_token(kw)], form).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// The thumbprint of the key (RFC 7638).
    fn thumbprint(&self) -> String {
        let jwk = self.signer.jwk();
        let names: &[&str] = match jwk["kty"].as_str().unwrap() {
            "EC" => &["crv", "kty", "x", "y"],
            "OKP" => &["crv", "kty", "x"],
            _ => &["e", "kty", "n"],
        };
        let members: Vec<_> =
            names.iter().map(|name| format!("\"{name}\":{}", jwk[name])).collect();
        hash(&format!("{{{}}}", members.join(",")))
    }
}

fn hash(text: &str) -> String {
    base64url(digest(&SHA256, text.as_bytes()))
}

/// The claims of one of our tokens.
fn claims_of(token: &str) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Requests a token over HTTP, with these proofs.
async fn token(
    kw: &Keyward,
    client: &Credential,
    proofs: &[&str],
    form: &[(&str, &str)],
) -> Answer {
    let mut form = form.to_vec();
    form.push(("grant_type", "client_credentials"));
    let mut request = kw.request(Method::POST, "/oauth2/token");
    for proof in proofs {
        request = request.header("DPoP", *proof);
    }
    kw.send(request.basic_auth(&client.client_id, Some(&client.secret)).form(&form)).await
}

/// Requests a token over gRPC, with these proofs.
async fn issue(
    kw: &Keyward,
    client: &Credential,
    proofs: &[&str],
) -> Result<Response<pb::IssueTokenResponse>, Status> {
    let mut request = Request::new(pb::IssueTokenRequest {
        credential: client.proof(),
        scopes: Vec::new(),
        audiences: Vec::new(),
    });
    for proof in proofs {
        request.metadata_mut().append("dpop", proof.parse().unwrap());
    }
    TokenServiceClient::new(connect(&kw.grpc()).await).issue_token(request).await
}
