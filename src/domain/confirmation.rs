//! Tokens that are bound to a key or a certificate of the client (RFC 7800), so that a stolen token
//! is of no use.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// What a token is bound to: its `cnf` claim. A token with a member that this version does not know
/// is invalid, because it cannot be checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The thumbprint of a key, for `DPoP` (RFC 9449, section 6.1).
    #[serde(rename = "jkt", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The SHA-256 thumbprint of a certificate, in base64url (RFC 8705, section 3.1).
    #[serde(rename = "x5t#S256", default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// What the sender of a token proved to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Possession {
    /// The thumbprint of the key of a `DPoP` proof for this token and this request.
    pub key: Option<String>,
    /// The thumbprint of a certificate.
    pub certificate: Option<String>,
}

/// Why a bound token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(const_into_str)]
pub enum BindingFault {
    #[strum(serialize = "the token is bound to a key, and no DPoP proof came with it")]
    NoProof,
    #[strum(serialize = "the token is bound to another key than that of the DPoP proof")]
    OtherKey,
    #[strum(serialize = "a DPoP proof came with a token that is bound to no key")]
    NotBoundToKey,
    #[strum(serialize = "the token is bound to a certificate, and none that is valid came with it")]
    NoCertificate,
    #[strum(serialize = "the token is bound to another certificate than the one that came with it")]
    OtherCertificate,
}

impl Confirmation {
    /// The claim for a token of a client that proved to have this; `None` if nothing.
    pub fn of(possession: &Possession) -> Option<Self> {
        let Possession { key, certificate } = possession.clone();
        let bound = key.is_some() || certificate.is_some();
        bound.then_some(Self { key, certificate })
    }

    /// The `token_type` of a token that is bound to this (RFC 9449, section 5).
    pub fn token_type(bound: Option<&Self>) -> &'static str {
        if bound.is_some_and(|bound| bound.key.is_some()) { "DPoP" } else { "Bearer" }
    }

    /// Refuses a sender that did not prove to have all that the token is bound to. Tokens that are
    /// bound to nothing have no claim: `None`.
    pub fn require(bound: Option<&Self>, shown: &Possession) -> Result<(), BindingFault> {
        match (bound.and_then(|bound| bound.key.as_deref()), shown.key.as_deref()) {
            (Some(_), None) => return Err(BindingFault::NoProof),
            (Some(wanted), Some(key)) if wanted != key => return Err(BindingFault::OtherKey),
            // The client wanted the token to be bound: RFC 9449, section 7.1.
            (None, Some(_)) => return Err(BindingFault::NotBoundToKey),
            _ => {}
        }
        let wanted = bound.and_then(|bound| bound.certificate.as_deref());
        match (wanted, shown.certificate.as_deref()) {
            (Some(_), None) => Err(BindingFault::NoCertificate),
            (Some(wanted), Some(other)) if wanted != other => Err(BindingFault::OtherCertificate),
            // A certificate on the connection says nothing about a token that is not bound to one.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    #[test]
    fn bound_token_needs_all_that_it_is_bound_to() {
        use BindingFault::*;
        // What the token is bound to, what was shown: a key and a certificate each.
        let cases = [
            (("", ""), ("", ""), Ok(())),
            (("", ""), ("", "c"), Ok(())),
            (("", ""), ("k", ""), Err(NotBoundToKey)),
            (("k", ""), ("k", ""), Ok(())),
            (("k", ""), ("k", "c"), Ok(())),
            (("k", ""), ("", ""), Err(NoProof)),
            (("k", ""), ("j", ""), Err(OtherKey)),
            (("", "c"), ("", "c"), Ok(())),
            (("", "c"), ("", ""), Err(NoCertificate)),
            (("", "c"), ("", "d"), Err(OtherCertificate)),
            (("", "c"), ("k", "c"), Err(NotBoundToKey)),
            (("k", "c"), ("k", "c"), Ok(())),
            (("k", "c"), ("k", ""), Err(NoCertificate)),
            (("k", "c"), ("", "c"), Err(NoProof)),
        ];
        for ((key, certificate), (shown_key, shown_certificate), expected) in cases {
            let token = Possession { key: some(key), certificate: some(certificate) };
            let shown = Possession { key: some(shown_key), certificate: some(shown_certificate) };
            let bound = Confirmation::of(&token);
            assert_eq!(
                Confirmation::require(bound.as_ref(), &shown),
                expected,
                "{token:?} {shown:?}"
            );
        }
    }

    #[test]
    fn claim_has_the_names_of_the_rfcs_and_no_others() {
        let bound = Confirmation { key: some("k"), certificate: some("c") };
        let json = serde_json::to_string(&bound).unwrap();
        assert_eq!(json, r#"{"jkt":"k","x5t#S256":"c"}"#);
        assert!(serde_json::from_str::<Confirmation>(r#"{"jwe":"x"}"#).is_err());
    }
}
