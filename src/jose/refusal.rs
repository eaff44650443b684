//! Why a token is refused.

/// Why a JWT that another party signed is refused. The texts are for the log and for callers. They
/// name the header member or the claim, and have nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum JwtRefusal {
    #[error("the token has more than 16384 characters")]
    TooLong,
    #[error("the token is not three parts in base64url without padding, separated by dots")]
    Malformed,
    #[error("the header is not a JSON object with unique members")]
    HeaderNotObject,
    #[error("the payload is not a JSON object with unique members")]
    ClaimsNotObject,
    #[error("the header member {0} is missing")]
    HeaderMissing(&'static str),
    #[error("the header member {0} must be {1}")]
    HeaderType(&'static str, &'static str),
    #[error("the header member alg must be ES256, ES384, EdDSA, Ed25519, PS256 or RS256")]
    Algorithm,
    #[error("the header member {0} is not supported")]
    HeaderUnsupported(&'static str),
    #[error("the header member typ is not that of this kind of token")]
    Type,
    #[error("the header member jwk is not an accepted public key")]
    HeaderKey,
    #[error("no key of the signer has the id in the header member kid")]
    UnknownKey,
    #[error("no key of the signer fits the algorithm in the header member alg")]
    NoKeyFits,
    #[error("the key that the header member kid names is not for the algorithm in alg")]
    OtherAlgorithm,
    #[error("several keys of the signer have the id in the header member kid and fit alg")]
    AmbiguousKey,
    #[error("the header member kid is missing, and more than 4 keys of the signer fit")]
    KeyIdRequired,
    #[error("the signature is wrong")]
    Signature,
    #[error("the claim {0} is missing")]
    ClaimMissing(&'static str),
    #[error("the claim {0} must be {1}")]
    ClaimType(&'static str, &'static str),
    #[error("the claim aud must name exactly this server's issuer")]
    Audience,
    #[error("the token has expired: the claim exp is not in the future")]
    Expired,
    #[error("the token is too old: the claim iat is too long ago")]
    TooOld,
    #[error("the claim {0} is more than 10 seconds in the future: check the clock of the signer")]
    InFuture(&'static str),
    #[error("the token lives too long: the claim exp is too far in the future")]
    LivesTooLong,
}

impl JwtRefusal {
    /// Whether newer keys of the signer could make the token valid, so that it is worth to fetch
    /// them again.
    pub fn asks_for_newer_keys(self) -> bool {
        matches!(self, Self::UnknownKey | Self::NoKeyFits)
    }
}
