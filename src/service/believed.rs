//! Tokens of ours that were looked at before: a signature that was right stays right, so it is
//! not verified each time. Whether the token is accepted now is asked every time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::domain::{CredentialId, RoleId, ScopeSet};
use crate::keys::{Claims, KeyRing, Rejection, jwt};

/// How much memory they may take.
const MOST_BYTES: u64 = 48 * 1024 * 1024;
/// How many that is, as a rule.
const TOKENS: usize = 50_000;
/// What one takes besides its claims.
const ENTRY: usize = 400;
/// Of how many it is known that they came once: of more than are kept, at 8 bytes each.
const ONCE: usize = 1 << 17;
/// How many sets of scopes are kept that tokens may share.
const SCOPE_SETS: usize = 1_000;

/// What a token says that one of our keys has signed.
#[derive(Debug)]
pub(super) struct Believed {
    /// Its claims.
    pub(super) claims: Claims,
    /// Its scopes.
    pub(super) scopes: ScopeSet,
    /// Its roles.
    pub(super) roles: Vec<RoleId>,
    /// The credential it was made with.
    pub(super) credential: CredentialId,
    /// The key that signed it.
    key: String,
}

impl Believed {
    fn new(claims: Claims, scopes: ScopeSet, key: &str) -> Option<Self> {
        let roles = claims.roles.iter().map(|role| RoleId::parse(role));
        Some(Self {
            scopes,
            roles: roles.collect::<Result<_, _>>().ok()?,
            credential: CredentialId::parse(&claims.client_id).ok()?,
            key: key.to_owned(),
            claims,
        })
    }
}

/// Tokens whose signature was found right, by the hash of all of the token. One is kept when it
/// comes for the second time: those that come once would push out the others, and cost more to
/// keep and to forget than to verify again.
#[derive(Debug)]
pub(super) struct BelievedTokens {
    kept: Cache<Hash, Arc<Believed>, Weights>,
    /// Of each that came, a part of its hash, in the place that another part says: the last
    /// one that came for that place.
    came: Box<[AtomicU64]>,
    scope_sets: Cache<String, ScopeSet>,
}

type Hash = [u8; 32];

#[derive(Clone, Debug)]
struct Weights;

impl Weighter<Hash, Arc<Believed>> for Weights {
    fn weight(&self, _hash: &Hash, token: &Arc<Believed>) -> u64 {
        let Claims { iss, sub, scope, tenant, jti, .. } = &token.claims;
        (ENTRY + iss.len() + sub.len() + tenant.len() + jti.len() + scope.len()) as u64
    }
}

impl BelievedTokens {
    pub(super) fn new() -> Self {
        Self {
            kept: Cache::with_weighter(TOKENS, MOST_BYTES, Weights),
            came: (0..ONCE).map(|_| AtomicU64::new(0)).collect(),
            scope_sets: Cache::new(SCOPE_SETS),
        }
    }

    /// What a token says, if it is one of ours whose time is not over. Its key must be one
    /// that is published still.
    pub(super) fn verify(
        &self,
        token: &str,
        keys: &KeyRing,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Arc<Believed>, Rejection> {
        if token.len() > jwt::MAX_LENGTH {
            return Err(Rejection::TooLong);
        }
        let hash: Hash = digest(&SHA256, token.as_bytes())
            .as_ref()
            .try_into()
            .map_err(|_| Rejection::Malformed)?;
        if let Some(believed) = self.kept.get(&hash) {
            if keys.find(&believed.key, now).is_none() {
                self.kept.remove(&hash);
                return Err(Rejection::UnknownKey);
            }
            if let Err(rejection) = believed.claims.check_time(now) {
                self.kept.remove(&hash);
                return Err(rejection);
            }
            return Ok(believed);
        }
        let (claims, key) = jwt::verify(token, keys.published(now), issuer, now)?;
        let scopes = self.scopes(&claims.scope).ok_or(Rejection::Malformed)?;
        let believed = Believed::new(claims, scopes, &key.jwk.kid);
        let believed = Arc::new(believed.ok_or(Rejection::Malformed)?);
        if self.comes_again(&hash) {
            self.kept.insert(hash, Arc::clone(&believed));
        }
        Ok(believed)
    }

    /// Takes note of a token whose signature was verified: whether it was before, as far as is
    /// known.
    fn comes_again(&self, hash: &Hash) -> bool {
        let ([place, part, ..], _) = hash.as_chunks::<8>() else {
            return false;
        };
        let place = u64::from_ne_bytes(*place) % self.came.len() as u64;
        let part = u64::from_ne_bytes(*part);
        let last = &self.came[usize::try_from(place).unwrap_or_default()];
        last.swap(part, Ordering::Relaxed) == part
    }

    /// The scopes of a token of ours; most tokens have those that another has.
    fn scopes(&self, scope: &str) -> Option<ScopeSet> {
        if let Some(known) = self.scope_sets.get(scope) {
            return Some(known);
        }
        let scopes = ScopeSet::parse(scope).ok()?;
        self.scope_sets.insert(scope.to_owned(), scopes.clone());
        Some(scopes)
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::jwt::Audiences;
    use crate::keys::signing::generate;
    use crate::keys::{SigningAlgorithm, SigningKey};

    const ISSUER: &str = "https://keyward.example";

    #[test]
    fn a_token_is_kept_when_it_comes_again() {
        let now = Timestamp::from_second(1000).unwrap();
        let algorithm = SigningAlgorithm::EdDsa;
        let key = SigningKey::from_pkcs8(algorithm, &generate(algorithm).unwrap(), 1, now).unwrap();
        let ring = KeyRing::new(vec![key]);
        let token = |jti: &str| {
            let claims = Claims {
                iss: ISSUER.to_owned(),
                sub: "tenants/acme/applications/crm".to_owned(),
                aud: Audiences::new(vec!["tenants/acme".to_owned()]),
                client_id: "0".repeat(32),
                iat: 1000,
                exp: 1900,
                jti: jti.to_owned(),
                scope: "a b".to_owned(),
                tenant: "acme".to_owned(),
                roles: Vec::new(),
                epochs: [0, 1, 2],
            };
            jwt::sign(ring.signer(now).unwrap(), &claims).unwrap()
        };
        let (good, other) = (token("good"), token("other"));
        let tokens = BelievedTokens::new();
        let mut kept = Vec::new();
        for token in [&good, &other, &good, &good] {
            let believed = tokens.verify(token, &ring, ISSUER, now).unwrap();
            assert_eq!(believed.scopes, ScopeSet::parse("a b").unwrap());
            kept.push(tokens.len());
        }
        assert_eq!(kept, [0, 0, 1, 1]);
        // One that is not right does not get better by coming again.
        let (message, _) = other.rsplit_once('.').unwrap();
        let (_, signature) = good.rsplit_once('.').unwrap();
        let forged = format!("{message}.{signature}");
        for _ in 0..3 {
            let refused = tokens.verify(&forged, &ring, ISSUER, now).unwrap_err();
            assert_eq!(refused, Rejection::BadSignature);
        }
        assert_eq!(tokens.len(), 1);
    }
}
