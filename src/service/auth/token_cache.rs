//! A cache of verified tokens: a signature that was right stays right, so that it is not verified
//! each time. Whether the token is accepted now is decided every time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::domain::{
    CredentialId, RevocationKeys, RoleId, ScopeSet, TokenActor, TokenClaims, TokenParent,
};
use crate::keys::{Claims, KeyRing, Rejection, jwt};
use crate::service::lookups::CacheLookups;

/// How much memory the cache may take.
const MAX_BYTES: u64 = 48 * 1024 * 1024;
/// How many tokens that is, as a rule.
const TOKENS: usize = 50_000;
/// The memory of one entry besides its claims.
const ENTRY: usize = 400;
/// The slots of the table of tokens seen once: more than the cache has entries, 8 bytes each.
const SLOTS: usize = 1 << 17;
/// How many sets of scopes are kept for tokens to share.
const SCOPE_SETS: usize = 1_000;

/// A token that one of our keys has signed.
#[derive(Debug)]
pub(in crate::service) struct VerifiedToken {
    pub(in crate::service) claims: Claims,
    pub(in crate::service) scopes: ScopeSet,
    pub(in crate::service) roles: Vec<RoleId>,
    /// The credential it was made with.
    pub(in crate::service) credential: CredentialId,
    /// The key that signed it.
    key: String,
    /// The claims of its tenant, once someone asked for them.
    own: OnceLock<TokenClaims>,
    /// The length of the token, which bounds the texts of all its claims.
    length: usize,
}

impl VerifiedToken {
    fn new(claims: Claims, scopes: ScopeSet, key: &str, length: usize) -> Option<Self> {
        let roles = claims.roles.iter().map(|role| RoleId::parse(role));
        Some(Self {
            scopes,
            roles: roles.collect::<Result<_, _>>().ok()?,
            credential: CredentialId::parse(&claims.client_id).ok()?,
            key: key.to_owned(),
            own: OnceLock::new(),
            length,
            claims,
        })
    }

    /// The claims of its tenant. `token` is this token.
    pub(in crate::service) fn own_claims(&self, token: &str) -> &TokenClaims {
        self.own.get_or_init(|| jwt::own_claims(token))
    }

    /// The values that revocations are matched against, with the key.
    pub(in crate::service) fn revocation_keys(&self) -> RevocationKeys<'_> {
        self.claims.revocation_keys().signed_by(&self.key)
    }

    /// What the token rests on, itself included, for a token that it is exchanged for.
    pub(in crate::service) fn as_parents(&self) -> Vec<TokenParent> {
        let own = TokenParent::client(&self.revocation_keys());
        let before = self.claims.parents().iter().rev().skip(1).rev().cloned();
        before.chain([own]).collect()
    }
}

/// Verified tokens by the SHA-256 of the whole token. A token is cached when it is seen for the
/// second time: those that are used once would evict the others, and cost more to cache and evict
/// than to verify again.
#[derive(Debug)]
pub(super) struct VerifiedTokenCache {
    cached: Cache<Hash, Arc<VerifiedToken>, Weights>,
    /// A fingerprint table of tokens seen once. Slot = `hash[0..8]` mod length, value =
    /// `hash[8..16]`; a collision overwrites.
    seen_once: Box<[AtomicU64]>,
    scope_sets: Cache<String, ScopeSet>,
    /// The published keys when tokens of other keys were last removed.
    swept_for: Mutex<Vec<String>>,
    lookups: CacheLookups,
}

type Hash = [u8; 32];

#[derive(Clone, Debug)]
struct Weights;

impl Weighter<Hash, Arc<VerifiedToken>> for Weights {
    fn weight(&self, _hash: &Hash, token: &Arc<VerifiedToken>) -> u64 {
        let exchanged = token.claims.parents().iter().map(weight_of).sum::<usize>()
            + token
                .claims
                .act
                .iter()
                .flat_map(|actor| actor.chain())
                .map(weight_of_actor)
                .sum::<usize>();
        // The payload in base64 is most of a token.
        let texts = token.length * 3 / 4;
        (ENTRY + texts + exchanged) as u64
    }
}

fn weight_of(parent: &TokenParent) -> usize {
    let TokenParent { sub, client_id, jti, kid, .. } = parent;
    let optional = [jti, kid].into_iter().flatten().map(String::len).sum::<usize>();
    size_of::<TokenParent>() + sub.len() + client_id.len() + optional
}

fn weight_of_actor(actor: &TokenActor) -> usize {
    size_of::<TokenActor>() + actor.sub.len() + actor.client_id.len()
}

impl VerifiedTokenCache {
    pub(super) fn new() -> Self {
        Self {
            cached: Cache::with_weighter(TOKENS, MAX_BYTES, Weights),
            seen_once: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            scope_sets: Cache::new(SCOPE_SETS),
            swept_for: Mutex::default(),
            lookups: CacheLookups::default(),
        }
    }

    /// Verifies a token that has not ended. Its key must still be published.
    pub(super) fn verify(
        &self,
        token: &str,
        keys: &KeyRing,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Arc<VerifiedToken>, Rejection> {
        if token.len() > jwt::MAX_LENGTH {
            return Err(Rejection::TooLong);
        }
        let hash: Hash = digest(&SHA256, token.as_bytes())
            .as_ref()
            .try_into()
            .map_err(|_| Rejection::Malformed)?;
        let cached = self.cached.get(&hash);
        self.lookups.count(cached.is_some());
        if let Some(verified) = cached {
            if keys.find(&verified.key, now).is_none() {
                self.cached.remove(&hash);
                return Err(Rejection::UnknownKey);
            }
            if let Err(rejection) = verified.claims.check_time(now) {
                self.cached.remove(&hash);
                return Err(rejection);
            }
            return Ok(verified);
        }
        let (claims, key) = jwt::verify(token, keys.published(now), issuer, now)?;
        let scopes = self.scopes(&claims.scope).ok_or(Rejection::Malformed)?;
        let verified = VerifiedToken::new(claims, scopes, &key.jwk.kid, token.len());
        let verified = Arc::new(verified.ok_or(Rejection::Malformed)?);
        if self.seen_before(&hash) {
            self.cached.insert(hash, Arc::clone(&verified));
        }
        Ok(verified)
    }

    /// Removes tokens whose keys are no longer published. When a token is looked up, its key is
    /// checked in any case: this frees the memory.
    pub(super) fn sweep(&self, keys: &KeyRing, now: Timestamp) {
        let published: Vec<_> = keys.published(now).map(|key| key.jwk.kid.clone()).collect();
        let mut swept = self.swept_for.lock().unwrap_or_else(PoisonError::into_inner);
        if *swept != published {
            self.cached.retain(|_, token| published.contains(&token.key));
            *swept = published;
        }
    }

    /// Notes a token whose signature was verified, and returns whether it was noted before.
    fn seen_before(&self, hash: &Hash) -> bool {
        let ([slot, fingerprint, ..], _) = hash.as_chunks::<8>() else {
            return false;
        };
        let slot = u64::from_ne_bytes(*slot) % self.seen_once.len() as u64;
        let fingerprint = u64::from_ne_bytes(*fingerprint);
        let last = &self.seen_once[usize::try_from(slot).unwrap_or_default()];
        last.swap(fingerprint, Ordering::Relaxed) == fingerprint
    }

    /// The scopes of a token; most tokens share them with others.
    fn scopes(&self, scope: &str) -> Option<ScopeSet> {
        if let Some(known) = self.scope_sets.get(scope) {
            return Some(known);
        }
        let scopes = ScopeSet::parse(scope).ok()?;
        self.scope_sets.insert(scope.to_owned(), scopes.clone());
        Some(scopes)
    }

    pub(super) fn lookups(&self) -> &CacheLookups {
        &self.lookups
    }

    /// How many tokens are cached.
    pub(super) fn len(&self) -> usize {
        self.cached.len()
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
    fn a_token_is_kept_when_it_seen_before() {
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
                epochs: Some([0, 1, 2]),
                cnf: None,
                act: None,
                parents: None,
            };
            jwt::sign(ring.signer(now).unwrap(), &claims).unwrap()
        };
        let (good, other) = (token("good"), token("other"));
        let tokens = VerifiedTokenCache::new();
        let mut kept = Vec::new();
        for token in [&good, &other, &good, &good] {
            let verified = tokens.verify(token, &ring, ISSUER, now).unwrap();
            assert_eq!(verified.scopes, ScopeSet::parse("a b").unwrap());
            kept.push(tokens.len());
        }
        assert_eq!(kept, [0, 0, 1, 1]);
        // A wrong signature is refused each time.
        let (message, _) = other.rsplit_once('.').unwrap();
        let (_, signature) = good.rsplit_once('.').unwrap();
        let forged = format!("{message}.{signature}");
        for _ in 0..3 {
            let refused = tokens.verify(&forged, &ring, ISSUER, now).unwrap_err();
            assert_eq!(refused, Rejection::BadSignature);
        }
        assert_eq!(tokens.len(), 1);
        tokens.sweep(&ring, now);
        assert_eq!(tokens.len(), 1, "its key is published");
        tokens.sweep(&KeyRing::default(), now);
        assert_eq!(tokens.len(), 0, "its key is gone");
    }
}
