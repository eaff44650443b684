//! `DPoP` proofs (RFC 9449): JWTs with which the sender of a request proves that it has a key. The
//! rules of section 4.3 that need neither a database nor a secret of the server.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::request_url::RequestUrl;
use super::{JwtRefusal, MAX_AHEAD, SignedJwt, TimeRule};

/// The maximum length of a proof. The largest accepted key needs about half of it.
pub const MAX_PROOF_LENGTH: usize = 8 * 1024;
/// How old a proof may be: a minute, and as far as the clock of its sender may be behind.
pub const MAX_PROOF_AGE: Duration = Duration::from_mins(1).saturating_add(MAX_AHEAD);

/// `exp` and `nbf` are no claims of proofs. If a proof has them, they count all the same.
const TIMES: TimeRule =
    TimeRule { requires_expiry: false, max_age: Some(MAX_PROOF_AGE), max_lifetime: None };

/// The request that a proof must be for.
#[derive(Clone, Copy, Debug)]
pub struct ProvenRequest<'a> {
    /// The HTTP method. `POST` for gRPC.
    pub method: &'a str,
    /// The URL as its sender sees it.
    pub url: &'a str,
    /// The access token that came with the proof, if one did.
    pub token: Option<&'a str>,
}

/// A proof that is right in itself. Whether it was used before is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpopProof {
    /// The thumbprint of the key: `jkt`.
    pub key: String,
    /// The id of the proof: `jti`. Unique for the key.
    pub id: String,
    /// From when on the proof is not accepted any more.
    pub until: Timestamp,
    /// The value of the server that its sender had to know.
    pub nonce: Option<String>,
}

/// Why a proof is refused. The texts are for developers of clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    #[error("the request has more than one DPoP proof: send exactly one")]
    Repeated,
    #[error("the DPoP proof has more than {MAX_PROOF_LENGTH} bytes")]
    TooLong,
    #[error("the DPoP proof is refused: {0}")]
    Jwt(#[from] JwtRefusal),
    #[error("the claim htm of the DPoP proof must be {0}")]
    Method(String),
    #[error("the claim htu of the DPoP proof must be {0}")]
    Url(String),
    #[error("the claim ath of the DPoP proof must be the hash of the access token")]
    TokenHash,
    #[error("the DPoP proof was used before: make a new one for each request")]
    Used,
}

impl DpopProof {
    /// Checks a proof against its request (RFC 9449, section 4.3).
    pub fn check(
        proof: &str,
        request: ProvenRequest<'_>,
        now: Timestamp,
    ) -> Result<Self, ProofFault> {
        if proof.len() > MAX_PROOF_LENGTH {
            return Err(ProofFault::TooLong);
        }
        let jwt = SignedJwt::parse(proof)?;
        jwt.header().check_type(&["dpop+jwt"], false)?;
        let (verified, key) = jwt.verify_with_jwk()?;
        let claims = verified.claims();
        let id = claims.token_id()?;
        if claims.text("htm")? != request.method {
            return Err(ProofFault::Method(request.method.to_owned()));
        }
        let expected = RequestUrl::parse(request.url);
        let claimed = RequestUrl::parse(claims.text("htu")?);
        if claimed.is_none() || claimed != expected {
            let shown = expected.map_or_else(|| request.url.to_owned(), |url| url.to_string());
            return Err(ProofFault::Url(shown));
        }
        if claims.issued_at().is_none() {
            return Err(JwtRefusal::ClaimMissing("iat").into());
        }
        TIMES.check(claims, now)?;
        if let Some(token) = request.token
            && !is_hash_of(claims.text("ath")?, token)
        {
            return Err(ProofFault::TokenHash);
        }
        Ok(Self {
            key: key.thumbprint(),
            id: id.to_owned(),
            until: TIMES.passes_until(claims)?,
            nonce: claims.optional_text("nonce")?.map(str::to_owned),
        })
    }
}

/// Whether this is the SHA-256 hash of the token in base64url (RFC 9449, section 4.2).
fn is_hash_of(hash: &str, token: &str) -> bool {
    let right = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
    verify_slices_are_equal(hash.as_bytes(), right.as_bytes()).is_ok()
}
